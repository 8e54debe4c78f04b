/* JSON through Jansson, with errors that name file, line and key. json_t is Jansson's own reference-counted
 * type: whoever receives a json_t from a function here owns one reference and drops it with json_decref. */
#ifndef SU_BASE_JSON_H
#define SU_BASE_JSON_H

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>

su_status su_json_read(const char *path, size_t max, json_t **root, su_error *err);
su_status su_json_parse(const char *text, size_t length, const char *name, json_t **root, su_error *err);
/* Atomic; indented, keys sorted. */
su_status su_json_write(const char *path, const json_t *root, su_error *err);

/* JSON Lines: calls `line` for every non-empty line of the file, in order, with its 1-based number; a status
 * other than SU_OK ends the walk and is returned. A line that is no JSON object is an SU_EFORMAT error. */
typedef su_status su_json_line(void *context, int64_t number, json_t *object, su_error *err);
su_status su_jsonl_read(const char *path, su_json_line *line, void *context, su_error *err);

/* Sealed documents: the ones that a program writes and reads back, in which a flipped bit would give a result
 * that looks right. Writing adds a member "crc32": CRC-32 of the canonical dump (keys sorted, no spaces) of
 * the others. Reading checks it and takes it away again; a document without one passes, so whoever edits a
 * sealed document by hand takes the member out. */
su_status su_json_write_sealed(const char *path, const json_t *object, su_error *err);
su_status su_json_read_sealed(const char *path, size_t max, json_t **object, su_error *err);

/* Typed members. `where` is the file name used in messages. The plain form fails with SU_EFORMAT when the key
 * is missing or of another type; the _or form gives the fallback when it is missing (another type still
 * fails). Strings belong to the object. */
su_status su_json_string(const json_t *o, const char *key, const char *where, const char **value,
                         su_error *err);
su_status su_json_int(const json_t *o, const char *key, const char *where, int64_t low, int64_t high,
                      int64_t *value, su_error *err);
su_status su_json_number(const json_t *o, const char *key, const char *where, double *value, su_error *err);
su_status su_json_bool(const json_t *o, const char *key, const char *where, bool *value, su_error *err);
su_status su_json_string_or(const json_t *o, const char *key, const char *where, const char *fallback,
                            const char **value, su_error *err);
su_status su_json_int_or(const json_t *o, const char *key, const char *where, int64_t low, int64_t high,
                         int64_t fallback, int64_t *value, su_error *err);
su_status su_json_number_or(const json_t *o, const char *key, const char *where, double fallback,
                            double *value, su_error *err);
su_status su_json_bool_or(const json_t *o, const char *key, const char *where, bool fallback, bool *value,
                          su_error *err);
/* SU_EINVAL naming the first member of o that is not in the NULL-terminated list `known`, with the nearest
 * known name as a suggestion: a typo in a configuration is an error, never ignored. */
su_status su_json_only(const json_t *o, const char *const *known, const char *where, su_error *err);

/* SHA-256 of the canonical dump (keys sorted, no spaces): names a configuration. */
su_status su_json_sha256(const json_t *o, char hex[65], su_error *err);

#endif
