/* The decoders behind su_image_load, one a format. For image.c only. */
#ifndef SU_DATASETS_CODEC_H
#define SU_DATASETS_CODEC_H

#include "datasets/image.h"

/* Content that begins as JPEG, or as PNG. Both leave *image empty on failure. */
su_status su_jpeg_decode(const uint8_t *data, size_t length, const char *name, su_image *image,
                         su_error *err);
su_status su_png_decode(const uint8_t *data, size_t length, const char *name, su_image *image, su_error *err);

extern const char su_image_formats[]; /* "JPEG, PNG and DICOM", or what this build reads of them */

/* A DICOM file, as su_image_load says. SU_EUNSUPPORTED in a build without DICOM. */
su_status su_image_load_dicom(const char *path, const su_image_recipe *recipe, su_image *image,
                              su_error *err);

/* SU_ELIMIT when a picture of this size is above the limit, SU_EFORMAT when it is empty. */
su_status su_image_check_size(uint64_t width, uint64_t height, const char *name, su_error *err);

#endif
