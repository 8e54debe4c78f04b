#include "dicom/picture.h"
#include "dicom/decode.h"
#include <stdio.h>

static su_status finish(su_dicom_file *file, int frame, double size, su_image *image, su_error *err)
{
    double spacing[2];
    const bool known = su_dicom_spacing(file, frame, spacing, NULL);
    if (known)
        for (int i = 0; i < 2; i++) image->spacing[i] = spacing[i];
    if (size <= 0) return SU_OK;
    if (!known)
        return su_fail(err, SU_EUNSUPPORTED,
                       "%s: its physical spacing is not known, so %g mm a pixel cannot be made",
                       su_dicom_path(file), size);
    su_status st = su_dicom_respace(image, spacing, size, err);
    return st ? su_fail_context(err, st, "%s", su_dicom_path(file)) : SU_OK;
}

su_status su_dicom_picture(su_dicom_file *file, const su_dicom_picture_options *options, su_image *image,
                           char *note, su_error *err)
{
    su_dicom_display_file d = {0};
    su_dicom_pixels pixels = {0};
    int frames = 1, frame = options->frame;
    *image = (su_image){0};
    if (note) note[0] = '\0';
    su_status st = su_dicom_recipe_check(options->recipe, file, err);
    if (!st) st = su_dicom_frames(file, &frames, err);
    if (st) return st;
    if (frame < 0) frame = frames / 2;
    st = su_dicom_decode(file, frame, &pixels, err);
    if (!st) st = su_dicom_display_open(file, frame, &d, err);
    if (!st) {
        su_dicom_pixels_mask(&pixels);
        if (note) snprintf(note, SU_DICOM_NOTE_MAX, "%s", d.note);
        st = su_dicom_render(&pixels.frame, &d.show, options->recipe, image, err);
        if (st == SU_EINVAL) st = SU_EFORMAT; /* what the file says of itself, not what the caller wants */
        if (st && err) err->code = st;
        if (st) (void)su_fail_context(err, st, "%s", su_dicom_path(file));
    }
    if (!st) st = finish(file, frame, options->spacing, image, err);
    if (st) su_image_free(image);
    su_dicom_display_close(&d);
    su_dicom_pixels_free(&pixels);
    return st;
}
