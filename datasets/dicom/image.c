/* DICOM files as pictures; see image.h. */
#include "datasets/codec.h"
#include "dicom/picture.h"
#include <stdio.h>

const char su_image_formats[] = "JPEG, PNG and DICOM";

su_status su_image_recipe_render_by(su_image_recipe *r, const char *name, su_error *err)
{
    const su_dicom_recipe *recipe = NULL;
    su_status st = su_dicom_recipe_find(name, &recipe, err);
    if (!st) snprintf(r->dicom, sizeof r->dicom, "%s/%d", recipe->name, recipe->version);
    return st;
}

su_status su_image_load_dicom(const char *path, const su_image_recipe *recipe, su_image *image, su_error *err)
{
    su_dicom_picture_options options = {.frame = -1};
    su_dicom_file *file = NULL;
    *image = (su_image){0};
    su_status st = su_dicom_recipe_find(recipe ? su_image_recipe_dicom(recipe) : NULL, &options.recipe, err);
    if (!st) st = su_dicom_open(path, &file, err);
    if (!st) st = su_dicom_picture(file, &options, image, NULL, err);
    su_dicom_close(file);
    return st;
}
