/* In the place of the other files here, in a build without DICOM. */
#include "datasets/codec.h"
#include "datasets/import.h"

const char su_image_formats[] = "JPEG and PNG";

su_status su_image_load_dicom(const char *path, const su_image_recipe *recipe, su_image *image, su_error *err)
{
    (void)recipe;
    *image = (su_image){0};
    return su_fail(err, SU_EUNSUPPORTED, "%s: a DICOM file; this build reads none (-DSUTURE_DICOM=OFF)",
                   path);
}

su_status su_import_dicom(const su_dicom_import *how, const char *out, const su_import_options *options,
                          su_error *err)
{
    (void)how;
    (void)out;
    (void)options;
    return su_fail(err, SU_EUNSUPPORTED, "this build reads no DICOM: it was made with -DSUTURE_DICOM=OFF");
}

su_status su_image_recipe_render_by(su_image_recipe *r, const char *name, su_error *err)
{
    r->dicom[0] = '\0';
    if (!name) return SU_OK;
    return su_fail(err, SU_EUNSUPPORTED, "this build renders no DICOM: it was made with -DSUTURE_DICOM=OFF");
}
