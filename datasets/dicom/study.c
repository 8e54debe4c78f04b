#include "datasets/dicom/study.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "datasets/dicom/pseudonym.h"
#include "dicom/display.h"
#include "dicom/series.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 32 };
enum {
    IMAGE_TYPE = 0x00080008,
    INSTANCE_UID = 0x00080018,
    ACCESSION = 0x00080050,
    MODALITY = 0x00080060,
    PATIENT_ID = 0x00100020,
    ISSUER = 0x00100021,
    BODY_PART = 0x00180015,
    VIEW = 0x00185101,
    STUDY_UID = 0x0020000d,
    SERIES_UID = 0x0020000e,
    ROWS = 0x00280010,
    BURNED_IN = 0x00280301,
};

typedef struct {
    su_studies *s;
    su_sha256 *digest;
    su_progress *progress;
    const char *root; /* the path being walked, to be cut off names */
    bool reports_only;
} walk;

static su_status no_memory(su_error *err)
{
    return su_fail(err, SU_ENOMEM, "no memory for the studies");
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

static bool in_list(const char *value, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(value, *list) == 0) return true;
    return false;
}

/* ---- one file ---- */

/* The patient: ID and who issued it; without one each study is a patient of its own. */
static char *patient_of(su_dicom_item *ds, const char *study)
{
    char id[128], issuer[128], both[300];
    su_dicom_text(ds, PATIENT_ID, id, sizeof id);
    su_dicom_text(ds, ISSUER, issuer, sizeof issuer);
    if (id[0])
        snprintf(both, sizeof both, "%s\n%s", id, issuer);
    else
        snprintf(both, sizeof both, "study %s", study);
    return su_strdup(both);
}

static su_status keep_identifiers(su_studies *s, const char *study, su_dicom_item *ds, su_error *err)
{
    if (json_object_get(s->identifiers, study)) return SU_OK;
    char *identifiers = su_identifiers_of(ds);
    const bool bad =
        !identifiers || json_object_set_new_nocheck(s->identifiers, study, json_string_nocheck(identifiers));
    su_free(identifiers);
    return bad ? no_memory(err) : SU_OK;
}

static su_status add_slices(walk *w, su_dicom_file *file, int64_t image, su_error *err)
{
    su_studies *s = w->s;
    const int64_t before = s->slice_count;
    for (int frame = 0; frame < s->images[image].frames; frame++) {
        su_slice slice;
        if (su_slice_read(file, frame, &slice)) {
            s->slice_count = before;
            return SU_OK;
        }
        slice.file = image;
        if (!grow((void **)&s->slices, &s->slice_room, s->slice_count + 1, sizeof *s->slices))
            return no_memory(err);
        s->slices[s->slice_count++] = slice;
    }
    return SU_OK;
}

static su_status add_image(walk *w, const char *path, su_dicom_file *file, su_error *err)
{
    static const char *const no_pictures[] = {"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "PR",
                                              "KO",  "REG",    "DOC",      NULL};
    static const char *const volumes[] = {"CT", "MR", "PT", NULL};
    su_studies *s = w->s;
    su_dicom_item *ds = su_dicom_dataset(file);
    su_study_image *im = NULL;
    int frames = 1;
    char type[128];
    if (!grow((void **)&s->images, &s->image_room, s->image_count + 1, sizeof *s->images))
        return no_memory(err);
    im = &s->images[s->image_count];
    *im = (su_study_image){.stack = -1};
    su_dicom_text(ds, STUDY_UID, im->study, sizeof im->study);
    su_dicom_text(ds, SERIES_UID, im->series, sizeof im->series);
    su_dicom_text(ds, INSTANCE_UID, im->instance, sizeof im->instance);
    su_dicom_text(ds, ACCESSION, im->accession, sizeof im->accession);
    su_dicom_text(ds, MODALITY, im->modality, sizeof im->modality);
    su_dicom_text(ds, BODY_PART, im->body_part, sizeof im->body_part);
    su_dicom_text(ds, VIEW, im->view, sizeof im->view);
    im->burned_in = strcmp(su_dicom_text(ds, BURNED_IN, type, sizeof type), "YES") == 0;
    im->localizer = strstr(su_dicom_text(ds, IMAGE_TYPE, type, sizeof type), "LOCALIZER") != NULL;
    if (in_list(im->modality, no_pictures)) im->reason = "no-picture";
    if (!im->reason && im->localizer) im->reason = "localizer";
    if (!im->reason && su_dicom_frames(file, &frames, NULL)) im->reason = "bad-image";
    im->frames = frames;
    im->path = su_strdup(path);
    im->patient = patient_of(ds, im->study);
    su_status st = im->path && im->patient ? keep_identifiers(s, im->study, ds, err) : no_memory(err);
    if (!st && !im->reason && frames <= 65535 && in_list(im->modality, volumes))
        st = add_slices(w, file, s->image_count, err);
    s->image_count++;
    return st;
}

static su_status add_dicom(walk *w, const char *path, su_dicom_file *file, su_error *err)
{
    su_dicom_item *ds = su_dicom_dataset(file);
    char modality[20], study[SU_UID_MAX], *text = NULL;
    if (su_dicom_has(ds, ROWS)) return w->reports_only ? SU_OK : add_image(w, path, file, err);
    su_dicom_text(ds, MODALITY, modality, sizeof modality);
    if (strcmp(modality, "SR") != 0) {
        w->s->others++;
        return SU_OK;
    }
    su_status st = su_report_of_sr(ds, &text, err);
    if (!st) st = su_reports_add(w->s->reports, su_dicom_text(ds, STUDY_UID, study, sizeof study), text, err);
    su_free(text);
    return st;
}

static su_status look_at(walk *w, const char *path, const struct stat *info, su_error *err)
{
    su_dicom_file *file = NULL;
    su_error bad = {0};
    bool taken = false;
    char line[64];
    const char *name = path + (strncmp(path, w->root, strlen(w->root)) == 0 ? strlen(w->root) : 0);
    su_sha256_add(w->digest, name, strlen(name) + 1);
    snprintf(line, sizeof line, "%lld", (long long)info->st_size);
    su_sha256_add(w->digest, line, strlen(line) + 1);
    su_progress_step(w->progress, ++w->s->files, NULL);
    const char *dot = strrchr(su_path_name(path), '.');
    if (dot && strcasecmp(dot, ".csv") == 0 && w->reports_only)
        return su_reports_add_csv(w->s->reports, path, err);
    su_status st = su_reports_add_file(w->s->reports, path, &taken, &bad);
    if (st == SU_ENOMEM) return su_fail(err, st, "%s", bad.message);
    if (taken) {
        w->s->others += st != SU_OK;
        return SU_OK; /* its study is listed as one without a report */
    }
    st = su_dicom_open(path, &file, &bad);
    if (st == SU_ENOMEM) return su_fail(err, st, "%s", bad.message);
    if (st) {
        w->s->others++;
        return SU_OK;
    }
    st = add_dicom(w, path, file, err);
    su_dicom_close(file);
    return st;
}

/* ---- folders ---- */

static su_status walk_folder(walk *w, const char *folder, int depth, su_error *err)
{
    struct dirent **entries = NULL;
    const int n = scandir(folder, &entries, NULL, alphasort);
    su_status st = SU_OK;
    for (int i = 0; i < n; i++) {
        struct stat info;
        char *path = entries[i]->d_name[0] == '.' ? NULL : su_path_join(folder, entries[i]->d_name);
        if (!st && path && lstat(path, &info) == 0) {
            if (S_ISLNK(info.st_mode) && (stat(path, &info) != 0 || S_ISDIR(info.st_mode))) info.st_mode = 0;
            if (S_ISDIR(info.st_mode) && depth < DEPTH_MAX) st = walk_folder(w, path, depth + 1, err);
            if (S_ISREG(info.st_mode)) st = look_at(w, path, &info, err);
        }
        su_free(path);
        free(entries[i]);
    }
    free(entries);
    return st;
}

static su_status walk_paths(walk *w, const char *const *paths, int count, su_error *err)
{
    su_status st = SU_OK;
    for (int i = 0; !st && i < count; i++) {
        struct stat info;
        if (stat(paths[i], &info) != 0)
            return su_fail(err, SU_ENOTFOUND, "%s: there is no such file or folder", paths[i]);
        w->root = paths[i];
        st = S_ISDIR(info.st_mode) ? walk_folder(w, paths[i], 0, err) : look_at(w, paths[i], &info, err);
    }
    return st;
}

/* ---- samples ---- */

/* Marks the images of every stack that is large enough. */
static su_status find_volumes(su_studies *s, su_error *err)
{
    if (s->slice_count == 0) return SU_OK;
    su_status st = su_stacks_sort(s->slices, s->slice_count, &s->stacks, &s->stack_count, err);
    for (int k = 0; !st && k < s->stack_count; k++) {
        const su_stack *t = &s->stacks[k];
        if (t->count < SU_VOLUME_SLICES_MIN) continue;
        for (int64_t i = t->first; i < t->first + t->count + t->duplicates; i++)
            s->images[s->slices[i].file].stack = k;
    }
    return st;
}

/* A sample an image, or a stack at the place of its first file. */
static su_status list_samples(su_studies *s, su_error *err)
{
    uint8_t *taken = su_calloc((size_t)s->stack_count + 1, 1);
    s->samples = su_alloc((size_t)s->image_count + 1, sizeof *s->samples);
    if (!taken || !s->samples) {
        su_free(taken);
        return no_memory(err);
    }
    for (int64_t i = 0; i < s->image_count; i++) {
        const int64_t stack = s->images[i].stack;
        if (stack >= 0 && taken[stack]) continue;
        if (stack >= 0) taken[stack] = 1;
        s->samples[s->sample_count++] = (su_study_sample){i, stack};
    }
    su_free(taken);
    return SU_OK;
}

su_status su_studies_open(const char *const *paths, int count, const char *const *reports, int report_count,
                          su_studies **studies, su_error *err)
{
    su_studies *s = su_calloc(1, sizeof *s);
    walk w = {.s = s, .digest = su_sha256_new(), .progress = su_progress_new("look", "files", 0)};
    *studies = NULL;
    su_status st = s && w.digest && (s->reports = su_reports_new()) && (s->identifiers = json_object())
                       ? SU_OK
                       : no_memory(err);
    if (!st) st = walk_paths(&w, paths, count, err);
    w.reports_only = true;
    if (!st) st = walk_paths(&w, reports, report_count, err);
    if (!st && s->image_count == 0)
        st = su_fail(err, SU_ENOTFOUND, "no DICOM image among %lld files", (long long)s->files);
    if (!st) st = find_volumes(s, err);
    if (!st) st = list_samples(s, err);
    if (w.digest) {
        char hex[SU_SHA256_HEX];
        su_sha256_end(w.digest, hex);
        if (s) memcpy(s->sha256, hex, sizeof s->sha256);
    }
    su_progress_free(w.progress);
    if (st)
        su_studies_close(s);
    else
        *studies = s;
    return st;
}

void su_studies_close(su_studies *s)
{
    if (!s) return;
    for (int64_t i = 0; i < s->image_count; i++) {
        su_free(s->images[i].path);
        su_free(s->images[i].patient);
    }
    su_free(s->images);
    su_free(s->slices);
    su_free(s->stacks);
    su_free(s->samples);
    su_reports_free(s->reports);
    json_decref(s->identifiers);
    su_free(s);
}
