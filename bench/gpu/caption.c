/* Captions by beam search, of random weights: of images ("caption"), or of their tokens alone ("decode").
 *
 *     bench_gpu caption|decode DEVICE MODEL BATCH BEAMS TOKENS ROUNDS
 *
 * The image tower of MODEL and a decoder of six layers, as wide. No caption ends before it has TOKENS tokens. A
 * round prints the tokens of all captions, and their log-probability. */
#include "bench/gpu/bench.h"
#include "caption/generate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 6, POSITIONS = 64, VOCABULARY = 30522, NO_END = VOCABULARY };

typedef struct {
    su_device *device;
    su_params params;
    su_tower_config image;
    su_tower *tower;
    su_decoder *decoder;
    su_generator *generator;
    uint8_t *images;
    int32_t batch, tokens; /* of an image */
} job;

static void plan_tower(job *j)
{
    su_arena a;
    su_arena_measure(&a);
    su_tower_plan(j->tower, &a, j->batch, false, SU_CHECKPOINTING_NONE, true);
    const size_t bytes = a.peak;
    su_arena_init(&a, take(j->device, bytes), bytes);
    su_tower_plan(j->tower, &a, j->batch, false, SU_CHECKPOINTING_NONE, true);
    printf("plan %zu\n", bytes + su_params_bytes(&j->params, false) + su_generator_bytes(j->generator));
}

static void prepare(job *j, const char *model, const su_generation *rules)
{
    su_error err = {0};
    su_tower_config text;
    choose_towers(model, &j->image, &text);
    const su_decoder_config c = {.width = j->image.width,
                                 .depth = DEPTH,
                                 .heads = j->image.heads,
                                 .mlp = j->image.mlp,
                                 .memory_width = j->image.width,
                                 .vocabulary = VOCABULARY,
                                 .positions = POSITIONS,
                                 .types = 1,
                                 .act = SU_ACT_GELU,
                                 .eps = 1e-12};
    su_params_init(&j->params, j->device);
    check(su_tower_new(&j->image, "image.", 0, &j->params, &j->tower, &err), &err);
    check(su_decoder_new(&c, "decoder.", 1, &j->params, &j->decoder, &err), &err);
    check(su_params_commit(&j->params, false, &err), &err);
    check(su_params_randomise(&j->params, 1, &err), &err);
    su_params_refresh(&j->params);
    j->tokens = su_tower_tokens(j->tower);
    check(su_generator_new(j->decoder, rules, j->batch, j->tokens, 0, &j->generator, &err), &err);
    plan_tower(j);
    const size_t pixels = (size_t)j->batch * (size_t)(j->image.image_size * j->image.image_size * 3);
    j->images = malloc(pixels);
    if (!j->images) exit(1);
    for (size_t i = 0; i < pixels; i++) j->images[i] = (uint8_t)(i * 2654435761u >> 13);
}

static void see(job *j)
{
    su_error err = {0};
    void *pooled = NULL;
    const su_tower_input in = {.batch = j->batch, .images = j->images};
    check(su_tower_forward(j->tower, &in, &pooled, &err), &err);
    check(j->device->ops->sync(j->device, &err), &err);
}

static void write(job *j, int64_t *length, double *log_prob)
{
    su_error err = {0};
    int32_t tokens = 0;
    const void *memory = su_tower_output(j->tower, &tokens);
    *length = 0, *log_prob = 0;
    for (int32_t i = 0; i < j->batch; i++) {
        const void *own =
            su_act_at(j->device, (void *)(uintptr_t)memory, (int64_t)i * tokens * j->image.width);
        check(su_generator_add(j->generator, i, own, NULL, &err), &err);
    }
    while (su_generator_active(j->generator)) {
        const su_generated *g;
        check(su_generator_step(j->generator, &err), &err);
        while ((g = su_generator_take(j->generator))) *length += g->length, *log_prob += g->log_prob;
    }
}

int bench_caption(int argc, char **argv)
{
    job j = {0};
    su_error err = {0};
    su_generation rules;
    if (argc != 8 || atoi(argv[4]) < 1 || atoi(argv[6]) > POSITIONS)
        return usage("caption|decode DEVICE MODEL BATCH BEAMS TOKENS ROUNDS");
    su_generation_defaults(&rules);
    j.batch = atoi(argv[4]);
    rules.beams = atoi(argv[5]);
    rules.max_tokens = atoi(argv[6]);
    rules.start = 101;
    rules.end = NO_END;
    check(su_device_open(argv[2], 0, &j.device, &err), &err);
    prepare(&j, argv[3], &rules);
    see(&j);
    for (int r = 0; r < atoi(argv[7]); r++) {
        int64_t length;
        double log_prob, start = now();
        if (!strcmp(argv[1], "caption")) see(&j);
        write(&j, &length, &log_prob);
        told(now() - start, (double)length, log_prob);
    }
    return 0;
}
