/* What a packed dataset holds; see info.h. */
#include "datasets/info.h"
#include "base/file.h"
#include "base/memory.h"
#include "datasets/licence.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool add_one(json_t *counts, const char *key)
{
    return !json_object_set_new(counts, key,
                                json_integer(json_integer_value(json_object_get(counts, key)) + 1));
}

static int64_t file_bytes(const su_dataset *ds, const char *name)
{
    struct stat st;
    char *path = name ? su_path_join(su_dataset_folder(ds), name) : NULL;
    int64_t bytes = path && !stat(path, &st) ? (int64_t)st.st_size : 0;
    su_free(path);
    return bytes;
}

static int64_t folder_bytes(const su_dataset *ds)
{
    int64_t bytes =
        file_bytes(ds, "manifest.json") + file_bytes(ds, "records.jsonl") + file_bytes(ds, "skipped.jsonl");
    const json_t *shards = json_object_get(su_dataset_manifest(ds), "shards");
    for (size_t i = 0; i < json_array_size(shards); i++)
        bytes += file_bytes(ds, json_string_value(json_object_get(json_array_get(shards, i), "file")));
    return bytes;
}

static int64_t count_words(const char *text)
{
    int64_t words = 0;
    for (;;) {
        text += strspn(text, " \t\r\n\v\f");
        if (!*text) return words;
        words++;
        text += strcspn(text, " \t\r\n\v\f");
    }
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static json_int_t percentile(const int64_t *sorted, int64_t count, int percent)
{
    int64_t rank = (count * percent + 99) / 100;
    return sorted[rank > 0 ? rank - 1 : 0];
}

static json_t *text_info(const su_dataset *ds)
{
    int64_t count = su_dataset_count(ds);
    int64_t *words = su_alloc((size_t)count, sizeof *words), bytes = 0;
    if (!words) return NULL;
    for (int64_t i = 0; i < count; i++) {
        const char *text = su_dataset_record(ds, i)->text;
        words[i] = count_words(text);
        bytes += (int64_t)strlen(text);
    }
    qsort(words, (size_t)count, sizeof *words, ascending);
    json_t *o = json_pack("{s:I,s:{s:I,s:I,s:I,s:I,s:I}}", "bytes", (json_int_t)bytes, "words", "min",
                          (json_int_t)words[0], "p5", percentile(words, count, 5), "p50",
                          percentile(words, count, 50), "p95", percentile(words, count, 95), "max",
                          (json_int_t)words[count - 1]);
    su_free(words);
    return o;
}

typedef struct {
    const char *split, *group;
} member;

static int by_split_and_group(const void *a, const void *b)
{
    const member *x = a, *y = b;
    int order = strcmp(x->group, y->group);
    return order ? order : strcmp(x->split, y->split);
}

/* {"train":{"samples":n,"groups":n}}, and the number of groups in all. */
static json_t *split_info(const su_dataset *ds, json_int_t *groups)
{
    int64_t count = su_dataset_count(ds);
    member *members = su_alloc((size_t)count, sizeof *members);
    json_t *o = json_object(), *samples = json_object(), *per_split = json_object();
    bool good = members && o && samples && per_split;
    *groups = 0;
    for (int64_t i = 0; good && i < count; i++) {
        const su_record *r = su_dataset_record(ds, i);
        members[i] = (member){r->split, r->group};
        good = add_one(samples, r->split);
    }
    if (good) qsort(members, (size_t)count, sizeof *members, by_split_and_group);
    for (int64_t i = 0; good && i < count; i++) {
        bool new_group = i == 0 || strcmp(members[i].group, members[i - 1].group) != 0;
        *groups += new_group;
        if (new_group || strcmp(members[i].split, members[i - 1].split) != 0)
            good = add_one(per_split, members[i].split);
    }
    const char *name = NULL;
    json_t *n = NULL;
    json_object_foreach(samples, name, n)
    {
        json_t *entry = json_pack("{s:O,s:O}", "samples", n, "groups", json_object_get(per_split, name));
        good = good && !json_object_set_new(o, name, entry);
    }
    su_free(members);
    json_decref(samples);
    json_decref(per_split);
    if (good) return o;
    json_decref(o);
    return NULL;
}

static json_t *licence_info(const su_dataset *ds)
{
    json_t *o = json_object();
    bool good = o != NULL;
    for (int64_t i = 0; good && i < su_dataset_count(ds); i++) {
        char name[SU_LICENCE_MAX];
        su_licence_canonical(su_dataset_record(ds, i)->licence, name);
        good = add_one(o, name[0] ? name : "unknown");
    }
    if (good) return o;
    json_decref(o);
    return NULL;
}

su_status su_dataset_info(const su_dataset *ds, json_t **report, su_error *err)
{
    const json_t *m = su_dataset_manifest(ds), *skipped = json_object_get(m, "skipped");
    json_int_t groups = 0;
    json_t *splits = split_info(ds, &groups);
    *report =
        json_pack("{s:s,s:s,s:s,s:I,s:I,s:O,s:O,s:o,s:I,s:o,s:o,s:{s:O?,s:O?},s:O?}", "schema",
                  "suture.data.info/1", "dataset", su_dataset_folder(ds), "sha256", su_dataset_sha256(ds),
                  "samples", (json_int_t)su_dataset_count(ds), "bytes", (json_int_t)folder_bytes(ds),
                  "streams", json_object_get(m, "streams"), "recipe", json_object_get(m, "recipe"), "splits",
                  splits, "groups", groups, "licences", licence_info(ds), "text", text_info(ds), "skipped",
                  "items", json_object_get(skipped, "items"), "reasons", json_object_get(skipped, "reasons"),
                  "import", json_object_get(m, "import"));
    return *report ? SU_OK : su_fail(err, SU_ENOMEM, "%s: no memory to describe it", su_dataset_folder(ds));
}
