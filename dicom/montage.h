/* Representative slices of a volume as one picture, for a tower that takes pictures.
 *
 * Of n slices, the k-th stands at (k + 0.5)/n of the way through: none at the very ends, the middle one for n
 * = 1. Tiles lie row by row, ceil(sqrt(n)) a row, black where there is none. */
#ifndef SU_DICOM_MONTAGE_H
#define SU_DICOM_MONTAGE_H

#include "base/image.h"
#include "dicom/render.h"
#include "dicom/volume.h"

/* The k-th of n representatives among `count` slices. */
int64_t su_representative(int64_t count, int n, int k);

/* Puts `tiles` [n], all of one size and the same channels, into one picture. SU_EINVAL, SU_ENOMEM. */
su_status su_montage(const su_image *tiles, int n, su_image *out, su_error *err);

/* n slices across z, rendered: display as for a frame of these values (slope 1, intercept 0, no modality
 * table). */
su_status su_volume_montage(const su_volume *v, const su_dicom_display *display,
                            const su_dicom_recipe *recipe, int n, su_image *out, su_error *err);

#endif
