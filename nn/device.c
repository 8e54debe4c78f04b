#include "nn/device.h"
#include <string.h>

su_status su_device_open(const char *name, int threads, su_device **device, su_error *err)
{
    *device = NULL;
    if (strcmp(name, "cpu") == 0) return su_device_cpu(threads, SU_DTYPE_F32, device, err);
    if (strcmp(name, "cuda") == 0 || strncmp(name, "cuda:", 5) == 0)
        return su_fail(err, SU_EUNSUPPORTED,
                       "device %s: this build computes on the CPU only; use --device cpu", name);
    return su_fail(err, SU_EINVAL, "device %s is not known; devices are cpu, cuda and cuda:N", name);
}

void su_device_close(su_device *device)
{
    if (device) device->ops->close(device);
}
