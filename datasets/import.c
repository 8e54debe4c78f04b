/* The machinery under every importer; see import.h.
 *
 * Items are taken in blocks. A block's good items are decoded straight into the slots of the shards being
 * filled, by all threads; then the slots of those that failed are closed up, in order, and the records are
 * written out. One pass, no copy but the closing up. When the shards are full they become a part of the
 * unfinished folder (partial.h):
 *
 *   slots  | filled ...... | a b x c x d |  room  |        x: failed
 *                          | a b c d |    room    |        after closing up */
#include "datasets/import.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/threads.h"
#include "datasets/fold.h"
#include "datasets/idset.h"
#include "datasets/image.h"
#include "datasets/licence.h"
#include "datasets/partial.h"
#include "datasets/phash.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 256, SHARD_BYTES = 128 << 20, SHARD_SAMPLES_MIN = 16, SHARD_SAMPLES_MAX = 2048 };
enum { RECORD_MAX = 8 << 20 }; /* bytes of one: as JSON up to six times as many, which a reader still takes */
static const size_t LINES_MAX = (size_t)4 << 30; /* bytes of records in one part */

typedef struct {
    int32_t width, height, channels;
    char sha256[SU_SHA256_HEX];
    uint64_t phash;
    bool blank;
} image_facts;

typedef struct {
    json_t *record; /* NULL when the item is bad from the start */
    char *id;       /* valid UTF-8 */
    int64_t line, handle;
    const char *reason; /* NULL: good */
    su_error error;     /* detail of the reason; SU_ENOMEM stops the import */
    image_facts facts[SU_IMPORT_STREAMS_MAX];
} entry;

typedef struct {
    const su_import_source *source;
    const su_import_options *options;
    su_partial *partial;
    su_pool *pool;
    su_idset *ids;
    size_t image_bytes;
    int64_t capacity, filled; /* samples a shard holds, and so far */
    int64_t items;            /* since the last part */
    uint8_t *pixels[SU_IMPORT_STREAMS_MAX];
    su_buffer records, skipped;
    json_t *splits, *reasons;
    entry *block;
    int block_count;
} import_job;

void su_import_defaults(su_import_options *options)
{
    *options = (su_import_options){.recipe = {.size = 224, .channels = 3}};
    su_split_defaults(&options->rule);
}

static su_status no_memory(su_error *err)
{
    return su_fail(err, SU_ENOMEM, "no memory left to import");
}

/* ---- one item, checked ---- */

/* A copy in which what is not UTF-8 is '?': what JSON can hold of a name that was refused for it. */
static char *printable(const char *text)
{
    size_t length = strlen(text);
    char *copy = su_strdup(text);
    if (copy && !su_utf8_valid(text, length))
        for (size_t i = 0; i < length; i++)
            if ((unsigned char)copy[i] >= 0x80) copy[i] = '?';
    return copy;
}

static void refuse(entry *e, const char *reason, const char *detail)
{
    e->reason = reason;
    su_fail(&e->error, SU_EINVAL, "%s", detail);
}

/* The first field that is not UTF-8, or NULL. */
static const char *invalid_field(const su_import_item *item, int streams)
{
    const struct {
        const char *name, *value;
    } fields[] = {{"text", item->text},   {"id", item->id},           {"group", item->group},
                  {"split", item->split}, {"licence", item->licence}, {"source", item->source}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!su_utf8_valid(fields[i].value, strlen(fields[i].value))) return fields[i].name;
    for (int k = 0; k < streams; k++)
        if (!su_utf8_valid(item->files[k], strlen(item->files[k]))) return "image file name";
    return NULL;
}

static su_status check_item(import_job *im, const su_import_item *item, entry *e, su_error *err)
{
    const su_import_source *source = im->source;
    const char *field = NULL;
    bool seen = false;
    if (item->reason) {
        refuse(e, item->reason, item->detail ? item->detail : "");
        return SU_OK;
    }
    if ((field = invalid_field(item, source->image_streams))) {
        refuse(e, "invalid-utf8", field);
        return SU_OK;
    }
    size_t bytes = strlen(item->text) + strlen(item->id) + strlen(item->group) + strlen(item->licence) +
                   strlen(item->source);
    for (int k = 0; k < source->image_streams; k++) bytes += strlen(item->files[k]);
    if (bytes > RECORD_MAX) {
        refuse(e, "too-long", "more than 8 MiB of text and names");
        return SU_OK;
    }
    if (su_text_blank(item->text)) {
        refuse(e, "empty-text", "");
        return SU_OK;
    }
    for (int k = 0; k < source->image_streams; k++)
        if (!item->files[k][0]) {
            refuse(e, "no-image", source->streams[k]);
            return SU_OK;
        }
    if (im->options->licences && !su_licence_in(im->options->licences, item->licence)) {
        refuse(e, "licence", item->licence);
        return SU_OK;
    }
    su_status s = su_idset_add(im->ids, item->id, &seen, err);
    if (!s && seen) refuse(e, "duplicate-id", "an item before it has the same id");
    return s;
}

static json_t *make_record(import_job *im, const su_import_item *item, const char *split)
{
    const char *text = item->text + strspn(item->text, " \t\r\n\v\f");
    size_t length = strlen(text);
    while (length && isspace((unsigned char)text[length - 1])) length--;
    json_t *record = json_pack("{s:s,s:s,s:s,s:s%,s:s,s:s}", "id", item->id, "group", item->group, "split",
                               split, "text", text, length, "licence", item->licence, "source", item->source);
    json_t *images = json_object();
    bool good =
        record && images && (!item->line || !json_object_set_new(record, "line", json_integer(item->line)));
    for (int k = 0; good && k < im->source->image_streams; k++)
        good =
            !json_object_set_new(images, im->source->streams[k], json_pack("{s:s}", "file", item->files[k]));
    good = good && !json_object_set(record, "images", images);
    if (good && item->extra) good = !json_object_update_missing(record, (json_t *)(uintptr_t)item->extra);
    json_decref(images);
    if (good) return record;
    json_decref(record);
    return NULL;
}

static su_status take_item(import_job *im, const su_import_item *item, entry *e, su_error *err)
{
    *e = (entry){.line = item->line, .handle = item->handle, .id = printable(item->id)};
    if (!e->id) return no_memory(err);
    su_status s = check_item(im, item, e, err);
    if (s || e->reason) return s;
    const char *group = item->group[0] ? item->group : item->id;
    const char *split = su_split_name(item->split);
    if (im->options->split_by_group || !split[0])
        s = su_split_of_group(&im->options->rule, group, &split, err);
    if (s) return s;
    su_import_item grouped = *item;
    grouped.group = group;
    e->record = make_record(im, &grouped, split);
    return e->record ? SU_OK : no_memory(err);
}

/* ---- one image, in any thread ---- */

static const char *reason_of(su_status s)
{
    switch (s) {
    case SU_ENOTFOUND:
        return "missing-file";
    case SU_EIO:
        return "unreadable-file";
    case SU_ELIMIT:
        return "too-large";
    case SU_EUNSUPPORTED:
        return "unsupported-image";
    default:
        return "bad-image";
    }
}

static const char *file_of(const entry *e, const char *stream)
{
    return json_string_value(
        json_object_get(json_object_get(json_object_get(e->record, "images"), stream), "file"));
}

/* Cuts the folder out of a message: skipped.jsonl must not depend on where the source lies. */
static void hide_folder(char *message, const char *folder)
{
    size_t length = strlen(folder);
    for (char *at = message; (at = strstr(at, folder)) && length; at++)
        if (at[length] == '/') {
            while (at[length] == '/') length++;
            memmove(at, at + length, strlen(at + length) + 1);
            return;
        }
}

static void hash_pixels(const uint8_t *pixels, const su_image_recipe *r, size_t bytes, image_facts *facts)
{
    su_patch patch = su_patch_stored(pixels, r, facts->width, facts->height);
    facts->blank = !su_phash(&patch, &facts->phash);
    su_sha256_hex(pixels, bytes, facts->sha256);
}

static void import_image(import_job *im, entry *e, int stream, int64_t slot)
{
    const su_import_source *source = im->source;
    const su_image_recipe *recipe = &im->options->recipe;
    uint8_t *pixels = im->pixels[stream] + (size_t)slot * im->image_bytes;
    char *path = source->load ? NULL : su_path_join(source->folder, file_of(e, source->streams[stream]));
    su_image image = {0};
    su_status s = source->load ? source->load(source->self, e->handle, stream, recipe, &image, &e->error)
                  : path       ? su_image_load(path, recipe, &image, &e->error)
                               : no_memory(&e->error);
    if (!s) s = su_image_to_recipe(&image, recipe, pixels, &e->error);
    if (s) {
        e->reason = reason_of(s);
        if (source->folder) hide_folder(e->error.message, source->folder);
    } else {
        image_facts *facts = &e->facts[stream];
        facts->width = image.width;
        facts->height = image.height;
        facts->channels = image.channels;
        hash_pixels(pixels, recipe, im->image_bytes, facts);
    }
    su_image_free(&image);
    su_free(path);
}

static void import_task(void *context, int64_t task, int worker)
{
    import_job *im = context;
    entry *e = &im->block[task];
    (void)worker;
    for (int k = 0; !e->reason && k < im->source->image_streams; k++)
        import_image(im, e, k, im->filled + task);
}

/* ---- a block, closed up ---- */

static su_status add_line(su_buffer *b, const json_t *o, su_error *err)
{
    char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (!line) return no_memory(err);
    su_status s = su_buffer_add(b, line, strlen(line), err);
    if (!s) s = su_buffer_add(b, "\n", 1, err);
    free(line);
    return s;
}

static su_status count_one(json_t *counts, const char *name, su_error *err)
{
    json_int_t n = json_integer_value(json_object_get(counts, name));
    return json_object_set_new(counts, name, json_integer(n + 1)) ? no_memory(err) : SU_OK;
}

static su_status add_skipped(import_job *im, const entry *e, su_error *err)
{
    char *detail = printable(e->error.message);
    json_t *o =
        !detail ? NULL : json_pack("{s:s,s:s,s:s}", "item", e->id, "reason", e->reason, "detail", detail);
    su_status s = o ? SU_OK : no_memory(err);
    if (!s && e->line && json_object_set_new(o, "line", json_integer(e->line))) s = no_memory(err);
    if (!s) s = add_line(&im->skipped, o, err);
    if (!s) s = count_one(im->reasons, e->reason, err);
    json_decref(o);
    su_free(detail);
    return s;
}

static su_status add_sample(import_job *im, const entry *e, su_error *err)
{
    json_t *images = json_object_get(e->record, "images");
    for (int k = 0; k < im->source->image_streams; k++) {
        const image_facts *f = &e->facts[k];
        char phash[17];
        snprintf(phash, sizeof phash, "%016" PRIx64, f->phash);
        json_t *facts =
            json_pack("{s:i,s:i,s:i,s:s,s:s?}", "width", (int)f->width, "height", (int)f->height, "channels",
                      (int)f->channels, "sha256", f->sha256, "phash", f->blank ? NULL : phash);
        bool bad = !facts || json_object_update(json_object_get(images, im->source->streams[k]), facts);
        json_decref(facts);
        if (bad) return no_memory(err);
    }
    su_status s = add_line(&im->records, e->record, err);
    if (!s) s = count_one(im->splits, json_string_value(json_object_get(e->record, "split")), err);
    return s;
}

static void block_clear(import_job *im)
{
    for (int i = 0; i < im->block_count; i++) {
        json_decref(im->block[i].record);
        su_free(im->block[i].id);
    }
    im->block_count = 0;
}

static su_status block_close(import_job *im, su_error *err)
{
    su_status s = SU_OK;
    int64_t first = im->filled;
    for (int i = 0; !s && i < im->block_count; i++) {
        const entry *e = &im->block[i];
        if (e->error.code == SU_ENOMEM)
            s = no_memory(err);
        else if (e->reason)
            s = add_skipped(im, e, err);
        else {
            size_t to = (size_t)im->filled * im->image_bytes, from = (size_t)(first + i) * im->image_bytes;
            for (int k = 0; to != from && k < im->source->image_streams; k++)
                memmove(im->pixels[k] + to, im->pixels[k] + from, im->image_bytes);
            im->filled++;
            s = add_sample(im, e, err);
        }
    }
    im->items += im->block_count;
    block_clear(im);
    return s;
}

static su_status flush(import_job *im, su_error *err)
{
    su_part part = {
        .items = im->items,
        .samples = im->filled,
        .streams = im->source->streams,
        .image_streams = im->source->image_streams,
        .pixels = im->pixels,
        .recipe = &im->options->recipe,
        .records = &im->records,
        .skipped = &im->skipped,
        .splits = im->splits,
        .reasons = im->reasons,
    };
    su_status s = su_partial_add(im->partial, &part, err);
    su_buffer_clear(&im->records);
    su_buffer_clear(&im->skipped);
    json_object_clear(im->splits);
    json_object_clear(im->reasons);
    im->items = im->filled = 0;
    return s;
}

/* ---- the whole ---- */

/* What parts 0..k-1 already stand for is passed over; its ids count as seen. */
static su_status pass_over(import_job *im, int64_t items, su_error *err)
{
    const su_import_item *item = NULL;
    entry e;
    su_status s = SU_OK;
    for (int64_t i = 0; !s && i < items; i++) {
        s = im->source->next(im->source->self, &item, err);
        if (!s && !item)
            s = su_fail(err, SU_EMISMATCH, "the source has fewer items than when the import began");
        if (s) break;
        e = (entry){0};
        s = check_item(im, item, &e, err);
    }
    return s;
}

static su_status import_items(import_job *im, su_error *err)
{
    int64_t done = su_partial_items(im->partial);
    su_progress *progress = su_progress_new("import", "items", im->source->total);
    su_status s = pass_over(im, done, err);
    for (bool end = false; !s && !end;) {
        int64_t room = im->capacity - im->filled;
        int want = room < BLOCK ? (int)room : BLOCK;
        while (!s && !end && im->block_count < want) {
            const su_import_item *item = NULL;
            s = im->source->next(im->source->self, &item, err);
            end = !item;
            if (!s && item) s = take_item(im, item, &im->block[im->block_count++], err);
        }
        if (s) break;
        su_pool_run(im->pool, im->block_count, import_task, im);
        done += im->block_count;
        s = block_close(im, err);
        if (!s && (im->filled == im->capacity || (end && im->items))) s = flush(im, err);
        su_progress_step(progress, done, NULL);
    }
    block_clear(im);
    su_progress_free(progress);
    return s;
}

static int64_t shard_capacity(const su_import_options *o)
{
    if (o->shard_samples > 0) return o->shard_samples;
    int64_t capacity =
        SHARD_BYTES / ((int64_t)o->recipe.size * (int64_t)o->recipe.size * (int64_t)o->recipe.channels);
    if (capacity < SHARD_SAMPLES_MIN) return SHARD_SAMPLES_MIN;
    return capacity > SHARD_SAMPLES_MAX ? SHARD_SAMPLES_MAX : capacity;
}

static su_status check_options(const su_import_options *o, su_error *err)
{
    const su_image_recipe *r = &o->recipe;
    if (r->size < 32 || r->size > 1024 || (r->channels != 1 && r->channels != 3))
        return su_fail(err, SU_EINVAL, "an image recipe wants a size of 32 to 1024 and 1 or 3 channels");
    return SU_OK;
}

/* Everything that the dataset's bytes depend on: an unfinished import goes on only where this is the same. */
static json_t *describe(const su_import_source *source, const su_import_options *options)
{
    const su_split_rule *r = &options->rule;
    char fractions[96];
    snprintf(fractions, sizeof fractions, "%.15g,%.15g,%.15g", r->train, r->val, r->test);
    return json_pack("{s:s,s:O,s:o,s:s?,s:I,s:{s:b,s:I,s:s}}", "kind", source->kind, "source",
                     source->description, "recipe", su_image_recipe_json(&options->recipe), "licences",
                     options->licences, "shard_samples", (json_int_t)shard_capacity(options), "split",
                     "by_group", (int)options->split_by_group, "seed", (json_int_t)r->seed, "fractions",
                     fractions);
}

static json_t *begin_manifest(const su_import_source *source, const su_import_options *options)
{
    json_t *streams = json_array();
    for (int k = 0; k < source->image_streams; k++)
        json_array_append_new(streams, json_string(source->streams[k]));
    json_array_append_new(streams, json_string("text"));
    return json_pack("{s:s,s:o,s:o}", "schema", "suture.dataset/1", "streams", streams, "recipe",
                     su_image_recipe_json(&options->recipe));
}

static su_status prepare(import_job *im, su_error *err)
{
    const su_image_recipe *r = &im->options->recipe;
    im->image_bytes = (size_t)r->size * (size_t)r->size * (size_t)r->channels;
    im->capacity = shard_capacity(im->options);
    su_buffer_init(&im->records, LINES_MAX);
    su_buffer_init(&im->skipped, LINES_MAX);
    im->splits = json_object();
    im->reasons = json_object();
    im->block = su_calloc(BLOCK, sizeof *im->block);
    im->ids = su_idset_new();
    bool good = im->splits && im->reasons && im->block && im->ids;
    for (int k = 0; good && k < im->source->image_streams; k++)
        good = (im->pixels[k] = su_alloc_aligned((size_t)im->capacity, im->image_bytes)) != NULL;
    return good ? su_pool_new(im->options->threads, &im->pool, err) : no_memory(err);
}

static void release(import_job *im)
{
    su_pool_free(im->pool);
    for (int k = 0; k < SU_IMPORT_STREAMS_MAX; k++) su_free(im->pixels[k]);
    su_buffer_free(&im->records);
    su_buffer_free(&im->skipped);
    json_decref(im->splits);
    json_decref(im->reasons);
    su_idset_free(im->ids);
    su_free(im->block);
}

/* Nothing good at all: says why, and leaves nothing behind. */
static su_status fail_empty(su_partial *partial, su_error *err)
{
    char why[512] = "";
    const char *reason = NULL;
    json_t *count = NULL;
    json_object_foreach((json_t *)(uintptr_t)su_partial_reasons(partial), reason, count)
    {
        size_t used = strlen(why);
        snprintf(why + used, sizeof why - used, "%s%s %lld", used ? ", " : ": ", reason,
                 (long long)json_integer_value(count));
    }
    long long items = su_partial_items(partial);
    su_partial_discard(partial);
    return su_fail(err, SU_ENOTFOUND, "none of %lld items could be imported%s", items, why);
}

su_status su_import_run(const su_import_source *source, const char *out, const su_import_options *options,
                        su_error *err)
{
    import_job im = {.source = source, .options = options};
    su_status s = check_options(options, err);
    if (s) return s;
    json_t *description = describe(source, options), *manifest = begin_manifest(source, options);
    s = description && manifest ? SU_OK : no_memory(err);
    if (!s) s = su_partial_open(out, description, &im.partial, err);
    if (!s && !su_partial_is_whole(im.partial)) {
        s = prepare(&im, err);
        if (!s) s = import_items(&im, err);
        if (!s && su_partial_samples(im.partial) == 0) {
            s = fail_empty(im.partial, err);
            im.partial = NULL;
        }
    }
    if (!s) s = su_partial_finish(im.partial, manifest, err);
    su_partial_close(im.partial);
    release(&im);
    json_decref(manifest);
    json_decref(description);
    return s;
}
