/* What decoding takes from an open file. For the files of this room that decode pixels. */
#ifndef SU_DICOM_PARTS_H
#define SU_DICOM_PARTS_H

#include "dicom/file.h"
#include "dicom/scan.h"

su_source *su_dicom_source(su_dicom_file *file);
const su_scan *su_dicom_scan(const su_dicom_file *file);

/* Which fragments make which frame (fragments.h), found when the first frame is decoded and kept; freed with
 * the file. */
struct su_fragments;
struct su_fragments **su_dicom_fragments(su_dicom_file *file);

#endif
