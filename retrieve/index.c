#include "retrieve/index.h"
#include "align/embed.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "retrieve/filter.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- build ---------------------------------------------------------------------------------------------- */

typedef struct {
    float *vectors;
    int64_t rows, capacity;
    int32_t width;
    su_writer *items;
    json_t *datasets;
} builder;

static su_status reserve(builder *b, int64_t more, su_error *err)
{
    if (b->rows + more <= b->capacity) return SU_OK;
    int64_t capacity = b->capacity * 2 > b->rows + more ? b->capacity * 2 : b->rows + more;
    float *grown = su_realloc(b->vectors, (size_t)capacity, (size_t)b->width * sizeof *grown);
    if (!grown) return su_fail(err, SU_ENOMEM, "no memory for %lld vectors", (long long)capacity);
    b->vectors = grown;
    b->capacity = capacity;
    return SU_OK;
}

/* Image files of a record are listed under "images": {"<stream>": {"file": ...}}; source is what a reader is
 * shown. */
static su_status add_item(builder *b, const su_record *r, const char *stream, const char *kind,
                          const float *z, su_error *err)
{
    su_status st = reserve(b, 1, err);
    if (st) return st;
    memcpy(b->vectors + b->rows * b->width, z, (size_t)b->width * sizeof *z);
    json_t *o =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "id", r->id, "kind", kind, "stream", stream, "split",
                  r->split, "group", r->group, "licence", r->licence, "file", r->source, "text", r->text);
    char *line = o ? json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(o);
    if (!line) return su_fail(err, SU_ENOMEM, "no memory for the index");
    st = su_writer_printf(b->items, err, "%s\n", line);
    free(line);
    b->rows++;
    return st;
}

static su_status add_dataset(builder *b, su_model *m, const char *folder, const char *split, su_error *err)
{
    su_dataset *ds = NULL;
    int64_t *items = NULL, count = 0;
    float *z[SU_MAX_STREAMS] = {NULL};
    su_status st = su_dataset_open(folder, &ds, err);
    if (!st) st = su_dataset_split(ds, split, &items, &count, err);
    if (!st) st = su_embed_items(m, ds, items, count, NULL, "index", z, err);
    for (int64_t i = 0; i < count && !st; i++) {
        for (int s = 0; s < m->config.streams && !st; s++) {
            const su_stream_config *c = &m->config.stream[s];
            st = add_item(b, su_dataset_record(ds, items[i]), c->name,
                          c->tower.kind == SU_TOWER_VIT ? "image" : "text", z[s] + i * b->width, err);
        }
    }
    if (!st)
        json_array_append_new(b->datasets, json_pack("{s:s,s:s,s:s}", "folder", folder, "sha256",
                                                     su_dataset_sha256(ds), "split", split ? split : "all"));
    for (int s = 0; s < m->config.streams; s++) su_free(z[s]);
    su_free(items);
    su_dataset_close(ds);
    return st;
}

static su_status write_index(builder *b, const su_model *m, const char *model_folder, const char *vectors,
                             const char *items, const char *manifest, su_error *err)
{
    char *absolute = realpath(model_folder, NULL), items_sha256[SU_SHA256_HEX] = "";
    su_tensor_view view = {.name = "vectors",
                           .dtype = SU_DTYPE_F32,
                           .rank = 2,
                           .shape = {b->rows, b->width},
                           .data = b->vectors,
                           .bytes = (size_t)b->rows * (size_t)b->width * sizeof *b->vectors};
    su_status st =
        su_safetensors_write(vectors, &view, 1, (const char *const[]){"format", "suture.index/1", NULL}, err);
    if (!st) {
        st = su_writer_commit(b->items, err);
        b->items = NULL;
    }
    if (!st) st = su_sha256_file(items, items_sha256, err);
    json_t *doc = json_pack("{s:s,s:I,s:i,s:s,s:s,s:O,s:s,s:s}", "schema", "suture.index/1", "rows",
                            (json_int_t)b->rows, "width", (int)b->width, "model",
                            absolute ? absolute : model_folder, "model_sha256", m->sha256, "datasets",
                            b->datasets, "items_sha256", items_sha256, "version", SUTURE_VERSION);
    if (!st)
        st = doc ? su_json_write_sealed(manifest, doc, err)
                 : su_fail(err, SU_ENOMEM, "no memory for the index");
    json_decref(doc);
    free(absolute);
    return st;
}

su_status su_index_build(su_model *model, const char *model_folder, const char *const *datasets, int count,
                         const char *split, const char *out, int64_t *rows, su_error *err)
{
    builder b = {.width = su_model_width(model), .datasets = json_array()};
    int lock = -1;
    char *vectors = su_path_join(out, "vectors.safetensors"), *items = su_path_join(out, "items.jsonl"),
         *manifest = su_path_join(out, "index.json");
    su_status st = vectors && items && manifest && b.datasets
                       ? SU_OK
                       : su_fail(err, SU_ENOMEM, "no memory for the index");
    if (!st && su_file_exists(manifest))
        st = su_fail(err, SU_EINVAL, "%s already holds an index: remove it or choose another --out", out);
    if (!st) st = su_mkdirs(out, err);
    if (!st) st = su_folder_lock(out, "index", &lock, err);
    if (!st) st = su_writer_open(items, &b.items, err);
    for (int i = 0; i < count && !st; i++) st = add_dataset(&b, model, datasets[i], split, err);
    if (!st && b.rows == 0) st = su_fail(err, SU_EINVAL, "nothing to index: the split is empty");
    if (!st) st = write_index(&b, model, model_folder, vectors, items, manifest, err);
    if (rows) *rows = b.rows;
    su_writer_abort(b.items);
    su_folder_unlock(lock);
    json_decref(b.datasets);
    su_free(b.vectors);
    su_free(vectors);
    su_free(items);
    su_free(manifest);
    return st;
}

/* --- open ----------------------------------------------------------------------------------------------- */

struct su_index {
    json_t *manifest;
    su_safetensors *file;
    const float *vectors;
    int64_t rows, capacity;
    int32_t width;
    su_index_item *items; /* strings belong to `objects` */
    json_t **objects;
    const char *path; /* of items.jsonl, while reading */
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static su_status read_item(void *context, int64_t number, json_t *o, su_error *err)
{
    su_index *x = context;
    int64_t i = number - 1;
    if (i >= x->rows)
        return su_fail_at(err, SU_EFORMAT, number, "%s line %lld: more items than the %lld vectors", x->path,
                          (long long)number, (long long)x->rows);
    x->objects[i] = json_incref(o);
    x->items[i] = (su_index_item){.id = text_of(o, "id"),
                                  .kind = text_of(o, "kind"),
                                  .stream = text_of(o, "stream"),
                                  .split = text_of(o, "split"),
                                  .group = text_of(o, "group"),
                                  .licence = text_of(o, "licence"),
                                  .file = text_of(o, "file"),
                                  .text = text_of(o, "text")};
    return SU_OK;
}

static su_status check_items(const su_index *x, const char *manifest, const char *items, su_error *err)
{
    const char *expected = NULL;
    char found[SU_SHA256_HEX];
    su_status st = su_json_string(x->manifest, "items_sha256", manifest, &expected, err);
    if (!st) st = su_sha256_file(items, found, err);
    if (st || !strcmp(found, expected)) return st;
    return su_fail(err, SU_EFORMAT,
                   "%s: is damaged (its SHA-256 is not what index.json says): build the index again", items);
}

static su_status open_parts(su_index *x, const char *folder, const char *manifest, const char *vectors,
                            const char *items, su_error *err)
{
    const char *schema = NULL;
    if (!su_file_exists(manifest))
        return su_fail(err, SU_ENOTFOUND, "%s holds no index (no index.json): make one with 'suture index'",
                       folder);
    su_status st = su_json_read_sealed(manifest, 1 << 20, &x->manifest, err);
    if (!st) st = su_json_string(x->manifest, "schema", manifest, &schema, err);
    if (!st && strcmp(schema, "suture.index/1"))
        st = su_fail(err, SU_EFORMAT, "%s: schema '%s' is not suture.index/1", manifest, schema);
    if (!st) st = su_json_int(x->manifest, "rows", manifest, 1, INT64_MAX / 65536, &x->rows, err);
    int64_t width = 0;
    if (!st) st = su_json_int(x->manifest, "width", manifest, 1, 65536, &width, err);
    x->width = (int32_t)width;
    if (!st) st = su_safetensors_open(vectors, &x->file, err);
    if (!st) st = su_safetensors_verify(x->file, err);
    const su_tensor_view *view = NULL;
    if (!st)
        st = su_safetensors_get(x->file, "vectors", SU_DTYPE_F32, 2, (int64_t[]){x->rows, width}, &view, err);
    if (st) return st;
    if ((uintptr_t)view->data % sizeof(float))
        return su_fail(err, SU_EFORMAT, "%s: the vectors are not aligned", vectors);
    x->vectors = view->data;
    x->items = su_calloc((size_t)x->rows, sizeof *x->items);
    x->objects = su_calloc((size_t)x->rows, sizeof *x->objects);
    if (!x->items || !x->objects)
        return su_fail(err, SU_ENOMEM, "no memory for %lld items", (long long)x->rows);
    x->path = items;
    st = su_jsonl_read(items, read_item, x, err);
    x->path = NULL;
    for (int64_t i = 0; i < x->rows && !st; i++)
        if (!x->objects[i])
            st = su_fail(err, SU_EFORMAT, "%s: item %lld of %lld is missing: build the index again", items,
                         (long long)i + 1, (long long)x->rows);
    if (!st) st = check_items(x, manifest, items, err);
    return st;
}

su_status su_index_open(const char *folder, su_index **index, su_error *err)
{
    *index = NULL;
    su_index *x = su_calloc(1, sizeof *x);
    char *vectors = su_path_join(folder, "vectors.safetensors"), *items = su_path_join(folder, "items.jsonl"),
         *manifest = su_path_join(folder, "index.json");
    su_status st = x && vectors && items && manifest
                       ? open_parts(x, folder, manifest, vectors, items, err)
                       : su_fail(err, SU_ENOMEM, "no memory to open %s", folder);
    su_free(vectors);
    su_free(items);
    su_free(manifest);
    if (st)
        su_index_close(x);
    else
        *index = x;
    return st;
}

void su_index_close(su_index *x)
{
    if (!x) return;
    for (int64_t i = 0; x->objects && i < x->rows; i++) json_decref(x->objects[i]);
    su_free(x->objects);
    su_free(x->items);
    su_safetensors_close(x->file);
    json_decref(x->manifest);
    su_free(x);
}

int64_t su_index_rows(const su_index *x)
{
    return x->rows;
}

int32_t su_index_width(const su_index *x)
{
    return x->width;
}

const su_index_item *su_index_at(const su_index *x, int64_t row)
{
    return &x->items[row];
}

const char *su_index_model(const su_index *x)
{
    return text_of(x->manifest, "model");
}

const char *su_index_model_sha256(const su_index *x)
{
    return text_of(x->manifest, "model_sha256");
}

/* --- search --------------------------------------------------------------------------------------------- */

su_status su_index_search(const su_index *x, su_device *device, const float *query,
                          const su_index_filter *filter, int32_t k, su_hit *hits, int32_t *found,
                          su_error *err)
{
    *found = 0;
    su_filter *f = NULL;
    su_status st = su_filter_parse(filter, &f, err);
    if (st) return st;
    int64_t *chosen = su_alloc((size_t)x->rows, sizeof *chosen), n = 0;
    for (int64_t i = 0; i < x->rows && chosen; i++)
        if (su_filter_passes(f, &x->items[i])) chosen[n++] = i;
    su_filter_free(f);
    size_t width = (size_t)x->width, row = width * sizeof(float);
    int32_t want = n < k ? (int32_t)n : k;
    int64_t *rows = su_alloc((size_t)want + 1, sizeof *rows);
    float *scores = su_alloc((size_t)want + 1, sizeof *scores), *subset = NULL;
    void *vectors = NULL, *q = NULL;
    if (!chosen || !rows || !scores)
        st = su_fail(err, SU_ENOMEM, "no memory to search %lld items", (long long)x->rows);
    if (!st && want > 0 && device->acc != SU_DTYPE_F32)
        st = su_fail(err, SU_EUNSUPPORTED, "search runs in float32");
    const float *from = x->vectors;
    if (!st && want > 0 &&
        n < x->rows) { /* what passes the filter, packed: exactly k come back however rare they are */
        subset = su_alloc((size_t)n, row);
        if (!subset) st = su_fail(err, SU_ENOMEM, "no memory to search %lld items", (long long)n);
        for (int64_t i = 0; i < n && !st; i++)
            memcpy(subset + (size_t)i * width, x->vectors + (size_t)chosen[i] * width, row);
        from = subset;
    }
    if (!st && want > 0) st = device->ops->alloc(device, (size_t)n * row, &vectors, err);
    if (!st && want > 0) st = device->ops->alloc(device, row, &q, err);
    if (!st && want > 0) {
        device->ops->upload(device, vectors, from, (size_t)n * row);
        device->ops->upload(device, q, query, row);
        st = device->ops->top_k(device, rows, scores, q, vectors, SU_DTYPE_F32, 0, 1, n, x->width, want, err);
    }
    for (int32_t i = 0; i < want && !st; i++)
        hits[i] = (su_hit){.row = chosen[rows[i]], .score = (double)scores[i]};
    if (!st) *found = want;
    if (q) device->ops->release(device, q);
    if (vectors) device->ops->release(device, vectors);
    su_free(subset);
    su_free(chosen);
    su_free(rows);
    su_free(scores);
    return st;
}
