#include "cli/common.h"
#include "base/companion.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/options.h"
#include "cli/report_align.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *su_cli_vocabulary(void)
{
    return su_companion("SUTURE_VOCAB", "share/suture/bert-base-uncased-vocab.txt", "");
}

su_status su_cli_open_model(const char *folder, const char *device_name, int threads, su_device **device,
                            su_model **model, su_error *err)
{
    *device = NULL;
    *model = NULL;
    su_status st = su_device_open(device_name, threads, device, err);
    if (!st) st = su_model_open(folder, *device, false, model, err);
    if (st) {
        su_device_close(*device);
        *device = NULL;
    }
    return st;
}

bool su_cli_report(const json_t *document, su_status *status, su_error *err)
{
    const char *path = su_option_json();
    if (!*status && path) *status = su_report_write(document, path, err);
    return !*status && !(path && !strcmp(path, "-"));
}
