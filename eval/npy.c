#include "eval/npy.h"
#include <stdio.h>
#include <string.h>

static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

bool su_npy_is(const uint8_t *bytes, size_t length)
{
    return length >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

/* The header's text, walked from left to right. */
typedef struct {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) c->at++;
}

static bool take(cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted) return false;
    c->at++;
    return true;
}

static bool take_word(cursor *c, const char *word)
{
    skip_space(c);
    size_t length = strlen(word);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0) return false;
    c->at += length;
    return true;
}

/* A quoted string without escapes, of fewer than `size` characters. */
static bool take_string(cursor *c, char *text, size_t size)
{
    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) return false;
    char quote = *c->at++;
    size_t length = 0;
    while (c->at < c->end && *c->at != quote) {
        if (*c->at == '\\' || length + 1 == size) return false;
        text[length++] = *c->at++;
    }
    text[length] = 0;
    return take(c, quote);
}

/* A number of at most 19 digits; Python 2 wrote an L behind long ones. */
static bool take_extent(cursor *c, int64_t *extent)
{
    skip_space(c);
    const char *first = c->at;
    *extent = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        if (__builtin_mul_overflow(*extent, 10, extent) ||
            __builtin_add_overflow(*extent, *c->at - '0', extent))
            return false;
        c->at++;
    }
    if (c->at == first) return false;
    if (c->at < c->end && *c->at == 'L') c->at++;
    return true;
}

static bool take_shape(cursor *c, su_npy *npy)
{
    if (!take(c, '(')) return false;
    npy->rank = 0;
    while (!take(c, ')')) {
        if (npy->rank == SU_NPY_RANK || !take_extent(c, &npy->shape[npy->rank++])) return false;
        if (take(c, ',')) continue;
        return npy->rank > 1 && take(c, ')'); /* (3) is no tuple in Python, (3,) is */
    }
    return true;
}

typedef struct {
    char descr[16];
    bool has_descr, has_order, has_shape;
} seen_keys;

static bool take_member(cursor *c, su_npy *npy, seen_keys *seen)
{
    char key[16];
    if (!take_string(c, key, sizeof key) || !take(c, ':')) return false;
    if (!strcmp(key, "descr") && !seen->has_descr)
        return seen->has_descr = take_string(c, seen->descr, sizeof seen->descr);
    if (!strcmp(key, "shape") && !seen->has_shape) return seen->has_shape = take_shape(c, npy);
    if (strcmp(key, "fortran_order") != 0 || seen->has_order) return false;
    npy->fortran = take_word(c, "True");
    return seen->has_order = npy->fortran || take_word(c, "False");
}

static bool take_header(cursor *c, su_npy *npy, seen_keys *seen)
{
    if (!take(c, '{')) return false;
    while (!take(c, '}')) {
        if (!take_member(c, npy, seen)) return false;
        if (take(c, ',')) continue;
        if (!take(c, '}')) return false;
        break;
    }
    skip_space(c);
    return c->at == c->end && seen->has_descr && seen->has_order && seen->has_shape;
}

/* '<f4': byte order, kind, bytes. */
static bool read_descr(const char *descr, su_npy *npy)
{
    if (strlen(descr) != 3 || !strchr("<>|=", descr[0]) || !strchr("fiub", descr[1])) return false;
    npy->big_endian = descr[0] == '>';
    npy->kind = descr[1];
    npy->size = descr[2] - '0';
    switch (npy->kind) {
    case 'f':
        return npy->size == 2 || npy->size == 4 || npy->size == 8;
    case 'b':
        return npy->size == 1;
    default:
        return npy->size == 1 || npy->size == 2 || npy->size == 4 || npy->size == 8;
    }
}

static su_status check_size(su_npy *npy, size_t available, const char *name, su_error *err)
{
    int64_t bytes = npy->size;
    bool empty = false, fits = true;
    for (int i = 0; i < npy->rank; i++) {
        empty |= npy->shape[i] == 0;
        fits &= !__builtin_mul_overflow(bytes, npy->shape[i], &bytes);
    }
    if (empty) bytes = 0;
    if (!empty && !fits) return su_fail(err, SU_ELIMIT, "%s: the shape has more than 2^63 bytes", name);
    if ((uint64_t)bytes != available)
        return su_fail(err, SU_EFORMAT, "%s: the header promises %lld bytes of data, the file has %zu", name,
                       (long long)bytes, available);
    npy->count = bytes / npy->size;
    return SU_OK;
}

su_status su_npy_parse(const uint8_t *bytes, size_t length, const char *name, su_npy *npy, su_error *err)
{
    *npy = (su_npy){0};
    if (!su_npy_is(bytes, length) || length < 10)
        return su_fail(err, SU_EFORMAT, "%s: not an .npy file (it should begin with \\x93NUMPY)", name);
    int major = bytes[6];
    if (major < 1 || major > 3)
        return su_fail(err, SU_EUNSUPPORTED, "%s: .npy version %d.%d; 1 to 3 can be read", name, major,
                       bytes[7]);
    size_t begin = major == 1 ? 10 : 12, header = bytes[8] | (size_t)bytes[9] << 8;
    if (length < begin) return su_fail(err, SU_EFORMAT, "%s: the file ends inside its header", name);
    if (major > 1) header |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (header > SU_NPY_HEADER_MAX)
        return su_fail(err, SU_ELIMIT, "%s: a header of %zu bytes; the limit is %d", name, header,
                       (int)SU_NPY_HEADER_MAX);
    if (header > length - begin) return su_fail(err, SU_EFORMAT, "%s: the file ends inside its header", name);

    cursor c = {(const char *)bytes + begin, (const char *)bytes + begin + header};
    seen_keys seen = {0};
    if (!take_header(&c, npy, &seen)) {
        int64_t at = c.at - (const char *)bytes;
        return su_fail_at(
            err, SU_EFORMAT, at,
            "%s: the header makes no sense at byte %lld (expected 'descr' as a plain number type, "
            "'fortran_order' and 'shape')",
            name, (long long)at);
    }
    if (!read_descr(seen.descr, npy)) {
        for (char *d = seen.descr; *d; d++)
            if (*d < ' ' || *d > '~') *d = '?';
        return su_fail(err, SU_EUNSUPPORTED,
                       "%s: elements of type '%s'; save as float32 (or as int32 for labels)", name,
                       seen.descr);
    }
    npy->data = bytes + begin + header;
    return check_size(npy, length - begin - header, name, err);
}

static uint64_t element(const su_npy *npy, int64_t i)
{
    const uint8_t *from = npy->data + i * npy->size;
    uint64_t value = 0;
    for (int b = 0; b < npy->size; b++)
        value |= (uint64_t)from[npy->big_endian ? npy->size - 1 - b : b] << (8 * b);
    return value;
}

float su_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023, bits;
    if (exponent == 31) {
        bits = 0x7f800000u | fraction << 13;
    } else if (exponent) {
        bits = (exponent + 112) << 23 | fraction << 13;
    } else { /* fraction * 2^-24 */
        float value = (float)fraction * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

double su_npy_double(const su_npy *npy, int64_t i)
{
    uint64_t bits = element(npy, i);
    if (npy->size == 2) return (double)su_half_to_float((uint16_t)bits);
    if (npy->size == 4) {
        uint32_t low = (uint32_t)bits;
        float value;
        memcpy(&value, &low, sizeof value);
        return (double)value;
    }
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

int64_t su_npy_int(const su_npy *npy, int64_t i)
{
    uint64_t bits = element(npy, i);
    if (npy->kind == 'u' || npy->kind == 'b') return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    int unused = 64 - 8 * npy->size;
    return (int64_t)(bits << unused) >> unused;
}
