/* The device that these tests are about: a GPU, or the emulated one where SUTURE_CUDA_LIBRARY names it. */
#ifndef SU_TESTS_CUDA_OPEN_H
#define SU_TESTS_CUDA_OPEN_H

#include "nn/device.h"
#include <stdio.h>
#include <stdlib.h>

/* Where there is none, the program ends with 77, which ctest calls skipped. */
static su_device *open_cuda(const char *name)
{
    su_device *d = NULL;
    su_error err = {0};
    su_status status = su_device_open(name, 0, &d, &err);
    if (!status) return d;
    const bool skipped = status == SU_EUNSUPPORTED && !getenv("SUTURE_CUDA_LIBRARY");
    printf("%s: %s\n", skipped ? "skipped" : "failed", err.message);
    exit(skipped ? 77 : 1);
}

#endif
