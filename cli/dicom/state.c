/* The line of suture doctor on DICOM. */
#include "cli/common.h"
#include "dicom/worker.h"
#include <stdio.h>

bool su_cli_dicom_state(char *text, size_t size)
{
    su_error err = {0};
    const char *missing = su_worker_limits(&err);
    if (!missing)
        snprintf(text, size, "no compressed pixels: %s", err.message);
    else if (missing[0])
        snprintf(text, size,
                 "decoders run in processes of their own, with limits on memory and time, but without %s",
                 missing);
    else
        snprintf(text, size,
                 "decoders run in processes of their own, with limits on memory and time, under seccomp");
    return missing != NULL;
}
