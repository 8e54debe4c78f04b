/* When are two pictures the same? Two steps, because neither alone is enough.
 *
 * su_phash proposes: 64 bits that survive rescaling, recompression and changes of brightness.
 *
 *   grey -> 32 x 32 by area means -> DCT-II -> the 8 x 8 lowest frequencies without the constant's row and
 * column bit k = 1 when coefficient k is above the median of the 64          (integers: the same bits on
 * every machine)
 *
 * su_picture_agreement decides: the correlation of the fine structure, where unlike pictures with like
 * outlines (two chests, two frames) part:
 *
 *   grey -> 32 x 32 by area means -> minus the mean of the 3 x 3 around -> without 3 at each edge (frames) ->
 * r
 *
 * Measured on 4,202 ROCO figures (8.8 million pairs, 28 of them within 10 bits): the four that are the same
 * picture have r >= 0.97, the others r <= 0.48. Of 300 figures changed on purpose, found within 10 bits and r
 * > 0.7: JPEG quality 30, half and double size, contrast x 0.8, brightness x 1.2, gamma 0.7 all; an arrow and
 * a letter drawn in 95 %; a 4 pixel white border 90 %; 2 % cut off each side 57 %; 5 % none. */
#ifndef SU_DATASETS_PHASH_H
#define SU_DATASETS_PHASH_H

#include "datasets/dataset.h"

enum { SU_PHASH_NEAR = 10 }; /* bits */
#define SU_PICTURE_SAME 0.7  /* agreement */

/* A rectangle of 8-bit pixels, 1..1024 each way, that belongs to someone else. */
typedef struct {
    const uint8_t *pixels;
    int32_t width, height, channels; /* channels 1 or 3 */
    int64_t stride;                  /* bytes from row to row */
} su_patch;

/* The picture within a stored square: without the padding, whose equal borders would make unlike pictures
 * alike. width, height: of the file. */
su_patch su_patch_stored(const uint8_t *square, const su_image_recipe *recipe, int32_t width, int32_t height);

/* False, and *hash = 0, for a patch of one grey level (within 2 of 255): it has no structure to hash. */
bool su_phash(const su_patch *patch, uint64_t *hash);
double su_picture_agreement(const su_patch *a, const su_patch *b); /* -1..1 */

#endif
