/* ITK behind C: for volume.c only. Every `out` owns new voxels on success and none on failure. */
#ifndef SU_DICOM_ITK_H
#define SU_DICOM_ITK_H

#include "base/memory.h"
#include "dicom/volume.h"

su_status su_itk_read(const char *path, su_volume *out, su_error *err);
su_status su_itk_orient(const su_volume *in, const char *code, su_volume *out, su_error *err);
/* Trilinear, onto the grid that out describes; `beyond` where the input has no voxel. */
su_status su_itk_resample(const su_volume *in, float beyond, su_volume *out, su_error *err);

#endif
