/* The door of the shared object: the device on NVIDIA's runtime and libraries. */
#include "nn/cuda/dnn.h"
#include "nn/cuda/entry.h"
#include "nn/cuda/library.h"
#include "nn/cuda/lt.h"
#include "nn/cuda/runtime_cuda.h"
#include <string.h>

#ifdef SUTURE_CUDNN
static su_status library_open(su_cuda *c, su_error *err)
{
    su_status status = su_cuda_lt_open(c, err);
    if (!status) status = su_cuda_dnn_open(c, err);
    if (status && c->products) su_cuda_lt_close(c);
    return status;
}

static void library_close(su_cuda *c)
{
    su_cuda_dnn_close(c);
    su_cuda_lt_close(c);
}

static const su_cuda_library library = {.open = library_open,
                                        .close = library_close,
                                        .multiply = su_cuda_lt_multiply,
                                        .attention = su_cuda_dnn_attention,
                                        .attention_backward = su_cuda_dnn_attention_backward};
#else
static const su_cuda_library library = {
    .open = su_cuda_lt_open, .close = su_cuda_lt_close, .multiply = su_cuda_lt_multiply};
#endif

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
