/* The one part of base that nn/params.c calls and a bare machine has no libraries for: weights in files. */
#include "base/safetensors.h"

su_status su_safetensors_write(const char *path, const su_tensor_view *tensors, int64_t count,
                               const char *const *metadata, su_error *err)
{
    (void)tensors, (void)count, (void)metadata;
    return su_fail(err, SU_EUNSUPPORTED, "%s: this build writes no files", path);
}

su_status su_safetensors_get(const su_safetensors *file, const char *name, su_dtype dtype, int rank,
                             const int64_t *shape, const su_tensor_view **view, su_error *err)
{
    (void)file, (void)dtype, (void)rank, (void)shape;
    *view = NULL;
    return su_fail(err, SU_EUNSUPPORTED, "%s: this build reads no files", name);
}
