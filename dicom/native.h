/* Native pixel data [PS3.5 8.1.1, D]: from the bytes of a file to values by pixel. For decode.c only. */
#ifndef SU_DICOM_NATIVE_H
#define SU_DICOM_NATIVE_H

#include "dicom/layout.h"

su_status su_native_read(su_dicom_file *file, const su_dicom_layout *l, int frame, uint8_t *out,
                         su_error *err);

/* Bits from number `first` on, the lowest of a byte first, to bytes of 0 and 1. */
void su_native_bits(const uint8_t *in, uint64_t first, uint8_t *out, uint64_t count);
/* Three planes of values of `size` bytes to pixels. */
void su_native_by_pixel(const uint8_t *planes, size_t pixels, int size, uint8_t *out);

#endif
