/* JPEG-LS through CharLS. */
#ifndef SU_DICOM_DECODER_JLS_H
#define SU_DICOM_DECODER_JLS_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

/* Decodes to out [rows, columns, samples] of `bytes` (1, 2 or 4) a value; the picture must be of that size.
 * SU_EFORMAT, SU_ENOMEM. */
su_status su_jls_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int32_t samples,
                        int bytes, void *out, su_error *err);

#endif
