#include "base/companion.h"
#include "base/file.h"
#include "base/memory.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *look(const char *file, const char *name, const char *installed)
{
    const char *slash = strrchr(file, '/');
    if (!slash) return NULL;
    const int folder = (int)(slash - file);
    const char *const between[] = {"", "/..", "/../", NULL};
    for (int i = 0; between[i]; i++) {
        char path[PATH_MAX];
        const int n = snprintf(path, sizeof path, "%.*s%s%s/%s", folder, file, between[i],
                               i == 2 ? installed : "", name);
        if (n > 0 && n < (int)sizeof path && su_file_exists(path)) return su_strdup(path);
    }
    return NULL;
}

char *su_companion(const char *variable, const char *name, const char *installed)
{
    const char *given = getenv(variable);
    if (given && *given) return su_strdup(given);
    char program[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n < 0 ? 0 : n] = '\0';
    char *found = look(program, name, installed);
    Dl_info own;
    if (!found && dladdr(__extension__(const void *) su_companion, &own) && own.dli_fname)
        found = look(own.dli_fname, name, installed);
    return found;
}
