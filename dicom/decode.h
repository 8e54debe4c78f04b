/* Pixels: one frame of a file, decoded to the values that were stored, before any table or colour conversion.
 *
 * Colour is by pixel, whatever the file's planar configuration; a frame of 1 bit a pixel becomes bytes of 0
 * and 1. Native and deflated data, JPEG (8 and 12 bits, lossless) and RLE through DCMTK, JPEG-LS through
 * CharLS, JPEG 2000 and HTJ2K through OpenJPEG. */
#ifndef SU_DICOM_DECODE_H
#define SU_DICOM_DECODE_H

#include "dicom/file.h"
#include "dicom/render.h"

static const int64_t SU_DICOM_MAX_FRAME_BYTES = (int64_t)1 << 30;

typedef struct {
    su_dicom_frame frame;
    void *memory;         /* frame.values; owned: su_dicom_pixels_free */
    int32_t stored, high; /* Bits Stored, High Bit: what lies above or below them is no part of a value */
} su_dicom_pixels;

/* frame from 0. SU_ENOTFOUND: no pixel data, or no such frame. SU_ELIMIT: above SU_DICOM_MAX_FRAME_BYTES,
 * refused before anything is allocated. SU_EUNSUPPORTED: a transfer syntax that no decoder here knows.
 * SU_EFORMAT: damaged. SU_ENOMEM. On failure *pixels is empty. */
su_status su_dicom_decode(su_dicom_file *file, int frame, su_dicom_pixels *pixels, su_error *err);
/* Shifts, masks and sign-extends values of fewer bits than their words have: what rendering takes. */
void su_dicom_pixels_mask(su_dicom_pixels *pixels);
void su_dicom_pixels_free(su_dicom_pixels *pixels); /* NULL accepted */

#endif
