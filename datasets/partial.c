/* The folder of an unfinished import; see partial.h. */
#include "datasets/partial.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/safetensors.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PART_MAX = 64 << 20, COPY_MAX = 1 << 20 };

struct su_partial {
    char *out, *folder;
    int lock;       /* descriptor of the folder */
    json_t *import; /* owned reference */
    bool whole;     /* all parts are joined */
    bool finished;  /* OUT is there already, made by this very import */
    int64_t parts, items, samples, skipped;
    json_t *shards, *splits, *reasons;
};

static su_status no_memory(const su_partial *p, su_error *err)
{
    return su_fail(err, SU_ENOMEM, "%s: no memory to write the dataset", p->out);
}

/* ---- counts ---- */

static bool tally(json_t *to, const json_t *from)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        json_int_t sum = json_integer_value(json_object_get(to, key)) + json_integer_value(value);
        if (json_object_set_new(to, key, json_integer(sum))) return false;
    }
    return true;
}

/* Takes a part's description, just written or found again, into the totals. */
static su_status absorb(su_partial *p, const json_t *part, const char *where, su_error *err)
{
    int64_t items = 0, samples = 0, skipped = 0;
    su_status s = SU_OK;
    if ((s = su_json_int(part, "items", where, 0, INT64_MAX, &items, err)) ||
        (s = su_json_int(part, "samples", where, 0, INT64_MAX, &samples, err)) ||
        (s = su_json_int(part, "skipped", where, 0, INT64_MAX, &skipped, err)))
        return s;
    if (!tally(p->splits, json_object_get(part, "splits")) ||
        !tally(p->reasons, json_object_get(part, "reasons")) ||
        json_array_extend(p->shards, json_object_get(part, "shards")))
        return no_memory(p, err);
    p->items += items;
    p->samples += samples;
    p->skipped += skipped;
    p->parts++;
    return SU_OK;
}

/* ---- the folder ---- */

static char *part_path(const su_partial *p, int64_t part, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "part-%05" PRId64 "%s", part, suffix);
    return su_path_join(p->folder, name);
}

static bool is_work_file(const char *name)
{
    return !strncmp(name, "part-", 5) || !strcmp(name, "import.json") || strstr(name, ".tmp-") != NULL;
}

/* Removes the files of the work (all: every file) from the folder. */
static su_status sweep(const su_partial *p, bool all, su_error *err)
{
    DIR *dir = opendir(p->folder);
    if (!dir) return su_fail(err, SU_EIO, "%s: cannot list it: %s", p->folder, strerror(errno));
    su_status s = SU_OK;
    for (struct dirent *e = NULL; !s && (e = readdir(dir));) {
        bool dots = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
        if (dots || (!all && !is_work_file(e->d_name))) continue;
        if (unlinkat(dirfd(dir), e->d_name, 0))
            s = su_fail(err, SU_EIO, "%s/%s: cannot remove it: %s", p->folder, e->d_name, strerror(errno));
    }
    closedir(dir);
    return s;
}

/* Counts entries that a beginning import may find: none, or temporary files. */
static bool holds_foreign_files(const su_partial *p)
{
    DIR *dir = opendir(p->folder);
    bool foreign = false;
    for (struct dirent *e = NULL; dir && (e = readdir(dir));)
        foreign = foreign || (e->d_name[0] != '.' && !strstr(e->d_name, ".tmp-"));
    if (dir) closedir(dir);
    return foreign;
}

static su_status check_out_is_free(const char *out, su_error *err)
{
    bool is_empty_folder = false;
    if (!su_file_exists(out) && !su_is_folder(out)) return SU_OK;
    DIR *dir = opendir(out);
    if (dir) {
        int entries = 0;
        while (readdir(dir)) entries++;
        is_empty_folder = entries == 2;
        closedir(dir);
    }
    if (is_empty_folder) return SU_OK;
    return su_fail(err, SU_EINVAL, "%s: is there already; remove it or give another --out", out);
}

/* A kill may come after the last rename: the same import again finds its work done. */
static su_status find_finished(su_partial *p, su_error *err)
{
    char *path = su_path_join(p->out, "manifest.json");
    json_t *manifest = NULL;
    if (!path) return no_memory(p, err);
    p->finished = !su_json_read_sealed(path, PART_MAX, &manifest, NULL) &&
                  json_equal(json_object_get(manifest, "import"), p->import);
    json_decref(manifest);
    su_free(path);
    if (p->finished)
        su_log(SU_LOG_INFO,
               "this import is finished already: nothing to do (to repeat it, remove the dataset)");
    return SU_OK;
}

static su_status other_import(const su_partial *p, su_error *err)
{
    return su_fail(
        err, SU_EINVAL,
        "%s: holds an unfinished import of another source or with other options; remove it, or give "
        "another --out",
        p->folder);
}

static su_status take_up_parts(su_partial *p, su_error *err)
{
    for (;;) {
        char *path = part_path(p, p->parts, ".json");
        json_t *part = NULL;
        if (!path) return no_memory(p, err);
        su_status s = SU_OK;
        bool there = su_file_exists(path);
        if (there) s = su_json_read(path, PART_MAX, &part, err);
        if (there && !s) s = absorb(p, part, path, err);
        json_decref(part);
        su_free(path);
        if (s || !there) return s;
    }
}

/* Whose work is in the folder: ours, nobody's yet, or another import's. */
static su_status identify(su_partial *p, su_error *err)
{
    char *manifest = su_path_join(p->folder, "manifest.json"),
         *import = su_path_join(p->folder, "import.json");
    json_t *found = NULL;
    su_status s = SU_OK;
    if (!manifest || !import)
        s = no_memory(p, err);
    else if (su_file_exists(manifest)) {
        s = su_json_read_sealed(manifest, PART_MAX, &found, err);
        if (!s && !json_equal(json_object_get(found, "import"), p->import)) s = other_import(p, err);
        if (!s) p->whole = true;
    } else if (su_file_exists(import)) {
        s = su_json_read(import, PART_MAX, &found, err);
        if (!s && !json_equal(found, p->import)) s = other_import(p, err);
        if (!s) s = take_up_parts(p, err);
        if (!s && p->items)
            su_log(SU_LOG_INFO, "going on with an unfinished import: %" PRId64 " items are done", p->items);
    } else {
        if (holds_foreign_files(p))
            s = su_fail(err, SU_EINVAL,
                        "%s: is there already and is no unfinished import; remove it or give another "
                        "--out",
                        p->folder);
        if (!s) s = su_json_write(import, p->import, err);
    }
    json_decref(found);
    su_free(manifest);
    su_free(import);
    return s;
}

su_status su_partial_open(const char *out, json_t *import, su_partial **partial, su_error *err)
{
    *partial = NULL;
    su_partial *p = su_calloc(1, sizeof *p);
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/') length--;
    if (!p) return su_fail(err, SU_ENOMEM, "%s: no memory to write the dataset", out);
    p->lock = -1;
    p->import = json_incref(import);
    p->out = su_strndup(out, length);
    p->folder = su_alloc(length + sizeof ".partial", 1);
    p->shards = json_array();
    p->splits = json_object();
    p->reasons = json_object();
    su_status s = SU_OK;
    if (!p->out || !p->folder || !p->shards || !p->splits || !p->reasons)
        s = su_fail(err, SU_ENOMEM, "%s: no memory to write the dataset", out);
    if (!s) {
        snprintf(p->folder, length + sizeof ".partial", "%s.partial", p->out);
        s = find_finished(p, err);
    }
    if (!s && !p->finished) s = check_out_is_free(p->out, err);
    if (!s && !p->finished) s = su_mkdirs(p->folder, err);
    if (!s && !p->finished) s = su_folder_lock(p->folder, "import", &p->lock, err);
    if (!s && !p->finished) s = identify(p, err);
    if (s) {
        su_partial_close(p);
        return s;
    }
    *partial = p;
    return SU_OK;
}

void su_partial_close(su_partial *p)
{
    if (!p) return;
    su_folder_unlock(p->lock);
    json_decref(p->import);
    json_decref(p->shards);
    json_decref(p->splits);
    json_decref(p->reasons);
    su_free(p->out);
    su_free(p->folder);
    su_free(p);
}

void su_partial_discard(su_partial *p)
{
    if (!sweep(p, true, NULL)) rmdir(p->folder);
    su_partial_close(p);
}

int64_t su_partial_items(const su_partial *p)
{
    return p->items;
}
int64_t su_partial_samples(const su_partial *p)
{
    return p->samples;
}
bool su_partial_is_whole(const su_partial *p)
{
    return p->whole || p->finished;
}
const json_t *su_partial_reasons(const su_partial *p)
{
    return p->reasons;
}

/* ---- parts ---- */

static su_status add_shard(su_partial *p, const su_part *part, int stream, json_t *shards, su_error *err)
{
    const su_image_recipe *r = part->recipe;
    char name[128], hex[SU_SHA256_HEX];
    snprintf(name, sizeof name, "%s-%05" PRId64 ".safetensors", part->streams[stream], p->parts);
    char *path = su_path_join(p->folder, name);
    if (!path) return no_memory(p, err);
    su_tensor_view view = {
        .name = "pixels",
        .dtype = SU_DTYPE_U8,
        .rank = 4,
        .shape = {part->samples, r->size, r->size, r->channels},
        .data = part->pixels[stream],
        .bytes = (size_t)part->samples * (size_t)r->size * (size_t)r->size * (size_t)r->channels,
    };
    su_status s = su_safetensors_write(path, &view, 1, NULL, err);
    if (!s) s = su_sha256_file(path, hex, err);
    if (!s &&
        json_array_append_new(shards, json_pack("{s:s,s:s,s:I,s:s}", "stream", part->streams[stream], "file",
                                                name, "samples", (json_int_t)part->samples, "sha256", hex)))
        s = no_memory(p, err);
    su_free(path);
    return s;
}

static su_status add_file(su_partial *p, const char *suffix, const su_buffer *content, su_error *err)
{
    char *path = part_path(p, p->parts, suffix);
    if (!path) return no_memory(p, err);
    su_status s = su_file_write(path, content->data ? content->data : "", content->length, err);
    su_free(path);
    return s;
}

su_status su_partial_add(su_partial *p, const su_part *part, su_error *err)
{
    json_t *shards = json_array(), *description = NULL;
    char *path = part_path(p, p->parts, ".json");
    su_status s = shards && path ? SU_OK : no_memory(p, err);
    for (int k = 0; !s && part->samples && k < part->image_streams; k++)
        s = add_shard(p, part, k, shards, err);
    if (!s) s = add_file(p, ".records.jsonl", part->records, err);
    if (!s) s = add_file(p, ".skipped.jsonl", part->skipped, err);
    if (!s) {
        description =
            json_pack("{s:I,s:I,s:I,s:O,s:O,s:O}", "items", (json_int_t)part->items, "samples",
                      (json_int_t)part->samples, "skipped", (json_int_t)(part->items - part->samples),
                      "shards", shards, "splits", part->splits, "reasons", part->reasons);
        if (!description) s = no_memory(p, err);
    }
    if (!s) s = su_json_write(path, description, err);
    if (!s) s = absorb(p, description, path, err);
    json_decref(description);
    json_decref(shards);
    su_free(path);
    return s;
}

/* ---- the end ---- */

static su_status append_file(su_writer *w, const char *path, char *copy, su_error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f) return su_fail(err, SU_EIO, "%s: cannot read it: %s", path, strerror(errno));
    su_status s = SU_OK;
    for (size_t n = 0; !s && (n = fread(copy, 1, COPY_MAX, f)) > 0;) s = su_writer_add(w, copy, n, err);
    if (!s && ferror(f)) s = su_fail(err, SU_EIO, "%s: cannot read it: %s", path, strerror(errno));
    fclose(f);
    return s;
}

/* part-*.SUFFIX, in order, become NAME; its hash goes to the manifest under `key`. */
static su_status join_parts(su_partial *p, const char *suffix, const char *name, json_t *manifest,
                            const char *key, su_error *err)
{
    char *to = su_path_join(p->folder, name), *copy = su_alloc(COPY_MAX, 1);
    char hex[SU_SHA256_HEX];
    su_writer *w = NULL;
    su_status s = to && copy ? su_writer_open(to, &w, err) : no_memory(p, err);
    for (int64_t i = 0; !s && i < p->parts; i++) {
        char *from = part_path(p, i, suffix);
        s = from ? append_file(w, from, copy, err) : no_memory(p, err);
        su_free(from);
    }
    if (!s) {
        s = su_writer_commit(w, err);
        w = NULL;
    }
    if (!s) s = su_sha256_file(to, hex, err);
    if (!s && json_object_set_new(manifest, key, json_pack("{s:s,s:s}", "file", name, "sha256", hex)))
        s = no_memory(p, err);
    su_writer_abort(w);
    su_free(copy);
    su_free(to);
    return s;
}

static su_status write_manifest(su_partial *p, json_t *manifest, su_error *err)
{
    su_status s = join_parts(p, ".records.jsonl", "records.jsonl", manifest, "records", err);
    if (!s) s = join_parts(p, ".skipped.jsonl", "skipped.jsonl", manifest, "skipped", err);
    if (s) return s;
    json_t *skipped = json_object_get(manifest, "skipped");
    if (json_object_set_new(skipped, "items", json_integer(p->skipped)) ||
        json_object_set(skipped, "reasons", p->reasons) || json_object_set(manifest, "splits", p->splits) ||
        json_object_set(manifest, "shards", p->shards) || json_object_set(manifest, "import", p->import) ||
        json_object_set_new(manifest, "samples", json_integer(p->samples)))
        return no_memory(p, err);
    char *path = su_path_join(p->folder, "manifest.json");
    s = path ? su_json_write_sealed(path, manifest, err) : no_memory(p, err);
    su_free(path);
    return s;
}

static void sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = !slash ? su_strdup(".") : su_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    int fd = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    su_free(parent);
}

su_status su_partial_finish(su_partial *p, json_t *manifest, su_error *err)
{
    if (p->finished) return SU_OK;
    su_status s = p->whole ? SU_OK : write_manifest(p, manifest, err);
    if (!s) s = sweep(p, false, err);
    if (s) return s;
    if (rename(p->folder, p->out))
        return su_fail(err, SU_EIO, "%s: cannot rename it to %s: %s", p->folder, p->out, strerror(errno));
    sync_parent(p->out);
    return SU_OK;
}
