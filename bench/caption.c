/* Captions on weights that another program made: the timed half of bench/caption.py.
 *
 *   bench_caption WEIGHTS.safetensors BEAMS TOKENS SLOTS THREADS
 *
 * WEIGHTS: parameters of an image tower ("image....") and a decoder ("decoder....") of preset small, "pixels"
 * U8 [n, 224, 224, 3]. For every line "image" or "tokens" on standard input: all n captions, from the pixels
 * or from image tokens that are there already; then a line "SECONDS PROCESSOR_SECONDS". After a line
 * "captions", their tokens, a line each. */
#include "align/tower.h"
#include "base/memory.h"
#include "caption/generate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZE = 224, WIDTH = 384, MEMORY = 197, ENCODE = 16, PIXELS = SIZE * SIZE * 3 };

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(su_status st, const su_error *err)
{
    if (!st) return;
    fprintf(stderr, "bench_caption: %s\n", err->message);
    exit(1);
}

typedef struct {
    su_device *device;
    su_params params;
    su_tower *tower;
    su_decoder *decoder;
    su_generator *generator;
    const uint8_t *pixels;
    float *memory; /* [count][MEMORY][WIDTH] on the device, of the last "image" */
    int32_t count;
    int32_t *tokens, *lengths; /* of the captions */
} bench;

static void encode(bench *b, int32_t first, int32_t n)
{
    su_error err = {0};
    void *pooled = NULL;
    int32_t tokens = 0;
    su_tower_input in = {.batch = n, .images = b->pixels + (size_t)first * PIXELS};
    check(su_tower_forward(b->tower, &in, &pooled, &err), &err);
    const void *out = su_tower_output(b->tower, &tokens);
    b->device->ops->copy(b->device, b->memory + (size_t)first * MEMORY * WIDTH, out,
                         (size_t)n * MEMORY * WIDTH * sizeof *b->memory);
}

static void caption_all(bench *b, bool image, int32_t max)
{
    su_error err = {0};
    int32_t next = 0, encoded = image ? 0 : b->count;
    while (next < b->count || su_generator_active(b->generator)) {
        for (; next < b->count && su_generator_room(b->generator); next++) {
            if (next == encoded) {
                int32_t n = b->count - encoded < ENCODE ? b->count - encoded : ENCODE;
                encode(b, encoded, n);
                encoded += n;
            }
            check(su_generator_add(b->generator, next, b->memory + (size_t)next * MEMORY * WIDTH, NULL, &err),
                  &err);
        }
        check(su_generator_step(b->generator, &err), &err);
        const su_generated *g;
        while ((g = su_generator_take(b->generator))) {
            b->lengths[g->number] = g->length;
            memcpy(b->tokens + g->number * max, g->tokens, (size_t)g->length * sizeof *g->tokens);
        }
    }
}

int main(int argc, char **argv)
{
    su_error err = {0};
    if (argc != 6) {
        fprintf(stderr, "usage: bench_caption WEIGHTS.safetensors BEAMS TOKENS SLOTS THREADS\n");
        return 2;
    }
    su_generation rules;
    su_generation_defaults(&rules);
    rules.beams = atoi(argv[2]);
    rules.max_tokens = atoi(argv[3]);
    rules.start = 101;
    rules.end = 102;
    bench b = {0};
    su_safetensors *file = NULL;
    const su_tensor_view *pixels = NULL;
    su_tower_config vit = {.kind = SU_TOWER_VIT,
                           .width = WIDTH,
                           .depth = 12,
                           .heads = 6,
                           .mlp = 1536,
                           .act = SU_ACT_GELU,
                           .eps = 1e-6,
                           .image_size = SIZE,
                           .patch = 16,
                           .channels = 3};
    for (int i = 0; i < 3; i++) vit.mean[i] = 0.5, vit.std[i] = 0.25;
    su_decoder_config c = {.width = WIDTH,
                           .depth = 6,
                           .heads = 12,
                           .mlp = 1536,
                           .memory_width = WIDTH,
                           .vocabulary = 30522,
                           .positions = 64,
                           .types = 1,
                           .act = SU_ACT_GELU,
                           .eps = 1e-12};
    check(su_device_cpu(atoi(argv[5]), SU_DTYPE_F32, &b.device, &err), &err);
    check(su_safetensors_open(argv[1], &file, &err), &err);
    check(su_safetensors_get(file, "pixels", SU_DTYPE_U8, 4, (int64_t[]){-1, SIZE, SIZE, 3}, &pixels, &err),
          &err);
    b.pixels = pixels->data;
    b.count = (int32_t)pixels->shape[0];
    su_params_init(&b.params, b.device);
    check(su_tower_new(&vit, "image.", 0, &b.params, &b.tower, &err), &err);
    check(su_decoder_new(&c, "decoder.", 1, &b.params, &b.decoder, &err), &err);
    check(su_params_commit(&b.params, false, &err), &err);
    check(su_params_load(&b.params, file, false, &err), &err);
    su_arena a;
    void *arena = NULL, *memory = NULL;
    su_arena_measure(&a);
    su_tower_plan(b.tower, &a, ENCODE, false, SU_CHECKPOINTING_NONE, true);
    size_t size = a.peak;
    check(b.device->ops->alloc(b.device, size, &arena, &err), &err);
    su_arena_init(&a, arena, size);
    su_tower_plan(b.tower, &a, ENCODE, false, SU_CHECKPOINTING_NONE, true);
    check(b.device->ops->alloc(b.device, (size_t)b.count * MEMORY * WIDTH * sizeof(float), &memory, &err),
          &err);
    b.memory = memory;
    check(su_generator_new(b.decoder, &rules, atoi(argv[4]), MEMORY, 0, &b.generator, &err), &err);
    b.tokens = calloc((size_t)b.count * (size_t)rules.max_tokens, sizeof *b.tokens);
    b.lengths = calloc((size_t)b.count, sizeof *b.lengths);
    if (!b.tokens || !b.lengths) return 1;

    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "captions", 8)) {
            for (int32_t i = 0; i < b.count; i++)
                for (int32_t t = 0; t < b.lengths[i]; t++)
                    printf("%d%c", b.tokens[i * rules.max_tokens + t], t + 1 < b.lengths[i] ? ' ' : '\n');
        } else {
            double wall = now(CLOCK_MONOTONIC), processor = now(CLOCK_PROCESS_CPUTIME_ID);
            caption_all(&b, !strncmp(line, "image", 5), rules.max_tokens);
            printf("%.6f %.6f\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - processor);
        }
        fflush(stdout);
    }
    su_generator_free(b.generator);
    su_decoder_free(b.decoder);
    su_tower_free(b.tower);
    su_params_free(&b.params);
    b.device->ops->release(b.device, arena);
    b.device->ops->release(b.device, memory);
    su_device_close(b.device);
    su_safetensors_close(file);
    free(b.tokens);
    free(b.lengths);
    return 0;
}
