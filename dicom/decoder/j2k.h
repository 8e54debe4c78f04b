/* JPEG 2000 and HTJ2K codestreams through OpenJPEG. */
#ifndef SU_DICOM_DECODER_J2K_H
#define SU_DICOM_DECODER_J2K_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes to out [rows, columns, samples] of `bytes` (1, 2 or 4) a value. The picture must be of that size;
 * values are what the codestream says, the multiple component transform undone. is_signed: values
 * of a codestream that says unsigned are sign-extended from its precision.
 * SU_EFORMAT, SU_ENOMEM. */
su_status su_j2k_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int32_t samples,
                        int bytes, bool is_signed, void *out, su_error *err);

#endif
