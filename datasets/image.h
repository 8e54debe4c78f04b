/* Images: JPEG and PNG files become 8-bit pixels, and pixels become the square that a dataset stores.
 *
 * A file is what its content says; its name's extension is never looked at. A damaged or truncated file is
 * refused with a reason, never half decoded: in a training set a half-grey radiograph is worse than a missing
 * one. */
#ifndef SU_DATASETS_IMAGE_H
#define SU_DATASETS_IMAGE_H

#include "base/error.h"
#include "base/image.h"
#include "datasets/dataset.h"
#include <stddef.h>
#include <stdint.h>

enum { SU_IMAGE_MAX_PIXELS = 64 << 20, SU_IMAGE_MAX_BYTES = 256 << 20 }; /* a picture's, and a file's */

/* The one way from a file to pixels: JPEG, PNG and, where the build reads it, DICOM.
 *
 * JPEG (baseline, extended, progressive, arithmetic; 8 bits; grey, YCbCr, RGB; CMYK and YCCK as Adobe writes
 * them, that is inverted, to RGB) and PNG (every kind; 16 bits are rounded to 8; alpha and transparent
 * colours are composited on black; gamma, colour profiles and EXIF orientation are left alone: the pixels are
 * those in the file). DICOM as recipe->dicom says (dicom/recipe.h), of several frames the middle one, with
 * its physical spacing; recipe NULL: the standard rendering.
 *
 * SU_EFORMAT: damaged, truncated, or another format (the message says which). SU_ELIMIT: above
 * SU_IMAGE_MAX_PIXELS, refused before anything is allocated, or above SU_IMAGE_MAX_BYTES, or a JPEG of
 * absurdly many scans. SU_EUNSUPPORTED: 12-bit and lossless JPEG. SU_ENOTFOUND, SU_EIO, SU_ENOMEM. On failure
 * *image is empty. */
su_status su_image_load(const char *path, const su_image_recipe *recipe, su_image *image, su_error *err);
/* JPEG and PNG from memory; name is used in messages. */
su_status su_image_decode(const uint8_t *data, size_t length, const char *name, su_image *image,
                          su_error *err);

/* The stored square: out [size, size, channels], all of it written. With recipe->spacing a stored pixel shows
 * that many millimetres: the picture is centred, what does not fit is cut off, and SU_EUNSUPPORTED says that
 * a picture has no known spacing. Else: pad:  the whole image, its longer side made `size`, centred on black.
 * Equal to Pillow's ImageOps.pad. crop: the centred square, made `size`. Equal to Pillow's ImageOps.fit. Grey
 * to RGB repeats the value; RGB to grey is ITU-R BT.601 luma, in 16-bit weights as Pillow's mode "L". */
su_status su_image_to_recipe(const su_image *in, const su_image_recipe *recipe, uint8_t *out, su_error *err);

/* As an 8-bit PNG file, atomically; the spacing goes along where it is known. SU_EIO, SU_ENOMEM. */
su_status su_image_write_png(const char *path, const su_image *image, su_error *err);

#endif
