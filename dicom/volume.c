#include "dicom/volume.h"
#include "base/file.h"
#include "dicom/itk.h"
#include <float.h>
#include <math.h>
#include <string.h>

void su_volume_free(su_volume *v)
{
    if (!v) return;
    su_free(v->voxels);
    *v = (su_volume){0};
}

su_status su_volume_read(const char *path, su_volume *v, su_error *err)
{
    *v = (su_volume){0};
    if (!su_file_exists(path)) return su_fail(err, SU_ENOTFOUND, "%s: there is no such file", path);
    return su_itk_read(path, v, err);
}

/* Puts what `made` holds in the place of *v. */
static su_status replace(su_volume *v, const su_volume *made, su_status st)
{
    if (st) return st;
    su_volume_free(v);
    *v = *made;
    return SU_OK;
}

su_status su_volume_orient(su_volume *v, const char *code, su_error *err)
{
    su_volume made = {0};
    return replace(v, &made, su_itk_orient(v, code, &made, err));
}

/* ---- the isotropic grid ---- */

static void column(const double d[9], int a, double out[3])
{
    for (int i = 0; i < 3; i++) out[i] = d[3 * i + a];
}

static double dot(const double a[3], const double b[3])
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

static void cross(const double a[3], const double b[3], double out[3])
{
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

/* The volume's own axes where they are orthonormal; else the third becomes what is at right angles to the
 * others. */
static void straight_axes(const su_volume *v, double axis[3][3])
{
    double normal[3];
    for (int a = 0; a < 3; a++) column(v->direction, a, axis[a]);
    cross(axis[0], axis[1], normal);
    const double along = dot(normal, axis[2]);
    if (fabs(along) > 1 - 1e-6) return;
    for (int i = 0; i < 3; i++) axis[2][i] = along < 0 ? -normal[i] : normal[i];
}

/* Least and greatest coordinate along `axis` of the voxels' centres, from the first voxel's. */
static void extent(const su_volume *v, const double axis[3], double *low, double *high)
{
    *low = *high = 0;
    for (int a = 0; a < 3; a++) {
        double d[3];
        column(v->direction, a, d);
        const double reach = dot(d, axis) * v->spacing[a] * (v->size[a] - 1);
        *(reach < 0 ? low : high) += reach;
    }
}

static su_status plan_grid(const su_volume *v, double size, su_volume *grid, su_error *err)
{
    double axis[3][3], voxels = 1;
    straight_axes(v, axis);
    memcpy(grid->origin, v->origin, sizeof grid->origin);
    for (int a = 0; a < 3; a++) {
        double low, high;
        extent(v, axis[a], &low, &high);
        const double count = floor((high - low) / size + 1e-6) + 1;
        if (count > 65535) return su_fail(err, SU_ELIMIT, "%.0f voxels of %g mm along one axis", count, size);
        voxels *= count;
        grid->size[a] = (int32_t)count;
        grid->spacing[a] = size;
        for (int i = 0; i < 3; i++) {
            grid->origin[i] += axis[a][i] * low;
            grid->direction[3 * i + a] = axis[a][i];
        }
    }
    if (voxels > (double)SU_VOLUME_MAX_VOXELS)
        return su_fail(err, SU_ELIMIT, "%d x %d x %d voxels of %g mm are more than %lld; use larger ones",
                       grid->size[0], grid->size[1], grid->size[2], size, (long long)SU_VOLUME_MAX_VOXELS);
    return SU_OK;
}

su_status su_volume_isotropic(su_volume *v, double size, su_error *err)
{
    su_volume grid = {0};
    if (size <= 0) size = fmin(v->spacing[0], fmin(v->spacing[1], v->spacing[2]));
    if (!(size > 0 && isfinite(size))) return su_fail(err, SU_EINVAL, "voxels of %g mm", size);
    su_status st = plan_grid(v, size, &grid, err);
    if (st) return st;
    float least = FLT_MAX;
    const int64_t count = (int64_t)v->size[0] * v->size[1] * v->size[2];
    for (int64_t i = 0; i < count; i++)
        if (v->voxels[i] < least) least = v->voxels[i];
    return replace(v, &grid, su_itk_resample(v, least, &grid, err));
}
