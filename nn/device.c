/* Devices by name. The CUDA device lives in a shared object, so that one program serves hosts with a GPU, with
 * the CUDA libraries alone, and with neither:
 *
 *   $SUTURE_CUDA_LIBRARY, where it is set; else libsuture_cuda.so beside the program, then in ../lib/suture of
 *   it, then wherever the system looks for libraries.
 *
 * It is never closed again: the CUDA runtime does not survive that. */
#include "nn/device.h"
#include "base/companion.h"
#include "base/memory.h"
#include "nn/cuda/entry.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libsuture_cuda.so"

static su_status open_library(const char *device, void **library, su_error *err)
{
    char *path = su_companion("SUTURE_CUDA_LIBRARY", LIBRARY, "lib/suture");
    *library = dlopen(path ? path : LIBRARY, RTLD_NOW | RTLD_LOCAL);
    const bool there = path != NULL;
    su_free(path);
    if (*library) return SU_OK;
    const char *why = dlerror();
    if (!there)
        return su_fail(err, SU_EUNSUPPORTED,
                       "device %s: this build has no CUDA part (" LIBRARY " is not beside the program; it is "
                       "built where CMake finds nvcc, the compiler of the CUDA toolkit): use --device cpu",
                       device);
    return su_fail(err, SU_EUNSUPPORTED,
                   "device %s: %s (the CUDA toolkit's libraries, cuBLASLt among them, must be where the "
                   "system looks for libraries, or on LD_LIBRARY_PATH); or use --device cpu",
                   device, why ? why : LIBRARY);
}

/* "cuda", "cuda:1", "cuda,f32", "cuda:1,bf16" */
static su_status parse(const char *name, int *number, su_dtype *type, su_error *err)
{
    const char *at = name + strlen("cuda");
    *number = 0;
    *type = SU_DTYPE_BF16;
    if (*at == ':') {
        char *end = NULL;
        long n = at[1] >= '0' && at[1] <= '9' ? strtol(at + 1, &end, 10) : -1;
        if (n < 0 || n > 1023)
            return su_fail(err, SU_EINVAL, "device %s: behind cuda: comes the GPU's number, from 0", name);
        *number = (int)n;
        at = end;
    }
    if (!strcmp(at, ",f32"))
        *type = SU_DTYPE_F32;
    else if (*at && strcmp(at, ",bf16") != 0)
        return su_fail(err, SU_EINVAL, "device %s: a GPU is cuda or cuda:N, and may be followed by ,f32 or ,bf16",
                       name);
    return SU_OK;
}

static su_status open_cuda(const char *name, int threads, su_device **device, su_error *err)
{
    int number;
    su_dtype type;
    void *library = NULL;
    su_status status = parse(name, &number, &type, err);
    if (!status) status = open_library(name, &library, err);
    if (status) return status;
    void *symbol = dlsym(library, SU_CUDA_ENTRY);
    if (!symbol) return su_fail(err, SU_EMISMATCH, "device %s: %s", name, dlerror());
    su_cuda_entry *entry;
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from an object to a function */
    return entry(SUTURE_VERSION, sizeof(su_device_ops), number, type, threads, device, err);
}

su_status su_device_open(const char *name, int threads, su_device **device, su_error *err)
{
    *device = NULL;
    if (strcmp(name, "cpu") == 0) return su_device_cpu(threads, SU_DTYPE_F32, device, err);
    if (strncmp(name, "cuda", 4) == 0 && strchr(":,", name[4])) return open_cuda(name, threads, device, err);
    return su_fail(err, SU_EINVAL, "device %s is not known; devices are cpu, cuda and cuda:N", name);
}

void su_device_close(su_device *device)
{
    if (device) device->ops->close(device);
}
