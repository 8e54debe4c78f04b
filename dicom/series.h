/* Series: a folder's DICOM files as slices and stacks (stack.h), and a stack as a volume.
 *
 * Every file below the folder is looked at, in the order of names. What makes no slice (no DICOM, no pixels,
 * colour, no position in the patient) is counted by reason, never fatal. Frames of an enhanced multi-frame
 * file are slices. */
#ifndef SU_DICOM_SERIES_H
#define SU_DICOM_SERIES_H

#include "dicom/display.h"
#include "dicom/stack.h"
#include <jansson.h>

typedef struct su_series su_series;

/* The geometry of a frame; file is left to the caller. SU_EINVAL when it has none, or none that describes a
 * plane. */
su_status su_slice_read(su_dicom_file *file, int frame, su_slice *slice);

/* SU_ENOTFOUND when there is no such folder, or no slice in it (the message says what there was). SU_ENOMEM,
 * SU_EIO. */
su_status su_series_open(const char *folder, su_series **series, su_error *err);
void su_series_close(su_series *s); /* NULL accepted */

int su_series_stacks(const su_series *s);                       /* at least 1; the largest first */
const su_stack *su_series_stack(const su_series *s, int stack); /* from 0 */
const su_slice *su_series_slice(const su_series *s,
                                int64_t slice); /* a stack's are first .. first + count - 1 */
const char *su_series_modality(const su_series *s, int stack);

/* {"files":n,"skipped":{reason:n},"stacks":[{"modality","slices","duplicates","places","gaps","columns","rows","spacing":
 * [x,y,z],"irregular","tilt"}]}: nothing in it names a patient. New reference, NULL without memory. */
json_t *su_series_report(const su_series *s);

/* The stack as a volume in the Modality LUT's units, on its own grid. Errors: a slice's, with its file. */
su_status su_series_volume(su_series *s, int stack, su_volume *v, su_error *err);

/* How values of the stack's volume are to be shown: the window of its middle slice, no modality
 * transformation left to do. Tables are left out (a range stands in for them): they map stored values of one
 * slice. */
su_status su_series_window(su_series *s, int stack, const su_dicom_recipe *recipe, su_dicom_display *display,
                           su_error *err);

#endif
