/* What the head of a compressed frame says of its picture, compared with the data set before any decoder
 * sees it: a codestream of 60000 x 60000 pixels in a file of 512 x 512 costs nothing.
 * JPEG [T.81 B.2.2], JPEG-LS [T.87 C.2.2], JPEG 2000, bare or in a JP2 file [T.800 A.5.1, I]. */
#ifndef SU_DICOM_CODESTREAM_H
#define SU_DICOM_CODESTREAM_H

#include "base/error.h"
#include "dicom/syntax.h"
#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t begin, length; /* where the bare codestream lies in the frame's bytes */
    uint32_t rows, columns;
    int32_t samples, precision; /* bits of a sample; of several components the most */
    bool is_signed;             /* JPEG 2000: the first component is */
} su_codestream;

/* codec: JPEG, JPEG_LS or JPEG_2000. SU_EFORMAT: no such codestream, or one without a size; name is for
 * messages. */
su_status su_codestream_read(su_codec codec, const uint8_t *data, size_t length, const char *name,
                             su_codestream *c, su_error *err);

#endif
