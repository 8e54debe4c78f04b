/* safetensors: Suture's one binary container (weights, optimiser state, image shards, embeddings, indexes).
 *
 *   +--------+------------------------------+-----------------------------------------+
 *   | u64 LE |  JSON header, N bytes        |  tensor data, contiguous, C order, LE   |
 *   |   N    |  {"name":{dtype,shape,       |  no holes, no overlap, ends at the      |
 *   |        |   data_offsets},             |  end of the file                        |
 *   |        |   "__metadata__":{str:str}}  |                                         |
 *   +--------+------------------------------+-----------------------------------------+
 *
 * The reader maps the file and refuses: a header above 100 MB or beyond the file, duplicate names, a product
 * of a shape that overflows 64 bits or differs from the offsets, holes, overlaps, trailing bytes, unknown
 * dtypes. Our writer aligns the data to 64 bytes (header padded with spaces), orders tensors as given, and
 * puts two checksums into __metadata__, 8 hex digits each: "crc32" of the data, which su_safetensors_verify
 * checks, and "header_crc32" of the header's text with those digits as zeros, which every open checks. */
#ifndef SU_BASE_SAFETENSORS_H
#define SU_BASE_SAFETENSORS_H

#include "base/dtype.h"
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

enum { SU_MAX_RANK = 8 };

typedef struct {
    const char *name; /* belongs to the file (reader) or the caller (writer) */
    su_dtype dtype;
    int rank;
    int64_t shape[SU_MAX_RANK];
    const void *data; /* reader: into the map, in foreign files not always aligned; writer: host memory */
    size_t bytes;
} su_tensor_view;

typedef struct su_safetensors su_safetensors;

su_status su_safetensors_open(const char *path, su_safetensors **file, su_error *err);
void su_safetensors_close(su_safetensors *file);
int64_t su_safetensors_count(const su_safetensors *file);
const su_tensor_view *su_safetensors_at(const su_safetensors *file, int64_t index);      /* in header order */
const su_tensor_view *su_safetensors_find(const su_safetensors *file, const char *name); /* NULL: not there */
/* SU_ENOTFOUND / SU_EMISMATCH (with both shapes in the message). A negative extent in shape matches any. */
su_status su_safetensors_get(const su_safetensors *file, const char *name, su_dtype dtype, int rank,
                             const int64_t *shape, const su_tensor_view **view, su_error *err);
const char *su_safetensors_metadata(const su_safetensors *file, const char *key); /* NULL: not there */
/* The data against the header's CRC-32; SU_OK when it has none. */
su_status su_safetensors_verify(const su_safetensors *file, su_error *err);

/* Atomic, whole. metadata: NULL-terminated list key, value, key, value, ... or NULL. */
su_status su_safetensors_write(const char *path, const su_tensor_view *tensors, int64_t count,
                               const char *const *metadata, su_error *err);

/* Parses a header from memory (what the fuzzer calls). total: length of the whole file. */
su_status su_safetensors_check(const uint8_t *data, size_t total, const char *name, su_error *err);

#endif
