/* The importer of DICOM folders; see datasets/import.h. */
#include "datasets/import.h"
#include "base/log.h"
#include "base/memory.h"
#include "datasets/dicom/pseudonym.h"
#include "datasets/dicom/study.h"
#include "datasets/image.h"
#include "dicom/montage.h"
#include "dicom/picture.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    su_studies *studies;
    su_pseudonyms names;
    const su_dicom_import *how;
    const su_dicom_recipe *recipe;
    int64_t next, without_report;
    su_import_item item;
    const char *files[1];
    char id[SU_PSEUDONYM_MAX + 8], group[SU_PSEUDONYM_MAX], study[SU_PSEUDONYM_MAX], file[64];
    json_t *extra, *texts; /* texts: study -> its report as it is stored, or null */
} dicom_source;

/* ---- the report ---- */

/* The study's report without what its header says of people; *text NULL when there is none. Kept a study. */
static su_status report_of(dicom_source *d, const su_study_image *im, const char **text, su_error *err)
{
    const json_t *kept = json_object_get(d->texts, im->study);
    *text = NULL;
    if (!kept) {
        const char *report = su_reports_find(d->studies->reports, im->study, im->accession);
        const char *known = json_string_value(json_object_get(d->studies->identifiers, im->study));
        char *clean = NULL;
        su_status st = report ? su_identifiers_remove(report, known ? known : "", &clean, err) : SU_OK;
        if (!st && json_object_set_new_nocheck(d->texts, im->study,
                                               clean ? json_string_nocheck(clean) : json_null()))
            st = su_fail(err, SU_ENOMEM, "no memory for the reports");
        su_free(clean);
        if (st) return st;
        kept = json_object_get(d->texts, im->study);
    }
    *text = json_string_value(kept);
    return SU_OK;
}

/* ---- items ---- */

static void refuse(dicom_source *d, const char *reason, const char *detail)
{
    d->item.reason = reason;
    d->item.detail = detail;
}

static json_t *extra_of(const dicom_source *d, const su_study_image *im, const su_study_sample *sample)
{
    json_t *o = json_pack("{s:s}", "modality", im->modality);
    if (o && im->body_part[0]) json_object_set_new(o, "body_part", json_string(im->body_part));
    if (o && im->view[0]) json_object_set_new(o, "view", json_string(im->view));
    if (o && sample->stack >= 0)
        json_object_set_new(o, "slices", json_integer((json_int_t)d->studies->stacks[sample->stack].count));
    return o;
}

static void name_item(dicom_source *d, const su_study_image *im, const su_study_sample *sample)
{
    char place[32], instance[SU_UID_MAX + 32];
    snprintf(place, sizeof place, "/%lld", (long long)sample->image);
    /* Without a UID of its own a file is told apart by its place. */
    snprintf(instance, sizeof instance, "%s%s", sample->stack >= 0 ? im->series : im->instance,
             im->instance[0] ? "" : place);
    if (sample->stack >= 0) {
        const su_slice *s = &d->studies->slices[d->studies->stacks[sample->stack].first];
        char plane[96];
        snprintf(plane, sizeof plane, "%dx%d %.2f %.2f %.2f %.2f %.2f %.2f", s->rows, s->columns,
                 s->orientation[0], s->orientation[1], s->orientation[2], s->orientation[3],
                 s->orientation[4], s->orientation[5]);
        char whole[sizeof instance + sizeof plane];
        snprintf(whole, sizeof whole, "%s %s", instance, plane);
        su_pseudonym(&d->names, "stack", whole, d->id);
    } else {
        su_pseudonym(&d->names, "image", instance, d->id);
    }
    su_pseudonym(&d->names, "patient", im->patient, d->group);
    su_pseudonym(&d->names, "study", im->study, d->study);
    snprintf(d->file, sizeof d->file, "%s/%s", d->study[0] ? d->study : "-", d->id);
}

static su_status next_sample(void *self, const su_import_item **item, su_error *err)
{
    dicom_source *d = self;
    const su_studies *s = d->studies;
    const char *text = NULL;
    *item = NULL;
    if (d->next == s->sample_count) return SU_OK;
    const su_study_sample *sample = &s->samples[d->next];
    const su_study_image *im = &s->images[sample->image];
    su_status st = report_of(d, im, &text, err);
    if (st) return st;
    name_item(d, im, sample);
    json_decref(d->extra);
    d->extra = extra_of(d, im, sample);
    if (!d->extra) return su_fail(err, SU_ENOMEM, "no memory for a record");
    d->files[0] = d->file;
    d->item = (su_import_item){.id = d->id,
                               .text = text ? text : "",
                               .group = d->group,
                               .split = "",
                               .licence = "",
                               .source = d->study,
                               .files = d->files,
                               .handle = d->next,
                               .extra = d->extra};
    if (im->reason)
        refuse(d, im->reason, im->modality);
    else if (im->burned_in && !d->how->keep_burned_in)
        refuse(d, "burned-in", "Burned In Annotation (0028,0301) is YES");
    else if (!text) {
        refuse(d, "no-report", "");
        d->without_report++;
    }
    d->next++;
    *item = &d->item;
    return SU_OK;
}

/* ---- pictures ---- */

/* Messages name files, and files may be named after patients. */
static void hide(su_error *err, const char *path)
{
    char *at = err ? strstr(err->message, path) : NULL;
    if (!at) return;
    const char *rest = at + strlen(path);
    while (*rest == ':' || *rest == ' ') rest++;
    memmove(at, rest, strlen(rest) + 1);
}

static su_status load_frame(const dicom_source *d, const su_study_image *im, int frame, su_image *image,
                            su_error *err)
{
    const su_dicom_picture_options options = {.recipe = d->recipe, .frame = frame};
    su_dicom_file *file = NULL;
    su_status st = su_dicom_open(im->path, &file, err);
    if (!st) st = su_dicom_picture(file, &options, image, NULL, err);
    su_dicom_close(file);
    if (st) hide(err, im->path);
    return st;
}

/* One slice of a montage at a physical scale: a square of its own, so that all have the same. */
static su_status to_scale(su_image *tile, const su_image_recipe *recipe, int across, su_error *err)
{
    const su_image_recipe square = {
        .size = recipe->size / across, .channels = tile->channels, .spacing = recipe->spacing};
    su_image made = {.width = square.size,
                     .height = square.size,
                     .channels = tile->channels,
                     .spacing = {recipe->spacing, recipe->spacing}};
    made.pixels = su_alloc((size_t)square.size * (size_t)square.size, (size_t)tile->channels);
    if (!made.pixels) return su_fail(err, SU_ENOMEM, "no memory for a slice");
    su_status st = su_image_to_recipe(tile, &square, made.pixels, err);
    su_image_free(st ? &made : tile);
    if (!st) *tile = made;
    return st;
}

static su_status load_stack(const dicom_source *d, const su_stack *stack, const su_image_recipe *recipe,
                            su_image *image, su_error *err)
{
    su_image tiles[SU_DICOM_SLICES_MAX] = {{0}};
    const int n = stack->count < d->how->slices ? (int)stack->count : d->how->slices,
              across = (int)ceil(sqrt(n));
    su_status st = SU_OK;
    for (int k = 0; !st && k < n; k++) {
        const su_slice *slice = &d->studies->slices[stack->first + su_representative(stack->count, n, k)];
        st = load_frame(d, &d->studies->images[slice->file], slice->frame, &tiles[k], err);
        if (!st && recipe->spacing > 0) st = to_scale(&tiles[k], recipe, across, err);
    }
    if (!st) st = su_montage(tiles, n, image, err);
    for (int k = 0; k < n; k++) su_image_free(&tiles[k]);
    return st;
}

static su_status load_sample(void *self, int64_t handle, int stream, const su_image_recipe *recipe,
                             su_image *image, su_error *err)
{
    const dicom_source *d = self;
    const su_study_sample *sample = &d->studies->samples[handle];
    (void)stream;
    if (sample->stack >= 0) return load_stack(d, &d->studies->stacks[sample->stack], recipe, image, err);
    return load_frame(d, &d->studies->images[sample->image], -1, image, err);
}

/* ---- the import ---- */

static json_t *describe(const dicom_source *d)
{
    return json_pack("{s:I,s:s,s:s,s:i,s:b}", "files", (json_int_t)d->studies->files, "sha256",
                     d->studies->sha256, "key", d->names.id, "slices", d->how->slices, "burned_in",
                     (int)d->how->keep_burned_in);
}

static void say(const dicom_source *d, const char *key, bool made)
{
    const su_studies *s = d->studies;
    if (made)
        su_log(SU_LOG_WARN, "%s: a new key for pseudonyms; keep it, and keep it apart from the dataset", key);
    su_log(SU_LOG_INFO, "%lld files: %lld images, %lld reports, %lld others", (long long)s->files,
           (long long)s->image_count, (long long)su_reports_count(s->reports), (long long)s->others);
}

static void say_left_over(const dicom_source *d)
{
    const int64_t unused = su_reports_unused(d->studies->reports);
    if (unused) su_log(SU_LOG_WARN, "%lld reports belong to no study here", (long long)unused);
    if (d->without_report)
        su_log(SU_LOG_WARN, "%lld images or series without a report were left out",
               (long long)d->without_report);
}

su_status su_import_dicom(const su_dicom_import *how, const char *out, const su_import_options *options,
                          su_error *err)
{
    static const char *const streams[] = {"image"};
    dicom_source d = {.how = how, .texts = json_object()};
    char key[PATH_MAX];
    bool made = false;
    json_t *description = NULL;
    if (how->slices < 1 || how->slices > SU_DICOM_SLICES_MAX)
        return su_fail(err, SU_EINVAL, "%d slices for a volume; 1 to %d can be", how->slices,
                       (int)SU_DICOM_SLICES_MAX);
    snprintf(key, sizeof key, "%s", how->key ? how->key : "");
    if (!how->key) {
        size_t length = strlen(out);
        while (length > 1 && out[length - 1] == '/') length--;
        snprintf(key, sizeof key, "%.*s.key", (int)length, out);
    }
    su_status st = d.texts ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for the reports");
    if (!st) st = su_dicom_recipe_find(su_image_recipe_dicom(&options->recipe), &d.recipe, err);
    if (!st)
        st = su_studies_open(how->paths, how->path_count, how->reports, how->report_count, &d.studies, err);
    if (!st) st = su_pseudonyms_open(key, &d.names, &made, err);
    if (!st && !(description = describe(&d)))
        st = su_fail(err, SU_ENOMEM, "no memory to describe the import");
    if (!st) {
        say(&d, key, made);
        const su_import_source source = {.kind = "dicom",
                                         .description = description,
                                         .streams = streams,
                                         .image_streams = 1,
                                         .total = d.studies->sample_count,
                                         .next = next_sample,
                                         .load = load_sample,
                                         .self = &d};
        su_import_options grouped = *options;
        grouped.split_by_group = true;
        st = su_import_run(&source, out, &grouped, err);
        say_left_over(&d);
    }
    json_decref(description);
    json_decref(d.extra);
    json_decref(d.texts);
    su_studies_close(d.studies);
    return st;
}
