#include "caption/evidence.h"
#include "align/embed.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "datasets/phash.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct su_evidence {
    float *z; /* [count, width] */
    int64_t count;
    int32_t width;
    su_device *device; /* of `resident` */
    void *resident;    /* z on the device, from the first search on */
    su_evidence_item *items;
    json_t **lines; /* [count]: the strings belong to them */
};

void su_evidence_free(su_evidence *e)
{
    if (!e) return;
    for (int64_t i = 0; i < e->count && e->lines; i++) json_decref(e->lines[i]);
    if (e->resident) e->device->ops->release(e->device, e->resident);
    su_free(e->z);
    su_free(e->items);
    su_free(e->lines);
    su_free(e);
}

int64_t su_evidence_count(const su_evidence *e)
{
    return e->count;
}

const su_evidence_item *su_evidence_at(const su_evidence *e, int64_t row)
{
    return &e->items[row];
}

const float *su_evidence_embedding(const su_evidence *e, int64_t row)
{
    return e->z + (size_t)row * (size_t)e->width;
}

static su_status evidence_new(int64_t count, int32_t width, su_evidence **evidence, su_error *err)
{
    *evidence = NULL;
    su_evidence *e = su_calloc(1, sizeof *e);
    size_t n = count > 0 ? (size_t)count : 1;
    if (e) {
        *e = (su_evidence){.count = count, .width = width};
        e->items = su_calloc(n, sizeof *e->items);
        e->lines = su_calloc(n, sizeof(json_t *));
    }
    if (!e || !e->items || !e->lines) {
        su_evidence_free(e);
        return su_fail(err, SU_ENOMEM, "no memory for %lld pieces of evidence", (long long)count);
    }
    *evidence = e;
    return SU_OK;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static su_identity identity_of(const char *id, const char *group, const json_t *facts)
{
    su_identity who = {.id = id, .group = group, .sha256 = text_of(facts, "sha256")};
    const char *phash = text_of(facts, "phash");
    who.hashed = *phash != 0;
    if (who.hashed) who.phash = strtoull(phash, NULL, 16);
    return who;
}

su_identity su_identity_of(const su_dataset *ds, int64_t i, const char *stream)
{
    const su_record *r = su_dataset_record(ds, i);
    return identity_of(r->id, r->group, json_object_get(json_object_get(r->json, "images"), stream));
}

/* Takes the line; the item's strings are its. */
static void set_line(su_evidence *e, int64_t i, json_t *line)
{
    e->lines[i] = line;
    e->items[i] =
        (su_evidence_item){.identity = identity_of(text_of(line, "id"), text_of(line, "group"), line),
                           .file = text_of(line, "file"),
                           .text = text_of(line, "text")};
}

su_status su_evidence_build(su_model *model, int stream, const su_dataset *ds, const int64_t *items,
                            int64_t count, su_evidence **evidence, su_error *err)
{
    float *z[SU_MAX_STREAMS] = {NULL};
    bool wanted[SU_MAX_STREAMS] = {false};
    wanted[stream] = true;
    su_evidence *e = NULL;
    su_status st = evidence_new(count, su_model_width(model), &e, err);
    if (!st) st = su_embed_items(model, ds, items, count, wanted, "embed for evidence", z, err);
    for (int64_t i = 0; i < count && !st; i++) {
        const su_record *r = su_dataset_record(ds, items[i]);
        su_identity who = su_identity_of(ds, items[i], model->config.stream[stream].name);
        char phash[17];
        snprintf(phash, sizeof phash, "%016" PRIx64, who.phash);
        json_t *line =
            json_pack("{s:s,s:s,s:s,s:s,s:s,s:s?}", "id", r->id, "group", r->group, "file", r->source, "text",
                      r->text, "sha256", who.sha256, "phash", who.hashed ? phash : NULL);
        if (!line)
            st = su_fail(err, SU_ENOMEM, "no memory for evidence");
        else
            set_line(e, i, line);
    }
    if (st) {
        su_free(z[stream]);
        su_evidence_free(e);
        return st;
    }
    e->z = z[stream];
    *evidence = e;
    return SU_OK;
}

/* --- files --------------------------------------------------------------------------------------------- */

su_status su_evidence_save(const su_evidence *e, const char *folder, char sha256[65], su_error *err)
{
    char *vectors = su_path_join(folder, "evidence.safetensors"),
         *lines = su_path_join(folder, "evidence.jsonl");
    su_writer *out = NULL;
    su_tensor_view view = {.name = "embeddings",
                           .dtype = SU_DTYPE_F32,
                           .rank = 2,
                           .shape = {e->count, e->width},
                           .data = e->z,
                           .bytes = (size_t)e->count * (size_t)e->width * sizeof(float)};
    su_status st = vectors && lines ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to save evidence");
    if (!st)
        st = su_safetensors_write(vectors, &view, 1,
                                  (const char *const[]){"format", "suture.evidence/1", NULL}, err);
    if (!st) st = su_writer_open(lines, &out, err);
    for (int64_t i = 0; i < e->count && !st; i++) {
        char *text = json_dumps(e->lines[i], JSON_COMPACT | JSON_PRESERVE_ORDER);
        st = text ? su_writer_printf(out, err, "%s\n", text)
                  : su_fail(err, SU_ENOMEM, "no memory to save evidence");
        free(text);
    }
    if (!st)
        st = su_writer_commit(out, err);
    else
        su_writer_abort(out);
    if (!st) st = su_sha256_file(lines, sha256, err);
    su_free(vectors);
    su_free(lines);
    return st;
}

typedef struct {
    su_evidence *e;
    const char *path;
    int64_t next;
} reading;

static su_status read_line(void *context, int64_t number, json_t *line, su_error *err)
{
    reading *r = context;
    const char *text = NULL;
    if (r->next == r->e->count)
        return su_fail_at(err, SU_EFORMAT, number, "%s: line %lld: there are %lld embeddings only", r->path,
                          (long long)number, (long long)r->e->count);
    su_status st = su_json_string(line, "text", r->path, &text, err);
    if (!st) set_line(r->e, r->next++, json_incref(line));
    return st;
}

su_status su_evidence_open(const char *folder, int32_t width, const char *sha256, su_evidence **evidence,
                           su_error *err)
{
    *evidence = NULL;
    char *vectors = su_path_join(folder, "evidence.safetensors"),
         *lines = su_path_join(folder, "evidence.jsonl");
    su_safetensors *file = NULL;
    const su_tensor_view *view = NULL;
    su_evidence *e = NULL;
    su_status st = vectors && lines ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to read evidence");
    if (!st) st = su_safetensors_open(vectors, &file, err);
    if (!st) st = su_safetensors_get(file, "embeddings", SU_DTYPE_F32, 2, (int64_t[]){-1, width}, &view, err);
    if (!st) st = su_safetensors_verify(file, err);
    char own[65] = "";
    if (!st) st = su_sha256_file(lines, own, err);
    if (!st && strcmp(own, sha256) != 0)
        st = su_fail(err, SU_EMISMATCH, "%s is not the evidence that the decoder was trained with", lines);
    if (!st) st = evidence_new(view->shape[0], width, &e, err);
    if (!st) {
        e->z = su_alloc(view->bytes / sizeof(float) + 1, sizeof(float));
        if (!e->z) st = su_fail(err, SU_ENOMEM, "no memory for evidence");
    }
    if (!st) {
        memcpy(e->z, view->data, view->bytes);
        reading r = {.e = e, .path = lines};
        st = su_jsonl_read(lines, read_line, &r, err);
        if (!st && r.next != e->count)
            st = su_fail(err, SU_EFORMAT, "%s has %lld lines for %lld embeddings", lines, (long long)r.next,
                         (long long)e->count);
    }
    su_safetensors_close(file);
    su_free(vectors);
    su_free(lines);
    if (st)
        su_evidence_free(e);
    else
        *evidence = e;
    return st;
}

/* --- search -------------------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
    return a && b && *a && !strcmp(a, b);
}

static bool is_itself(const su_identity *who, const su_identity *other)
{
    return same(who->id, other->id) || same(who->group, other->group) || same(who->sha256, other->sha256) ||
           (who->hashed && other->hashed && __builtin_popcountll(who->phash ^ other->phash) <= SU_PHASH_NEAR);
}

/* acc rows on the device, from floats. */
static su_status upload(su_device *d, const float *from, int64_t elements, void **memory, su_error *err)
{
    void *staged = NULL;
    *memory = NULL;
    su_status st = d->ops->alloc(d, (size_t)elements * su_dtype_size(d->acc), memory, err);
    if (!st && d->acc != SU_DTYPE_F32) st = d->ops->alloc(d, (size_t)elements * sizeof *from, &staged, err);
    if (st) return st;
    d->ops->upload(d, staged ? staged : *memory, from, (size_t)elements * sizeof *from);
    if (staged) d->ops->convert(d, *memory, d->acc, staged, SU_DTYPE_F32, elements);
    if (staged) d->ops->release(d, staged);
    return SU_OK;
}

/* More are asked for than wanted, because some may be the query itself; when too many of them are, again for
 * more. */
su_status su_evidence_find(su_evidence *e, su_device *device, const float *z, const su_identity *who,
                           int32_t n, int32_t k, int64_t *rows, float *scores, int32_t *found, su_error *err)
{
    for (int32_t q = 0; q < n; q++) found[q] = 0;
    if (!e->count || !k || !n) return SU_OK;
    void *queries = NULL;
    su_status st = e->resident ? SU_OK : upload(device, e->z, e->count * e->width, &e->resident, err);
    e->device = device;
    if (!st) st = upload(device, z, (int64_t)n * e->width, &queries, err);
    bool enough = false;
    for (int64_t ask = k + 8; !st && !enough; ask *= 4) {
        int32_t m = (int32_t)(ask < e->count ? ask : e->count);
        int64_t *row = su_alloc((size_t)n * (size_t)m, sizeof *row);
        float *score = su_alloc((size_t)n * (size_t)m, sizeof *score);
        st = row && score ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to look for evidence");
        if (!st)
            st = device->ops->top_k(device, row, score, queries, e->resident, device->acc, 0, n, e->count,
                                    e->width, m, err);
        enough = true;
        for (int32_t q = 0; q < n && !st; q++) {
            found[q] = 0;
            for (int64_t i = (int64_t)q * m; i < (int64_t)(q + 1) * m && found[q] < k; i++) {
                if (is_itself(&who[q], &e->items[row[i]].identity)) continue;
                int64_t at = (int64_t)q * k + found[q]++;
                rows[at] = row[i];
                if (scores) scores[at] = score[i];
            }
            enough &= found[q] == k || m == e->count;
        }
        su_free(row);
        su_free(score);
    }
    if (queries) device->ops->release(device, queries);
    return st;
}
