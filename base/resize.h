/* Antialiased bicubic resampling of 8-bit images: bit for bit what Image.resize(size, BICUBIC, box=box)
 * gives in Debian 12's Pillow (9.4). Pillow 13 takes the columns of tall pictures first, which rounds some
 * pixels otherwise.
 *
 *   scale = (box.x1 - box.x0) / out.width          f = max(scale, 1)        (the same downwards)
 *   out[x] = sum_i w((i + 0.5 - c) / f) in[i] / sum_i w(...)                c = box.x0 + (x + 0.5) scale
 *   w(t)   = cubic convolution, a = -0.5, zero from |t| = 2 [Keys 1981]
 *
 * Weights are rounded to 22 fractional bits; rows are resampled first and rounded to 8 bits, then columns. */
#ifndef SU_BASE_RESIZE_H
#define SU_BASE_RESIZE_H

#include "base/error.h"
#include <stdint.h>

/* Pixels that belong to someone else. */
typedef struct {
    uint8_t *pixels;                 /* [height][stride bytes], of which width * channels are pixels */
    int32_t width, height, channels; /* channels 1 or 3 */
    int64_t stride;                  /* bytes from one row to the next */
} su_raster;

/* A rectangle in pixels, edges not centres: a whole image is {0, 0, width, height}. */
typedef struct {
    float x0, y0, x1, y1;
} su_box;

/* Resamples the rectangle `box` of in (NULL: all of it) to fill out. Pixels of in that lie outside the box
 * count near its edges. in is only read; in and out must not overlap. Thread-safe; the same bits on every
 * processor. SU_EINVAL: empty images, differing channels, a box that is empty or not inside in. SU_ENOMEM. */
su_status su_resize(const su_raster *in, const su_box *box, const su_raster *out, su_error *err);

#endif
