/* What a tile of JPEG 2000 consists of, and the packets that fill it [ITU-T T.800, Annex B]:
 *
 *     tile > component > resolution > precinct > sub-band > code-block
 *
 * Positions are on the reference grid (components are not subsampled). */
#ifndef SU_DICOM_DECODER_J2K_PACKETS_H
#define SU_DICOM_DECODER_J2K_PACKETS_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SU_J2K_LEVELS_MAX = 32 };

typedef struct {
    uint32_t x0, y0, x1, y1; /* x1, y1: beyond */
} su_j2k_box;

/* The same for the whole codestream [A.5, A.6]. */
typedef struct {
    su_j2k_box image;
    uint32_t components;
    uint8_t progression; /* 0 LRCP, 1 RLCP, 2 RPCL, 3 PCRL, 4 CPRL */
    bool sop, eph, colour_transform;
    uint32_t layers, levels;
    uint32_t block_width, block_height; /* exponents, 2 .. 6 */
    uint8_t precinct_width[SU_J2K_LEVELS_MAX + 1], precinct_height[SU_J2K_LEVELS_MAX + 1]; /* by resolution */
    uint8_t planes[3 * SU_J2K_LEVELS_MAX + 1]; /* by sub-band: LL, then HL, LH, HH of each resolution */
} su_j2k_style;

typedef struct su_j2k_node su_j2k_node; /* of a tag tree */

typedef struct {
    uint32_t x, y;         /* where it lies in its component, low-pass bands first */
    uint32_t first, last;  /* its chunks of code: indices + 1, 0: none */
    uint32_t length, more; /* bytes; of the packet that is being read */
    uint8_t width, height, orientation;
    uint8_t planes, passes, length_bits;
    bool pending;
} su_j2k_block;

typedef struct {
    const uint8_t *at;
    uint32_t length, next; /* next: index + 1 */
} su_j2k_chunk;

typedef struct {
    uint32_t across, down, block; /* code-blocks; index of the first */
    uint32_t included, missing;   /* nodes of its tag trees: layer of inclusion, missing bit planes */
    uint8_t planes;
} su_j2k_part; /* of a precinct, in one sub-band */

typedef struct {
    uint32_t key[5]; /* its place in the progression */
    uint32_t resolution;
    uint32_t parts;
    su_j2k_part part[3];
} su_j2k_precinct;

typedef struct {
    const su_j2k_style *style;
    su_j2k_box box;
    su_j2k_precinct *precincts;
    su_j2k_block *blocks; /* of all components, one after the other */
    su_j2k_node *nodes;
    su_j2k_chunk *chunks;
    size_t precinct_count, block_count, node_count, chunk_count, chunk_room;
    size_t component_end[3]; /* blocks */
} su_j2k_tile;

/* Lays out a tile's precincts and blocks. SU_EUNSUPPORTED: more than is allowed; SU_ENOMEM. */
su_status su_j2k_tile_new(const su_j2k_style *style, su_j2k_box box, su_j2k_tile *tile);
void su_j2k_tile_free(su_j2k_tile *tile);

/* All packets of a tile; the chunks of its blocks point into data [length]. SU_EUNSUPPORTED: packets or bytes
 * are left over, or make no sense. */
su_status su_j2k_tile_read(su_j2k_tile *tile, const uint8_t *data, size_t length);

/* ceil(v / 2^levels) */
uint32_t su_j2k_reduce(uint32_t v, uint32_t levels);

#endif
