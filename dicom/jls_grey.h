/* JPEG-LS of one component [ITU-T T.87 | ISO/IEC 14495-1], the kind that nearly all of radiology is: our own
 * decoder, because CharLS as distributions build it takes most of the time of reading such files. What is not
 * of that kind (several components, restart intervals, mapping tables, a MAXVAL of its own) is
 * SU_EUNSUPPORTED, and left to CharLS. */
#ifndef SU_DICOM_JLS_GREY_H
#define SU_DICOM_JLS_GREY_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

/* Decodes to out [rows, columns] of `bytes` (1, 2 or 4) a value; the picture must be of that size.
 * SU_EFORMAT: damaged, truncated, another size; SU_EUNSUPPORTED, SU_ENOMEM. */
su_status su_jls_grey_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int bytes,
                             const char *name, void *out, su_error *err);

#endif
