/* suture dicom volume: a folder of slices, or a NIfTI, NRRD or MetaImage file, as one array on one grid. */
#include "base/file.h"
#include "base/log.h"
#include "base/npy.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "datasets/image.h"
#include "dicom/montage.h"
#include "dicom/series.h"
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *out, *orient, *montage, *recipe_name;
    int64_t stack, slices;
    double spacing;
    bool native;
    const su_dicom_recipe *recipe;
} request;

static su_status check(request *r, su_error *err)
{
    if (!r->out) return su_fail(err, SU_EINVAL, "--out V.npy is needed: the array to write");
    if (r->native && (r->spacing > 0 || r->orient))
        return su_fail(err, SU_EINVAL,
                       "--native keeps the grid as it is: it goes with neither --spacing nor --orient");
    return su_dicom_recipe_find(r->recipe_name, &r->recipe, err);
}

/* Of several stacks the largest, said aloud; none of two that are equally large. */
static su_status choose(const su_series *s, int64_t wanted, int *stack, su_error *err)
{
    const int count = su_series_stacks(s);
    if (wanted > count)
        return su_fail(err, SU_EINVAL, "--stack %lld: there are %d", (long long)wanted, count);
    *stack = wanted ? (int)wanted - 1 : 0;
    if (count == 1 || wanted) return SU_OK;
    for (int i = 0; i < count; i++) {
        const su_stack *t = su_series_stack(s, i);
        const su_slice *a = su_series_slice(s, t->first);
        su_log(SU_LOG_WARN, "stack %d: %s, %lld slices of %d x %d%s", i + 1, su_series_modality(s, i),
               (long long)t->count, a->columns, a->rows, i == 0 ? ", taken unless --stack says another" : "");
    }
    if (su_series_stack(s, 0)->count == su_series_stack(s, 1)->count)
        return su_fail(err, SU_EMISMATCH,
                       "%d stacks, and more than one of the largest size: choose with --stack N", count);
    return SU_OK;
}

static void say(const su_stack *t)
{
    if (t->gaps)
        su_log(SU_LOG_WARN, "%d of %d slices are missing: filled by interpolation", t->gaps, t->places);
    if (t->duplicates)
        su_log(SU_LOG_WARN, "%lld slices lie where others do: left out (the lowest instance numbers stay)",
               (long long)t->duplicates);
    if (t->irregular)
        su_log(SU_LOG_WARN, "the slices' distances differ by up to %.3g mm: resampled to %.4g mm", t->worst,
               t->step);
    if (t->tilt > 0) su_log(SU_LOG_WARN, "tilted gantry: the stack leans by %.2f degrees", t->tilt);
}

static su_status load(const char *path, const request *r, su_volume *v, su_dicom_display *display,
                      json_t **report, su_error *err)
{
    *display = (su_dicom_display){.colour = SU_DICOM_GREY, .bits = 32, .slope = 1};
    if (!su_is_folder(path)) return su_volume_read(path, v, err);
    su_series *s = NULL;
    int stack = 0;
    su_status st = su_series_open(path, &s, err);
    if (!st) st = choose(s, r->stack, &stack, err);
    if (!st) {
        const su_stack *t = su_series_stack(s, stack);
        say(t);
        st = su_series_volume(s, stack, v, err);
        if (!st && r->montage) st = su_series_window(s, stack, r->recipe, display, err);
        *report = su_series_report(s);
        json_object_set_new(*report, "stack", json_integer(stack + 1));
    }
    su_series_close(s);
    return st;
}

static su_status shape(const request *r, su_volume *v, su_error *err)
{
    if (r->native) return SU_OK;
    su_status st = su_volume_orient(v, r->orient ? r->orient : "LPS", err);
    return st ? st : su_volume_isotropic(v, r->spacing, err);
}

static su_status write_array(const char *path, const su_volume *v, su_error *err)
{
    const int64_t shape[] = {v->size[2], v->size[1], v->size[0]};
    su_npy_writer *w = NULL;
    su_status st = su_npy_open(path, "<f4", 3, shape, &w, err);
    if (!st &&
        (st = su_npy_add(w, v->voxels, (size_t)(shape[0] * shape[1] * shape[2]) * sizeof *v->voxels, err)))
        su_npy_abort(w);
    return st ? st : su_npy_commit(w, err);
}

static json_t *describe(const char *out, const su_volume *v, const json_t *report)
{
    json_t *direction = json_array();
    for (int i = 0; i < 9; i++) json_array_append_new(direction, json_real(v->direction[i]));
    json_t *o =
        json_pack("{s:s,s:s,s:[i,i,i],s:[f,f,f],s:[f,f,f],s:o}", "schema", "suture.dicom.volume/1", "out",
                  out, "size", v->size[0], v->size[1], v->size[2], "spacing", v->spacing[0], v->spacing[1],
                  v->spacing[2], "origin", v->origin[0], v->origin[1], v->origin[2], "direction", direction);
    if (report) json_object_update(o, (json_t *)(uintptr_t)report);
    return o;
}

static void print(const char *out, const su_volume *v)
{
    printf("%s: %d x %d x %d voxels (x, y, z), %.4g x %.4g x %.4g mm, first centre at %.3f, %.3f, %.3f\n",
           out, v->size[0], v->size[1], v->size[2], v->spacing[0], v->spacing[1], v->spacing[2], v->origin[0],
           v->origin[1], v->origin[2]);
}

int su_cmd_dicom_volume(int argc, char **argv)
{
    request r = {.slices = 9};
    const su_option options[] = {
        SU_STRING("out", &r.out, "V.npy", "the array to write, float32 [z, y, x]; needed"),
        SU_NUMBER("spacing", &r.spacing, 1e-3, 1e3, "MM",
                  "side of a voxel (default: the least of the three spacings)"),
        SU_STRING("orient", &r.orient, "CODE",
                  "where x, y and z run: LPS (default) is left, posterior, superior"),
        SU_FLAG("native", &r.native, "the slices' own grid, neither turned nor resampled"),
        SU_INT("stack", &r.stack, 1, 1e6, "N", "which stack of slices (default: the largest)"),
        SU_STRING("montage", &r.montage, "X.png", "write representative slices as one picture, too"),
        SU_INT("slices", &r.slices, 1, 256, "N", "how many of them (default 9)"),
        SU_STRING("recipe", &r.recipe_name, "NAME", "their rendering, as in dicom render"),
        {0},
    };
    const su_command command = {
        .name = "dicom volume",
        .synopsis = "DIR|FILE --out V.npy [options]",
        .summary =
            "Puts a folder of DICOM slices together (or reads a NIfTI, NRRD or MetaImage file), turns the "
            "axes to\n"
            "left, posterior, superior and resamples to cubes. Slices are grouped by series and orientation "
            "and\n"
            "sorted by position; what is missing, double or tilted is said. Values are in the units of the\n"
            "Modality LUT (CT: Hounsfield units). --json - gives the geometry. See docs/dicom.md.",
        .examples = "suture dicom volume ct/ --out ct.npy --json -\n"
                    "suture dicom volume ct/ --spacing 2 --out ct.npy --montage ct.png --recipe ct-lung\n",
        .options = options,
        .min_positional = 1,
        .max_positional = 1,
    };
    su_option_list paths = {0};
    su_error err = {0};
    su_volume v = {0};
    su_image picture = {0};
    su_dicom_display display;
    json_t *report = NULL, *document = NULL;
    int code = su_options_parse(&command, argc, argv, &paths);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_status st = check(&r, &err);
    if (!st) st = load(paths.items[0], &r, &v, &display, &report, &err);
    if (!st) st = shape(&r, &v, &err);
    if (!st && r.montage) st = su_volume_montage(&v, &display, r.recipe, (int)r.slices, &picture, &err);
    if (!st && r.montage) st = su_image_write_png(r.montage, &picture, &err);
    if (!st) st = write_array(r.out, &v, &err);
    if (!st) document = describe(r.out, &v, report);
    if (su_cli_report(document, &st, &err)) print(r.out, &v);
    json_decref(document);
    json_decref(report);
    su_image_free(&picture);
    su_volume_free(&v);
    su_options_free(&paths, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
