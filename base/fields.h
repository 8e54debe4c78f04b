/* A table of a structure's members: one description serves reading them from JSON and writing them.
 *
 *     static const su_field fields[] = {SU_FIELD(options, "batch", batch, SU_FIELD_INT32, 1, 4096), {0}}; */
#ifndef SU_BASE_FIELDS_H
#define SU_BASE_FIELDS_H

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    SU_FIELD_INT32,
    SU_FIELD_INT64,
    SU_FIELD_UINT64,
    SU_FIELD_NUMBER, /* double */
    SU_FIELD_BOOL,
    SU_FIELD_TEXT, /* char[], NUL-terminated */
} su_field_type;

typedef struct {
    const char *key; /* NULL ends a table */
    su_field_type type;
    size_t offset, size; /* size: of a TEXT array */
    double low, high;    /* inclusive; of numbers */
} su_field;

#define SU_FIELD(structure, key, member, type, low, high)                                   \
    {                                                                                       \
        key, type, offsetof(structure, member), sizeof(((structure *)0)->member), low, high \
    }

json_t *su_fields_json(const su_field *fields, const void *from); /* new reference, NULL without memory */

/* Members of o that the table knows go to `to`; other members are left for su_fields_only. SU_EFORMAT
 * (another type), SU_EINVAL (out of range, too long). */
su_status su_fields_parse(const su_field *fields, const json_t *o, const char *where, void *to,
                          su_error *err);

/* A choice among names (NULL-terminated) <-> its number. *value stays when the member is missing. */
su_status su_choice_parse(const json_t *o, const char *key, const char *where, const char *const *names,
                          int *value, su_error *err);

/* SU_EINVAL naming the first member that is in none of the two tables and the list (each may be NULL). */
su_status su_fields_only(const json_t *o, const su_field *f, const su_field *g, const char *const *more,
                         const char *where, su_error *err);

#endif
