/* Augmentation fit for radiology: no mirroring, since laterality is meaning. */
#ifndef SU_DATASETS_AUGMENT_H
#define SU_DATASETS_AUGMENT_H

#include "base/rng.h"
#include "base/resize.h"
#include <stdbool.h>

/* All off when .on is false. A value of 1 for min_area or max_aspect, and of 0 for the others, switches that
 * one off. */
typedef struct {
    bool on;
    double min_area;     /* random resized crop: area of the source kept, min_area..1; 0.5 by default */
    double max_aspect;   /* width/height within 1/max_aspect..max_aspect, log-uniform; 1.2 */
    double max_rotation; /* degrees, both ways; 10 */
    double brightness, contrast; /* factors within 1-x..1+x; 0.2, 0.2 */
} su_augment;

void su_augment_defaults(su_augment *a); /* the values above, on */
su_status su_augment_check(const su_augment *a,
                           su_error *err); /* SU_EINVAL names the value that is out of range */

/* One draw: the rectangle of the source that becomes the picture, turned by `angle` about its centre, and the
 * factors. */
typedef struct {
    su_box box;                         /* inside the source */
    double angle, brightness, contrast; /* radians, clockwise as seen; factors */
} su_augment_draw;

/* A pure function of (key, number): number is the sample, key.step the epoch, key.layer the stream. */
su_augment_draw su_augment_pick(const su_augment *a, int32_t width, int32_t height, su_rng_key key,
                                uint64_t number);

/* Applies a draw: in -> out, any sizes, out not overlapping in.
 *   p = R(angle) (q - centre of out) * (box size / out size) + centre of box         q in out, p in `in`
 * The source is reduced to the scale of out by su_resize (antialiased), the turned picture is read from that
 * bilinearly; without an angle su_resize is all there is. Beyond the source there is black. Then, with m the
 * mean of the luma after brightness,     v' = (v * brightness - m) * contrast + m,     rounded and clipped to
 * 0..255. */
su_status su_augment_apply(const su_augment_draw *draw, const su_raster *in, const su_raster *out,
                           su_error *err);

#endif
