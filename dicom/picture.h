/* From a file to a picture: decode a frame, read what the file says of its display, render it by a recipe. */
#ifndef SU_DICOM_PICTURE_H
#define SU_DICOM_PICTURE_H

#include "base/image.h"
#include "dicom/display.h"

typedef struct {
    const su_dicom_recipe *recipe;
    int frame;      /* from 0; negative: the middle one */
    double spacing; /* mm: pixels are made squares of this size; 0: as they are */
} su_dicom_picture_options;

/* image->spacing is set where the file says it. note [SU_DICOM_NOTE_MAX]: what was ignored in the file, ""
 * when nothing was; may be NULL. Errors: those of decoding, display and rendering; SU_EUNSUPPORTED when a
 * spacing is wanted and not known, or the recipe is for another modality. */
su_status su_dicom_picture(su_dicom_file *file, const su_dicom_picture_options *options, su_image *image,
                           char *note, su_error *err);

#endif
