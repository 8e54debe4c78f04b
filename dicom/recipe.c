#include "dicom/recipe.h"
#include <stdio.h>
#include <string.h>

/* Windows of computed tomography as they are commonly set: lung 1500/-600, bone 1800/400, mediastinum 350/50,
 * abdomen 400/40, brain 80/40, stroke 40/40, angiography 600/300 (width/centre in Hounsfield units). */
static const su_dicom_recipe recipes[] = {
    {"dicom-standard", 1, SU_RECIPE_STANDARD, NULL, 0, 0,
     "the file's VOI table, else its first window, else its range"},
    {"mimic-cxr-jpg", 1, SU_RECIPE_MIMIC, NULL, 0, 0,
     "as MIMIC-CXR-JPG was made: range of stored values, equalised histogram"},
    {"full-range", 1, SU_RECIPE_RANGE, NULL, 0, 0,
     "least to greatest value of the frame, the file's windows ignored"},
    {"ct-lung", 1, SU_RECIPE_WINDOW, "CT", -600, 1500, "CT: lung, width 1500, centre -600 HU"},
    {"ct-mediastinum", 1, SU_RECIPE_WINDOW, "CT", 50, 350, "CT: mediastinum, width 350, centre 50 HU"},
    {"ct-abdomen", 1, SU_RECIPE_WINDOW, "CT", 40, 400, "CT: abdomen, width 400, centre 40 HU"},
    {"ct-brain", 1, SU_RECIPE_WINDOW, "CT", 40, 80, "CT: brain, width 80, centre 40 HU"},
    {"ct-bone", 1, SU_RECIPE_WINDOW, "CT", 400, 1800, "CT: bone, width 1800, centre 400 HU"},
};
enum { RECIPES = sizeof recipes / sizeof *recipes };

const su_dicom_recipe *su_dicom_recipes(int *count)
{
    *count = RECIPES;
    return recipes;
}

su_status su_dicom_recipe_find(const char *name, const su_dicom_recipe **recipe, su_error *err)
{
    if (!name) name = recipes[0].name;
    const size_t length = strcspn(name, "/");
    for (int i = 0; i < RECIPES; i++) {
        if (strlen(recipes[i].name) != length || strncmp(recipes[i].name, name, length) != 0) continue;
        char version[12];
        snprintf(version, sizeof version, "%d", recipes[i].version);
        if (name[length] && strcmp(name + length + 1, version) != 0)
            return su_fail(err, SU_EUNSUPPORTED, "DICOM recipe '%s': this version of Suture knows %s/%s",
                           name, recipes[i].name, version);
        *recipe = &recipes[i];
        return SU_OK;
    }
    char known[512] = "";
    for (int i = 0; i < RECIPES; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", recipes[i].name);
    }
    return su_fail(err, SU_EINVAL, "there is no DICOM recipe '%s'; there are: %s", name, known);
}
