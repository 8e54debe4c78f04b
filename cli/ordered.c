#include "cli/ordered.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct su_ordered {
    char *path, *partial, *settings; /* NULL: no file, or standard output */
    FILE *file;                      /* NULL: no file */
    const char *key;
    su_ordered_show *show;
    json_t *before;   /* name -> line */
    int64_t next;     /* number whose turn it is */
    json_t **waiting; /* [room] lines of numbers next, next + 1, ... that came early */
    int64_t room;
};

static char *with_end(const char *path, const char *end)
{
    size_t n = strlen(path) + strlen(end) + 1;
    char *s = su_alloc(n, 1);
    if (s) snprintf(s, n, "%s%s", path, end);
    return s;
}

/* --- what an earlier process left ---------------------------------------------------------------------- */

static su_status keep_before(void *context, int64_t number, json_t *line, su_error *err)
{
    su_ordered *o = context;
    const char *name = NULL;
    (void)number;
    su_status st = su_json_string(line, o->key, o->partial, &name, err);
    if (!st && json_object_set(o->before, name, line))
        st = su_fail(err, SU_ENOMEM, "no memory for %s", o->partial);
    return st;
}

/* The last line may be torn: everything up to the last newline is whole. */
static su_status cut_torn_line(const su_ordered *o, su_error *err)
{
    su_map map;
    su_status st = su_map_open(o->partial, &map, err);
    if (st) return st;
    size_t whole = map.length;
    while (whole > 0 && map.data[whole - 1] != '\n') whole--;
    bool torn = whole < map.length;
    su_map_close(&map);
    if (torn && truncate(o->partial, (off_t)whole))
        return su_fail(err, SU_EIO, "cannot cut %s: %s", o->partial, strerror(errno));
    return SU_OK;
}

static su_status take_up(su_ordered *o, const json_t *settings, bool resume, su_error *err)
{
    json_t *theirs = NULL;
    bool exists = su_file_exists(o->partial);
    if (!exists) return su_json_write(o->settings, settings, err);
    if (!resume)
        return su_fail(err, SU_EINVAL, "%s is there: add --resume to go on with it, or remove it",
                       o->partial);
    su_status st = su_json_read(o->settings, 1 << 20, &theirs, err);
    if (!st && !json_equal(settings, theirs))
        st = su_fail(err, SU_EINVAL,
                     "%s was made by another model or with other settings: give the same ones, or remove it",
                     o->partial);
    json_decref(theirs);
    if (!st) st = cut_torn_line(o, err);
    if (!st) st = su_jsonl_read(o->partial, keep_before, o, err);
    return st;
}

/* A process that writes a file has a lock on it. */
static su_status open_file(su_ordered *o, su_error *err)
{
    o->file = fopen(o->partial, "a");
    if (!o->file) return su_fail(err, SU_EIO, "cannot write %s: %s", o->partial, strerror(errno));
    if (flock(fileno(o->file), LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return su_fail(err, SU_EIO, "%s is being written by another process", o->partial);
    return SU_OK;
}

su_status su_ordered_open(const char *path, const json_t *settings, const char *key, bool resume,
                          su_ordered_show *show, su_ordered **out, su_error *err)
{
    *out = NULL;
    su_ordered *o = su_calloc(1, sizeof *o);
    if (!o) return su_fail(err, SU_ENOMEM, "no memory for the output");
    *o = (su_ordered){.key = key, .show = show, .before = json_object()};
    bool file = path && strcmp(path, "-") != 0;
    if (file) {
        o->path = su_strdup(path);
        o->partial = with_end(path, ".partial");
        o->settings = with_end(path, ".partial.json");
    }
    su_status st = o->before && (!file || (o->path && o->partial && o->settings))
                       ? SU_OK
                       : su_fail(err, SU_ENOMEM, "no memory for the output");
    if (!st && file) st = take_up(o, settings, resume, err);
    if (!st && file) st = open_file(o, err);
    if (path && !file) o->file = stdout;
    if (st)
        su_ordered_close(o);
    else
        *out = o;
    return st;
}

const json_t *su_ordered_before(const su_ordered *o, const char *name)
{
    return json_object_get(o->before, name);
}

int64_t su_ordered_count_before(const su_ordered *o)
{
    return (int64_t)json_object_size(o->before);
}

/* --- lines --------------------------------------------------------------------------------------------- */

static su_status emit(su_ordered *o, const json_t *line, su_error *err)
{
    const char *name = json_string_value(json_object_get(line, o->key));
    if (o->show) o->show(line);
    if (!o->file || (name && json_object_get(o->before, name))) return SU_OK;
    if (json_dumpf(line, o->file, JSON_COMPACT | JSON_PRESERVE_ORDER) || fputc('\n', o->file) == EOF ||
        fflush(o->file))
        return su_fail(err, SU_EIO, "cannot write %s: %s: free space, then --resume",
                       o->partial ? o->partial : "standard output", strerror(errno));
    return SU_OK;
}

su_status su_ordered_put(su_ordered *o, int64_t number, json_t *line, su_error *err)
{
    if (!line) return su_fail(err, SU_ENOMEM, "no memory for a line");
    int64_t ahead = number - o->next;
    if (ahead >= o->room) {
        int64_t room = o->room ? o->room : 64;
        while (room <= ahead) room *= 2;
        json_t **more = su_realloc(o->waiting, (size_t)room, sizeof(json_t *));
        if (!more) {
            json_decref(line);
            return su_fail(err, SU_ENOMEM, "no memory for lines that wait for their turn");
        }
        memset(more + o->room, 0, (size_t)(room - o->room) * sizeof(json_t *));
        o->waiting = more;
        o->room = room;
    }
    o->waiting[ahead] = line;
    su_status st = SU_OK;
    int64_t ready = 0;
    while (!st && ready < o->room && o->waiting[ready]) {
        st = emit(o, o->waiting[ready], err);
        json_decref(o->waiting[ready]);
        o->waiting[ready++] = NULL;
    }
    if (ready) {
        memmove(o->waiting, o->waiting + ready, (size_t)(o->room - ready) * sizeof(json_t *));
        memset(o->waiting + o->room - ready, 0, (size_t)ready * sizeof(json_t *));
        o->next += ready;
    }
    return st;
}

su_status su_ordered_finish(su_ordered *o, su_error *err)
{
    if (!o->partial) return SU_OK;
    if (fflush(o->file) || fsync(fileno(o->file)))
        return su_fail(err, SU_EIO, "cannot write %s: %s", o->partial, strerror(errno));
    if (rename(o->partial, o->path))
        return su_fail(err, SU_EIO, "cannot rename %s to %s: %s", o->partial, o->path, strerror(errno));
    unlink(o->settings);
    return SU_OK;
}

void su_ordered_close(su_ordered *o)
{
    if (!o) return;
    if (o->file && o->partial) fclose(o->file);
    for (int64_t i = 0; i < o->room; i++) json_decref(o->waiting[i]);
    json_decref(o->before);
    su_free(o->waiting);
    su_free(o->path);
    su_free(o->partial);
    su_free(o->settings);
    su_free(o);
}
