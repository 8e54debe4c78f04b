/* In the place of the other files here, in a build without DICOM. */
#include "datasets/codec.h"

su_status su_image_load_dicom(const char *path, const su_image_recipe *recipe, su_image *image, su_error *err)
{
    (void)recipe;
    *image = (su_image){0};
    return su_fail(err, SU_EUNSUPPORTED, "%s: a DICOM file; this build reads none (-DSUTURE_DICOM=OFF)",
                   path);
}
