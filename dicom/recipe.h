/* Named, versioned recipes: how DICOM frames become 8-bit pictures. No single rendering is right for every
 * use, and a model is only right on pictures made as those that it was trained on: the name with its version
 * ("dicom-standard/1") is stored in datasets and models. A recipe whose results change gets a new version. */
#ifndef SU_DICOM_RECIPE_H
#define SU_DICOM_RECIPE_H

#include "base/error.h"
#include <stdbool.h>

typedef enum {
    SU_RECIPE_STANDARD, /* what the file says: its VOI table, else its first window, else its range */
    SU_RECIPE_RANGE,    /* least to greatest value after the Modality LUT, padding left out */
    SU_RECIPE_WINDOW,   /* a fixed window on the Modality LUT's output; only for its modality */
    SU_RECIPE_MIMIC,    /* MIMIC-CXR-JPG: stored values' range, cut to 8 bits, equalised histogram */
} su_recipe_kind;

typedef struct {
    const char *name; /* "ct-lung" */
    int version;
    su_recipe_kind kind;
    const char *modality;    /* "CT"; NULL: any */
    double centre, width;    /* WINDOW: in the Modality LUT's units (CT: Hounsfield units) */
    const char *explanation; /* one line */
} su_dicom_recipe;

enum { SU_RECIPE_NAME_MAX = 32 };

/* "ct-lung" or "ct-lung/1"; NULL: dicom-standard. The result lives as long as the program. SU_EINVAL names
 * the recipes that there are; SU_EUNSUPPORTED for a version that is not known here. */
su_status su_dicom_recipe_find(const char *name, const su_dicom_recipe **recipe, su_error *err);

/* All of them, for help and documentation: 0 .. *count - 1. */
const su_dicom_recipe *su_dicom_recipes(int *count);

#endif
