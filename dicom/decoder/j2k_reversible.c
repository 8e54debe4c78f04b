#include "dicom/decoder/j2k_reversible.h"
#include "base/memory.h"
#include "dicom/decoder/j2k_block.h"
#include "dicom/decoder/j2k_packets.h"
#include <stdlib.h>
#include <string.h>

enum {
    SOC = 0xff4f,
    SIZ = 0xff51,
    COD = 0xff52,
    TLM = 0xff55,
    PLM = 0xff57,
    PLT = 0xff58,
    QCD = 0xff5c,
    CRG = 0xff63,
    COM = 0xff64,
    SOT = 0xff90,
    SOD = 0xff93,
    EOC = 0xffd9,
    PARTS_MAX = 1 << 17,
    PRECISION_MAX = 24,
    LANES = 32, /* columns that are transformed together */
};

typedef struct {
    uint32_t tile, order, part; /* order: as they come */
    const uint8_t *at;
    size_t length;
} tile_part;

typedef struct {
    const uint8_t *at, *end;
    su_j2k_style style;
    su_j2k_component *component;
    uint32_t tile_x0, tile_y0, tile_width, tile_height, across, down;
    tile_part *parts;
    size_t part_count, part_room;
    int32_t *planes;
    size_t plane_size, stride;
    su_j2k_block_decoder *blocks;
    uint8_t *code; /* of one block */
    size_t code_room;
    int32_t *lines; /* the transform's */
} decoder;

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

/* ---- headers [Annex A] ---- */

static bool read_siz(decoder *d, const uint8_t *p, size_t size, int32_t rows, int32_t columns,
                     int32_t components)
{
    su_j2k_style *s = &d->style;
    if (size != 36 + 3 * (size_t)components || be16(p + 34) != (uint32_t)components) return false;
    s->components = (uint32_t)components;
    s->image = (su_j2k_box){be32(p + 10), be32(p + 14), be32(p + 2), be32(p + 6)};
    d->tile_width = be32(p + 18);
    d->tile_height = be32(p + 22);
    d->tile_x0 = be32(p + 26);
    d->tile_y0 = be32(p + 30);
    if (s->image.x1 - (uint64_t)s->image.x0 != (uint64_t)columns ||
        s->image.y1 - (uint64_t)s->image.y0 != (uint64_t)rows || d->tile_x0 > s->image.x0 ||
        d->tile_y0 > s->image.y0 || d->tile_x0 + (uint64_t)d->tile_width <= s->image.x0 ||
        d->tile_y0 + (uint64_t)d->tile_height <= s->image.y0)
        return false;
    const uint64_t across = (s->image.x1 - d->tile_x0 + (uint64_t)d->tile_width - 1) / d->tile_width,
                   down = (s->image.y1 - d->tile_y0 + (uint64_t)d->tile_height - 1) / d->tile_height;
    if (across > 65535 || across * down > 65535) return false;
    d->across = (uint32_t)across;
    d->down = (uint32_t)down;
    for (int32_t k = 0; k < components; k++) {
        const uint8_t *c = p + 36 + 3 * k;
        d->component[k] = (su_j2k_component){(c[0] & 0x7f) + 1, c[0] >> 7};
        if (d->component[k].precision > PRECISION_MAX || c[1] != 1 || c[2] != 1) return false;
    }
    return true;
}

static bool read_cod(su_j2k_style *s, const uint8_t *p, size_t size)
{
    if (size < 10 || p[0] > 7 || p[1] > 4 || p[4] > 1 || p[5] > SU_J2K_LEVELS_MAX) return false;
    const bool precincts = p[0] & 1;
    s->sop = p[0] & 2;
    s->eph = p[0] & 4;
    s->progression = p[1];
    s->layers = be16(p + 2);
    s->colour_transform = p[4];
    s->levels = p[5];
    s->block_width = p[6] + 2u;
    s->block_height = p[7] + 2u;
    if (size != 10 + (precincts ? s->levels + 1 : 0) || s->layers == 0 || s->block_width > 6 ||
        s->block_height > 6 || p[8] != 0 || p[9] != 1 || (s->colour_transform && s->components != 3))
        return false;
    for (uint32_t r = 0; r <= s->levels; r++) {
        s->precinct_width[r] = precincts ? p[10 + r] & 15 : 15;
        s->precinct_height[r] = precincts ? p[10 + r] >> 4 : 15;
    }
    return true;
}

/* After COD. planes: guard bits and exponent - 1 [E-2]. */
static bool read_qcd(su_j2k_style *s, const uint8_t *p, size_t size)
{
    const size_t bands = 3 * (size_t)s->levels + 1;
    if (size < 1 + bands || (p[0] & 31) != 0) return false;
    for (size_t k = 0; k < bands; k++) {
        const int planes = (p[0] >> 5) + (p[1 + k] >> 3) - 1;
        if (planes < 0) return false;
        s->planes[k] = (uint8_t)planes;
    }
    return true;
}

/* A marker segment: its marker and content. */
static uint32_t next_segment(decoder *d, const uint8_t **content, size_t *size)
{
    if (d->end - d->at < 4) return 0;
    const uint32_t marker = be16(d->at);
    const size_t length = be16(d->at + 2);
    if (length < 2 || length > (size_t)(d->end - d->at) - 2) return 0;
    *content = d->at + 4;
    *size = length - 2;
    d->at += 2 + length;
    return marker;
}

static bool read_main_header(decoder *d, int32_t rows, int32_t columns, int32_t components)
{
    const uint8_t *p;
    size_t size;
    bool cod = false, qcd = false;
    if (d->end - d->at < 2 || be16(d->at) != SOC) return false;
    d->at += 2;
    if (next_segment(d, &p, &size) != SIZ || !read_siz(d, p, size, rows, columns, components)) return false;
    while (d->end - d->at >= 2 && be16(d->at) != SOT) {
        switch (next_segment(d, &p, &size)) {
        case COD:
            if (cod || !read_cod(&d->style, p, size)) return false;
            cod = true;
            break;
        case QCD:
            if (!cod || qcd || !read_qcd(&d->style, p, size)) return false;
            qcd = true;
            break;
        case TLM:
        case PLM:
        case CRG:
        case COM:
            break;
        default:
            return false;
        }
    }
    return cod && qcd;
}

static su_status read_tile_part(decoder *d)
{
    const uint8_t *begin = d->at, *p;
    size_t size;
    if (next_segment(d, &p, &size) != SOT || size != 8) return SU_EUNSUPPORTED;
    const uint32_t tile = be16(p), length = be32(p + 2), part = p[6];
    if (length < 14 || length > (size_t)(d->end - begin) || tile >= d->across * d->down ||
        d->part_count == PARTS_MAX)
        return SU_EUNSUPPORTED;
    const uint8_t *end = begin + length;
    while (end - d->at >= 2 && be16(d->at) != SOD) {
        const uint32_t marker = next_segment(d, &p, &size);
        if ((marker != COM && marker != PLT) || d->at > end) return SU_EUNSUPPORTED;
    }
    if (end - d->at < 2) return SU_EUNSUPPORTED;
    if (d->part_count == d->part_room) {
        const size_t room = d->part_room ? 2 * d->part_room : 16;
        tile_part *more = su_realloc(d->parts, room, sizeof *more);
        if (!more) return SU_ENOMEM;
        d->parts = more;
        d->part_room = room;
    }
    d->parts[d->part_count] =
        (tile_part){tile, (uint32_t)d->part_count, part, d->at + 2, (size_t)(end - d->at) - 2};
    d->part_count++;
    d->at = end;
    return SU_OK;
}

static int compare_parts(const void *a, const void *b)
{
    const tile_part *p = a, *q = b;
    if (p->tile != q->tile) return p->tile < q->tile ? -1 : 1;
    return p->order < q->order ? -1 : 1;
}

/* ---- the inverse 5/3 transform [F.3] ----
 *
 * Of n samples in turns low-pass and high-pass, from a high-pass one where they begin at an odd place:
 *
 *     low[i]  -= (high[i - 1] + high[i] + 2) >> 2        odd: high[i] and high[i + 1]
 *     high[i] += (low[i] + low[i + 1]) >> 1              odd: low[i - 1] and low[i]
 *
 * where what lies outside is the nearest one inside. A sample is a row of [lanes]. */

static int32_t add(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

static void lift_low(int32_t *restrict low, const int32_t *before, const int32_t *after, size_t lanes)
{
    for (size_t l = 0; l < lanes; l++) low[l] = add(low[l], -(add(add(before[l], after[l]), 2) >> 2));
}

static void lift_high(int32_t *restrict high, const int32_t *before, const int32_t *after, size_t lanes)
{
    for (size_t l = 0; l < lanes; l++) high[l] = add(high[l], add(before[l], after[l]) >> 1);
}

/* A row: halves to samples in turns. */
static void synthesize_row(int32_t *row, size_t width, size_t low_width, bool odd, int32_t *line)
{
    int32_t *low = row, *high = row + low_width;
    const size_t lows = low_width, highs = width - low_width;
    if (width == 1) {
        if (odd) row[0] /= 2;
        return;
    }
    const size_t last_high = highs - 1, last_low = lows - 1;
    /* Ends alone, what is between them at once. */
    if (odd) {
        const size_t n = lows < highs ? lows : highs - 1;
        lift_low(low, high, high + 1, n);
        if (n < lows) lift_low(low + n, high + last_high, high + last_high, 1);
        lift_high(high, low, low, 1);
        const size_t m = highs - 1 < lows - 1 ? highs - 1 : lows - 1;
        lift_high(high + 1, low, low + 1, m);
        if (m + 1 < highs) lift_high(high + last_high, low + last_low, low + last_low, 1);
    } else {
        lift_low(low, high, high, 1);
        const size_t n = lows - 1 < highs - 1 ? lows - 1 : highs - 1;
        lift_low(low + 1, high, high + 1, n);
        if (n + 1 < lows) lift_low(low + last_low, high + last_high, high + last_high, 1);
        const size_t m = highs < lows ? highs : lows - 1;
        lift_high(high, low, low + 1, m);
        if (m < highs) lift_high(high + last_high, low + last_low, low + last_low, 1);
    }
    int32_t *even = odd ? high : low, *other = odd ? low : high;
    for (size_t x = 0; x < width / 2; x++) {
        line[2 * x] = even[x];
        line[2 * x + 1] = other[x];
    }
    if (width % 2) line[width - 1] = even[width / 2];
    memcpy(row, line, width * sizeof *row);
}

/* Up to LANES columns: [height] rows, stride apart. */
static void synthesize_columns(int32_t *plane, size_t stride, size_t lanes, size_t height, size_t low_height,
                               bool odd, int32_t *lines)
{
    if (height == 1) {
        for (size_t l = 0; odd && l < lanes; l++) plane[l] /= 2;
        return;
    }
    for (size_t y = 0; y < height; y++) {
        const size_t to = y < low_height ? 2 * y + odd : 2 * (y - low_height) + !odd;
        memcpy(lines + to * LANES, plane + y * stride, lanes * sizeof *lines);
    }
    for (int step = 0; step < 2; step++) /* low-pass rows first */
        for (size_t y = step ^ odd; y < height; y += 2) {
            int32_t *here = lines + y * LANES;
            const int32_t *before = y > 0 ? here - LANES : here + LANES,
                          *after = y + 1 < height ? here + LANES : here - LANES;
            if (step == 0)
                lift_low(here, before, after, LANES);
            else
                lift_high(here, before, after, LANES);
        }
    for (size_t y = 0; y < height; y++) memcpy(plane + y * stride, lines + y * LANES, lanes * sizeof *lines);
}

/* One level: low and high halves of [height][width] put together, along rows, then along columns. */
static void synthesize(int32_t *plane, size_t stride, size_t width, size_t height, size_t low_width,
                       size_t low_height, bool odd_x, bool odd_y, int32_t *lines)
{
    for (size_t y = 0; y < height; y++) synthesize_row(plane + y * stride, width, low_width, odd_x, lines);
    for (size_t x = 0; x < width; x += LANES)
        synthesize_columns(plane + x, stride, width - x < LANES ? width - x : LANES, height, low_height,
                           odd_y, lines);
}

static void transform(const decoder *d, int32_t *plane, su_j2k_box box)
{
    for (uint32_t level = d->style.levels; level-- > 0;) {
        const uint32_t x0 = su_j2k_reduce(box.x0, level), x1 = su_j2k_reduce(box.x1, level),
                       y0 = su_j2k_reduce(box.y0, level), y1 = su_j2k_reduce(box.y1, level);
        if (x0 == x1 || y0 == y1) continue;
        synthesize(plane, d->stride, x1 - x0, y1 - y0, (x1 + 1) / 2 - (x0 + 1) / 2,
                   (y1 + 1) / 2 - (y0 + 1) / 2, x0 & 1, y0 & 1, d->lines);
    }
}

/* ---- tiles ---- */

static su_status decode_block(decoder *d, const su_j2k_tile *t, const su_j2k_block *block, int32_t *plane)
{
    const size_t needed = (size_t)block->length + 2;
    if (needed > d->code_room) {
        su_free(d->code);
        d->code_room = 0;
        if (!(d->code = su_alloc(2 * needed, 1))) return SU_ENOMEM;
        d->code_room = 2 * needed;
    }
    size_t n = 0;
    for (uint32_t k = block->first; k; k = t->chunks[k - 1].next) {
        memcpy(d->code + n, t->chunks[k - 1].at, t->chunks[k - 1].length);
        n += t->chunks[k - 1].length;
    }
    memset(d->code + n, 0xff, 2);
    /* There are codestreams with more passes than bit planes; the planes count. */
    const int most = 3 * block->planes - 2, passes = block->passes < most ? block->passes : most;
    su_j2k_block_decode(d->blocks, block->width, block->height, block->orientation, block->planes, passes,
                        d->code, n, plane + block->y * d->stride + block->x, d->stride);
    return SU_OK;
}

/* The inverse of the reversible colour transform [G.2], the level shift [G.1], and the range of values. */
static void finish(const decoder *d, int32_t *first, size_t width, size_t height)
{
    for (size_t y = 0; y < height; y++) {
        int32_t *row = first + y * d->stride;
        if (d->style.colour_transform) {
            int32_t *u = row + d->plane_size, *v = u + d->plane_size;
            for (size_t x = 0; x < width; x++) {
                const int32_t green = add(row[x], -(add(u[x], v[x]) >> 2));
                row[x] = add(v[x], green);
                v[x] = add(u[x], green);
                u[x] = green;
            }
        }
        for (uint32_t c = 0; c < d->style.components; c++, row += d->plane_size) {
            const int precision = d->component[c].precision;
            const int64_t half = (int64_t)1 << (precision - 1), shift = d->component[c].is_signed ? 0 : half,
                          least = shift - half, most = least + 2 * half - 1;
            for (size_t x = 0; x < width; x++) {
                const int64_t v = row[x] + shift;
                row[x] = (int32_t)(v < least ? least : v > most ? most : v);
            }
        }
    }
}

static su_status decode_tile(decoder *d, uint32_t index, const uint8_t *data, size_t length)
{
    const uint64_t x0 = d->tile_x0 + (uint64_t)(index % d->across) * d->tile_width,
                   y0 = d->tile_y0 + (uint64_t)(index / d->across) * d->tile_height;
    const su_j2k_box *image = &d->style.image;
    const su_j2k_box box = {x0 > image->x0 ? (uint32_t)x0 : image->x0,
                            y0 > image->y0 ? (uint32_t)y0 : image->y0,
                            x0 + d->tile_width < image->x1 ? (uint32_t)(x0 + d->tile_width) : image->x1,
                            y0 + d->tile_height < image->y1 ? (uint32_t)(y0 + d->tile_height) : image->y1};
    int32_t *first = d->planes + (box.y0 - image->y0) * d->stride + (box.x0 - image->x0), *plane = first;
    su_j2k_tile tile;
    su_status st = su_j2k_tile_new(&d->style, box, &tile);
    if (st) return st;
    st = su_j2k_tile_read(&tile, data, length);
    size_t k = 0;
    for (uint32_t c = 0; c < d->style.components && !st; c++, plane += d->plane_size) {
        for (; k < tile.component_end[c] && !st; k++)
            if (tile.blocks[k].passes) st = decode_block(d, &tile, &tile.blocks[k], plane);
        if (!st) transform(d, plane, box);
    }
    if (!st) finish(d, first, box.x1 - box.x0, box.y1 - box.y0);
    su_j2k_tile_free(&tile);
    return st;
}

/* The parts of each tile, in their order. A tile is missing, or has a part twice: not ours. */
static su_status decode_tiles(decoder *d)
{
    size_t k = 0;
    qsort(d->parts, d->part_count, sizeof *d->parts, compare_parts);
    for (uint32_t tile = 0; tile < d->across * d->down; tile++) {
        const size_t begin = k;
        size_t length = 0, at = 0;
        for (; k < d->part_count && d->parts[k].tile == tile; k++) {
            if (d->parts[k].part != k - begin) return SU_EUNSUPPORTED;
            length += d->parts[k].length;
        }
        if (k == begin) return SU_EUNSUPPORTED;
        uint8_t *joined = k - begin > 1 ? su_alloc(length + 1, 1) : NULL;
        if (k - begin > 1 && !joined) return SU_ENOMEM;
        for (size_t i = begin; joined && i < k; i++) {
            memcpy(joined + at, d->parts[i].at, d->parts[i].length);
            at += d->parts[i].length;
        }
        const su_status st = decode_tile(d, tile, joined ? joined : d->parts[begin].at, length);
        su_free(joined);
        if (st) return st;
    }
    return SU_OK;
}

su_status su_j2k_reversible_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns,
                                   int32_t components, int32_t *planes,
                                   su_j2k_component component[SU_J2K_COMPONENTS_MAX])
{
    if (components < 1 || components > SU_J2K_COMPONENTS_MAX) return SU_EUNSUPPORTED;
    decoder d = {.at = data,
                 .end = data + length,
                 .component = component,
                 .planes = planes,
                 .plane_size = (size_t)rows * (size_t)columns,
                 .stride = (size_t)columns};
    const size_t longest = (size_t)(rows > columns ? rows : columns);
    su_status st = read_main_header(&d, rows, columns, components) ? SU_OK : SU_EUNSUPPORTED;
    while (!st && d.end - d.at >= 2 && be16(d.at) == SOT) st = read_tile_part(&d);
    if (!st && (d.end - d.at < 2 || be16(d.at) != EOC)) st = SU_EUNSUPPORTED;
    if (!st) {
        d.blocks = su_j2k_block_decoder_new();
        d.lines = su_calloc(longest + 1, LANES * sizeof *d.lines);
        st = d.blocks && d.lines ? decode_tiles(&d) : SU_ENOMEM;
    }
    su_free(d.parts);
    su_free(d.code);
    su_free(d.lines);
    su_free(d.blocks);
    return st;
}
