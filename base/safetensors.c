/* Reading: the file is mapped, the header parsed by Jansson, and every entry checked before its view is
 * handed out. Writing: the checksum comes first (the header that holds it stands before the data), then
 * header and data are streamed through the atomic writer. All arithmetic on sizes is in checked 64-bit
 * integers. */
#include "base/safetensors.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is used as it lies in the file");

enum { PREFIX = 8, HEADER_MAX = 100 * 1000 * 1000 };

static const char metadata_key[] = "__metadata__";

/* Bytes of a tensor; false when an extent is negative or the product of those that are not 0 passes 2^63 - 1. */
static bool tensor_bytes(const su_tensor_view *v, int64_t *bytes)
{
    int64_t n = (int64_t)su_dtype_size(v->dtype);
    bool empty = false;
    for (int i = 0; i < v->rank; i++) {
        if (v->shape[i] < 0) return false;
        if (v->shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(n, v->shape[i], &n))
            return false;
    }
    *bytes = empty ? 0 : n;
    return true;
}

/* --- reading ------------------------------------------------------------------------------------------ */

struct su_safetensors {
    char *path; /* for messages */
    su_map map; /* length 0 when the bytes are the caller's (su_safetensors_check) */
    const uint8_t *data;
    size_t length;  /* of data */
    json_t *header; /* owns names and metadata */
    su_tensor_view *views;
    const su_tensor_view **by_name, **by_place; /* by_place serves the check for holes and overlaps */
    int64_t count;
};

static su_status entry_failed(const su_safetensors *f, const char *name, const char *reason, su_error *err)
{
    return su_fail(err, SU_EFORMAT, "%s: tensor \"%.200s\": %s", f->path, name, reason);
}

static su_status read_entry(su_safetensors *f, const char *name, json_t *entry, su_tensor_view *v,
                            su_error *err)
{
    if (!json_is_object(entry)) return entry_failed(f, name, "its entry is no object", err);
    *v = (su_tensor_view){.name = name};
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return entry_failed(f, name, "has no dtype", err);
    size_t d = 0;
    while (d < SU_DTYPES && strcmp(su_dtype_name((su_dtype)d), dtype) != 0) d++;
    if (d == SU_DTYPES)
        return su_fail(err, SU_EUNSUPPORTED,
                       "%s: tensor \"%.200s\" has dtype \"%.20s\", which is not known here", f->path, name,
                       dtype);
    v->dtype = (su_dtype)d;

    json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_array(shape)) return entry_failed(f, name, "has no shape", err);
    if (json_array_size(shape) > SU_MAX_RANK)
        return su_fail(err, SU_ELIMIT, "%s: tensor \"%.200s\" has %zu dimensions, more than the limit of %d",
                       f->path, name, json_array_size(shape), SU_MAX_RANK);
    v->rank = (int)json_array_size(shape);
    for (int i = 0; i < v->rank; i++) {
        json_t *extent = json_array_get(shape, (size_t)i);
        if (!json_is_integer(extent))
            return entry_failed(f, name, "its shape has an extent that is no integer", err);
        v->shape[i] = json_integer_value(extent);
    }
    int64_t bytes;
    if (!tensor_bytes(v, &bytes))
        return entry_failed(f, name, "its shape is negative or passes 2^63 bytes", err);

    json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return entry_failed(f, name, "has no data_offsets [begin, end]", err);
    int64_t begin = json_integer_value(from), end = json_integer_value(to);
    if (begin < 0 || end < begin || (uint64_t)end > f->length)
        return entry_failed(f, name, "its data_offsets lie outside the file; the file may be cut short", err);
    if (end - begin != bytes)
        return entry_failed(f, name, "its data_offsets do not match its shape and dtype", err);
    v->data = f->data + begin;
    v->bytes = (size_t)bytes;
    return SU_OK;
}

static int compare_places(const void *a, const void *b)
{
    const su_tensor_view *x = *(su_tensor_view *const *)a, *y = *(su_tensor_view *const *)b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* an empty tensor before the one it touches */
}

static int compare_names(const void *a, const void *b)
{
    const su_tensor_view *x = *(su_tensor_view *const *)a, *y = *(su_tensor_view *const *)b;
    return strcmp(x->name, y->name);
}

/* Tensors must tile the data section: each begins where the one before ends, the last ends with the file. */
static su_status check_places(su_safetensors *f, su_error *err)
{
    const uint8_t *end = f->data;
    qsort(f->by_place, (size_t)f->count, sizeof *f->by_place, compare_places);
    for (int64_t i = 0; i < f->count; i++) {
        const su_tensor_view *v = f->by_place[i];
        if ((const uint8_t *)v->data < end) return entry_failed(f, v->name, "overlaps another tensor", err);
        if ((const uint8_t *)v->data > end)
            return entry_failed(f, v->name, "there is a hole in front of it", err);
        end += v->bytes;
    }
    size_t rest = f->length - (size_t)(end - f->data);
    if (rest) return su_fail(err, SU_EFORMAT, "%s: has %zu bytes after the last tensor", f->path, rest);
    return SU_OK;
}

static su_status read_entries(su_safetensors *f, su_error *err)
{
    size_t members = json_object_size(f->header);
    f->views = su_calloc(members, sizeof *f->views);
    f->by_name = su_calloc(members, sizeof *f->by_name);
    f->by_place = su_calloc(members, sizeof *f->by_place);
    if (!f->views || !f->by_name || !f->by_place)
        return su_fail(err, SU_ENOMEM, "%s: no memory for the table of %zu tensors", f->path, members);
    const char *name;
    json_t *entry;
    json_object_foreach(f->header, name, entry)
    {
        if (!strcmp(name, metadata_key)) {
            const char *key;
            json_t *value;
            if (!json_is_object(entry))
                return su_fail(err, SU_EFORMAT, "%s: its %s is no object", f->path, metadata_key);
            json_object_foreach(entry, key, value) if (!json_is_string(value)) return su_fail(
                err, SU_EFORMAT, "%s: a value in its %s is no string", f->path, metadata_key);
            continue;
        }
        su_tensor_view *v = &f->views[f->count];
        su_status st = read_entry(f, name, entry, v, err);
        if (st) return st;
        f->by_name[f->count] = f->by_place[f->count] = v;
        f->count++;
    }
    qsort(f->by_name, (size_t)f->count, sizeof *f->by_name, compare_names);
    return check_places(f, err);
}

/* Where the eight digits of the header's checksum stand; SIZE_MAX: it has none. Inside a JSON string no quote
 * stands bare, so nothing but the member looks like this. */
static const char header_seal[] = "\"header_crc32\":\"";
enum { SEAL_DIGITS = 8 };

static size_t find_seal(const char *text, size_t length)
{
    const char *at = memmem(text, length, header_seal, sizeof header_seal - 1);
    if (!at || length - (size_t)(at - text) < sizeof header_seal - 1 + SEAL_DIGITS) return SIZE_MAX;
    return (size_t)(at - text) + sizeof header_seal - 1;
}

/* CRC-32 of the header's text, the digits at `seal` taken as zeros and the padding left out. */
static uint32_t header_crc(const char *text, size_t length, size_t seal)
{
    while (length && text[length - 1] == ' ') length--;
    uint32_t crc = su_crc32(0, text, seal);
    crc = su_crc32(crc, "00000000", SEAL_DIGITS);
    return su_crc32(crc, text + seal + SEAL_DIGITS, length - seal - SEAL_DIGITS);
}

static su_status check_seal(const su_safetensors *f, const char *text, size_t length, su_error *err)
{
    char digits[SEAL_DIGITS + 1];
    size_t seal = find_seal(text, length);
    if (seal == SIZE_MAX) return SU_OK;
    snprintf(digits, sizeof digits, "%08" PRIx32, header_crc(text, length, seal));
    if (!memcmp(digits, text + seal, SEAL_DIGITS)) return SU_OK;
    return su_fail(
        err, SU_EFORMAT,
        "%s: is damaged: the CRC-32 of its header is %s, it says \"%.8s\"; a program that rewrites the "
        "file on purpose must leave the metadata \"header_crc32\" out",
        f->path, digits, text + seal);
}

static su_status read_header(su_safetensors *f, const uint8_t *bytes, size_t total, su_error *err)
{
    static const char pointer[] = "version https://git-lfs";
    if (total >= sizeof pointer - 1 && !memcmp(bytes, pointer, sizeof pointer - 1))
        return su_fail(err, SU_EFORMAT, "%s: is a Git LFS pointer, not the file itself: run 'git lfs pull'",
                       f->path);
    if (total < PREFIX)
        return su_fail(err, SU_EFORMAT, "%s: has %zu bytes, too few for a safetensors file", f->path, total);
    uint64_t n;
    memcpy(&n, bytes, sizeof n);
    if (n > HEADER_MAX)
        return su_fail(err, SU_ELIMIT,
                       "%s: claims a header of %" PRIu64 " bytes, more than the limit of %d; it may be "
                       "no safetensors file",
                       f->path, n, HEADER_MAX);
    if (n > total - PREFIX)
        return su_fail(err, SU_EFORMAT,
                       "%s: claims a header of %" PRIu64 " bytes but ends after %zu; it may be cut "
                       "short",
                       f->path, n, total);
    const char *text = (const char *)bytes + PREFIX;
    if (n == 0 || text[0] != '{')
        return su_fail(err, SU_EFORMAT, "%s: its header is no JSON object", f->path);
    f->data = bytes + PREFIX + n;
    f->length = total - PREFIX - (size_t)n;
    su_status st = su_json_parse(text, (size_t)n, f->path, &f->header, err);
    if (st) return su_fail_context(err, st, "safetensors header");
    st = check_seal(f, text, (size_t)n, err);
    return st ? st : read_entries(f, err);
}

static su_safetensors *file_new(const char *path)
{
    su_safetensors *f = su_calloc(1, sizeof *f);
    if (f && !(f->path = su_strdup(path))) {
        su_free(f);
        return NULL;
    }
    return f;
}

void su_safetensors_close(su_safetensors *f)
{
    if (!f) return;
    json_decref(f->header);
    su_free(f->views);
    su_free(f->by_name);
    su_free(f->by_place);
    su_free(f->path);
    su_map_close(&f->map);
    su_free(f);
}

su_status su_safetensors_open(const char *path, su_safetensors **file, su_error *err)
{
    *file = NULL;
    su_safetensors *f = file_new(path);
    if (!f) return su_fail(err, SU_ENOMEM, "%s: no memory to open it", path);
    su_status st = su_map_open(path, &f->map, err);
    if (!st) st = read_header(f, f->map.data, f->map.length, err);
    if (st) {
        su_safetensors_close(f);
        return st;
    }
    su_free(f->by_place);
    f->by_place = NULL;
    *file = f;
    return SU_OK;
}

su_status su_safetensors_check(const uint8_t *data, size_t total, const char *name, su_error *err)
{
    su_safetensors *f = file_new(name);
    if (!f) return su_fail(err, SU_ENOMEM, "%s: no memory to check it", name);
    su_status st = read_header(f, data, total, err);
    su_safetensors_close(f);
    return st;
}

int64_t su_safetensors_count(const su_safetensors *f)
{
    return f->count;
}

const su_tensor_view *su_safetensors_at(const su_safetensors *f, int64_t index)
{
    return index >= 0 && index < f->count ? &f->views[index] : NULL;
}

const su_tensor_view *su_safetensors_find(const su_safetensors *f, const char *name)
{
    su_tensor_view wanted = {.name = name};
    const su_tensor_view *key = &wanted;
    const su_tensor_view **found =
        bsearch(&key, f->by_name, (size_t)f->count, sizeof *f->by_name, compare_names);
    return found ? *found : NULL;
}

/* "F32 [3, 224]"; a negative extent is "*". */
static void describe(char *text, size_t size, su_dtype dtype, int rank, const int64_t *shape)
{
    size_t used = (size_t)snprintf(text, size, "%s [", su_dtype_name(dtype));
    for (int i = 0; i < rank && used < size; i++) {
        int n = shape[i] < 0 ? snprintf(text + used, size - used, "%s*", i ? ", " : "")
                             : snprintf(text + used, size - used, "%s%" PRId64, i ? ", " : "", shape[i]);
        used += (size_t)n;
    }
    if (used < size) snprintf(text + used, size - used, "]");
}

su_status su_safetensors_get(const su_safetensors *f, const char *name, su_dtype dtype, int rank,
                             const int64_t *shape, const su_tensor_view **view, su_error *err)
{
    *view = NULL;
    const su_tensor_view *v = su_safetensors_find(f, name);
    if (!v) return su_fail(err, SU_ENOTFOUND, "%s: has no tensor \"%s\"", f->path, name);
    bool same = v->dtype == dtype && v->rank == rank;
    for (int i = 0; i < rank && same; i++) same = shape[i] < 0 || shape[i] == v->shape[i];
    if (!same) {
        char has[256], wants[256];
        describe(has, sizeof has, v->dtype, v->rank, v->shape);
        describe(wants, sizeof wants, dtype, rank, shape);
        return su_fail(err, SU_EMISMATCH, "%s: tensor \"%s\" is %s, where %s is needed", f->path, name, has,
                       wants);
    }
    *view = v;
    return SU_OK;
}

const char *su_safetensors_metadata(const su_safetensors *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, metadata_key), key));
}

su_status su_safetensors_verify(const su_safetensors *f, su_error *err)
{
    const char *stored = su_safetensors_metadata(f, "crc32");
    if (!stored) return SU_OK;
    char found[9];
    snprintf(found, sizeof found, "%08" PRIx32, su_crc32(0, f->data, f->length));
    if (!strcmp(found, stored)) return SU_OK;
    return su_fail(err, SU_EFORMAT, "%s: is damaged: the CRC-32 of its data is %s, its header says \"%.16s\"",
                   f->path, found, stored);
}

/* --- writing ------------------------------------------------------------------------------------------ */

static su_status check_tensor(const char *path, const su_tensor_view *v, su_error *err)
{
    int64_t bytes;
    if (!v->name || !strcmp(v->name, metadata_key))
        return su_fail(err, SU_EINVAL, "%s: a tensor needs a name other than %s", path, metadata_key);
    if (!su_dtype_size(v->dtype) || v->rank < 0 || v->rank > SU_MAX_RANK)
        return su_fail(err, SU_EINVAL, "%s: tensor \"%s\" has no valid dtype or rank", path, v->name);
    if (!tensor_bytes(v, &bytes) || (uint64_t)bytes != v->bytes)
        return su_fail(err, SU_EINVAL,
                       "%s: tensor \"%s\" has %zu bytes, which its shape and dtype do not make", path,
                       v->name, v->bytes);
    return SU_OK;
}

/* {"dtype":"F32","shape":[...],"data_offsets":[begin,end]}, NULL without memory */
static json_t *entry_new(const su_tensor_view *v, int64_t begin, int64_t end)
{
    json_t *shape = json_array();
    for (int i = 0; i < v->rank && shape; i++) {
        if (json_array_append_new(shape, json_integer(v->shape[i])) == 0) continue;
        json_decref(shape);
        shape = NULL;
    }
    return shape ? json_pack("{s:s, s:o, s:[I, I]}", "dtype", su_dtype_name(v->dtype), "shape", shape,
                             "data_offsets", (json_int_t)begin, (json_int_t)end)
                 : NULL;
}

static su_status header_new(const char *path, const su_tensor_view *tensors, int64_t count,
                            const char *const *metadata, json_t **header, su_error *err)
{
    static const char why[] = "%s: no memory for its header, or a name or value in it is no UTF-8";
    json_t *root = json_object(), *notes = json_object();
    bool fine = root && notes;
    for (; fine && metadata && *metadata; metadata += 2)
        fine = json_object_set_new(notes, metadata[0], json_string(metadata[1])) == 0;
    /* The notes go in first, so that a person who looks at the file sees them; root takes them over in any
     * case. */
    if (root && notes)
        fine = json_object_set_new(root, metadata_key, notes) == 0 && fine;
    else
        json_decref(notes);
    int64_t place = 0;
    uint32_t crc = 0;
    su_status st = SU_OK;
    for (int64_t i = 0; i < count && fine && !st; i++) {
        const su_tensor_view *v = &tensors[i];
        int64_t end;
        st = check_tensor(path, v, err);
        if (!st && __builtin_add_overflow(place, (int64_t)v->bytes, &end))
            st = su_fail(err, SU_EINVAL, "%s: its tensors pass 2^63 bytes", path);
        if (!st && json_object_get(root, v->name))
            st = su_fail(err, SU_EINVAL, "%s: two tensors are named \"%s\"", path, v->name);
        if (st) break;
        fine = json_object_set_new(root, v->name, entry_new(v, place, end)) == 0;
        crc = su_crc32(crc, v->data, v->bytes);
        place = end;
    }
    char digits[9];
    snprintf(digits, sizeof digits, "%08" PRIx32, crc);
    fine = fine && json_object_set_new(notes, "crc32", json_string(digits)) == 0 &&
           json_object_set_new(notes, "header_crc32", json_string("00000000")) == 0;
    if (!st && !fine) st = su_fail(err, SU_ENOMEM, why, path);
    if (st) {
        json_decref(root);
        return st;
    }
    *header = root;
    return SU_OK;
}

static int append_text(const char *text, size_t length, void *context)
{
    return su_buffer_add(context, text, length, NULL) ? -1 : 0;
}

static su_status write_all(su_writer *w, const su_buffer *header, const su_tensor_view *tensors,
                           int64_t count, su_error *err)
{
    uint64_t length = header->length;
    su_status st = su_writer_add(w, &length, sizeof length, err);
    if (!st) st = su_writer_add(w, header->data, header->length, err);
    for (int64_t i = 0; i < count && !st; i++) st = su_writer_add(w, tensors[i].data, tensors[i].bytes, err);
    return st;
}

su_status su_safetensors_write(const char *path, const su_tensor_view *tensors, int64_t count,
                               const char *const *metadata, su_error *err)
{
    json_t *root = NULL;
    su_buffer header;
    su_buffer_init(&header, HEADER_MAX);
    su_status st = header_new(path, tensors, count, metadata, &root, err);
    if (!st && json_dump_callback(root, append_text, &header, JSON_COMPACT) != 0)
        st = su_fail(err, SU_ENOMEM, "%s: no memory for its header, or it passes %d bytes", path, HEADER_MAX);
    json_decref(root);
    size_t seal = st ? SIZE_MAX : find_seal(header.data, header.length);
    if (seal != SIZE_MAX) {
        char digits[SEAL_DIGITS + 1];
        snprintf(digits, sizeof digits, "%08" PRIx32, header_crc(header.data, header.length, seal));
        memcpy(header.data + seal, digits, SEAL_DIGITS);
    }
    while (!st && (PREFIX + header.length) % SU_ALIGN != 0) st = su_buffer_add(&header, " ", 1, err);
    su_writer *w = NULL;
    if (!st) st = su_writer_open(path, &w, err);
    if (!st) {
        st = write_all(w, &header, tensors, count, err);
        if (st)
            su_writer_abort(w);
        else
            st = su_writer_commit(w, err);
    }
    su_buffer_free(&header);
    return st;
}
