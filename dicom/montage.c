#include "dicom/montage.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

enum { TILES_MAX = 256 };

int64_t su_representative(int64_t count, int n, int k)
{
    return (2 * k + 1) * count / (2 * (int64_t)n);
}

su_status su_montage(const su_image *tiles, int n, su_image *out, su_error *err)
{
    *out = (su_image){0};
    if (n < 1 || n > TILES_MAX)
        return su_fail(err, SU_EINVAL, "a montage of %d slices; 1 to %d can be", n, (int)TILES_MAX);
    for (int i = 1; i < n; i++)
        if (tiles[i].width != tiles[0].width || tiles[i].height != tiles[0].height ||
            tiles[i].channels != tiles[0].channels)
            return su_fail(err, SU_EINVAL, "the slices of a montage differ in size");
    const int32_t across = (int32_t)ceil(sqrt(n)), down = (n + across - 1) / across;
    const size_t row = (size_t)tiles[0].width * (size_t)tiles[0].channels;
    *out = tiles[0];
    out->width *= across;
    out->height *= down;
    out->pixels = su_calloc((size_t)out->height, row * (size_t)across);
    if (!out->pixels) {
        *out = (su_image){0};
        return su_fail(err, SU_ENOMEM, "no memory for a montage");
    }
    for (int i = 0; i < n; i++)
        for (int32_t y = 0; y < tiles[i].height; y++)
            memcpy(out->pixels +
                       ((size_t)(i / across * tiles[i].height + y) * (size_t)across + (size_t)(i % across)) *
                           row,
                   tiles[i].pixels + (size_t)y * row, row);
    return SU_OK;
}

su_status su_volume_montage(const su_volume *v, const su_dicom_display *display,
                            const su_dicom_recipe *recipe, int n, su_image *out, su_error *err)
{
    su_image tiles[TILES_MAX] = {{0}};
    su_status st = SU_OK;
    *out = (su_image){0};
    if (n < 1 || n > TILES_MAX)
        return su_fail(err, SU_EINVAL, "a montage of %d slices; 1 to %d can be", n, (int)TILES_MAX);
    for (int k = 0; !st && k < n; k++) {
        const float *plane = v->voxels + su_representative(v->size[2], n, k) * v->size[0] * v->size[1];
        const su_dicom_frame frame = {plane, SU_DICOM_F32, v->size[1], v->size[0], 1};
        st = su_dicom_render(&frame, display, recipe, &tiles[k], err);
    }
    if (!st) st = su_montage(tiles, n, out, err);
    if (!st) {
        out->spacing[0] = v->spacing[1];
        out->spacing[1] = v->spacing[0];
    }
    for (int k = 0; k < n; k++) su_image_free(&tiles[k]);
    return st;
}
