/* suture dicom render: a frame of a DICOM file as the picture that training and search would see. */
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "datasets/image.h"
#include "dicom/picture.h"
#include <stdio.h>
#include <string.h>

static json_t *describe(const char *path, const char *out, int frame, int frames,
                        const su_dicom_recipe *recipe, const su_image *image, const char *note)
{
    char name[SU_RECIPE_NAME_MAX];
    snprintf(name, sizeof name, "%s/%d", recipe->name, recipe->version);
    json_t *spacing =
        image->spacing[0] > 0 ? json_pack("[f,f]", image->spacing[0], image->spacing[1]) : json_null();
    return json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:s,s:o,s:s}", "schema", "suture.dicom.render/1",
                     "file", path, "out", out, "frame", frame + 1, "frames", frames, "width",
                     (int)image->width, "height", (int)image->height, "channels", (int)image->channels,
                     "recipe", name, "spacing", spacing, "note", note);
}

int su_cmd_dicom_render(int argc, char **argv)
{
    const char *out = NULL, *recipe = NULL;
    int64_t frame = 0;
    double spacing = 0;
    char recipes[1024] = "one of:";
    int count = 0;
    const su_dicom_recipe *all = su_dicom_recipes(&count);
    for (int i = 0; i < count; i++) {
        size_t used = strlen(recipes);
        snprintf(recipes + used, sizeof recipes - used, "\n%-15s %s", all[i].name, all[i].explanation);
    }
    const su_option options[] = {
        SU_STRING("out", &out, "X.png", "the picture to write; needed"),
        SU_STRING("recipe", &recipe, "NAME", recipes),
        SU_INT("frame", &frame, 1, 2147483647, "N", "which frame, from 1 (default: the middle one)"),
        SU_NUMBER("spacing", &spacing, 1e-6, 1e6, "MM",
                  "make pixels squares of so many millimetres (default: as stored)"),
        {0},
    };
    const su_command command = {
        .name = "dicom render",
        .synopsis = "FILE --out X.png [options]",
        .summary =
            "Renders a frame of a DICOM file as the standard says a display shows it, or by another recipe:\n"
            "the picture that training and search see, at full size. See docs/dicom.md.",
        .examples = "suture dicom render chest.dcm --out chest.png\n"
                    "suture dicom render slice.dcm --recipe ct-lung --out lung.png\n",
        .options = options,
        .min_positional = 1,
        .max_positional = 1,
    };
    su_option_list files = {0};
    su_error err = {0};
    su_dicom_file *file = NULL;
    su_image image = {0};
    char note[SU_DICOM_NOTE_MAX] = "";
    int frames = 1;
    int code = su_options_parse(&command, argc, argv, &files);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_dicom_picture_options how = {.frame = (int)frame - 1, .spacing = spacing};
    su_status st = out ? SU_OK : su_fail(&err, SU_EINVAL, "--out X.png is needed: the picture to write");
    if (!st) st = su_dicom_recipe_find(recipe, &how.recipe, &err);
    if (!st) st = su_dicom_open(files.items[0], &file, &err);
    if (!st) st = su_dicom_frames(file, &frames, &err);
    if (!st) st = su_dicom_picture(file, &how, &image, note, &err);
    if (!st) st = su_image_write_png(out, &image, &err);
    const int shown = how.frame < 0 ? frames / 2 : how.frame;
    json_t *document = st ? NULL : describe(files.items[0], out, shown, frames, how.recipe, &image, note);
    if (su_cli_report(document, &st, &err)) {
        printf("%s: frame %d of %d, %d x %d, %s, by %s/%d\n", out, shown + 1, frames, image.width,
               image.height, image.channels == 1 ? "grey" : "RGB", how.recipe->name, how.recipe->version);
        if (note[0]) printf("  note: %s\n", note);
    }
    json_decref(document);
    su_image_free(&image);
    su_dicom_close(file);
    su_options_free(&files, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
