#include "dicom/fragments.h"
#include "base/memory.h"

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* ---- items ---- */

typedef enum { FRAGMENT, DELIMITER, END_OF_FILE } item_kind;

static su_status read_item(su_source *s, uint64_t at, su_fragment *item, item_kind *kind, su_error *err)
{
    const char *name = su_source_name(s);
    const uint64_t left = su_source_length(s) - at;
    *kind = END_OF_FILE;
    if (left == 0) return SU_OK;
    const uint8_t *p = su_source_at(s, at, 8);
    if (!p)
        return su_fail_at(err, SU_EFORMAT, (int64_t)at, "%s: truncated within its pixel data, at byte %llu",
                          name, (unsigned long long)at);
    const uint32_t group = (uint32_t)(p[0] | p[1] << 8), number = (uint32_t)(p[2] | p[3] << 8);
    *item = (su_fragment){.at = at, .offset = at + 8, .length = get32(p + 4)};
    *kind = number == 0xe0dd ? DELIMITER : FRAGMENT;
    if (group != 0xfffe || (number != 0xe000 && number != 0xe0dd))
        return su_fail_at(err, SU_EFORMAT, (int64_t)at,
                          "%s: pixel data: (%04x,%04x) at byte %llu, where a fragment should be", name, group,
                          number, (unsigned long long)at);
    if (*kind == FRAGMENT && item->length > left - 8)
        return su_fail_at(
            err, SU_EFORMAT, (int64_t)at,
            "%s: truncated: a fragment of pixel data at byte %llu says %u bytes, where %llu are left", name,
            (unsigned long long)at, item->length, (unsigned long long)(left - 8));
    return SU_OK;
}

static su_status add_item(su_fragments *f, int64_t *room, su_fragment item, const char *name, su_error *err)
{
    if (f->count == SU_FRAGMENTS_MAX)
        return su_fail_at(err, SU_ELIMIT, (int64_t)item.at, "%s: more than %d fragments of pixel data", name,
                          SU_FRAGMENTS_MAX);
    if (f->count == *room) {
        const int64_t more = *room ? 2 * *room : 16;
        su_fragment *grown = su_realloc(f->items, (size_t)more, sizeof *grown);
        if (!grown) return su_fail(err, SU_ENOMEM, "%s: no memory for its list of fragments", name);
        f->items = grown;
        *room = more;
    }
    f->items[f->count++] = item;
    return SU_OK;
}

/* The offset table's item, and the list of fragments up to the delimiter. */
static su_status read_items(su_source *s, uint64_t at, su_fragments *f, su_fragment *table, su_error *err)
{
    int64_t room = 0;
    item_kind kind = FRAGMENT;
    su_status st = read_item(s, at, table, &kind, err);
    if (!st && kind != FRAGMENT)
        st = su_fail(err, SU_EFORMAT, "%s: pixel data without a fragment", su_source_name(s));
    at = st ? at : table->offset + table->length;
    while (!st && kind == FRAGMENT) {
        su_fragment item = {0};
        st = read_item(s, at, &item, &kind, err);
        if (!st && kind == FRAGMENT) st = add_item(f, &room, item, su_source_name(s), err);
        at = item.offset + item.length;
    }
    f->delimited = kind == DELIMITER;
    if (!st && f->count == 0)
        st = su_fail(err, SU_EFORMAT, "%s: pixel data without a fragment", su_source_name(s));
    return st;
}

/* ---- tables ---- */

typedef struct {
    uint64_t offset;
    int64_t entries;
    int width; /* bytes of an entry: 4 or 8 */
    const char *name;
} offsets;

static su_status outside(const offsets *t, int64_t entry, const char *name, su_error *err)
{
    return su_fail(err, SU_EFORMAT,
                   "%s: entry %lld of its %s points outside of the pixel data, or to no fragment", name,
                   (long long)entry + 1, t->name);
}

static su_status read_offset(su_source *s, const offsets *t, int64_t entry, uint64_t *value, su_error *err)
{
    uint8_t raw[8];
    su_status st =
        su_source_read(s, t->offset + (uint64_t)entry * (uint64_t)t->width, raw, (size_t)t->width, err);
    if (!st) *value = t->width == 4 ? get32(raw) : get64(raw);
    return st;
}

/* Fills first[] of every frame; entries ascend, and each is the place of an item behind the table. */
static su_status apply_table(su_source *s, const offsets *t, su_fragments *f, su_error *err)
{
    int64_t item = 0;
    for (int64_t i = 0; i < t->entries; i++) {
        uint64_t value = 0;
        su_status st = read_offset(s, t, i, &value, err);
        if (st) return st;
        while (item < f->count && f->items[item].at - f->items[0].at < value) item++;
        if (item == f->count || f->items[item].at - f->items[0].at != value)
            return outside(t, i, su_source_name(s), err);
        f->first[i] = item++;
    }
    f->first[f->frames] = f->count;
    return SU_OK;
}

/* A table that is not needed is still believed to be the file's: it may not point outside. */
static su_status check_table(su_source *s, const offsets *t, const su_fragments *f, su_error *err)
{
    const uint64_t span = f->items[f->count - 1].at - f->items[0].at;
    for (int64_t i = 0; i < t->entries; i++) {
        uint64_t value = 0;
        su_status st = read_offset(s, t, i, &value, err);
        if (st) return st;
        if (value > span) return outside(t, i, su_source_name(s), err);
    }
    return SU_OK;
}

/* A codestream of JPEG or JPEG-LS (SOI) or JPEG 2000 (SOC) begins in a fragment. */
static bool begins_picture(su_source *s, const su_fragment *item)
{
    const uint8_t *p = item->length >= 4 ? su_source_at(s, item->offset, 4) : NULL;
    return p && p[0] == 0xff && (p[1] == 0xd8 || p[1] == 0x4f) && p[2] == 0xff;
}

static bool apply_markers(su_source *s, su_fragments *f)
{
    int frame = 0;
    for (int64_t i = 0; i < f->count; i++) {
        if (!begins_picture(s, &f->items[i])) continue;
        if (frame == f->frames || (frame == 0 && i > 0)) return false;
        f->first[frame++] = i;
    }
    f->first[f->frames] = f->count;
    return frame == f->frames;
}

static su_status assign(su_source *s, const su_scan *scan, const su_fragment *basic, su_fragments *f,
                        su_error *err)
{
    const char *name = su_source_name(s);
    const offsets b = {basic->offset, basic->length / 4, 4, "basic offset table"};
    const offsets x = {scan->table.offset, (int64_t)(scan->table.at ? scan->table.length / 8 : 0), 8,
                       "extended offset table (7fe0,0001)"};
    if (f->count < f->frames)
        return su_fail(err, SU_EFORMAT, "%s: %lld fragments of pixel data, where its %d frames need one each",
                       name, (long long)f->count, f->frames);
    if (f->frames == 1 || f->count == f->frames) {
        f->by = f->frames == 1 ? SU_FRAMES_ONE : SU_FRAMES_EACH;
        for (int i = 0; i < f->frames; i++) f->first[i] = i;
        f->first[f->frames] = f->count;
        su_status st = check_table(s, &x, f, err);
        return st ? st : check_table(s, &b, f, err);
    }
    if (x.entries == f->frames || b.entries == f->frames) {
        f->by = x.entries == f->frames ? SU_FRAMES_EXTENDED : SU_FRAMES_BASIC;
        return apply_table(s, f->by == SU_FRAMES_EXTENDED ? &x : &b, f, err);
    }
    f->by = SU_FRAMES_MARKERS;
    if (apply_markers(s, f)) return SU_OK;
    return su_fail(err, SU_EFORMAT,
                   "%s: which of its %lld fragments make which of its %d frames cannot be told", name,
                   (long long)f->count, f->frames);
}

su_status su_fragments_read(su_source *source, const su_scan *scan, int frames, su_fragments **fragments,
                            su_error *err)
{
    su_fragment table = {0};
    su_fragments *f = su_calloc(1, sizeof *f);
    *fragments = NULL;
    if (!f) return su_fail(err, SU_ENOMEM, "%s: no memory for its list of fragments", su_source_name(source));
    f->frames = frames;
    su_status st = read_items(source, scan->pixels.offset, f, &table, err);
    if (!st && f->count >= frames && !(f->first = su_calloc((size_t)frames + 1, sizeof *f->first)))
        st = su_fail(err, SU_ENOMEM, "%s: no memory for its list of frames", su_source_name(source));
    if (!st) st = assign(source, scan, &table, f, err);
    if (st)
        su_fragments_free(f);
    else
        *fragments = f;
    return st;
}

void su_fragments_free(su_fragments *f)
{
    if (!f) return;
    su_free(f->items);
    su_free(f->first);
    su_free(f);
}

uint64_t su_fragments_length(const su_fragments *f, int frame)
{
    uint64_t sum = 0;
    for (int64_t i = f->first[frame]; i < f->first[frame + 1]; i++) sum += f->items[i].length;
    return sum;
}

su_status su_fragments_copy(const su_fragments *f, int frame, su_source *source, uint8_t *out, su_error *err)
{
    su_status st = SU_OK;
    for (int64_t i = f->first[frame]; !st && i < f->first[frame + 1]; i++) {
        st = su_source_read(source, f->items[i].offset, out, f->items[i].length, err);
        out += f->items[i].length;
    }
    return st;
}

const char *su_frames_by_name(su_frames_by by)
{
    static const char *const names[] = {"one frame", "one fragment a frame", "extended offset table",
                                        "basic offset table", "where codestreams begin"};
    return names[by];
}
