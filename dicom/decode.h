/* Pixels: one frame of a file, decoded to the values that were stored, before any table or colour conversion.
 *
 *   native             read as it lies in the file
 *   RLE, DEFLATE       unpacked here
 *   JPEG-LS, grey      jls_grey.h
 *   JPEG, JPEG-LS of several components, JPEG 2000
 *                      in a process of its own (worker.h), which damaged or hostile data may end, loop in or
 *                      fill with memory: that is an error of their file
 *
 * Colour is by pixel, whatever the file's planar configuration; a frame of 1 bit a pixel becomes bytes of 0
 * and 1. Nothing is allocated before the sizes are checked (layout.h), and no decoder runs on a codestream
 * that speaks of another picture than the data set (codestream.h). Overlays are no part of the pixels. */
#ifndef SU_DICOM_DECODE_H
#define SU_DICOM_DECODE_H

#include "dicom/file.h"
#include "dicom/layout.h"
#include "dicom/render.h"

typedef struct {
    su_dicom_frame frame;
    void *memory;         /* frame.values; owned: su_dicom_pixels_free */
    int32_t stored, high; /* Bits Stored, High Bit: what lies above or below them is no part of a value */
} su_dicom_pixels;

/* frame from 0; one frame costs no other's decoding. SU_ENOTFOUND: no pixel data, or no such frame.
 * SU_ELIMIT: above a maximum of layout.h. SU_EUNSUPPORTED: of a kind that is not read here. SU_EFORMAT:
 * damaged. SU_ENOMEM, SU_EIO. On failure *pixels is empty. */
su_status su_dicom_decode(su_dicom_file *file, int frame, su_dicom_pixels *pixels, su_error *err);
/* Shifts, masks and sign-extends values of fewer bits than their words have: what rendering takes. */
void su_dicom_pixels_mask(su_dicom_pixels *pixels);
void su_dicom_pixels_free(su_dicom_pixels *pixels); /* NULL accepted */

/* How many overlays lie beside the pixels [PS3.3 C.9.2], or in their unused bits: neither is in decoded
 * pixels, once they are masked. */
int su_dicom_overlays(su_dicom_file *file);

#endif
