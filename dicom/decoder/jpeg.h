/* JPEG of every process that DCMTK's copies of IJG's library know: 8, 12 and 16 bits, DCT and lossless. */
#ifndef SU_DICOM_DECODER_JPEG_H
#define SU_DICOM_DECODER_JPEG_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

void su_jpeg_prepare(void); /* once, before anything else */

/* Decodes to out [rows, columns, samples] of `bytes` (1, 2 or 4) a value, in the colours of the codestream.
 * precision: of its samples. SU_EFORMAT: damaged, also where the library goes on with a warning; SU_ENOMEM.
 */
su_status su_jpeg_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int32_t samples,
                         int bytes, int precision, void *out, su_error *err);

#endif
