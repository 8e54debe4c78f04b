/* Our side of bench/import.py, one thread: reads a list of image files, one a line, then for every line on
 * standard input decodes all of them to padded squares in memory, writes the array, and answers with one JSON
 * line. */
#include "base/file.h"
#include "base/memory.h"
#include "base/safetensors.h"
#include "datasets/image.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { LIST_MAX = 1 << 28 };

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One pass over the list; the array belongs to this call, so that its pages are counted. */
static su_status pass(const char *list, size_t length, const su_image_recipe *recipe, const char *out,
                      int64_t count, su_error *err)
{
    const size_t bytes = (size_t)recipe->size * (size_t)recipe->size * (size_t)recipe->channels;
    uint8_t *pixels = su_alloc((size_t)count, bytes), *to = pixels;
    if (!pixels) return su_fail(err, SU_ENOMEM, "no memory for %" PRId64 " images", count);
    char path[4096];
    su_status status = SU_OK;
    for (const char *p = list, *end = list + length; p < end && !status; to += bytes) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        if (!newline) newline = end;
        su_image image = {0};
        snprintf(path, sizeof path, "%.*s", (int)(newline - p), p);
        status = su_image_load(path, recipe, &image, err);
        if (!status) status = su_image_to_recipe(&image, recipe, to, err);
        su_image_free(&image);
        p = newline + 1;
    }
    const su_tensor_view view = {.name = "pixels",
                                 .dtype = SU_DTYPE_U8,
                                 .rank = 4,
                                 .shape = {count, recipe->size, recipe->size, recipe->channels},
                                 .data = pixels,
                                 .bytes = (size_t)count * bytes};
    if (!status) status = su_safetensors_write(out, &view, 1, NULL, err);
    su_free(pixels);
    return status;
}

int main(int argc, char **argv)
{
    su_error err = {0};
    char *list;
    size_t length;
    if (argc != 4) return fprintf(stderr, "usage: bench_import LIST OUT.safetensors SIZE < GO\n"), 2;
    const su_image_recipe recipe = {.size = (int32_t)strtol(argv[3], NULL, 10), .channels = 3};
    if (su_file_read(argv[1], LIST_MAX, &list, &length, &err))
        return fprintf(stderr, "bench_import: %s\n", err.message), 1;
    int64_t count = 0;
    for (size_t i = 0; i < length; i++) count += list[i] == '\n';
    for (int c; fflush(stdout), (c = getchar()) != EOF;) {
        if (c != '\n') continue;
        const double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        if (pass(list, length, &recipe, argv[2], count, &err))
            return fprintf(stderr, "bench_import: %s\n", err.message), 1;
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        printf("{\"wall\":%.6f,\"cpu\":%.6f,\"peak_kib\":%ld}\n", seconds(CLOCK_MONOTONIC) - wall,
               seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, usage.ru_maxrss);
    }
    su_free(list);
    return 0;
}
