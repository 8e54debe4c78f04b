#include "cli/common.h"
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
    static const char *const places[] = {"/share/suture/bert-base-uncased-vocab.txt",
                                         "/../share/suture/bert-base-uncased-vocab.txt", NULL};
    const char *given = getenv("SUTURE_VOCAB");
    if (given && *given) return su_strdup(given);
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n < 0) return NULL;
    program[n] = 0;
    char *slash = strrchr(program, '/');
    if (slash) *slash = 0;
    for (int i = 0; places[i]; i++) {
        su_buffer path;
        su_buffer_init(&path, PATH_MAX * 2);
        if (!su_buffer_printf(&path, NULL, "%s%s", program, places[i]) && su_file_exists(path.data))
            return path.data;
        su_buffer_free(&path);
    }
    return NULL;
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
