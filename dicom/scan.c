#include "dicom/scan.h"
#include "base/memory.h"
#include <string.h>
#include <zlib.h>

enum {
    ITEM = 0xfffee000,
    ITEM_END = 0xfffee00d,
    SEQUENCE_END = 0xfffee0dd,
    PIXEL_GROUP = 0x7fe0,
    UNDEFINED = -1,
    /* What DCMTK's sorted lists may cost: steps past elements that stand in no order. */
    DISORDER_MAX = 50000000,
};

typedef struct {
    bool implicit, big;
} encoding;

typedef struct {
    su_source *source;
    int64_t elements, disorder;
    bool odd;      /* something that DCMTK might read in another way */
    su_error *err; /* NULL while something is only tried */
} walker;

typedef struct {
    uint32_t tag;
    char vr[3];
    uint64_t at, value;
    int64_t length; /* UNDEFINED */
} element;

static uint32_t get16(const uint8_t *p, bool big)
{
    return big ? (uint32_t)(p[0] << 8 | p[1]) : (uint32_t)(p[1] << 8 | p[0]);
}

static uint32_t get32(const uint8_t *p, bool big)
{
    return big ? get16(p, true) << 16 | get16(p + 2, true) : get16(p + 2, false) << 16 | get16(p, false);
}

static uint32_t get_tag(const uint8_t *p, bool big)
{
    return get16(p, big) << 16 | get16(p + 2, big);
}

/* ---- value representations ---- */

static bool is_one_of(const uint8_t *vr, const char *list)
{
    for (; *list; list += 2)
        if (vr[0] == (uint8_t)list[0] && vr[1] == (uint8_t)list[1]) return true;
    return false;
}

static bool has_long_length(const uint8_t *vr)
{
    return is_one_of(vr, "OBODOFOLOVOWSQSVUCUNURUTUV");
}

static bool is_vr(const uint8_t *vr)
{
    return has_long_length(vr) || is_one_of(vr, "AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS");
}

static bool is_upper(uint8_t c)
{
    return c >= 'A' && c <= 'Z';
}

/* ---- errors ---- */

static const char *name_of(const walker *w)
{
    return su_source_name(w->source);
}

#define AT(e) (int64_t)(e)->at
#define TAG(e) (e)->tag >> 16, (e)->tag & 0xffff, (unsigned long long)(e)->at

static su_status ends_early(const walker *w, uint64_t at)
{
    return su_fail_at(w->err, SU_EFORMAT, (int64_t)at,
                      "%s: truncated: it ends within an element, at byte %llu", name_of(w),
                      (unsigned long long)at);
}

/* ---- elements ---- */

/* The header of the element at `at`, within end. Unknown VRs of two capital letters have long lengths, others
 * short ones, as DCMTK reads them. */
static su_status read_header(walker *w, uint64_t at, uint64_t end, encoding how, element *e)
{
    const uint8_t *p = end - at >= 8 ? su_source_at(w->source, at, 8) : NULL;
    if (!p) return ends_early(w, at);
    *e = (element){.tag = get_tag(p, how.big), .at = at, .value = at + 8};
    uint32_t length = get32(p + 4, how.big);
    if (!how.implicit && e->tag >> 16 != 0xfffe) {
        memcpy(e->vr, p + 4, 2);
        length = get16(p + 6, how.big);
        if (has_long_length(p + 4) || (!is_vr(p + 4) && is_upper(p[4]) && is_upper(p[5]))) {
            p = end - at >= 12 ? su_source_at(w->source, at, 12) : NULL;
            if (!p) return ends_early(w, at);
            length = get32(p + 8, how.big);
            e->value = at + 12;
        } else {
            e->length = (int64_t)length;
            w->odd |= !is_vr((const uint8_t *)e->vr);
            return SU_OK;
        }
        w->odd |= !is_vr((const uint8_t *)e->vr);
    }
    e->length = length == 0xffffffff ? UNDEFINED : (int64_t)length;
    return SU_OK;
}

static su_status count_element(walker *w, const element *e)
{
    if (++w->elements <= SU_SCAN_ELEMENTS_MAX) return SU_OK;
    return su_fail_at(w->err, SU_ELIMIT, AT(e), "%s: more than %d elements, at byte %llu", name_of(w),
                      SU_SCAN_ELEMENTS_MAX, (unsigned long long)e->at);
}

static su_status walk_elements(walker *w, uint64_t *at, uint64_t end, encoding how, bool delimited,
                               int depth);

/* The items of a sequence from *at on, to its delimiter where `undefined`, else to end. Raw: fragments, whose
 * content is nothing to walk. */
static su_status walk_items(walker *w, const element *owner, uint64_t *at, uint64_t end, encoding how,
                            bool undefined, bool raw, int depth)
{
    element e = {0};
    if (depth > SU_SCAN_DEPTH_MAX)
        return su_fail_at(w->err, SU_ELIMIT, AT(owner),
                          "%s: (%04x,%04x) at byte %llu: sequences nested more than %d deep", name_of(w),
                          TAG(owner), SU_SCAN_DEPTH_MAX);
    while (undefined || *at < end) {
        su_status st = read_header(w, *at, end, (encoding){true, how.big}, &e);
        if (!st) st = count_element(w, &e);
        if (st) return st;
        if (e.tag == SEQUENCE_END && undefined) {
            *at = e.value;
            return SU_OK;
        }
        if (e.tag != ITEM)
            return su_fail_at(w->err, SU_EFORMAT, AT(&e),
                              "%s: (%04x,%04x) at byte %llu, where an item of (%04x,%04x) should be",
                              name_of(w), TAG(&e), owner->tag >> 16, owner->tag & 0xffff);
        if (e.length != UNDEFINED && (uint64_t)e.length > end - e.value)
            return su_fail_at(w->err, SU_EFORMAT, AT(&e),
                              "%s: an item of (%04x,%04x) at byte %llu says %lld bytes, where %llu are left",
                              name_of(w), owner->tag >> 16, owner->tag & 0xffff, (unsigned long long)e.at,
                              (long long)e.length, (unsigned long long)(end - e.value));
        if (raw && e.length == UNDEFINED)
            return su_fail_at(w->err, SU_EFORMAT, AT(&e), "%s: a fragment of undefined length at byte %llu",
                              name_of(w), (unsigned long long)e.at);
        *at = e.value;
        if (raw)
            *at += (uint64_t)e.length;
        else if (e.length == UNDEFINED)
            st = walk_elements(w, at, end, how, true, depth);
        else
            st = walk_elements(w, at, e.value + (uint64_t)e.length, how, false, depth);
        if (st) return st;
    }
    return SU_OK;
}

/* Whether a value begins with an item: then it may be a sequence, though its VR does not say so. */
static bool begins_with_item(walker *w, const element *e, bool big)
{
    const uint8_t *p = e->length >= 8 ? su_source_at(w->source, e->value, 8) : NULL;
    return p && get_tag(p, big) == ITEM;
}

static su_status walk_value(walker *w, const element *e, uint64_t end, encoding how, int depth,
                            uint64_t *next)
{
    const uint8_t *vr = (const uint8_t *)e->vr;
    const bool sequence = is_one_of(vr, "SQ"), unknown = is_one_of(vr, "UN");
    const encoding inner = unknown ? (encoding){true, false} : how; /* [PS3.5 6.2.2, note 5] */
    uint64_t at = e->value;
    if (e->length == UNDEFINED) {
        const bool raw = is_one_of(vr, "OBODOFOLOVOW");
        if (!how.implicit && !sequence && !unknown && !raw)
            return su_fail_at(w->err, SU_EFORMAT, AT(e),
                              "%s: (%04x,%04x) at byte %llu: undefined length of a %s", name_of(w), TAG(e),
                              e->vr);
        w->odd |= raw;
        su_status st = walk_items(w, e, &at, end, inner, true, raw, depth + 1);
        *next = at;
        return st;
    }
    if ((uint64_t)e->length > end - e->value)
        return su_fail_at(w->err, SU_EFORMAT, AT(e),
                          "%s: (%04x,%04x) at byte %llu says %lld bytes, where %llu are left", name_of(w),
                          TAG(e), (long long)e->length, (unsigned long long)(end - e->value));
    *next = e->value + (uint64_t)e->length;
    if (sequence) return walk_items(w, e, &at, *next, inner, false, false, depth + 1);
    if (!(how.implicit || unknown) || !begins_with_item(w, e, inner.big)) return SU_OK;
    /* Perhaps a sequence, perhaps bytes that look like one: only what would be too much counts. */
    su_error *const err = w->err;
    w->err = NULL;
    su_status st = walk_items(w, e, &at, *next, inner, false, false, depth + 1);
    w->err = err;
    if (st == SU_ELIMIT)
        return su_fail_at(err, st, AT(e),
                          "%s: (%04x,%04x) at byte %llu: too many elements, or nested too deep", name_of(w),
                          TAG(e));
    w->odd |= st != SU_OK;
    return SU_OK;
}

/* The elements of an item, or of the data set (depth 0), which ends before its pixel data: *at is behind. */
static su_status walk_elements(walker *w, uint64_t *at, uint64_t end, encoding how, bool delimited, int depth)
{
    uint32_t highest = 0;
    int64_t count = 0;
    while (delimited || *at < end) {
        element e;
        su_status st = read_header(w, *at, end, how, &e);
        if (st) return st;
        if (depth == 0 && e.tag >> 16 >= PIXEL_GROUP && e.tag >> 16 != 0xfffe) return SU_OK;
        if (depth == 0 && e.tag == 0 && highest) return SU_OK; /* zeros behind the data set */
        st = count_element(w, &e);
        if (st) return st;
        if (e.tag == ITEM_END && delimited) {
            *at = e.value;
            return SU_OK;
        }
        if (e.tag >> 16 == 0xfffe || e.tag >> 16 == 0)
            return su_fail_at(w->err, SU_EFORMAT, AT(&e),
                              "%s: (%04x,%04x) at byte %llu, where an element should be", name_of(w),
                              TAG(&e));
        if (e.tag > highest) {
            highest = e.tag;
        } else if ((w->disorder += count) > DISORDER_MAX) {
            return su_fail_at(w->err, SU_ELIMIT, AT(&e), "%s: its elements are in no order, at byte %llu",
                              name_of(w), (unsigned long long)e.at);
        }
        count++;
        st = walk_value(w, &e, end, how, depth, at);
        if (st) return st;
    }
    return SU_OK;
}

/* ---- the beginning ---- */

/* A second element with a VR follows, or nothing: it is no accident that this one has letters there. */
static bool looks_explicit(su_source *s, uint64_t begin, bool big)
{
    walker w = {.source = s};
    element e;
    const uint64_t length = su_source_length(s);
    const uint8_t *p = su_source_at(s, begin, 8);
    if (!p || !is_vr(p + 4) || read_header(&w, begin, length, (encoding){false, big}, &e)) return false;
    if (e.length == UNDEFINED) return true;
    if ((uint64_t)e.length > length - e.value) return false;
    p = su_source_at(s, e.value + (uint64_t)e.length, 8);
    return p ? is_vr(p + 4) && get_tag(p, big) > e.tag : e.value + (uint64_t)e.length == length;
}

static bool looks_implicit(su_source *s, uint64_t begin, bool big)
{
    const uint8_t *p = su_source_at(s, begin, 8);
    if (!p || is_vr(p + 4)) return false;
    const uint32_t length = get32(p + 4, big);
    return length == 0xffffffff || length <= su_source_length(s) - begin - 8;
}

static encoding find_encoding(su_source *s, const su_scan *scan)
{
    encoding how = {false, false};
    const uint8_t *p = su_source_at(s, scan->begin, 8);
    if (!p) return how;
    if (scan->known)
        how = (encoding){scan->known->implicit, scan->known->big};
    else if (!scan->syntax[0])
        how.big = get16(p, false) > get16(p, true);
    if (how.implicit && looks_explicit(s, scan->begin, how.big)) how.implicit = false;
    if (!how.implicit && looks_implicit(s, scan->begin, how.big)) how.implicit = true;
    return how;
}

/* (0002,0010), bytes as they are. */
static void copy_uid(const uint8_t *p, size_t length, char uid[65])
{
    size_t n = 0;
    for (; n < length && n < 64 && ((p[n] >= '0' && p[n] <= '9') || p[n] == '.'); n++) uid[n] = (char)p[n];
    uid[n] = '\0';
}

/* Group 0002, wherever it begins; *at is behind it. Its group length is not believed. */
static su_status read_meta(su_source *s, uint64_t *at, su_scan *scan, su_error *err)
{
    walker w = {.source = s, .err = err};
    const uint64_t length = su_source_length(s);
    for (;;) {
        const uint8_t *p = su_source_at(s, *at, 8);
        element e;
        if (!p || get16(p, false) != 2) return SU_OK;
        su_status st = read_header(&w, *at, length, (encoding){!is_vr(p + 4), false}, &e);
        if (st) return st;
        if (e.length == UNDEFINED || (uint64_t)e.length > length - e.value)
            return su_fail_at(err, SU_EFORMAT, AT(&e), "%s: (%04x,%04x) at byte %llu is longer than the file",
                              su_source_name(s), TAG(&e));
        if (e.tag == 0x00020010) {
            const size_t n = e.length < 64 ? (size_t)e.length : 64;
            if ((p = su_source_at(s, e.value, n))) copy_uid(p, n, scan->syntax);
        }
        *at = e.value + (uint64_t)e.length;
    }
}

static bool is_at(su_source *s, uint64_t at, const char *what)
{
    const uint8_t *p = su_source_at(s, at, strlen(what));
    return p && memcmp(p, what, strlen(what)) == 0;
}

/* ---- deflated data sets ---- */

static su_status inflated_too_far(const char *name, su_error *err)
{
    return su_fail(err, SU_ELIMIT, "%s: deflated, and inflates to more than the %d MiB that are read", name,
                   SU_SCAN_INFLATED_MAX >> 20);
}

static su_status inflate_all(su_source *s, z_stream *z, uint64_t at, uint8_t **out, size_t *made,
                             su_error *err)
{
    const char *name = su_source_name(s);
    size_t room = 0;
    int code = Z_OK;
    while (code != Z_STREAM_END) {
        if (z->avail_in == 0) {
            const uint64_t left = su_source_length(s) - at;
            const size_t n = left < SU_SOURCE_WINDOW ? (size_t)left : SU_SOURCE_WINDOW;
            const uint8_t *p = n ? su_source_at(s, at, n) : NULL;
            if (!p) return su_fail(err, SU_EFORMAT, "%s: truncated within its deflated data set", name);
            z->next_in = (z_const Bytef *)(uintptr_t)p;
            z->avail_in = (uInt)n;
            at += n;
        }
        if (*made == room) {
            if (room == SU_SCAN_INFLATED_MAX) return inflated_too_far(name, err);
            const size_t more = room ? 2 * room : (size_t)1 << 20;
            uint8_t *grown = su_realloc(*out, more, 1);
            if (!grown) return su_fail(err, SU_ENOMEM, "%s: no memory to inflate it", name);
            *out = grown;
            room = more;
        }
        z->next_out = *out + *made;
        z->avail_out = (uInt)(room - *made);
        code = inflate(z, Z_NO_FLUSH);
        *made = room - z->avail_out;
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return su_fail(err, SU_EFORMAT, "%s: its deflated data set is damaged%s%s", name,
                           z->msg ? ": " : "", z->msg ? z->msg : "");
    }
    return SU_OK;
}

static su_status inflate_data_set(su_source **source, uint64_t at, su_error *err)
{
    z_stream z = {0};
    uint8_t *out = NULL;
    size_t made = 0;
    su_source *inflated = NULL;
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return su_fail(err, SU_ENOMEM, "%s: no memory to inflate it", su_source_name(*source));
    su_status st = inflate_all(*source, &z, at, &out, &made, err);
    inflateEnd(&z);
    if (st)
        su_free(out);
    else
        st = su_source_memory(su_source_name(*source), out, made, &inflated, err);
    if (st) return st;
    su_source_close(*source);
    *source = inflated;
    return SU_OK;
}

/* ---- all of it ---- */

/* Group 7FE0, from `at` on: its elements stand in the order of their tags. Their lengths are decode's to
 * check: a file whose pixel data are cut off still says whose they are. */
static void find_pixels(walker *w, uint64_t at, encoding how, su_scan *scan)
{
    const uint64_t length = su_source_length(w->source);
    element e;
    while (at < length && read_header(w, at, length, how, &e) == SU_OK && e.tag >> 16 == PIXEL_GROUP) {
        su_scan_element found = {.at = e.at, .offset = e.value, .undefined = e.length == UNDEFINED};
        if (e.length != UNDEFINED) found.length = (uint64_t)e.length;
        memcpy(found.vr, e.vr, sizeof found.vr);
        const int which = (int)(e.tag & 0xffff);
        if (which == 0x01) scan->table = found;
        if (which == 0x02) scan->lengths = found;
        if (which == 0x08 || which == 0x09 || which == 0x10) {
            scan->pixels = found;
            scan->kind = which == 0x08   ? SU_PIXELS_FLOAT
                         : which == 0x09 ? SU_PIXELS_DOUBLE
                                         : SU_PIXELS_INTEGER;
            return;
        }
        if (found.undefined || found.length > length - e.value) return;
        at = e.value + found.length;
    }
}

static su_status scan_data_set(su_source **source, su_scan *scan, su_error *err)
{
    const char *name = su_source_name(*source);
    walker w = {.err = err};
    if (scan->known && scan->known->deflated) {
        su_status st = inflate_data_set(source, scan->begin, err);
        if (st) return st;
        scan->begin = 0;
        name = su_source_name(*source);
    }
    w.source = *source;
    const encoding how = find_encoding(*source, scan);
    scan->implicit = how.implicit;
    scan->big = how.big;
    scan->end = scan->begin;
    if (!scan->syntax[0])
        scan->known = su_syntax_find(how.implicit ? "1.2.840.10008.1.2"
                                     : how.big    ? "1.2.840.10008.1.2.2"
                                                  : "1.2.840.10008.1.2.1");
    su_status st = walk_elements(&w, &scan->end, su_source_length(*source), how, false, 0);
    if (st) return st;
    w.err = NULL;
    scan->plain = !w.odd;
    find_pixels(&w, scan->end, how, scan);
    if (scan->end == scan->begin)
        return su_fail(err, SU_EFORMAT, "%s: it has no data element%s", name,
                       scan->kind == SU_PIXELS_NONE ? "" : " in front of its pixel data");
    if (scan->end - scan->begin > SU_SCAN_BYTES_MAX)
        return su_fail(err, SU_ELIMIT, "%s: %llu bytes without the pixel data; at most %d MiB are read", name,
                       (unsigned long long)(scan->end - scan->begin), SU_SCAN_BYTES_MAX >> 20);
    return SU_OK;
}

/* Where nothing else says that this is a DICOM file, its first element must look like one. */
static bool begins_as_data_set(su_source *s)
{
    const uint8_t *p = su_source_at(s, 0, 8);
    if (!p) return false;
    const bool big = get16(p, false) > get16(p, true);
    return is_vr(p + 4) ? looks_explicit(s, 0, big) : looks_implicit(s, 0, big);
}

su_status su_scan_file(su_source **source, su_scan *scan, su_error *err)
{
    const bool preamble = is_at(*source, 128, "DICM"), prefix = preamble || is_at(*source, 0, "DICM");
    const uint64_t start = preamble ? 132 : prefix ? 4 : 0;
    uint64_t at = start;
    *scan = (su_scan){0};
    su_status st = read_meta(*source, &at, scan, err);
    const bool vouched = prefix || at > start;
    if (!st && (vouched || begins_as_data_set(*source))) {
        scan->begin = at;
        scan->known = su_syntax_find(scan->syntax);
        st = scan_data_set(source, scan, err);
    } else if (!st) {
        st = SU_EFORMAT;
    }
    return st == SU_EFORMAT && !vouched ? su_fail(err, st, "%s: no DICOM file", su_source_name(*source)) : st;
}
