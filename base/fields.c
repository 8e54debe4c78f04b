#include "base/fields.h"
#include "base/json.h"
#include <stdio.h>
#include <string.h>

json_t *su_fields_json(const su_field *f, const void *from)
{
    json_t *o = json_object();
    for (; o && f->key; f++) {
        const void *at = (const char *)from + f->offset;
        json_t *v = NULL;
        switch (f->type) {
        case SU_FIELD_INT32:
            v = json_integer(*(const int32_t *)at);
            break;
        case SU_FIELD_INT64:
            v = json_integer(*(const int64_t *)at);
            break;
        case SU_FIELD_UINT64:
            v = json_integer((json_int_t) * (const uint64_t *)at);
            break;
        case SU_FIELD_NUMBER:
            v = json_real(*(const double *)at);
            break;
        case SU_FIELD_BOOL:
            v = json_boolean(*(const bool *)at);
            break;
        case SU_FIELD_TEXT:
            v = json_string(at);
            break;
        }
        if (json_object_set_new(o, f->key, v)) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

su_status su_fields_parse(const su_field *f, const json_t *o, const char *where, void *to, su_error *err)
{
    su_status st = SU_OK;
    for (; f->key && !st; f++) {
        if (!json_object_get(o, f->key)) continue;
        void *at = (char *)to + f->offset;
        int64_t i = 0;
        double x = 0.0;
        const char *s = NULL;
        switch (f->type) {
        case SU_FIELD_INT32:
        case SU_FIELD_INT64:
        case SU_FIELD_UINT64:
            st = su_json_int(o, f->key, where, (int64_t)f->low, (int64_t)f->high, &i, err);
            if (!st && f->type == SU_FIELD_INT32) *(int32_t *)at = (int32_t)i;
            if (!st && f->type == SU_FIELD_INT64) *(int64_t *)at = i;
            if (!st && f->type == SU_FIELD_UINT64) *(uint64_t *)at = (uint64_t)i;
            break;
        case SU_FIELD_NUMBER:
            st = su_json_number(o, f->key, where, &x, err);
            if (!st && !(x >= f->low && x <= f->high))
                st = su_fail(err, SU_EINVAL, "%s: %s is %g, not within %g..%g", where, f->key, x, f->low,
                             f->high);
            if (!st) *(double *)at = x;
            break;
        case SU_FIELD_BOOL:
            st = su_json_bool(o, f->key, where, (bool *)at, err);
            break;
        case SU_FIELD_TEXT:
            st = su_json_string(o, f->key, where, &s, err);
            if (!st && strlen(s) >= f->size)
                st = su_fail(err, SU_EINVAL, "%s: %s is longer than %zu bytes", where, f->key, f->size - 1);
            if (!st) snprintf(at, f->size, "%s", s);
            break;
        }
    }
    return st;
}

su_status su_choice_parse(const json_t *o, const char *key, const char *where, const char *const *names,
                          int *value, su_error *err)
{
    const char *s = NULL;
    if (!json_object_get(o, key)) return SU_OK;
    su_status st = su_json_string(o, key, where, &s, err);
    if (st) return st;
    char list[128] = "";
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], s)) {
            *value = i;
            return SU_OK;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", names[i]);
    }
    return su_fail(err, SU_EINVAL, "%s: %s is '%s', not one of %s", where, key, s, list);
}

su_status su_fields_only(const json_t *o, const su_field *f, const su_field *g, const char *const *more,
                         const char *where, su_error *err)
{
    const char *known[64];
    size_t n = 0;
    for (; f && f->key; f++) known[n++] = f->key;
    for (; g && g->key; g++) known[n++] = g->key;
    for (; more && *more; more++) known[n++] = *more;
    known[n] = NULL;
    return su_json_only(o, known, where, err);
}
