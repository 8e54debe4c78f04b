/* The door of the shared object: the device on NVIDIA's runtime and libraries. */
#include "nn/cuda/entry.h"
#include "nn/cuda/library.h"
#include "nn/cuda/lt.h"
#include "nn/cuda/runtime_cuda.h"
#include <string.h>

static const su_cuda_library library = {
    .open = su_cuda_lt_open, .close = su_cuda_lt_close, .multiply = su_cuda_lt_multiply};

__attribute__((visibility("default"))) su_cuda_entry su_cuda_open;

su_status su_cuda_open(const char *version, size_t table, int number, su_dtype type, int threads,
                       su_device **device, su_error *err)
{
    *device = NULL;
    if (strcmp(version, SUTURE_VERSION) != 0 || table != sizeof(su_device_ops))
        return su_fail(err, SU_EMISMATCH,
                       "the CUDA device (libsuture_cuda.so) is of version " SUTURE_VERSION
                       ", the program of %s: install both "
                       "from one build",
                       version);
    return su_cuda_new(&su_nvidia_runtime, &library, number, type, threads, device, err);
}
