#include "cli/inputs.h"
#include "base/file.h"
#include "base/memory.h"
#include "datasets/fold.h"
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void su_inputs_free(su_inputs *in)
{
    for (int64_t i = 0; i < in->count; i++) {
        if (in->names) su_free(in->names[i]);
        su_free(in->paths[i]);
    }
    su_free(in->paths);
    su_free(in->names);
    *in = (su_inputs){0};
}

/* Takes the path. */
static su_status add(su_inputs *in, char *path, su_error *err)
{
    if (path && in->count == in->room) {
        int64_t room = in->room ? 2 * in->room : 64;
        char **more = su_realloc(in->paths, (size_t)room, sizeof(char *));
        if (more) {
            in->paths = more;
            in->room = room;
        }
    }
    if (!path || in->count == in->room) {
        su_free(path);
        return su_fail(err, SU_ENOMEM, "no memory for a list of files");
    }
    in->paths[in->count++] = path;
    return SU_OK;
}

/* The device and number of the output's folder and its name, so that no other spelling of it is taken for an
 * input. */
typedef struct {
    dev_t device;
    ino_t folder;
    const char *name; /* NULL: none */
} output;

static output output_of(const char *path)
{
    output o = {0};
    struct stat s;
    if (!path || !strcmp(path, "-")) return o;
    const char *name = su_path_name(path);
    char *folder = name > path ? su_strndup(path, (size_t)(name - path)) : su_strdup(".");
    if (folder && !stat(folder, &s)) o = (output){s.st_dev, s.st_ino, name};
    su_free(folder);
    return o;
}

static su_status walk(const char *folder, const output *but, int depth, su_inputs *in, su_error *err)
{
    if (depth > 64) return su_fail(err, SU_ELIMIT, "%s: folders more than 64 deep", folder);
    DIR *d = opendir(folder);
    if (!d) return su_fail(err, SU_EIO, "cannot list %s: %s", folder, strerror(errno));
    struct stat s;
    bool holds_output =
        but->name && !fstat(dirfd(d), &s) && s.st_dev == but->device && s.st_ino == but->folder;
    su_status st = SU_OK;
    const struct dirent *entry;
    while (!st && (entry = readdir(d))) {
        if (entry->d_name[0] == '.') continue;
        if (holds_output && !strncmp(entry->d_name, but->name, strlen(but->name))) continue;
        char *path = su_path_join(folder, entry->d_name);
        if (path && !lstat(path, &s) && S_ISDIR(s.st_mode)) {
            st = walk(path, but, depth + 1, in, err);
            su_free(path);
        } else {
            st = add(in, path, err);
        }
    }
    closedir(d);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *su_inputs_text(const char *bytes)
{
    size_t n = strlen(bytes), at = 0;
    if (su_utf8_valid(bytes, n)) return su_strdup(bytes);
    char *text = su_alloc(3 * n + 1, 1);
    for (size_t i = 0; text && i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        at += (size_t)snprintf(text + at, 4, c < 0x80 ? "%c" : "%%%02X", c);
    }
    return text;
}

/* Of equal paths the first stays. */
static su_status each_once(su_inputs *in, su_error *err)
{
    json_t *seen = json_object();
    int64_t n = 0, i = 0;
    in->names = su_calloc((size_t)in->count + 1, sizeof(char *));
    bool memory = seen && in->names;
    for (; i < in->count && memory; i++) {
        char *path = in->paths[i], *name = su_inputs_text(path);
        if (name && json_object_get(seen, name)) {
            su_free(name);
            su_free(path);
            continue;
        }
        in->paths[n] = path;
        in->names[n++] = name;
        memory = name && !json_object_set_new(seen, name, json_true());
    }
    for (; i < in->count; i++) in->paths[n++] = in->paths[i];
    in->count = n;
    json_decref(seen);
    return memory ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for a list of files");
}

su_status su_inputs_list(const char *const *given, int count, const char *but, su_inputs *in, su_error *err)
{
    *in = (su_inputs){0};
    output o = output_of(but);
    su_status st = SU_OK;
    for (int i = 0; i < count && !st; i++) {
        int64_t first = in->count;
        if (su_is_folder(given[i])) {
            char *folder = su_strdup(given[i]);
            for (size_t n = folder ? strlen(folder) : 0; n > 1 && folder[n - 1] == '/'; n--)
                folder[n - 1] = 0;
            st = folder ? walk(folder, &o, 0, in, err)
                        : su_fail(err, SU_ENOMEM, "no memory for a list of files");
            su_free(folder);
            if (!st && in->count > first)
                qsort(in->paths + first, (size_t)(in->count - first), sizeof(char *), by_name);
        } else {
            st = add(in, su_strdup(given[i]), err);
        }
    }
    if (!st) st = each_once(in, err);
    if (st) su_inputs_free(in);
    return st;
}
