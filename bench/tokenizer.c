/* Our side of bench/tokenizer.py: reads a vocabulary and a file of texts, one a line, then tokenizes all of
 * them once for every line on standard input and answers with one JSON line: tokens and seconds. The first
 * line tells the memory. */
#include "base/file.h"
#include "base/memory.h"
#include "text/wordpiece.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXTS_MAX = 1 << 30, ROW = 8192 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long resident_kib(void)
{
    long total, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%ld %ld", &total, &pages) != 2) pages = 0;
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int64_t pass(const su_wordpiece *wp, const char *texts, size_t length)
{
    static int32_t ids[ROW];
    int64_t tokens = 0, count;
    for (const char *p = texts, *end = texts + length; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        if (!newline) newline = end;
        su_wordpiece_encode(wp, p, (size_t)(newline - p), ids, ROW, &count, NULL);
        tokens += count;
        p = newline + 1;
    }
    return tokens;
}

int main(int argc, char **argv)
{
    su_error err = {0};
    su_wordpiece *wp;
    char *texts;
    size_t length;
    if (argc != 3) return fprintf(stderr, "usage: bench_tokenizer VOCAB TEXTS < GO\n"), 2;
    long before = resident_kib();
    double start = now();
    if (su_wordpiece_open(argv[1], &wp, &err))
        return fprintf(stderr, "bench_tokenizer: %s\n", err.message), 1;
    printf("{\"load_seconds\":%.6f,\"memory_kib\":%ld}\n", now() - start, resident_kib() - before);
    if (su_file_read(argv[2], TEXTS_MAX, &texts, &length, &err))
        return fprintf(stderr, "bench_tokenizer: %s\n", err.message), 1;
    for (int c; fflush(stdout), (c = getchar()) != EOF;) {
        if (c != '\n') continue;
        start = now();
        int64_t tokens = pass(wp, texts, length);
        printf("{\"tokens\":%" PRId64 ",\"seconds\":%.9f}\n", tokens, now() - start);
    }
    su_free(texts);
    su_wordpiece_free(wp);
    return 0;
}
