/* The audit of a packed dataset; see audit.h.
 *
 * Equal things are found by sorting: an array of {key, sample} in which runs of equal keys are sets. Near
 * pictures are found by multi-index hashing (near.h) over the distinct pictures and then compared pixel by
 * pixel. */
#include "datasets/audit.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "base/threads.h"
#include "datasets/fold.h"
#include "datasets/near.h"
#include "datasets/phash.h"
#include <stdlib.h>
#include <string.h>

enum { PAIRS_MAX = 100000 }; /* listed; all are counted */

/* A sample, or one of its images, under the key by which it is compared. */
typedef struct {
    const char *key;
    int64_t sample;
    int stream;
} item;

typedef struct {
    const su_dataset *ds;
    bool *touched; /* [samples]: part of something across splits */
    bool *trained; /* [samples]: not in train, but part of something that train has too */
    int64_t across, within;
    json_t *list;
} finding;

static su_status no_memory(const su_dataset *ds, su_error *err)
{
    return su_fail(err, SU_ENOMEM, "%s: no memory to audit it", su_dataset_folder(ds));
}

static const char *split_of(const su_dataset *ds, int64_t sample)
{
    return su_dataset_record(ds, sample)->split;
}

static bool finding_begin(finding *f, const su_dataset *ds)
{
    size_t count = (size_t)su_dataset_count(ds);
    *f = (finding){.ds = ds, .list = json_array()};
    f->touched = su_calloc(count, 1);
    f->trained = su_calloc(count, 1);
    return f->touched && f->trained && f->list;
}

static void finding_end(finding *f)
{
    su_free(f->touched);
    su_free(f->trained);
    json_decref(f->list);
}

static bool add_one(json_t *counts, const char *key)
{
    return !json_object_set_new(counts, key,
                                json_integer(json_integer_value(json_object_get(counts, key)) + 1));
}

/* {SPLIT: how many of its samples are marked}. */
static json_t *count_marked(const finding *f, const bool *marked)
{
    json_t *counts = json_object();
    bool good = counts != NULL;
    for (int64_t i = 0; good && i < su_dataset_count(f->ds); i++)
        if (marked[i]) good = add_one(counts, split_of(f->ds, i));
    if (good) return counts;
    json_decref(counts);
    return NULL;
}

static json_t *shares(const su_dataset *ds, const json_t *counts)
{
    json_t *o = json_object();
    const char *split = NULL;
    json_t *count = NULL;
    json_object_foreach((json_t *)(uintptr_t)counts, split, count)
    {
        double all = (double)json_integer_value(
            json_object_get(json_object_get(su_dataset_manifest(ds), "splits"), split));
        json_object_set_new(o, split, json_real(all > 0 ? (double)json_integer_value(count) / all : 0));
    }
    return o;
}

/* ---- sets of equal keys ---- */

static int by_key(const void *a, const void *b)
{
    const item *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order) return order;
    if (x->sample != y->sample) return x->sample < y->sample ? -1 : 1;
    return (x->stream > y->stream) - (x->stream < y->stream);
}

static json_t *describe(const su_dataset *ds, const item *x)
{
    const su_record *r = su_dataset_record(ds, x->sample);
    json_t *o = json_pack("{s:s,s:s}", "id", r->id, "split", r->split);
    if (o && x->stream >= 0) json_object_set_new(o, "stream", json_string(su_dataset_stream(ds, x->stream)));
    return o;
}

static bool crosses(const su_dataset *ds, const item *items, int64_t count)
{
    for (int64_t i = 1; i < count; i++)
        if (strcmp(split_of(ds, items[i].sample), split_of(ds, items[0].sample)) != 0) return true;
    return false;
}

static void mark(finding *f, const item *items, int64_t count)
{
    bool in_train = false;
    for (int64_t i = 0; i < count; i++)
        in_train = in_train || !strcmp(split_of(f->ds, items[i].sample), "train");
    for (int64_t i = 0; i < count; i++) {
        f->touched[items[i].sample] = true;
        f->trained[items[i].sample] = in_train && strcmp(split_of(f->ds, items[i].sample), "train") != 0;
    }
}

static bool list_set(finding *f, const item *items, int64_t count, bool across)
{
    json_t *members = json_array(), *set = NULL;
    for (int64_t i = 0; i < count; i++) json_array_append_new(members, describe(f->ds, &items[i]));
    set = json_pack("{s:b,s:o}", "across", (int)across, "items", members);
    return set && !json_array_append_new(f->list, set);
}

/* A group is listed by its name and its samples' splits: it may have thousands. */
static bool list_group(finding *f, const item *items, int64_t count)
{
    json_t *splits = json_object(), *o = NULL;
    bool good = splits != NULL;
    for (int64_t i = 0; good && i < count; i++) good = add_one(splits, split_of(f->ds, items[i].sample));
    o = json_pack("{s:s,s:o}", "group", items[0].key, "splits", splits);
    return good && o && !json_array_append_new(f->list, o);
}

/* Sorts, and takes every run of equal keys that has more than one sample. */
static su_status find_sets(finding *f, item *items, int64_t count, bool groups, int64_t *runs, su_error *err)
{
    bool good = true;
    *runs = 0;
    if (count) qsort(items, (size_t)count, sizeof *items, by_key);
    for (int64_t first = 0, end; good && first < count; first = end) {
        for (end = first + 1; end < count && !strcmp(items[end].key, items[first].key);) end++;
        ++*runs;
        bool across = crosses(f->ds, items + first, end - first);
        if (across) mark(f, items + first, end - first);
        f->across += across;
        f->within += !across && end - first > 1;
        if (groups && across) good = list_group(f, items + first, end - first);
        if (!groups && end - first > 1) good = list_set(f, items + first, end - first, across);
    }
    return good ? SU_OK : no_memory(f->ds, err);
}

static json_t *sets_report(const finding *f, bool leak)
{
    return json_pack("{s:b,s:I,s:I,s:o,s:O}", "leak", (int)leak, "across", (json_int_t)f->across, "within",
                     (json_int_t)f->within, "samples", count_marked(f, f->touched), "sets", f->list);
}

/* ---- groups ---- */

su_status su_audit_groups(const su_dataset *ds, json_t **groups, su_error *err)
{
    int64_t count = su_dataset_count(ds), used = 0, runs = 0;
    item *items = su_alloc((size_t)count, sizeof *items);
    finding f;
    *groups = NULL;
    su_status s = finding_begin(&f, ds) && items ? SU_OK : no_memory(ds, err);
    for (int64_t i = 0; !s && i < count; i++)
        if (su_dataset_record(ds, i)->group[0])
            items[used++] = (item){su_dataset_record(ds, i)->group, i, -1};
    if (!s) s = find_sets(&f, items, used, true, &runs, err);
    if (!s) {
        json_t *samples = count_marked(&f, f.touched), *train = count_marked(&f, f.trained);
        *groups =
            json_pack("{s:b,s:I,s:I,s:o,s:o,s:o,s:o,s:O}", "leak", f.across > 0, "count", (json_int_t)runs,
                      "across", (json_int_t)f.across, "share", shares(ds, samples), "train_share",
                      shares(ds, train), "samples", samples, "train_samples", train, "items", f.list);
        if (!*groups) s = no_memory(ds, err);
    }
    finding_end(&f);
    su_free(items);
    return s;
}

/* ---- texts ---- */

static su_status audit_texts(const su_dataset *ds, bool strict, json_t **report, su_error *err)
{
    int64_t count = su_dataset_count(ds), used = 0, runs = 0;
    item *items = su_calloc((size_t)count, sizeof *items);
    char(*keys)[SU_SHA256_HEX] = su_alloc((size_t)count, sizeof *keys);
    finding f;
    su_status s = finding_begin(&f, ds) && items && keys ? SU_OK : no_memory(ds, err);
    for (int64_t i = 0; !s && i < count; i++) {
        char *folded = NULL;
        s = su_text_fold(su_dataset_record(ds, i)->text, &folded, err);
        if (!s && folded[0]) {
            su_sha256_hex(folded, strlen(folded), keys[i]);
            items[used++] = (item){keys[i], i, -1};
        }
        su_free(folded);
    }
    if (!s) s = find_sets(&f, items, used, false, &runs, err);
    if (!s && !(*report = sets_report(&f, strict && f.across > 0))) s = no_memory(ds, err);
    finding_end(&f);
    su_free(keys);
    su_free(items);
    return s;
}

/* ---- images ---- */

typedef struct {
    int64_t sample;
    int stream;
    const char *sha256;
    bool hashed; /* has a perceptual hash: is not blank */
    uint64_t phash;
    su_patch patch;
} picture;

typedef struct {
    int64_t a, b; /* pictures */
    int distance;
    double agreement;
} pair;

typedef struct {
    const su_dataset *ds;
    picture *pictures; /* every image of every sample */
    int64_t count;
    const picture **distinct; /* one for each content, blank ones left out */
    pair *pairs;              /* proposed by the hash */
    int64_t pair_count, pair_room;
    bool no_memory;
} gallery;

static su_status bad_record(const su_dataset *ds, int64_t sample, su_error *err)
{
    return su_fail_at(err, SU_EFORMAT, sample + 1,
                      "%s/records.jsonl: line %lld: the facts about its images are missing",
                      su_dataset_folder(ds), (long long)sample + 1);
}

static su_status read_picture(const su_dataset *ds, int64_t sample, int stream, picture *p, su_error *err)
{
    const json_t *images = json_object_get(su_dataset_record(ds, sample)->json, "images");
    const json_t *facts = json_object_get(images, su_dataset_stream(ds, stream));
    const char *phash = json_string_value(json_object_get(facts, "phash"));
    int64_t width = json_integer_value(json_object_get(facts, "width"));
    int64_t height = json_integer_value(json_object_get(facts, "height"));
    *p = (picture){.sample = sample, .stream = stream};
    p->sha256 = json_string_value(json_object_get(facts, "sha256"));
    if (!p->sha256 || width < 1 || height < 1 || width > INT32_MAX || height > INT32_MAX)
        return bad_record(ds, sample, err);
    if (phash) {
        char *end = NULL;
        p->phash = strtoull(phash, &end, 16);
        p->hashed = true;
        if (end == phash || *end) return bad_record(ds, sample, err);
    }
    p->patch = su_patch_stored(su_dataset_pixels(ds, stream, sample), su_dataset_recipe(ds), (int32_t)width,
                               (int32_t)height);
    return SU_OK;
}

static su_status gallery_open(gallery *g, const su_dataset *ds, su_error *err)
{
    int streams = su_dataset_streams(ds) - 1;
    *g = (gallery){.ds = ds};
    g->pictures = su_calloc((size_t)su_dataset_count(ds), (size_t)streams * sizeof *g->pictures);
    if (!g->pictures) return no_memory(ds, err);
    su_status s = SU_OK;
    for (int64_t i = 0; !s && i < su_dataset_count(ds); i++)
        for (int k = 0; !s && k < streams; k++) s = read_picture(ds, i, k, &g->pictures[g->count++], err);
    return s;
}

static void gallery_close(gallery *g)
{
    su_free(g->pictures);
    su_free(g->distinct);
    su_free(g->pairs);
}

static su_status audit_identical_images(const gallery *g, json_t **report, su_error *err)
{
    item *items = su_alloc((size_t)g->count, sizeof *items);
    int64_t runs = 0;
    finding f;
    su_status s = finding_begin(&f, g->ds) && items ? SU_OK : no_memory(g->ds, err);
    for (int64_t i = 0; !s && i < g->count; i++)
        items[i] = (item){g->pictures[i].sha256, g->pictures[i].sample, g->pictures[i].stream};
    if (!s) s = find_sets(&f, items, g->count, false, &runs, err);
    if (!s && !(*report = sets_report(&f, f.across > 0))) s = no_memory(g->ds, err);
    finding_end(&f);
    su_free(items);
    return s;
}

/* One content stands for all its copies within a split: the copies are listed as identical already. But a
 * content that is in two splits is kept once for each, so that a near pair across splits is never hidden. */
static int by_content(const void *a, const void *b)
{
    const picture *x = *(const picture *const *)a, *y = *(const picture *const *)b;
    int order = strcmp(x->sha256, y->sha256);
    return order ? order : (x->sample > y->sample) - (x->sample < y->sample);
}

static int by_place(const void *a, const void *b)
{
    const picture *x = *(const picture *const *)a, *y = *(const picture *const *)b;
    return (x > y) - (x < y);
}

static su_status choose_distinct(gallery *g, int64_t *count, su_error *err)
{
    int64_t used = 0, kept = 0;
    g->distinct = su_alloc((size_t)g->count, sizeof *g->distinct);
    if (!g->distinct) return no_memory(g->ds, err);
    for (int64_t i = 0; i < g->count; i++)
        if (g->pictures[i].hashed) g->distinct[used++] = &g->pictures[i];
    if (used) qsort(g->distinct, (size_t)used, sizeof *g->distinct, by_content);
    for (int64_t i = 0; i < used; i++) {
        bool known = false;
        for (int64_t k = kept - 1;
             k >= 0 && !known && !strcmp(g->distinct[k]->sha256, g->distinct[i]->sha256); k--)
            known = !strcmp(split_of(g->ds, g->distinct[k]->sample), split_of(g->ds, g->distinct[i]->sample));
        if (!known) g->distinct[kept++] = g->distinct[i];
    }
    if (kept) qsort(g->distinct, (size_t)kept, sizeof *g->distinct, by_place);
    *count = kept;
    return SU_OK;
}

static void propose(void *context, int64_t a, int64_t b, int distance)
{
    gallery *g = context;
    if (!strcmp(g->distinct[a]->sha256, g->distinct[b]->sha256) || g->no_memory) return;
    if (g->pair_count == g->pair_room) {
        int64_t room = g->pair_room ? 2 * g->pair_room : 1024;
        pair *pairs = su_realloc(g->pairs, (size_t)room, sizeof *pairs);
        if (!pairs) {
            g->no_memory = true;
            return;
        }
        g->pairs = pairs;
        g->pair_room = room;
    }
    g->pairs[g->pair_count++] = (pair){a, b, distance, 0};
}

static void compare(void *context, int64_t task, int worker)
{
    gallery *g = context;
    pair *p = &g->pairs[task];
    (void)worker;
    p->agreement = su_picture_agreement(&g->distinct[p->a]->patch, &g->distinct[p->b]->patch);
}

static int by_pair(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return (x->b > y->b) - (x->b < y->b);
}

static bool list_pair(finding *f, const gallery *g, const pair *p, bool across)
{
    const picture *a = g->distinct[p->a], *b = g->distinct[p->b];
    json_t *o = json_pack("{s:b,s:o,s:o,s:i,s:f}", "across", (int)across, "a",
                          describe(g->ds, &(item){NULL, a->sample, a->stream}), "b",
                          describe(g->ds, &(item){NULL, b->sample, b->stream}), "distance", p->distance,
                          "agreement", p->agreement);
    return o && !json_array_append_new(f->list, o);
}

/* Pairs across splits first: the list may be cut. */
static su_status list_pairs(finding *f, const gallery *g, int64_t *left_out, su_error *err)
{
    bool good = true;
    *left_out = 0;
    for (int wanted = 1; wanted >= 0; wanted--)
        for (int64_t i = 0; good && i < g->pair_count; i++) {
            const pair *p = &g->pairs[i];
            int64_t a = g->distinct[p->a]->sample, b = g->distinct[p->b]->sample;
            bool across = strcmp(split_of(g->ds, a), split_of(g->ds, b)) != 0;
            if (p->agreement <= SU_PICTURE_SAME || across != (wanted == 1)) continue;
            f->across += across;
            f->within += !across;
            if (across) f->touched[a] = f->touched[b] = true;
            if (f->across + f->within > PAIRS_MAX)
                ++*left_out;
            else
                good = list_pair(f, g, p, across);
        }
    return good ? SU_OK : no_memory(g->ds, err);
}

static su_status audit_near_images(gallery *g, su_pool *pool, json_t **report, su_error *err)
{
    int64_t count = 0, left_out = 0;
    finding f;
    su_status s = finding_begin(&f, g->ds) ? SU_OK : no_memory(g->ds, err);
    if (!s) s = choose_distinct(g, &count, err);
    uint64_t *hashes = su_alloc((size_t)count + 1, sizeof *hashes);
    if (!s && !hashes) s = no_memory(g->ds, err);
    for (int64_t i = 0; !s && i < count; i++) hashes[i] = g->distinct[i]->phash;
    if (!s) s = su_near_pairs(hashes, count, SU_PHASH_NEAR, propose, g, err);
    if (!s && g->no_memory) s = no_memory(g->ds, err);
    if (!s) {
        su_pool_run(pool, g->pair_count, compare, g);
        if (g->pair_count) qsort(g->pairs, (size_t)g->pair_count, sizeof *g->pairs, by_pair);
        s = list_pairs(&f, g, &left_out, err);
    }
    if (!s) {
        *report = json_pack("{s:b,s:i,s:f,s:I,s:I,s:o,s:O,s:I}", "leak", f.across > 0, "distance",
                            (int)SU_PHASH_NEAR, "agreement", SU_PICTURE_SAME, "across", (json_int_t)f.across,
                            "within", (json_int_t)f.within, "samples", count_marked(&f, f.touched), "pairs",
                            f.list, "pairs_left_out", (json_int_t)left_out);
        if (!*report) s = no_memory(g->ds, err);
    }
    su_free(hashes);
    finding_end(&f);
    return s;
}

/* ---- empty ---- */

static bool list_empty(const su_dataset *ds, json_t *list, int64_t sample, const char *what)
{
    const su_record *r = su_dataset_record(ds, sample);
    json_t *o = json_pack("{s:s,s:s,s:s}", "id", r->id, "split", r->split, "what", what);
    return o && !json_array_append_new(list, o);
}

static su_status audit_empty(const gallery *g, json_t **report, su_error *err)
{
    const su_dataset *ds = g->ds;
    json_t *list = json_array();
    int64_t texts = 0, images = 0;
    su_status s = list ? SU_OK : no_memory(ds, err);
    for (int64_t i = 0; !s && i < su_dataset_count(ds); i++) {
        char *folded = NULL;
        s = su_text_fold(su_dataset_record(ds, i)->text, &folded, err);
        if (!s && !folded[0]) {
            texts++;
            if (!list_empty(ds, list, i, "text")) s = no_memory(ds, err);
        }
        su_free(folded);
    }
    for (int64_t i = 0; !s && i < g->count; i++)
        if (!g->pictures[i].hashed) {
            images++;
            if (!list_empty(ds, list, g->pictures[i].sample, su_dataset_stream(ds, g->pictures[i].stream)))
                s = no_memory(ds, err);
        }
    if (!s) {
        *report = json_pack("{s:I,s:I,s:O}", "texts", (json_int_t)texts, "images", (json_int_t)images,
                            "items", list);
        if (!*report) s = no_memory(ds, err);
    }
    json_decref(list);
    return s;
}

/* ---- the whole ---- */

static bool leaks(const json_t *report)
{
    static const char *const checks[] = {"groups", "identical_images", "near_images", "identical_texts"};
    bool leak = false;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        leak = leak || json_is_true(json_object_get(json_object_get(report, checks[i]), "leak"));
    return leak;
}

static su_status audit_parts(const su_dataset *ds, const su_audit_options *options, json_t *report,
                             su_error *err)
{
    enum { GROUPS, IDENTICAL, NEAR, TEXTS, EMPTY, DAMAGED, PARTS };
    static const char *const names[PARTS] = {"groups", "identical_images", "near_images", "identical_texts",
                                             "empty",  "damaged"};
    json_t *parts[PARTS] = {NULL};
    gallery g = {0};
    su_pool *pool = NULL;
    su_status s = su_pool_new(options->threads, &pool, err);
    if (!s) s = su_dataset_verify(ds, &parts[DAMAGED], err);
    if (!s) s = su_audit_groups(ds, &parts[GROUPS], err);
    if (!s) s = gallery_open(&g, ds, err);
    if (!s) s = audit_identical_images(&g, &parts[IDENTICAL], err);
    if (!s) s = audit_near_images(&g, pool, &parts[NEAR], err);
    if (!s) s = audit_texts(ds, options->strict, &parts[TEXTS], err);
    if (!s) s = audit_empty(&g, &parts[EMPTY], err);
    for (int i = 0; i < PARTS; i++) {
        if (!s && json_object_set(report, names[i], parts[i])) s = no_memory(ds, err);
        json_decref(parts[i]);
    }
    gallery_close(&g);
    su_pool_free(pool);
    return s;
}

su_status su_audit(const su_dataset *ds, const su_audit_options *options, json_t **report, su_error *err)
{
    const json_t *manifest = su_dataset_manifest(ds);
    *report = NULL;
    json_t *r = json_pack("{s:s,s:s,s:s,s:I,s:O?,s:b}", "schema", "suture.data.audit/1", "dataset",
                          su_dataset_folder(ds), "sha256", su_dataset_sha256(ds), "samples",
                          (json_int_t)su_dataset_count(ds), "splits", json_object_get(manifest, "splits"),
                          "strict", (int)options->strict);
    if (!r) return no_memory(ds, err);
    su_status s = audit_parts(ds, options, r, err);
    if (!s) {
        const json_t *skipped = json_object_get(manifest, "skipped");
        json_t *counts = json_pack("{s:O?,s:O?}", "items", json_object_get(skipped, "items"), "reasons",
                                   json_object_get(skipped, "reasons"));
        bool damage = json_array_size(json_object_get(r, "damaged")) > 0;
        if (json_object_set_new(r, "skipped", counts) ||
            json_object_set_new(r, "leak", json_boolean(leaks(r))) ||
            json_object_set_new(r, "damage", json_boolean(damage)))
            s = no_memory(ds, err);
    }
    if (s) {
        json_decref(r);
        return s;
    }
    *report = r;
    return SU_OK;
}
