#include "base/json.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/nearest.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LINE = 64 << 20, READ_BLOCK = 1 << 16 };

/* --- text to tree ------------------------------------------------------------------------------------- */

static su_status parse_failed(const json_error_t *e, const char *name, int64_t line, su_error *err)
{
    /* Jansson quotes the text around a mistake; it may be a report's, so the quotation goes. */
    char reason[JSON_ERROR_TEXT_LENGTH];
    memcpy(reason, e->text, sizeof reason);
    char *near = strstr(reason, " near ");
    if (near) *near = '\0';
    enum json_error_code code = json_error_code(e);
    su_status st = code == json_error_out_of_memory    ? SU_ENOMEM
                   : code == json_error_stack_overflow ? SU_ELIMIT
                                                       : SU_EFORMAT;
    const char *hint = code == json_error_invalid_utf8 ? " (the text must be UTF-8)" : "";
    return su_fail_at(err, st, line, "%s: line %lld, column %d: %s%s", name, (long long)line, e->column,
                      reason, hint);
}

/* Parses one document that starts on the given line of the file. */
static su_status parse_at(const char *text, size_t length, const char *name, int64_t line, json_t **root,
                          su_error *err)
{
    json_error_t e;
    *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &e);
    if (*root) return SU_OK;
    return parse_failed(&e, name, line + (e.line > 0 ? e.line - 1 : 0), err);
}

/* Windows programs put a byte order mark in front of UTF-8. */
static size_t mark_length(const char *text, size_t length)
{
    return length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0;
}

su_status su_json_parse(const char *text, size_t length, const char *name, json_t **root, su_error *err)
{
    size_t skip = mark_length(text, length);
    return parse_at(text + skip, length - skip, name, 1, root, err);
}

su_status su_json_read(const char *path, size_t max, json_t **root, su_error *err)
{
    *root = NULL;
    char *text;
    size_t length;
    su_status st = su_file_read(path, max, &text, &length, err);
    if (st) return st;
    st = su_json_parse(text, length, path, root, err);
    su_free(text);
    return st;
}

static su_status give_line(const char *text, size_t length, const char *path, int64_t number,
                           su_json_line *line, void *context, su_error *err)
{
    size_t skip = number == 1 ? mark_length(text, length) : 0;
    text += skip;
    length -= skip;
    size_t blank = 0;
    while (blank < length && strchr(" \t\r", text[blank]) && text[blank]) blank++;
    if (blank == length) return SU_OK;
    json_t *object;
    su_status st = parse_at(text, length, path, number, &object, err);
    if (st) return st;
    if (json_is_object(object))
        st = line(context, number, object, err);
    else
        st = su_fail_at(err, SU_EFORMAT, number, "%s: line %lld: is no JSON object {...}", path,
                        (long long)number);
    json_decref(object);
    return st;
}

/* Gives away every whole line in the buffer and keeps the rest at its front. */
static su_status give_lines(su_buffer *b, const char *path, int64_t *number, su_json_line *line,
                            void *context, su_error *err)
{
    size_t start = 0;
    su_status st = SU_OK;
    char *end;
    while (!st && (end = memchr(b->data + start, '\n', b->length - start))) {
        size_t length = (size_t)(end - b->data) - start;
        st = give_line(b->data + start, length, path, ++*number, line, context, err);
        start += length + 1;
    }
    if (start) {
        memmove(b->data, b->data + start, b->length - start + 1);
        b->length -= start;
    }
    return st;
}

su_status su_jsonl_read(const char *path, su_json_line *line, void *context, su_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return su_fail(err, errno == ENOENT ? SU_ENOTFOUND : SU_EIO, "%s: cannot be opened: %s", path,
                       strerror(errno));
    su_buffer b;
    su_buffer_init(&b, MAX_LINE);
    char *block = su_alloc(READ_BLOCK, 1);
    su_status st = block ? SU_OK : su_fail(err, SU_ENOMEM, "%s: no memory to read it", path);
    int64_t number = 0;
    while (!st) {
        ssize_t n = read(fd, block, READ_BLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = su_fail(err, SU_EIO, "%s: cannot be read: %s", path, strerror(errno));
        if (n <= 0) break;
        bool ends_line = memchr(block, '\n', (size_t)n) != NULL;
        st = su_buffer_add(&b, block, (size_t)n, err);
        if (st) st = su_fail_context(err, st, "%s: line %lld", path, (long long)number + 1);
        if (!st && ends_line) st = give_lines(&b, path, &number, line, context, err);
    }
    if (!st)
        st = give_line(b.data, b.length, path, number + 1, line, context,
                       err); /* a last line without its end */
    su_free(block);
    su_buffer_free(&b);
    close(fd);
    return st;
}

/* --- tree to text ------------------------------------------------------------------------------------- */

typedef struct {
    su_writer *writer;
    su_error *err;
    su_status status;
} su_dump;

static int dump_text(const char *text, size_t length, void *context)
{
    su_dump *d = context;
    d->status = su_writer_add(d->writer, text, length, d->err);
    return d->status ? -1 : 0;
}

su_status su_json_write(const char *path, const json_t *root, su_error *err)
{
    su_dump d = {.err = err};
    su_status st = su_writer_open(path, &d.writer, err);
    if (st) return st;
    if (json_dump_callback(root, dump_text, &d, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY) != 0)
        st = d.status ? d.status : su_fail(err, SU_ENOMEM, "%s: no memory to write it", path);
    if (!st) st = su_writer_add(d.writer, "\n", 1, err);
    if (!st) return su_writer_commit(d.writer, err);
    su_writer_abort(d.writer);
    return st;
}

/* --- seals -------------------------------------------------------------------------------------------- */

static const char seal_key[] = "crc32";

static int add_to_crc(const char *text, size_t length, void *context)
{
    uint32_t *crc = context;
    *crc = su_crc32(*crc, text, length);
    return 0;
}

/* Of o without a seal. */
static su_status seal_of(const json_t *o, const char *path, char digits[9], su_error *err)
{
    uint32_t crc = 0;
    if (json_dump_callback(o, add_to_crc, &crc, JSON_COMPACT | JSON_SORT_KEYS) != 0)
        return su_fail(err, SU_ENOMEM, "%s: no memory for its checksum", path);
    snprintf(digits, 9, "%08" PRIx32, crc);
    return SU_OK;
}

su_status su_json_write_sealed(const char *path, const json_t *object, su_error *err)
{
    char digits[9];
    su_status st = seal_of(object, path, digits, err);
    json_t *sealed = st ? NULL : json_copy((json_t *)(uintptr_t)object);
    if (!st && (!sealed || json_object_set_new(sealed, seal_key, json_string(digits))))
        st = su_fail(err, SU_ENOMEM, "%s: no memory to write it", path);
    if (!st) st = su_json_write(path, sealed, err);
    json_decref(sealed);
    return st;
}

su_status su_json_read_sealed(const char *path, size_t max, json_t **object, su_error *err)
{
    char found[9], said[9];
    su_status st = su_json_read(path, max, object, err);
    if (st) return st;
    json_t *seal = json_object_get(*object, seal_key);
    if (!seal) return SU_OK;
    const char *text = json_string_value(seal);
    snprintf(said, sizeof said, "%s", text ? text : "");
    json_object_del(*object, seal_key);
    st = seal_of(*object, path, found, err);
    if (!st && strcmp(found, said) != 0)
        st = su_fail(
            err, SU_EFORMAT,
            "%s: is damaged: its content does not match its \"crc32\"; if you changed it on purpose, take "
            "that member out",
            path);
    if (st) {
        json_decref(*object);
        *object = NULL;
    }
    return st;
}

su_status su_json_sha256(const json_t *o, char hex[65], su_error *err)
{
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (!text) return su_fail(err, SU_ENOMEM, "no memory to hash a configuration");
    su_sha256_hex(text, strlen(text), hex);
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    release(text);
    return SU_OK;
}

/* --- members ------------------------------------------------------------------------------------------ */

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        return "null";
    }
    return "unknown";
}

static su_status wrong_type(const json_t *v, const char *key, const char *where, const char *wanted,
                            su_error *err)
{
    return su_fail(err, SU_EFORMAT, "%s: \"%s\" is %s, where %s is needed", where, key, type_name(v), wanted);
}

/* The member; NULL after filling err, always with SU_EFORMAT. */
static const json_t *member(const json_t *o, const char *key, const char *where, const char *wanted,
                            su_error *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_object(o))
        su_fail(err, SU_EFORMAT, "%s: is no JSON object with a member \"%s\"", where, key);
    else if (!v)
        su_fail(err, SU_EFORMAT, "%s: \"%s\" is missing (%s)", where, key, wanted);
    return v;
}

static bool missing(const json_t *o, const char *key)
{
    return json_is_object(o) && !json_object_get(o, key);
}

su_status su_json_string(const json_t *o, const char *key, const char *where, const char **value,
                         su_error *err)
{
    static const char wanted[] = "a string";
    const json_t *v = member(o, key, where, wanted, err);
    if (!v) return SU_EFORMAT;
    if (!json_is_string(v)) return wrong_type(v, key, where, wanted, err);
    *value = json_string_value(v);
    return SU_OK;
}

su_status su_json_int(const json_t *o, const char *key, const char *where, int64_t low, int64_t high,
                      int64_t *value, su_error *err)
{
    static const char wanted[] = "an integer";
    const json_t *v = member(o, key, where, wanted, err);
    if (!v) return SU_EFORMAT;
    if (!json_is_integer(v)) return wrong_type(v, key, where, wanted, err);
    int64_t n = json_integer_value(v);
    if (n < low || n > high)
        return su_fail(err, SU_EFORMAT, "%s: \"%s\" is %lld, outside %lld to %lld", where, key, (long long)n,
                       (long long)low, (long long)high);
    *value = n;
    return SU_OK;
}

su_status su_json_number(const json_t *o, const char *key, const char *where, double *value, su_error *err)
{
    static const char wanted[] = "a number";
    const json_t *v = member(o, key, where, wanted, err);
    if (!v) return SU_EFORMAT;
    if (!json_is_number(v)) return wrong_type(v, key, where, wanted, err);
    *value = json_number_value(v);
    return SU_OK;
}

su_status su_json_bool(const json_t *o, const char *key, const char *where, bool *value, su_error *err)
{
    static const char wanted[] = "true or false";
    const json_t *v = member(o, key, where, wanted, err);
    if (!v) return SU_EFORMAT;
    if (!json_is_boolean(v)) return wrong_type(v, key, where, wanted, err);
    *value = json_boolean_value(v);
    return SU_OK;
}

su_status su_json_string_or(const json_t *o, const char *key, const char *where, const char *fallback,
                            const char **value, su_error *err)
{
    *value = fallback;
    return missing(o, key) ? SU_OK : su_json_string(o, key, where, value, err);
}

su_status su_json_int_or(const json_t *o, const char *key, const char *where, int64_t low, int64_t high,
                         int64_t fallback, int64_t *value, su_error *err)
{
    *value = fallback;
    return missing(o, key) ? SU_OK : su_json_int(o, key, where, low, high, value, err);
}

su_status su_json_number_or(const json_t *o, const char *key, const char *where, double fallback,
                            double *value, su_error *err)
{
    *value = fallback;
    return missing(o, key) ? SU_OK : su_json_number(o, key, where, value, err);
}

su_status su_json_bool_or(const json_t *o, const char *key, const char *where, bool fallback, bool *value,
                          su_error *err)
{
    *value = fallback;
    return missing(o, key) ? SU_OK : su_json_bool(o, key, where, value, err);
}

su_status su_json_only(const json_t *o, const char *const *known, const char *where, su_error *err)
{
    if (!json_is_object(o)) return su_fail(err, SU_EINVAL, "%s: is no JSON object", where);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)o, key, value)
    {
        const char *const *k = known;
        while (*k && strcmp(*k, key) != 0) k++;
        if (*k) continue;
        const char *near = su_nearest(key, known);
        if (near)
            return su_fail(err, SU_EINVAL, "%s: \"%s\" is not known here; did you mean \"%s\"?", where, key,
                           near);
        return su_fail(err, SU_EINVAL, "%s: \"%s\" is not known here", where, key);
    }
    return SU_OK;
}
