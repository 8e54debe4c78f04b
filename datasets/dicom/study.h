/* What lies in the folders of a DICOM import: images with what is needed of their headers, the samples that
 * they make, and the reports beside them.
 *
 * A sample is a picture and its study's report. A stack of at least SU_VOLUME_SLICES_MIN slices (CT, MR, PET)
 * is one sample, shown by representative slices; every other image is one, of several frames by the middle
 * one. */
#ifndef SU_DATASETS_DICOM_STUDY_H
#define SU_DATASETS_DICOM_STUDY_H

#include "datasets/dicom/report.h"
#include "dicom/stack.h"
#include <jansson.h>

enum { SU_VOLUME_SLICES_MIN = 4, SU_UID_MAX = 66 };

typedef struct {
    char *path, *patient; /* owned */
    char study[SU_UID_MAX], series[SU_UID_MAX], instance[SU_UID_MAX];
    char accession[66], modality[17], body_part[17], view[17];
    int32_t frames;
    bool burned_in, localizer;
    const char *reason; /* not NULL: no sample, and why */
    int64_t stack;      /* its slices are part of this one; -1: none */
} su_study_image;

typedef struct {
    int64_t image; /* the first of a stack's */
    int64_t stack; /* -1: the image itself */
} su_study_sample;

typedef struct {
    su_study_image *images;
    int64_t image_count, image_room;
    su_slice *slices;
    int64_t slice_count, slice_room;
    su_stack *stacks;
    int stack_count;
    su_study_sample *samples; /* in the order of their files */
    int64_t sample_count;
    su_reports *reports;
    json_t *identifiers;   /* study -> what its first file says of people (pseudonym.h) */
    int64_t files, others; /* seen; neither DICOM nor report */
    char sha256[65];       /* of the names (below their folders) and sizes of all files */
} su_studies;

/* Walks the paths (folders, or single files), in the order given and of names. SU_ENOTFOUND: no such path, or
 * no image anywhere. reports: files or folders of reports that lie elsewhere, tables (.csv) among them. */
su_status su_studies_open(const char *const *paths, int count, const char *const *reports, int report_count,
                          su_studies **studies, su_error *err);
void su_studies_close(su_studies *s); /* NULL accepted */

#endif
