/* One training step, and embedding, of a preset on synthetic data: the timed half of bench/train.py.
 *   bench_step VOCAB.txt PRESET train|image|text BATCH ROUNDS THREADS [none|selective|full]
 * prints the seconds of each round, a line each. The last argument is the level of activation checkpointing
 * (none). Texts have full length; dropout and augmentation are off, as
 * on the other side. */
#include "align/objective.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(su_status st, const su_error *err)
{
    if (!st) return;
    fprintf(stderr, "bench_step: %s\n", err->message);
    exit(1);
}

int main(int argc, char **argv)
{
    su_error err = {0};
    su_checkpointing level = SU_CHECKPOINTING_NONE;
    while (argc == 8 && level < SU_CHECKPOINTING_LEVELS &&
           strcmp(argv[7], su_checkpointing_names[level]) != 0)
        level++;
    if (argc < 7 || argc > 8 || level == SU_CHECKPOINTING_LEVELS) {
        fprintf(stderr, "usage: bench_step VOCAB.txt PRESET train|image|text BATCH ROUNDS THREADS "
                        "[none|selective|full]\n");
        return 2;
    }
    const char *what = argv[3];
    int32_t batch = atoi(argv[4]), rounds = atoi(argv[5]);
    su_train_config c;
    su_device *device = NULL;
    su_wordpiece *tokenizer = NULL;
    su_model *model = NULL;
    check(su_config_preset(argv[2], &c, &err), &err);
    for (int i = 0; i < c.model.streams; i++)
        c.model.stream[i].tower.dropout = c.model.stream[i].tower.attention_dropout = 0.0;
    check(su_device_cpu(atoi(argv[6]), SU_DTYPE_F32, &device, &err), &err);
    check(su_wordpiece_open(argv[1], &tokenizer, &err), &err);
    bool train = !strcmp(what, "train");
    check(su_model_new(&c.model, device, tokenizer, train, 1, &model, &err), &err);
    model->checkpointing = level;
    const su_tower_config *image = &c.model.stream[0].tower, *text = &c.model.stream[1].tower;
    size_t pixels =
        (size_t)batch * (size_t)image->image_size * (size_t)image->image_size * (size_t)image->channels;
    size_t tokens = (size_t)batch * (size_t)text->max_tokens;
    uint8_t *images = malloc(pixels);
    int32_t *ids = malloc(tokens * sizeof *ids), *lengths = malloc((size_t)batch * sizeof *lengths);
    float *z = malloc((size_t)batch * (size_t)su_model_width(model) * sizeof *z);
    if (!images || !ids || !lengths || !z) return 1;
    for (size_t i = 0; i < pixels; i++) images[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < tokens; i++) ids[i] = (int32_t)(1000 + (i * 40503u) % 20000);
    for (int32_t i = 0; i < batch; i++) lengths[i] = text->max_tokens;
    su_step *step = NULL;
    size_t bytes = 0;
    if (train)
        check(su_step_new(model, batch, batch, &step, &bytes, &err), &err);
    else
        check(su_model_plan(model, batch, false, &bytes, &err), &err);
    su_optimiser o = {.beta1 = 0.9,
                      .beta2 = 0.98,
                      .eps = 1e-8,
                      .weight_decay = 0.05,
                      .clip_norm = 1.0,
                      .warmup = 10,
                      .steps = 1000};
    for (int i = 0; i < SU_LR_GROUPS; i++) o.lr[i] = 1e-4;
    for (int32_t r = 0; r < rounds; r++) {
        double start = now(), norm = 0.0;
        if (train) {
            su_step_batch b = {.count = batch,
                               .train = true,
                               .seed = 1,
                               .step = r + 1,
                               .images = {images},
                               .ids = {NULL, ids},
                               .lengths = {NULL, lengths}};
            su_losses losses;
            check(su_step_run(step, &b, &c.objective, 0.0, &losses, &err), &err);
            check(su_optimiser_step(&o, &model->params, r + 1, &norm, &err), &err);
            if (!isfinite(losses.total)) return 1;
        } else if (!strcmp(what, "image")) {
            check(su_model_encode_images(model, 0, images, batch, z, &err), &err);
        } else {
            check(su_model_encode_ids(model, 1, ids, lengths, batch, z, &err), &err);
        }
        printf("%.6f\n", now() - start);
        fflush(stdout);
    }
    su_step_free(step);
    su_model_free(model);
    su_device_close(device);
    free(images);
    free(ids);
    free(lengths);
    free(z);
    return 0;
}
