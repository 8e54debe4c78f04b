/* Volumes: voxels on a grid in the patient's space, in millimetres, axes as DICOM names them (x to the
 * patient's left, y to the back, z to the head; NIfTI files are turned into these).
 *
 *   position of voxel (i, j, k) = origin + direction * (i spacing[0], j spacing[1], k spacing[2])
 *
 * direction holds the three axes as columns, row by row. It is orthonormal but for a tilted gantry, where the
 * third axis leans (PS3.3 C.8.2.1: Gantry/Detector Tilt; found in the slices' positions, not in the
 * attribute). */
#ifndef SU_DICOM_VOLUME_H
#define SU_DICOM_VOLUME_H

#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

/* Voxels of one volume, and of what it is resampled to: 4 GiB of floats. */
static const int64_t SU_VOLUME_MAX_VOXELS = (int64_t)1 << 30;

typedef struct {
    int32_t size[3]; /* x, y, z: columns, rows, slices */
    double spacing[3], origin[3], direction[9];
    float *voxels; /* [z][y][x], in the Modality LUT's units; owned: su_volume_free */
} su_volume;

void su_volume_free(su_volume *v); /* leaves an empty volume; NULL accepted */

/* NIfTI, NRRD and MetaImage (by content and name, as ITK tells them apart): one scalar volume.
 * SU_EUNSUPPORTED: colours, vectors, more than three dimensions. SU_ELIMIT, SU_EFORMAT, SU_ENOTFOUND,
 * SU_ENOMEM. */
su_status su_volume_read(const char *path, su_volume *v, su_error *err);

/* Permutes and flips the axes, in place, so that each runs closest to what code says: "LPS" is left,
 * posterior, superior; any of R/L, A/P, I/S in any order. No voxel is computed. SU_EINVAL: no such code.
 * SU_ENOMEM. */
su_status su_volume_orient(su_volume *v, const char *code, su_error *err);

/* Cubes of `size` mm (0: the least spacing of the three) by trilinear interpolation, on an orthonormal grid:
 * along the volume's own axes from the first voxel's centre to the last one's, where these are orthonormal;
 * else along x and y and what is at right angles to both, over everything that the volume covers, its least
 * value beyond. */
su_status su_volume_isotropic(su_volume *v, double size, su_error *err);

#endif
