/* What a file says about the display of one of its frames: from its attributes to the description that
 * rendering takes (render.h). Shared and per-frame functional groups [PS3.3 C.7.6.16] stand before the data
 * set's own.
 *
 * The choices that the standard leaves open, all of recipe dicom-standard/1:
 *   - a VOI LUT table and windows are there: the table, of several the first;
 *   - several windows: the first that its function is defined for (LINEAR: width >= 1, else width > 0);
 *   - neither, and up to 8 bits or a digital X-ray image for presentation: all that can be stored is shown
 *     as it is (the VOI stage is an identity);
 *   - neither, and more bits: the frame's own range, padding left out;
 *   - Presentation LUT Shape decides on inversion where it is given, else MONOCHROME1;
 *   - XA and XRF: the modality transformation is not for display, and windows are of stored values
 *     [PS3.17 FFF.2.3.1.3.4]. */
#ifndef SU_DICOM_DISPLAY_H
#define SU_DICOM_DISPLAY_H

#include "dicom/file.h"
#include "dicom/render.h"

enum { SU_DICOM_NOTE_MAX = 256 };

/* A display and what it owns; the file must stay open as long as it is used. */
typedef struct {
    su_dicom_display show;
    uint16_t *owned[5];           /* tables that had to be unpacked; freed by su_dicom_display_close */
    char note[SU_DICOM_NOTE_MAX]; /* what was ignored in the file, and why; "" when nothing was */
} su_dicom_display_file;

/* frame from 0. SU_EINVAL when the photometric interpretation is not known, or a palette is missing. */
su_status su_dicom_display_open(su_dicom_file *file, int frame, su_dicom_display_file *d, su_error *err);
void su_dicom_display_close(su_dicom_display_file *d); /* NULL accepted */

/* Number of Frames, at least 1; SU_EFORMAT when it is no number, negative, or above 2^31. */
su_status su_dicom_frames(su_dicom_file *file, int *frames, su_error *err);

/* The item of functional group `sequence` that counts for a frame, or the data set where there is none. */
su_dicom_item *su_dicom_frame_item(su_dicom_file *file, int frame, uint32_t sequence);

/* Millimetres between rows and between columns: Pixel Spacing, else Imager Pixel Spacing, Nominal Scanned
 * Pixel Spacing, or the first ultrasound region in centimetres. from: which of them; may be NULL. False when
 * the file does not say. */
bool su_dicom_spacing(su_dicom_file *file, int frame, double spacing[2], const char **from);

/* SU_EUNSUPPORTED when the recipe is for another modality than the file's. */
su_status su_dicom_recipe_check(const su_dicom_recipe *recipe, su_dicom_file *file, su_error *err);

/* Segmented palette data [PS3.3 C.7.9.2] unfolded: words [count] of `bits` (8 or 16) to *entries [wanted],
 * freed with su_free. SU_EFORMAT when it is malformed or of another length. */
su_status su_dicom_unfold(const uint16_t *words, int64_t count, int bits, int32_t wanted, uint16_t **entries,
                          su_error *err);

#endif
