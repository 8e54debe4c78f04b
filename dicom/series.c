#include "dicom/series.h"
#include "base/file.h"
#include "base/memory.h"
#include "dicom/decode.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 32 };
enum {
    MODALITY = 0x00080060,
    SERIES_UID = 0x0020000e,
    INSTANCE_NUMBER = 0x00200013,
    POSITION = 0x00200032,
    ORIENTATION = 0x00200037,
    SLICE_THICKNESS = 0x00180050,
    BETWEEN_SLICES = 0x00180088,
    SAMPLES = 0x00280002,
    ROWS = 0x00280010,
    COLUMNS = 0x00280011,
    PIXEL_SPACING = 0x00280030,
    PIXEL_MEASURES = 0x00289110,
    PLANE_POSITION = 0x00209113,
    PLANE_ORIENTATION = 0x00209116,
};

typedef struct {
    char *path;
    char modality[17];
} source;

struct su_series {
    source *files;
    int64_t file_count, file_room;
    su_slice *slices;
    int64_t count, room;
    su_stack *stacks;
    int stack_count;
    int64_t seen;
    json_t *skipped;
    /* The file that was read last stays open: frames of one file come one after the other. */
    su_dicom_file *open;
    int64_t open_index;
};

/* ---- one file ---- */

static bool numbers(su_dicom_item *item, uint32_t tag, int count, double *out)
{
    for (int i = 0; i < count; i++)
        if (!su_dicom_number(item, tag, i, &out[i])) return false;
    return true;
}

/* Geometry from the frame's functional groups, or the data set. */
su_status su_slice_read(su_dicom_file *file, int frame, su_slice *s)
{
    su_dicom_item *ds = su_dicom_dataset(file), *measures = su_dicom_frame_item(file, frame, PIXEL_MEASURES);
    int64_t rows = 0, columns = 0, number = 0;
    *s = (su_slice){.frame = frame};
    if (!su_dicom_integer(ds, ROWS, 0, &rows) || !su_dicom_integer(ds, COLUMNS, 0, &columns) || rows < 1 ||
        columns < 1 || rows > 65535 || columns > 65535)
        return SU_EINVAL;
    (void)su_dicom_integer(ds, INSTANCE_NUMBER, 0, &number);
    su_dicom_text(ds, SERIES_UID, s->series, sizeof s->series);
    s->rows = (int32_t)rows;
    s->columns = (int32_t)columns;
    s->number = number * 65536 + frame;
    if (!su_dicom_number(measures, BETWEEN_SLICES, 0, &s->thickness))
        (void)su_dicom_number(measures, SLICE_THICKNESS, 0, &s->thickness);
    const bool there =
        numbers(measures, PIXEL_SPACING, 2, s->spacing) &&
        numbers(su_dicom_frame_item(file, frame, PLANE_POSITION), POSITION, 3, s->position) &&
        numbers(su_dicom_frame_item(file, frame, PLANE_ORIENTATION), ORIENTATION, 6, s->orientation);
    return there ? su_slice_check(s) : SU_EINVAL;
}

static su_status no_memory(const char *path, su_error *err)
{
    return su_fail(err, SU_ENOMEM, "%s: no memory for its slices", path);
}

static su_status count_skipped(su_series *s, const char *reason, su_error *err)
{
    const json_int_t n = json_integer_value(json_object_get(s->skipped, reason));
    return json_object_set_new(s->skipped, reason, json_integer(n + 1)) ? no_memory(reason, err) : SU_OK;
}

static bool grow(void **items, int64_t *room, int64_t wanted, size_t size)
{
    if (wanted <= *room) return true;
    const int64_t more = wanted > 2 * *room ? wanted + 64 : 2 * *room;
    void *grown = su_realloc(*items, (size_t)more, size);
    if (!grown) return false;
    *items = grown;
    *room = more;
    return true;
}

static su_status add_file(su_series *s, const char *path, su_dicom_file *file, su_error *err)
{
    su_dicom_item *ds = su_dicom_dataset(file);
    int64_t samples = 1;
    int frames = 1;
    const int64_t before = s->count;
    if (!su_dicom_has(ds, ROWS)) return count_skipped(s, "no image", err);
    (void)su_dicom_integer(ds, SAMPLES, 0, &samples);
    if (samples != 1) return count_skipped(s, "colour", err);
    if (su_dicom_frames(file, &frames, NULL) || frames > 65535) return count_skipped(s, "damaged", err);
    for (int frame = 0; frame < frames; frame++) {
        su_slice slice;
        if (su_slice_read(file, frame, &slice)) {
            s->count = before;
            return count_skipped(s, "no position in the patient", err);
        }
        if (!grow((void **)&s->slices, &s->room, s->count + 1, sizeof *s->slices))
            return no_memory(path, err);
        slice.file = s->file_count;
        s->slices[s->count++] = slice;
    }
    if (!grow((void **)&s->files, &s->file_room, s->file_count + 1, sizeof *s->files))
        return no_memory(path, err);
    source *f = &s->files[s->file_count];
    if (!(f->path = su_strdup(path))) return no_memory(path, err);
    su_dicom_text(ds, MODALITY, f->modality, sizeof f->modality);
    s->file_count++;
    return SU_OK;
}

static su_status look_at(su_series *s, const char *path, su_error *err)
{
    su_dicom_file *file = NULL;
    su_error bad = {0};
    s->seen++;
    su_status st = su_dicom_open(path, &file, &bad);
    if (st == SU_ENOMEM) return su_fail(err, st, "%s", bad.message);
    if (st) return count_skipped(s, "no DICOM", err);
    st = add_file(s, path, file, err);
    su_dicom_close(file);
    return st;
}

/* ---- the folder ---- */

static su_status walk(su_series *s, const char *folder, int depth, su_error *err)
{
    struct dirent **entries = NULL;
    const int n = scandir(folder, &entries, NULL, alphasort);
    if (n < 0) return count_skipped(s, "unreadable folder", err);
    su_status st = SU_OK;
    for (int i = 0; i < n; i++) {
        struct stat info;
        char *path = entries[i]->d_name[0] == '.' ? NULL : su_path_join(folder, entries[i]->d_name);
        if (!st && path && lstat(path, &info) == 0) {
            if (S_ISDIR(info.st_mode) && depth < DEPTH_MAX)
                st = walk(s, path, depth + 1, err);
            else if (S_ISREG(info.st_mode) ||
                     (S_ISLNK(info.st_mode) && stat(path, &info) == 0 && S_ISREG(info.st_mode)))
                st = look_at(s, path, err);
        }
        su_free(path);
        free(entries[i]);
    }
    free(entries);
    return st;
}

static su_status fail_empty(const su_series *s, const char *folder, su_error *err)
{
    char why[512] = "";
    const char *reason = NULL;
    json_t *count = NULL;
    json_object_foreach(s->skipped, reason, count)
    {
        size_t used = strlen(why);
        snprintf(why + used, sizeof why - used, "%s%s %lld", used ? ", " : ": ", reason,
                 (long long)json_integer_value(count));
    }
    return su_fail(err, SU_ENOTFOUND, "%s: no slice with a position in the patient among %lld files%s",
                   folder, (long long)s->seen, why);
}

su_status su_series_open(const char *folder, su_series **series, su_error *err)
{
    *series = NULL;
    if (!su_is_folder(folder)) return su_fail(err, SU_ENOTFOUND, "%s: there is no such folder", folder);
    su_series *s = su_calloc(1, sizeof *s);
    if (!s) return no_memory(folder, err);
    s->skipped = json_object();
    su_status st = s->skipped ? walk(s, folder, 0, err) : no_memory(folder, err);
    if (!st && s->count == 0) st = fail_empty(s, folder, err);
    if (!st) st = su_stacks_sort(s->slices, s->count, &s->stacks, &s->stack_count, err);
    if (st)
        su_series_close(s);
    else
        *series = s;
    return st;
}

void su_series_close(su_series *s)
{
    if (!s) return;
    for (int64_t i = 0; i < s->file_count; i++) su_free(s->files[i].path);
    su_free(s->files);
    su_free(s->slices);
    su_free(s->stacks);
    su_dicom_close(s->open);
    json_decref(s->skipped);
    su_free(s);
}

int su_series_stacks(const su_series *s)
{
    return s->stack_count;
}

const su_stack *su_series_stack(const su_series *s, int stack)
{
    return &s->stacks[stack];
}

const su_slice *su_series_slice(const su_series *s, int64_t slice)
{
    return &s->slices[slice];
}

const char *su_series_modality(const su_series *s, int stack)
{
    return s->files[s->slices[s->stacks[stack].first].file].modality;
}

static json_t *describe_stack(const su_series *s, int i)
{
    const su_stack *t = &s->stacks[i];
    const su_slice *a = &s->slices[t->first];
    const double apart =
        sqrt(t->shift[0] * t->shift[0] + t->shift[1] * t->shift[1] + t->shift[2] * t->shift[2]);
    return json_pack("{s:s,s:I,s:I,s:i,s:i,s:i,s:i,s:[f,f,f],s:b,s:f}", "modality", su_series_modality(s, i),
                     "slices", (json_int_t)t->count, "duplicates", (json_int_t)t->duplicates, "places",
                     (int)t->places, "gaps", (int)t->gaps, "columns", (int)a->columns, "rows", (int)a->rows,
                     "spacing", a->spacing[1], a->spacing[0], apart, "irregular", (int)t->irregular, "tilt",
                     t->tilt);
}

json_t *su_series_report(const su_series *s)
{
    json_t *stacks = json_array();
    for (int i = 0; i < s->stack_count; i++) json_array_append_new(stacks, describe_stack(s, i));
    return json_pack("{s:I,s:O,s:o}", "files", (json_int_t)s->seen, "skipped", s->skipped, "stacks", stacks);
}

/* ---- pixels ---- */

static su_status open_slice(su_series *s, const su_slice *slice, su_error *err)
{
    if (s->open && s->open_index == slice->file) return SU_OK;
    su_dicom_close(s->open);
    s->open = NULL;
    s->open_index = slice->file;
    return su_dicom_open(s->files[slice->file].path, &s->open, err);
}

static su_status read_values(void *context, const su_slice *slice, float *out, su_error *err)
{
    su_series *s = context;
    su_dicom_pixels pixels = {0};
    su_dicom_display_file d = {0};
    su_status st = open_slice(s, slice, err);
    if (!st) st = su_dicom_decode(s->open, slice->frame, &pixels, err);
    if (!st && (pixels.frame.rows != slice->rows || pixels.frame.columns != slice->columns ||
                pixels.frame.samples != 1))
        st = su_fail(err, SU_EMISMATCH, "%s: another size than its header said", s->files[slice->file].path);
    if (!st) st = su_dicom_display_open(s->open, slice->frame, &d, err);
    if (!st) {
        su_dicom_pixels_mask(&pixels);
        su_dicom_modality_values(&pixels.frame, &d.show, out);
    }
    su_dicom_display_close(&d);
    su_dicom_pixels_free(&pixels);
    return st;
}

su_status su_series_volume(su_series *s, int stack, su_volume *v, su_error *err)
{
    return su_stack_assemble(s->slices, &s->stacks[stack], read_values, s, v, err);
}

su_status su_series_window(su_series *s, int stack, const su_dicom_recipe *recipe, su_dicom_display *display,
                           su_error *err)
{
    const su_slice *middle = &s->slices[s->stacks[stack].first + s->stacks[stack].count / 2];
    su_dicom_display_file d = {0};
    *display = (su_dicom_display){.colour = SU_DICOM_GREY, .bits = 32, .slope = 1};
    su_status st = open_slice(s, middle, err);
    if (!st) st = su_dicom_recipe_check(recipe, s->open, err);
    if (!st) st = su_dicom_display_open(s->open, middle->frame, &d, err);
    if (!st) {
        display->inverse = d.show.inverse;
        display->monochrome1 = d.show.monochrome1;
        if (d.show.voi.kind != SU_VOI_TABLE) display->voi = d.show.voi;
    }
    su_dicom_display_close(&d);
    return st;
}
