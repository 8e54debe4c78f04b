#include "dicom/decoder/j2k_packets.h"
#include "base/memory.h"
#include "dicom/decoder/j2k_block.h"
#include <stdlib.h>
#include <string.h>

enum { PRECINCTS_MAX = 1 << 19, BLOCKS_MAX = 1 << 22, LENGTH_BITS_MAX = 31, PASSES_MAX = 109 };

struct su_j2k_node {
    uint16_t low; /* its value is not less */
    bool known;   /* it is this */
};

uint32_t su_j2k_reduce(uint32_t v, uint32_t levels)
{
    return (uint32_t)(((uint64_t)v + ((uint64_t)1 << levels) - 1) >> levels);
}

/* ---- layout ---- */

static size_t tree_size(uint32_t across, uint32_t down)
{
    size_t n = (size_t)across * down;
    while (across > 1 || down > 1) {
        across = (across + 1) / 2;
        down = (down + 1) / 2;
        n += (size_t)across * down;
    }
    return n;
}

/* ceil((v - 2^(levels - 1) * high) / 2^levels) [B-15] */
static uint32_t band_edge(uint32_t v, uint32_t levels, uint32_t high)
{
    if (levels == 0) return v;
    return (uint32_t)(((uint64_t)v + ((uint64_t)1 << levels) - 1 - ((uint64_t)high << (levels - 1))) >>
                      levels);
}

static uint32_t larger(uint64_t a, uint64_t b)
{
    return (uint32_t)(a > b ? a : b);
}

static uint32_t smaller(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

/* One sub-band of a precinct, cell: the precinct in it. Counts only, as long as there are no arrays. */
static bool add_part(su_j2k_tile *t, su_j2k_precinct *precinct, su_j2k_box band, su_j2k_box cell,
                     uint32_t orientation, uint32_t left, uint32_t top, uint32_t width, uint32_t height,
                     uint8_t planes)
{
    const su_j2k_box b = {larger(band.x0, cell.x0), larger(band.y0, cell.y0), smaller(band.x1, cell.x1),
                          smaller(band.y1, cell.y1)};
    if (b.x0 >= b.x1 || b.y0 >= b.y1) return true;
    const uint32_t gx = b.x0 >> width, gy = b.y0 >> height;
    const uint32_t across = su_j2k_reduce(b.x1, width) - gx, down = su_j2k_reduce(b.y1, height) - gy;
    const uint64_t count = (uint64_t)across * down;
    if (t->block_count + count > BLOCKS_MAX) return false;
    const size_t nodes = tree_size(across, down);
    if (t->blocks) {
        precinct->part[precinct->parts++] = (su_j2k_part){
            .across = across,
            .down = down,
            .block = (uint32_t)t->block_count,
            .included = (uint32_t)t->node_count,
            .missing = (uint32_t)(t->node_count + nodes),
            .planes = planes,
        };
        su_j2k_block *block = t->blocks + t->block_count;
        for (uint32_t y = gy; y < gy + down; y++)
            for (uint32_t x = gx; x < gx + across; x++, block++) {
                const uint32_t x0 = larger((uint64_t)x << width, b.x0),
                               x1 = smaller((uint64_t)(x + 1) << width, b.x1),
                               y0 = larger((uint64_t)y << height, b.y0),
                               y1 = smaller((uint64_t)(y + 1) << height, b.y1);
                block->x = left + x0 - band.x0;
                block->y = top + y0 - band.y0;
                block->width = (uint8_t)(x1 - x0);
                block->height = (uint8_t)(y1 - y0);
                block->orientation = (uint8_t)orientation;
                block->length_bits = 3;
            }
    }
    t->block_count += count;
    t->node_count += 2 * nodes;
    return true;
}

/* Where a precinct comes, but for the layers [B.12.1]. */
static void set_key(su_j2k_precinct *p, int progression, uint32_t r, uint32_t c, uint32_t x, uint32_t y,
                    uint32_t k)
{
    const uint32_t order[5][5] = {{r, c, k}, {r, c, k}, {r, y, x, c, k}, {y, x, c, r, k}, {c, y, x, r, k}};
    memcpy(p->key, order[progression], sizeof p->key);
    p->resolution = r;
}

static bool add_resolution(su_j2k_tile *t, uint32_t c, uint32_t r)
{
    const su_j2k_style *s = t->style;
    const uint32_t down = s->levels - r, pw = s->precinct_width[r], ph = s->precinct_height[r];
    const su_j2k_box box = {su_j2k_reduce(t->box.x0, down), su_j2k_reduce(t->box.y0, down),
                            su_j2k_reduce(t->box.x1, down), su_j2k_reduce(t->box.y1, down)};
    if (box.x0 == box.x1 || box.y0 == box.y1) return true;
    if (r > 0 && (pw == 0 || ph == 0)) return false;
    const uint32_t px = box.x0 >> pw, py = box.y0 >> ph;
    const uint32_t wide = su_j2k_reduce(box.x1, pw) - px, high = su_j2k_reduce(box.y1, ph) - py;
    if (t->precinct_count + (uint64_t)wide * high > PRECINCTS_MAX) return false;
    const uint32_t half = r > 0, levels = s->levels - r + half;
    const uint32_t bw = smaller(s->block_width, pw - half), bh = smaller(s->block_height, ph - half);
    /* The low-pass resolution's size is where high-pass bands begin. */
    const uint32_t low_width = su_j2k_reduce(t->box.x1, levels) - su_j2k_reduce(t->box.x0, levels),
                   low_height = su_j2k_reduce(t->box.y1, levels) - su_j2k_reduce(t->box.y0, levels);
    for (uint64_t y = py; y < (uint64_t)py + high; y++)
        for (uint64_t x = px; x < (uint64_t)px + wide; x++) {
            su_j2k_precinct *p = t->precincts ? t->precincts + t->precinct_count : NULL;
            if (p)
                set_key(p, s->progression, r, c, larger(t->box.x0, x << (pw + down)),
                        larger(t->box.y0, y << (ph + down)), (uint32_t)((y - py) * wide + x - px));
            t->precinct_count++;
            for (uint32_t o = half; o < (half ? 4 : 1); o++) {
                const uint32_t right = o & 1, below = o >> 1;
                const su_j2k_box band = {
                    band_edge(t->box.x0, levels, right), band_edge(t->box.y0, levels, below),
                    band_edge(t->box.x1, levels, right), band_edge(t->box.y1, levels, below)};
                const su_j2k_box cell = {
                    smaller(x << (pw - half), UINT32_MAX), smaller(y << (ph - half), UINT32_MAX),
                    smaller((x + 1) << (pw - half), UINT32_MAX), smaller((y + 1) << (ph - half), UINT32_MAX)};
                if (!add_part(t, p, band, cell, o, right ? low_width : 0, below ? low_height : 0, bw, bh,
                              s->planes[half ? 3 * (r - 1) + o : 0]))
                    return false;
            }
        }
    return true;
}

static bool lay_out(su_j2k_tile *t)
{
    t->precinct_count = t->block_count = t->node_count = 0;
    for (uint32_t c = 0; c < t->style->components; c++) {
        for (uint32_t r = 0; r <= t->style->levels; r++)
            if (!add_resolution(t, c, r)) return false;
        t->component_end[c] = t->block_count;
    }
    return true;
}

static int compare_keys(const void *a, const void *b)
{
    const uint32_t *p = ((const su_j2k_precinct *)a)->key, *q = ((const su_j2k_precinct *)b)->key;
    for (int i = 0; i < 5; i++)
        if (p[i] != q[i]) return p[i] < q[i] ? -1 : 1;
    return 0;
}

su_status su_j2k_tile_new(const su_j2k_style *style, su_j2k_box box, su_j2k_tile *tile)
{
    *tile = (su_j2k_tile){.style = style, .box = box};
    if (!lay_out(tile)) return SU_EUNSUPPORTED;
    tile->precincts = su_calloc(tile->precinct_count + 1, sizeof *tile->precincts);
    tile->blocks = su_calloc(tile->block_count + 1, sizeof *tile->blocks);
    tile->nodes = su_calloc(tile->node_count + 1, sizeof *tile->nodes);
    if (!tile->precincts || !tile->blocks || !tile->nodes) {
        su_j2k_tile_free(tile);
        return SU_ENOMEM;
    }
    lay_out(tile);
    qsort(tile->precincts, tile->precinct_count, sizeof *tile->precincts, compare_keys);
    return SU_OK;
}

void su_j2k_tile_free(su_j2k_tile *tile)
{
    su_free(tile->precincts);
    su_free(tile->blocks);
    su_free(tile->nodes);
    su_free(tile->chunks);
    *tile = (su_j2k_tile){0};
}

/* ---- packet headers [B.10] ---- */

typedef struct {
    const uint8_t *at, *end;
    uint32_t byte;
    int left;
    bool over; /* read beyond the end, where bits are 0 */
} bits;

static uint32_t bit(bits *b)
{
    if (b->left == 0) {
        const bool stuffed = b->byte == 0xff;
        b->over |= b->at == b->end;
        b->byte = b->over ? 0 : *b->at++;
        b->left = stuffed ? 7 : 8;
    }
    b->left--;
    return b->byte >> b->left & 1;
}

static uint32_t several(bits *b, uint32_t n)
{
    uint32_t v = 0;
    while (n-- > 0) v = v << 1 | bit(b);
    return v;
}

/* Whether the value of a leaf is below a threshold [B.10.2]. */
static bool below(bits *b, su_j2k_node *tree, uint32_t across, uint32_t down, uint32_t x, uint32_t y,
                  uint32_t threshold)
{
    su_j2k_node *path[SU_J2K_LEVELS_MAX + 1], *node = tree;
    int depth = 0;
    for (;; x /= 2, y /= 2) {
        path[depth++] = node + (size_t)y * across + x;
        if (across == 1 && down == 1) break;
        node += (size_t)across * down;
        across = (across + 1) / 2;
        down = (down + 1) / 2;
    }
    uint32_t low = 0;
    for (int i = depth - 1; i >= 0; i--) {
        if (path[i]->low < low) path[i]->low = (uint16_t)low;
        while (path[i]->low < threshold && !path[i]->known) {
            if (bit(b))
                path[i]->known = true;
            else
                path[i]->low++;
        }
        low = path[i]->low;
    }
    return path[0]->known && path[0]->low < threshold;
}

static uint32_t passes(bits *b) /* Table B.4 */
{
    uint32_t n;
    if (!bit(b)) return 1;
    if (!bit(b)) return 2;
    if ((n = several(b, 2)) < 3) return 3 + n;
    if ((n = several(b, 5)) < 31) return 6 + n;
    return 37 + several(b, 7);
}

static bool read_block(bits *b, su_j2k_tile *t, const su_j2k_part *part, uint32_t x, uint32_t y,
                       uint32_t layer)
{
    su_j2k_block *block = t->blocks + part->block + (size_t)y * part->across + x;
    su_j2k_node *included = t->nodes + part->included, *missing = t->nodes + part->missing;
    block->pending = block->passes ? bit(b) : below(b, included, part->across, part->down, x, y, layer + 1);
    if (!block->pending) return true;
    if (block->passes == 0) {
        uint32_t zeros = 0;
        while (!below(b, missing, part->across, part->down, x, y, zeros + 1))
            if (++zeros >= part->planes || b->over) return false;
        if (part->planes - zeros > SU_J2K_PLANES_MAX) return false;
        block->planes = (uint8_t)(part->planes - zeros);
    }
    const uint32_t n = passes(b);
    if (block->passes + n > PASSES_MAX) return false;
    while (bit(b))
        if (++block->length_bits > LENGTH_BITS_MAX) return false;
    const uint32_t width = block->length_bits + (31 - (uint32_t)__builtin_clz(n));
    if (width > LENGTH_BITS_MAX) return false;
    block->passes = (uint8_t)(block->passes + n);
    block->more = several(b, width);
    return !b->over;
}

/* ---- packets ---- */

static su_status add_chunk(su_j2k_tile *t, su_j2k_block *block, const uint8_t *at)
{
    if (t->chunk_count == t->chunk_room) {
        const size_t room = t->chunk_room ? 2 * t->chunk_room : t->block_count + 1;
        su_j2k_chunk *more = room <= UINT32_MAX ? su_realloc(t->chunks, room, sizeof *more) : NULL;
        if (!more) return SU_ENOMEM;
        t->chunks = more;
        t->chunk_room = room;
    }
    t->chunks[t->chunk_count++] = (su_j2k_chunk){at, block->more, 0};
    if (block->last)
        t->chunks[block->last - 1].next = (uint32_t)t->chunk_count;
    else
        block->first = (uint32_t)t->chunk_count;
    block->last = (uint32_t)t->chunk_count;
    block->length += block->more;
    return SU_OK;
}

static su_status read_packet(su_j2k_tile *t, const su_j2k_precinct *p, uint32_t layer, const uint8_t **at,
                             const uint8_t *end)
{
    if (t->style->sop && end - *at >= 6 && (*at)[0] == 0xff && (*at)[1] == 0x91) *at += 6;
    bits b = {.at = *at, .end = end};
    const bool empty = !bit(&b);
    for (uint32_t i = 0; !empty && i < p->parts; i++)
        for (uint32_t y = 0; y < p->part[i].down; y++)
            for (uint32_t x = 0; x < p->part[i].across; x++)
                if (!read_block(&b, t, &p->part[i], x, y, layer)) return SU_EUNSUPPORTED;
    if (b.byte == 0xff) { /* it is followed by a stuffed bit */
        if (b.at == b.end) return SU_EUNSUPPORTED;
        b.at++;
    }
    if (b.over) return SU_EUNSUPPORTED;
    if (t->style->eph) {
        if (end - b.at < 2 || b.at[0] != 0xff || b.at[1] != 0x92) return SU_EUNSUPPORTED;
        b.at += 2;
    }
    for (uint32_t i = 0; !empty && i < p->parts; i++) {
        su_j2k_block *block = t->blocks + p->part[i].block;
        for (size_t n = (size_t)p->part[i].across * p->part[i].down; n > 0; n--, block++) {
            if (!block->pending) continue;
            if (block->more > (size_t)(end - b.at)) return SU_EUNSUPPORTED;
            const su_status st = add_chunk(t, block, b.at);
            if (st) return st;
            b.at += block->more;
        }
    }
    *at = b.at;
    return SU_OK;
}

su_status su_j2k_tile_read(su_j2k_tile *t, const uint8_t *data, size_t length)
{
    const uint8_t *end = data + length;
    const su_j2k_style *s = t->style;
    su_status st = SU_OK;
    for (size_t first = 0, last; first < t->precinct_count && !st; first = last) {
        /* A run of precincts goes through all layers: all of them, those of a resolution, or one. */
        last = s->progression == 0 ? t->precinct_count : first + 1;
        while (s->progression == 1 && last < t->precinct_count &&
               t->precincts[last].resolution == t->precincts[first].resolution)
            last++;
        for (uint32_t layer = 0; layer < s->layers && !st; layer++)
            for (size_t k = first; k < last && !st; k++)
                st = read_packet(t, t->precincts + k, layer, &data, end);
    }
    return st || data == end ? st : SU_EUNSUPPORTED;
}
