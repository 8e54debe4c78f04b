/* RLE Lossless [PS3.5 G]: byte planes, most significant byte first, each packed as runs. */
#ifndef SU_DICOM_RLE_H
#define SU_DICOM_RLE_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

/* A packed byte gives at most 64: what is larger is truncated for certain. */
enum { SU_RLE_EXPANSION_MAX = 64 };

/* Decodes to out [pixels][samples] of `bytes` (1 to 8) a value, little endian, by pixel. SU_EFORMAT: damaged,
 * truncated, another number of segments than samples * bytes. What follows a full segment is padding. */
su_status su_rle_decode(const uint8_t *data, size_t length, size_t pixels, int samples, int bytes,
                        const char *name, uint8_t *out, su_error *err);

#endif
