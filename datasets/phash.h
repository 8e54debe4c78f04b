/* Perceptual hash: 64 bits that survive rescaling, recompression and small changes of brightness.
 *
 *   grey -> 32 x 32 by area means -> DCT-II -> the 8 x 8 lowest frequencies without the constant's row and
 * column bit k = 1 when coefficient k is above the median of the 64
 *
 * Integers throughout: the same bits on every machine. Distance: su_phash_distance, 0..64. Unrelated images
 * lie about 32 apart. */
#ifndef SU_DATASETS_PHASH_H
#define SU_DATASETS_PHASH_H

#include <stdbool.h>
#include <stdint.h>

/* pixels: top left of a width x height rectangle, 1..1024 each, channels 1 or 3, rows `stride` bytes apart.
 * False, and *hash = 0, for a rectangle of one grey level (within 2 of 255): it has no structure to hash. */
bool su_phash(const uint8_t *pixels, int32_t width, int32_t height, int32_t channels, int64_t stride,
              uint64_t *hash);

static inline int su_phash_distance(uint64_t a, uint64_t b)
{
    return __builtin_popcountll(a ^ b);
}

#endif
