/* Reading a packed dataset.
 *
 * Opening checks everything that a reader relies on, so that later calls cannot fail: the manifest's fields,
 * that each image stream's shards follow one another from sample 0 to the last without a gap, that each shard
 * holds what the manifest says, that there is one well-formed record a sample, and that manifest and records
 * are the bytes that were written. Shards are mapped, not read: memory grows with the records only. Their
 * content costs a pass over every byte: su_dataset_check_pixels and su_dataset_verify make it, not open. */
#include "datasets/dataset.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/safetensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANIFEST_MAX = 256 << 20, STREAMS_MAX = 16 };

typedef struct {
    su_safetensors *file;
    const uint8_t *pixels;
    int64_t first, count; /* samples [first, first + count) */
    bool checked;         /* the pixels are those that were written */
} shard;

struct su_dataset {
    char *folder;
    char sha256[SU_SHA256_HEX];
    json_t *manifest;
    su_image_recipe recipe;
    size_t image_bytes;
    int64_t count;
    int streams; /* image streams, then text */
    const char *names[STREAMS_MAX];
    shard *shards[STREAMS_MAX]; /* per image stream, ascending */
    int64_t shard_count[STREAMS_MAX];
    su_record *records;
    int64_t records_read;
};

/* ---- recipe ---- */

static const char resample_name[] = "bicubic-antialias/1";

static const char standard_dicom[] = "dicom-standard/1";

json_t *su_image_recipe_json(const su_image_recipe *r)
{
    json_t *o =
        json_pack("{s:i,s:i,s:s,s:s,s:s}", "size", (int)r->size, "channels", (int)r->channels, "fit",
                  r->crop ? "crop" : "pad", "resample", resample_name, "dicom", su_image_recipe_dicom(r));
    if (o && r->spacing > 0 && json_object_set_new(o, "spacing", json_real(r->spacing))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

const char *su_image_recipe_dicom(const su_image_recipe *r)
{
    return r->dicom[0] ? r->dicom : standard_dicom;
}

void su_image_recipe_text(const su_image_recipe *r, char text[128])
{
    char place[40];
    if (r->spacing > 0)
        snprintf(place, sizeof place, "%g mm a pixel", r->spacing);
    else
        snprintf(place, sizeof place, "%s", r->crop ? "cropped" : "padded");
    snprintf(text, 128, "%d px, %d channel%s, %s, DICOM by %s", r->size, r->channels,
             r->channels == 1 ? "" : "s", place, su_image_recipe_dicom(r));
}

bool su_image_recipe_equal(const su_image_recipe *a, const su_image_recipe *b)
{
    return a->size == b->size && a->channels == b->channels && a->crop == b->crop &&
           a->spacing == b->spacing && !strcmp(su_image_recipe_dicom(a), su_image_recipe_dicom(b));
}

su_status su_image_recipe_parse(const json_t *o, const char *where, su_image_recipe *r, su_error *err)
{
    static const char *const known[] = {"size", "channels", "fit", "resample", "dicom", "spacing", NULL};
    int64_t size = 0, channels = 0;
    const char *fit = NULL, *resample = NULL, *dicom = NULL;
    double spacing = 0;
    su_status s = SU_OK;
    if (!json_is_object(o)) return su_fail(err, SU_EFORMAT, "%s: the image recipe is not an object", where);
    if ((s = su_json_only(o, known, where, err)) ||
        (s = su_json_int(o, "size", where, 32, 1024, &size, err)) ||
        (s = su_json_int(o, "channels", where, 1, 3, &channels, err)) ||
        (s = su_json_string(o, "fit", where, &fit, err)) ||
        (s = su_json_string(o, "resample", where, &resample, err)) ||
        (s = su_json_string_or(o, "dicom", where, standard_dicom, &dicom, err)) ||
        (s = su_json_number_or(o, "spacing", where, 0, &spacing, err)))
        return s;
    if (channels == 2) return su_fail(err, SU_EFORMAT, "%s: recipe channels is 2, not 1 or 3", where);
    if (strcmp(fit, "pad") != 0 && strcmp(fit, "crop") != 0)
        return su_fail(err, SU_EFORMAT, "%s: recipe fit is '%s', not 'pad' or 'crop'", where, fit);
    if (strcmp(resample, resample_name) != 0)
        return su_fail(err, SU_EUNSUPPORTED, "%s: recipe resample is '%s'; this version knows '%s'", where,
                       resample, resample_name);
    if (!dicom[0] || strlen(dicom) >= SU_DICOM_RECIPE_MAX)
        return su_fail(err, SU_EFORMAT, "%s: recipe dicom is '%.80s', not a name of a recipe", where, dicom);
    if (json_object_get(o, "spacing") && !(spacing > 0 && spacing < 1e6))
        return su_fail(err, SU_EFORMAT, "%s: recipe spacing is %g, not a distance in mm", where, spacing);
    *r = (su_image_recipe){.size = (int32_t)size,
                           .channels = (int32_t)channels,
                           .crop = !strcmp(fit, "crop"),
                           .spacing = spacing};
    snprintf(r->dicom, sizeof r->dicom, "%s", dicom);
    return SU_OK;
}

/* ---- opening ---- */

typedef struct {
    su_dataset *ds;
    const char *path;
} record_walk;

static su_status read_record(void *context, int64_t line, json_t *o, su_error *err)
{
    record_walk *walk = context;
    su_dataset *ds = walk->ds;
    if (ds->records_read == ds->count)
        return su_fail_at(err, SU_EFORMAT, line, "%s: more records than the manifest's %lld samples",
                          walk->path, (long long)ds->count);
    su_record r = {.json = o};
    su_status s = SU_OK;
    if ((s = su_json_string(o, "id", walk->path, &r.id, err)) ||
        (s = su_json_string(o, "split", walk->path, &r.split, err)) ||
        (s = su_json_string(o, "text", walk->path, &r.text, err)) ||
        (s = su_json_string_or(o, "group", walk->path, "", &r.group, err)) ||
        (s = su_json_string_or(o, "licence", walk->path, "", &r.licence, err)) ||
        (s = su_json_string_or(o, "source", walk->path, "", &r.source, err)))
        return su_fail_context(err, s, "line %lld", (long long)line);
    json_incref(o);
    ds->records[ds->records_read++] = r;
    return SU_OK;
}

static su_status open_streams(su_dataset *ds, const char *where, su_error *err)
{
    const json_t *streams = json_object_get(ds->manifest, "streams");
    size_t count = json_array_size(streams);
    if (count < 2 || count > STREAMS_MAX)
        return su_fail(err, SU_EFORMAT, "%s: 'streams' must list 2 to %d names", where, (int)STREAMS_MAX);
    for (size_t i = 0; i < count; i++) {
        ds->names[i] = json_string_value(json_array_get(streams, i));
        bool last = i + 1 == count;
        if (!ds->names[i] || last != !strcmp(ds->names[i], "text"))
            return su_fail(err, SU_EFORMAT, "%s: 'streams' must be image streams, then \"text\"", where);
    }
    ds->streams = (int)count;
    return SU_OK;
}

static int stream_index(const su_dataset *ds, const char *name)
{
    for (int i = 0; i + 1 < ds->streams; i++)
        if (!strcmp(ds->names[i], name)) return i;
    return -1;
}

static su_status open_shard(su_dataset *ds, const json_t *entry, const char *where, su_error *err)
{
    const char *stream = NULL, *name = NULL;
    int64_t count = 0;
    su_status s = SU_OK;
    if ((s = su_json_string(entry, "stream", where, &stream, err)) ||
        (s = su_json_string(entry, "file", where, &name, err)) ||
        (s = su_json_int(entry, "samples", where, 1, ds->count, &count, err)))
        return su_fail_context(err, s, "a shard");
    int k = stream_index(ds, stream);
    if (k < 0)
        return su_fail(err, SU_EFORMAT, "%s: shard '%s' is of an unknown stream '%s'", where, name, stream);
    if (strchr(name, '/'))
        return su_fail(err, SU_EFORMAT, "%s: shard name '%s' leaves the folder", where, name);
    int64_t n = ds->shard_count[k];
    int64_t first = n ? ds->shards[k][n - 1].first + ds->shards[k][n - 1].count : 0;
    if (count > ds->count - first)
        return su_fail(err, SU_EFORMAT, "%s: the shards of stream '%s' hold more than %lld samples", where,
                       stream, (long long)ds->count);
    shard *grown = su_realloc(ds->shards[k], (size_t)n + 1, sizeof *grown);
    char *path = su_path_join(ds->folder, name);
    if (grown) ds->shards[k] = grown;
    if (!grown || !path) {
        su_free(path);
        return su_fail(err, SU_ENOMEM, "%s: no memory for the list of shards", where);
    }
    shard *sh = &grown[n];
    *sh = (shard){.first = first, .count = count};
    const su_tensor_view *view = NULL;
    int64_t shape[4] = {count, ds->recipe.size, ds->recipe.size, ds->recipe.channels};
    s = su_safetensors_open(path, &sh->file, err);
    if (!s) {
        ds->shard_count[k]++;
        s = su_safetensors_get(sh->file, "pixels", SU_DTYPE_U8, 4, shape, &view, err);
        if (s) s = su_fail_context(err, s, "%s", path);
    }
    if (!s) sh->pixels = view->data;
    su_free(path);
    return s;
}

static su_status open_shards(su_dataset *ds, const char *where, su_error *err)
{
    const json_t *list = json_object_get(ds->manifest, "shards");
    if (!json_is_array(list)) return su_fail(err, SU_EFORMAT, "%s: 'shards' is missing or not a list", where);
    for (size_t i = 0; i < json_array_size(list); i++) {
        su_status s = open_shard(ds, json_array_get(list, i), where, err);
        if (s) return s;
    }
    for (int k = 0; k + 1 < ds->streams; k++) {
        int64_t n = ds->shard_count[k];
        int64_t held = n ? ds->shards[k][n - 1].first + ds->shards[k][n - 1].count : 0;
        if (held != ds->count)
            return su_fail(err, SU_EFORMAT, "%s: the shards of stream '%s' hold %lld of %lld samples", where,
                           ds->names[k], (long long)held, (long long)ds->count);
    }
    return SU_OK;
}

static su_status open_manifest(su_dataset *ds, const char *path, su_error *err)
{
    const char *schema = NULL;
    su_status s = su_json_read_sealed(path, MANIFEST_MAX, &ds->manifest, err);
    if (s == SU_ENOTFOUND)
        return su_fail(err, s, "%s: not a dataset: there is no manifest.json in it (did its import finish?)",
                       ds->folder);
    if (!s) s = su_sha256_file(path, ds->sha256, err);
    if (s) return s;
    if ((s = su_json_string(ds->manifest, "schema", path, &schema, err))) return s;
    if (strcmp(schema, "suture.dataset/1") != 0)
        return su_fail(err, SU_EUNSUPPORTED, "%s: schema '%s'; this version reads 'suture.dataset/1'", path,
                       schema);
    s = su_image_recipe_parse(json_object_get(ds->manifest, "recipe"), path, &ds->recipe, err);
    if (s) return s;
    ds->image_bytes = (size_t)ds->recipe.size * (size_t)ds->recipe.size * (size_t)ds->recipe.channels;
    return su_json_int(ds->manifest, "samples", path, 1, INT64_C(1) << 40, &ds->count, err);
}

static su_status check_records(const su_dataset *ds, const char *path, su_error *err)
{
    char hex[SU_SHA256_HEX];
    const char *expected =
        json_string_value(json_object_get(json_object_get(ds->manifest, "records"), "sha256"));
    su_status s = expected ? su_sha256_file(path, hex, err) : SU_OK;
    if (s || !expected || !strcmp(hex, expected)) return s;
    return su_fail(err, SU_EFORMAT,
                   "%s: is not what was imported (its SHA-256 differs from the manifest's): import again",
                   path);
}

static su_status open_records(su_dataset *ds, su_error *err)
{
    char *path = su_path_join(ds->folder, "records.jsonl");
    ds->records = su_calloc((size_t)ds->count, sizeof *ds->records);
    su_status s = SU_OK;
    if (!path || !ds->records)
        s = su_fail(err, SU_ENOMEM, "%s: no memory for %lld records", ds->folder, (long long)ds->count);
    if (!s) s = su_jsonl_read(path, read_record, &(record_walk){ds, path}, err);
    if (!s && ds->records_read != ds->count)
        s = su_fail(err, SU_EFORMAT, "%s: %lld records, but the manifest says %lld samples", path,
                    (long long)ds->records_read, (long long)ds->count);
    if (!s) s = check_records(ds, path, err);
    su_free(path);
    return s;
}

su_status su_dataset_open(const char *folder, su_dataset **out, su_error *err)
{
    *out = NULL;
    su_dataset *ds = su_calloc(1, sizeof *ds);
    char *manifest = su_path_join(folder, "manifest.json");
    if (ds) ds->folder = su_strdup(folder);
    su_status s = SU_OK;
    if (!ds || !manifest || !ds->folder) s = su_fail(err, SU_ENOMEM, "%s: no memory to open it", folder);
    if (!s && !su_is_folder(folder))
        s = su_fail(err, SU_ENOTFOUND, "%s: there is no such dataset folder", folder);
    if (!s) s = open_manifest(ds, manifest, err);
    if (!s) s = open_streams(ds, manifest, err);
    if (!s) s = open_shards(ds, manifest, err);
    if (!s) s = open_records(ds, err);
    su_free(manifest);
    if (s) {
        su_dataset_close(ds);
        return s;
    }
    *out = ds;
    return SU_OK;
}

void su_dataset_close(su_dataset *ds)
{
    if (!ds) return;
    for (int k = 0; k < STREAMS_MAX; k++) {
        for (int64_t i = 0; i < ds->shard_count[k]; i++) su_safetensors_close(ds->shards[k][i].file);
        su_free(ds->shards[k]);
    }
    for (int64_t i = 0; i < ds->records_read; i++) json_decref((json_t *)(uintptr_t)ds->records[i].json);
    su_free(ds->records);
    json_decref(ds->manifest);
    su_free(ds->folder);
    su_free(ds);
}

/* ---- reading ---- */

const char *su_dataset_folder(const su_dataset *ds)
{
    return ds->folder;
}
const char *su_dataset_sha256(const su_dataset *ds)
{
    return ds->sha256;
}
const su_image_recipe *su_dataset_recipe(const su_dataset *ds)
{
    return &ds->recipe;
}
const json_t *su_dataset_manifest(const su_dataset *ds)
{
    return ds->manifest;
}
int64_t su_dataset_count(const su_dataset *ds)
{
    return ds->count;
}
int su_dataset_streams(const su_dataset *ds)
{
    return ds->streams;
}
const char *su_dataset_stream(const su_dataset *ds, int stream)
{
    return ds->names[stream];
}
const su_record *su_dataset_record(const su_dataset *ds, int64_t i)
{
    return &ds->records[i];
}

static shard *shard_of(const su_dataset *ds, int stream, int64_t i)
{
    shard *shards = ds->shards[stream];
    int64_t low = 0, high = ds->shard_count[stream] - 1;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (shards[middle].first <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return &shards[low];
}

const uint8_t *su_dataset_pixels(const su_dataset *ds, int stream, int64_t i)
{
    const shard *sh = shard_of(ds, stream, i);
    return sh->pixels + (size_t)(i - sh->first) * ds->image_bytes;
}

su_status su_dataset_check_pixels(const su_dataset *ds, const int64_t *items, int64_t count, su_error *err)
{
    for (int k = 0; k + 1 < ds->streams; k++)
        for (int64_t i = 0; i < count; i++) {
            shard *sh = shard_of(ds, k, items[i]);
            if (sh->checked) continue;
            su_status s = su_safetensors_verify(sh->file, err);
            if (s) return s;
            sh->checked = true;
        }
    return SU_OK;
}

su_status su_dataset_split(const su_dataset *ds, const char *split, int64_t **items, int64_t *count,
                           su_error *err)
{
    bool all = !split || !strcmp(split, "all");
    *items = NULL;
    *count = 0;
    int64_t *list = su_alloc((size_t)ds->count, sizeof *list), n = 0;
    if (!list) return su_fail(err, SU_ENOMEM, "%s: no memory for the samples of a split", ds->folder);
    for (int64_t i = 0; i < ds->count; i++)
        if (all || !strcmp(ds->records[i].split, split)) list[n++] = i;
    if (n == 0) {
        char names[256] = "";
        const char *name = NULL;
        json_t *value = NULL;
        su_free(list);
        json_object_foreach(json_object_get(ds->manifest, "splits"), name, value)
        {
            size_t used = strlen(names);
            snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
        }
        return su_fail(err, SU_ENOTFOUND, "%s: no split '%s'; there are: %s", ds->folder, split, names);
    }
    *items = list;
    *count = n;
    return SU_OK;
}

/* ---- verification ---- */

static su_status verify_file(const su_dataset *ds, const json_t *entry, json_t *damaged, su_error *err)
{
    const char *name = NULL, *expected = NULL;
    su_status s = SU_OK;
    char hex[SU_SHA256_HEX];
    if ((s = su_json_string(entry, "file", "manifest.json", &name, err)) ||
        (s = su_json_string(entry, "sha256", "manifest.json", &expected, err)))
        return su_fail_context(err, s, "%s", ds->folder);
    char *path = su_path_join(ds->folder, name);
    if (!path) return su_fail(err, SU_ENOMEM, "%s: no memory to verify %s", ds->folder, name);
    su_error why = {0};
    const char *reason = NULL;
    if (su_sha256_file(path, hex, &why))
        reason = why.message;
    else if (strcmp(hex, expected) != 0)
        reason = "its content is not what was imported (SHA-256 differs from the manifest's)";
    su_free(path);
    if (reason && json_array_append_new(damaged, json_pack("{s:s,s:s}", "file", name, "reason", reason)))
        return su_fail(err, SU_ENOMEM, "%s: no memory for the list of damaged files", ds->folder);
    return SU_OK;
}

su_status su_dataset_verify(const su_dataset *ds, json_t **damaged, su_error *err)
{
    su_status s = SU_OK;
    *damaged = json_array();
    if (!*damaged) return su_fail(err, SU_ENOMEM, "%s: no memory for the list of damaged files", ds->folder);
    const json_t *shards = json_object_get(ds->manifest, "shards");
    for (size_t i = 0; !s && i < json_array_size(shards); i++)
        s = verify_file(ds, json_array_get(shards, i), *damaged, err);
    if (!s) s = verify_file(ds, json_object_get(ds->manifest, "records"), *damaged, err);
    if (!s) s = verify_file(ds, json_object_get(ds->manifest, "skipped"), *damaged, err);
    if (s) {
        json_decref(*damaged);
        *damaged = NULL;
    }
    return s;
}
