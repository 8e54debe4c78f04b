#include "retrieve/filter.h"
#include <stddef.h>
#include <string.h>
#include <strings.h>

typedef enum { EQUAL, UNEQUAL, CONTAINS } comparison;

typedef struct {
    size_t field; /* offset of a string in su_index_item */
    comparison how;
    char *value;
} condition;

enum { MAX_CONDITIONS = 32 };

struct su_filter {
    condition conditions[MAX_CONDITIONS];
    int count;
};

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
    {"id", offsetof(su_index_item, id)},         {"kind", offsetof(su_index_item, kind)},
    {"stream", offsetof(su_index_item, stream)}, {"split", offsetof(su_index_item, split)},
    {"group", offsetof(su_index_item, group)},   {"licence", offsetof(su_index_item, licence)},
    {"file", offsetof(su_index_item, file)},     {"text", offsetof(su_index_item, text)},
};

void su_filter_free(su_filter *f)
{
    if (!f) return;
    for (int i = 0; i < f->count; i++) su_free(f->conditions[i].value);
    su_free(f);
}

static su_status add_condition(su_filter *f, size_t field, comparison how, const char *value, size_t length,
                               su_error *err)
{
    if (f->count == MAX_CONDITIONS)
        return su_fail(err, SU_ELIMIT, "--where: more than %d conditions", MAX_CONDITIONS);
    char *copy = su_strndup(value, length);
    if (!copy) return su_fail(err, SU_ENOMEM, "no memory for the filter");
    f->conditions[f->count++] = (condition){.field = field, .how = how, .value = copy};
    return SU_OK;
}

static const char *skip_spaces(const char *s)
{
    return s + strspn(s, " \t");
}

/* FIELD OP VALUE at *at; advances past it. */
static su_status parse_condition(su_filter *f, const char *start, const char **at, su_error *err)
{
    const char *s = skip_spaces(*at);
    size_t name = strcspn(s, "=!~ \t"), field = SIZE_MAX;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strlen(fields[i].name) == name && !strncmp(fields[i].name, s, name)) field = fields[i].offset;
    if (field == SIZE_MAX)
        return su_fail_at(
            err, SU_EINVAL, s - start,
            "--where, character %d: '%.*s' is no field (id, kind, stream, split, group, licence, file, text)",
            (int)(s - start) + 1, (int)name, s);
    s = skip_spaces(s + name);
    comparison how = *s == '=' ? EQUAL : *s == '~' ? CONTAINS : UNEQUAL;
    if (*s != '=' && *s != '~' && !(s[0] == '!' && s[1] == '='))
        return su_fail_at(err, SU_EINVAL, s - start, "--where, character %d: expected =, != or ~",
                          (int)(s - start) + 1);
    s = skip_spaces(s + (how == UNEQUAL ? 2 : 1));
    const char *value = s;
    size_t length = 0;
    if (*s == '\'') {
        value = s + 1;
        const char *end = strchr(value, '\'');
        if (!end)
            return su_fail_at(err, SU_EINVAL, s - start, "--where, character %d: the quote is not closed",
                              (int)(s - start) + 1);
        length = (size_t)(end - value);
        s = end + 1;
    } else { /* an unquoted value ends before " and " */
        const char *end = strcasestr(s, " and ");
        length = end ? (size_t)(end - s) : strlen(s);
        s += length;
        while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t')) length--;
    }
    *at = s;
    return add_condition(f, field, how, value, length, err);
}

su_status su_filter_parse(const su_index_filter *source, su_filter **filter, su_error *err)
{
    *filter = NULL;
    su_filter *f = su_calloc(1, sizeof *f);
    if (!f) return su_fail(err, SU_ENOMEM, "no memory for the filter");
    su_status st = SU_OK;
    const char *kind = source ? source->kind : NULL, *start = source ? source->where : NULL;
    if (kind && strcmp(kind, "any") != 0) {
        if (strcmp(kind, "image") != 0 && strcmp(kind, "text") != 0)
            st = su_fail(err, SU_EINVAL, "--kind is '%s', not image, text or any", kind);
        else
            st = add_condition(f, offsetof(su_index_item, kind), EQUAL, kind, strlen(kind), err);
    }
    for (const char *at = start; !st && at && *skip_spaces(at);) {
        st = parse_condition(f, start, &at, err);
        at = skip_spaces(at);
        if (st || !*at) break;
        if (strncasecmp(at, "and", 3) != 0 || (at[3] != ' ' && at[3] != '\t'))
            st = su_fail_at(err, SU_EINVAL, at - start, "--where, character %d: expected 'and'",
                            (int)(at - start) + 1);
        at += 3;
    }
    if (st)
        su_filter_free(f);
    else
        *filter = f;
    return st;
}

bool su_filter_passes(const su_filter *f, const su_index_item *item)
{
    for (int i = 0; i < f->count; i++) {
        const condition *c = &f->conditions[i];
        const char *have;
        memcpy(&have, (const char *)item + c->field, sizeof have);
        bool ok = c->how == CONTAINS ? strcasestr(have, c->value) != NULL
                                     : (strcmp(have, c->value) == 0) == (c->how == EQUAL);
        if (!ok) return false;
    }
    return true;
}
