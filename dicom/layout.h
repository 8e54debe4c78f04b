/* What an open file says of its pixel data [PS3.3 C.7.6.3], checked before any decoder runs. */
#ifndef SU_DICOM_LAYOUT_H
#define SU_DICOM_LAYOUT_H

#include "dicom/parts.h"
#include "dicom/render.h"

static const int64_t SU_DICOM_MAX_FRAME_BYTES = (int64_t)1 << 30; /* 1 GiB */
static const int64_t SU_DICOM_MAX_BYTES = (int64_t)1 << 36;       /* 64 GiB, all frames, decoded */

typedef struct {
    int frames;
    int32_t rows, columns, samples;  /* 1 .. 65535; 1 or 3 */
    int32_t allocated, stored, high; /* 1, 8, 16, 32 (64: double); bits of a value; its highest bit */
    bool is_signed, planar;          /* planar: as stored natively; decoded pixels never are */
    bool halved;                     /* YBR_FULL_422 as it is stored natively: two pixels in four bytes */
    char photometric[20];
    su_dicom_type type;    /* of a decoded value: 1 and 8 bits are bytes */
    int64_t frame_bytes;   /* decoded: rows * columns * samples * size of type */
    uint64_t stored_bytes; /* of all frames where they are native (a frame of 1 bit ends where it ends) */
    const su_syntax *syntax;
    bool fragments;
} su_dicom_layout;

/* SU_ENOTFOUND: no pixel data. SU_EFORMAT: what it says cannot be, or native data are shorter than it says.
 * SU_ELIMIT: above the maxima; SU_EUNSUPPORTED: sound, but not read here; the message says why. */
su_status su_dicom_layout_read(su_dicom_file *file, su_dicom_layout *layout, su_error *err);

int su_dicom_type_size(su_dicom_type type); /* bytes: 1, 2, 4 or 8 */

#endif
