/* The timed half of bench/gpu/run.py. */
#include "bench/gpu/bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void check(su_status st, const su_error *err)
{
    if (!st) return;
    fprintf(stderr, "bench_gpu: %s\n", err->message);
    exit(st == SU_EUNSUPPORTED ? 77 : st == SU_ENOMEM ? 3 : 1);
}

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void *take(su_device *d, size_t bytes)
{
    void *memory = NULL;
    su_error err = {0};
    check(d->ops->alloc(d, bytes, &memory, &err), &err);
    return memory;
}

void told(double seconds, double x, double y)
{
    printf("round %.6f %.9g %.17g\n", seconds, x, y);
    fflush(stdout);
}

int usage(const char *arguments)
{
    fprintf(stderr, "usage: bench_gpu %s\n", arguments);
    return 2;
}

static su_tower_config tower(su_tower_kind kind, int32_t width, int32_t depth, int32_t heads, int32_t mlp)
{
    return (su_tower_config){.kind = kind,
                             .width = width,
                             .depth = depth,
                             .heads = heads,
                             .mlp = mlp,
                             .act = SU_ACT_GELU,
                             .eps = kind == SU_TOWER_VIT ? 1e-6 : 1e-12,
                             .image_size = 224,
                             .patch = 16,
                             .channels = 3,
                             .mean = {0.5, 0.5, 0.5},
                             .std = {0.25, 0.25, 0.25},
                             .vocabulary = 30522,
                             .positions = 512,
                             .types = 2,
                             .max_tokens = 77};
}

void choose_towers(const char *model, su_tower_config *image, su_tower_config *text)
{
    *image = tower(SU_TOWER_VIT, 768, 12, 12, 3072);
    *text = tower(SU_TOWER_BERT, 768, 12, 12, 3072);
    if (!strcmp(model, "large")) {
        *image = tower(SU_TOWER_VIT, 1024, 24, 16, 4096);
        image->patch = 14;
        text->max_tokens = 256;
    } else if (!strcmp(model, "giant")) {
        *image = tower(SU_TOWER_VIT, 1408, 40, 16, 6144);
        image->patch = 14;
        text->max_tokens = 128;
    } else if (!strcmp(model, "small")) {
        *image = tower(SU_TOWER_VIT, 64, 2, 2, 128);
        *text = tower(SU_TOWER_BERT, 64, 2, 2, 128);
        image->image_size = 64;
        text->max_tokens = 16;
    } else if (strcmp(model, "base") != 0) {
        fprintf(stderr, "bench_gpu: no model %s: choose base, large, giant or small\n", model);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"train", bench_step},    {"image", bench_step},    {"text", bench_step},
                    {"loss", bench_loss},     {"search", bench_search}, {"caption", bench_caption},
                    {"decode", bench_caption}};
    for (size_t i = 0; argc > 2 && i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc, argv);
    return usage("train|image|text|loss|search|caption|decode DEVICE ...");
}
