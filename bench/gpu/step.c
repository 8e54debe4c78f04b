/* One training step of two towers under InfoNCE + L_ATP + L_CU, or the embedding of one kind, on synthetic data
 * in host memory.
 *
 *     bench_gpu train|image|text DEVICE MODEL BATCH MICRO none|selective|full ROUNDS
 *
 * MICRO samples go through the towers at a time, as in align/objective.c: with less than a batch, each runs
 * forward twice. Behind it stands the level of activation checkpointing (nn/stack.h). A round of a training prints
 * the loss and the norm of its gradient with all their digits, which are the same in every call and at every level.
 * With ROUNDS 0 no memory is taken, and the plan alone is printed. Dropout is off. Images go to the device as
 * align/feed.c sends them: those of the next round while this one computes. */
#include "bench/gpu/bench.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 512, STREAMS = 2, IMAGE = 0, TEXT = 1, LOGIT = 8 };

typedef struct {
    su_tower_config config;
    su_tower *tower;
    int64_t projection;  /* parameter */
    void *projected;     /* act [micro, DIM] */
    void *z, *dz, *norm; /* acc [batch, DIM], [batch] */
    uint8_t *images;     /* host */
    uint8_t *sent[2];    /* device; NULL where the host's memory is the device's */
    int32_t *ids, *lengths;
} stream;

typedef struct {
    su_device *device;
    su_params params;
    stream s[STREAMS];
    int64_t logit_scale;
    void *losses; /* acc [1] */
    int32_t batch, micro;
    su_checkpointing level;
    int round;
} job;

static void plan_towers(job *j, su_arena *a, bool train)
{
    for (int k = 0; k < STREAMS; k++) {
        su_tower_plan(j->s[k].tower, a, j->micro, train, j->level, false);
        j->s[k].projected = su_arena_take(a, (size_t)j->micro * DIM, su_dtype_size(j->device->act));
    }
}

static size_t image_bytes(const stream *s)
{
    return (size_t)s->config.image_size * (size_t)s->config.image_size * (size_t)s->config.channels;
}

/* Images of a round, on their way to its buffer. */
static void send_images(job *j, int round)
{
    stream *s = &j->s[IMAGE];
    if (s->sent[0])
        j->device->ops->send(j->device, s->sent[round % 2], s->images, (size_t)j->batch * image_bytes(s));
}

/* What is fed: every text full, every pixel some noise. */
static void fill(job *j)
{
    stream *v = &j->s[IMAGE], *t = &j->s[TEXT];
    const size_t n = (size_t)j->batch, pixels = n * image_bytes(v);
    const size_t tokens = n * (size_t)t->config.max_tokens;
    const bool sends = j->device->ops->send != NULL;
    void *memory = NULL;
    su_error err = {0};
    if (sends)
        check(j->device->ops->host_alloc(j->device, pixels, &memory, &err), &err);
    else
        memory = malloc(pixels);
    v->images = memory;
    for (int i = 0; i < 2 && sends; i++) v->sent[i] = take(j->device, pixels);
    t->ids = malloc(tokens * sizeof *t->ids);
    t->lengths = malloc(n * sizeof *t->lengths);
    if (!v->images || !t->ids || !t->lengths) exit(1);
    for (size_t i = 0; i < pixels; i++) v->images[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < tokens; i++) t->ids[i] = (int32_t)(1000 + i * 40503u % 20000);
    for (size_t i = 0; i < n; i++) t->lengths[i] = t->config.max_tokens;
}

/* false: only the plan was wanted. */
static bool prepare(job *j, const char *model, bool train, bool run)
{
    su_error err = {0};
    const size_t acc = su_dtype_size(j->device->acc);
    choose_towers(model, &j->s[IMAGE].config, &j->s[TEXT].config);
    su_params_init(&j->params, j->device);
    for (int k = 0; k < STREAMS; k++) {
        stream *s = &j->s[k];
        check(su_tower_new(&s->config, k ? "text." : "image.", k, &j->params, &s->tower, &err), &err);
        s->projection = su_params_add(&j->params, k ? "text.projection.weight" : "image.projection.weight", 2,
                                      (const int64_t[]){DIM, s->config.width}, true, k, SU_INIT_NORMAL,
                                      1 / sqrt(s->config.width), false);
    }
    j->logit_scale = su_params_add(&j->params, "logit_scale", 1, (const int64_t[]){1}, false, LOGIT,
                                   SU_INIT_CONSTANT, log(1 / 0.07), false);
    su_arena a;
    su_arena_measure(&a);
    plan_towers(j, &a, train);
    const size_t activations = a.peak, embeddings = (size_t)j->batch * DIM * acc;
    const size_t norms = (size_t)j->batch * acc;
    const size_t sent = j->device->ops->send ? 2 * (size_t)j->batch * image_bytes(&j->s[IMAGE]) : 0;
    printf("plan %zu\n", su_params_bytes(&j->params, train) + activations +
                             STREAMS * (2 * embeddings + norms) + acc + sent);
    if (!run) return false;
    check(su_params_commit(&j->params, train, &err), &err);
    check(su_params_randomise(&j->params, 1, &err), &err);
    su_params_refresh(&j->params);
    if (train) j->device->ops->zero(j->device, j->params.grad, (size_t)j->params.learning * acc);
    su_arena_init(&a, take(j->device, activations), activations);
    plan_towers(j, &a, train);
    for (int k = 0; k < STREAMS; k++) {
        j->s[k].z = take(j->device, embeddings);
        j->s[k].dz = take(j->device, embeddings);
        j->s[k].norm = take(j->device, norms);
    }
    j->losses = take(j->device, acc);
    fill(j);
    return true;
}

static su_tower_input input(const job *j, int k, int32_t first, bool train)
{
    const stream *s = &j->s[k];
    const int32_t n = j->batch - first < j->micro ? j->batch - first : j->micro;
    su_tower_input in = {.batch = n, .train = train, .key = {.seed = 1, .layer = (uint32_t)k << 28}};
    if (k == IMAGE) {
        in.on_device = s->sent[0] != NULL;
        in.images = (in.on_device ? s->sent[j->round % 2] : s->images) + (size_t)first * image_bytes(s);
    } else {
        in.ids = s->ids + (size_t)first * (size_t)s->config.max_tokens;
        in.lengths = s->lengths + first;
    }
    return in;
}

static void forward(job *j, int k, int32_t first, bool train)
{
    su_device *d = j->device;
    stream *s = &j->s[k];
    su_error err = {0};
    void *pooled = NULL;
    const su_tower_input in = input(j, k, first, train);
    check(su_tower_forward(s->tower, &in, &pooled, &err), &err);
    d->ops->linear(d, s->projected, NULL, pooled, su_param_weight(&j->params, s->projection), NULL,
                   SU_ACT_NONE, in.batch, DIM, s->config.width);
    d->ops->normalise(d, su_acc_at(d, s->z, (int64_t)first * DIM), su_acc_at(d, s->norm, first), s->projected,
                      in.batch, DIM);
}

static void backward(job *j, int k, int32_t first)
{
    su_device *d = j->device;
    stream *s = &j->s[k];
    su_error err = {0};
    const su_tower_input in = input(j, k, first, true);
    const int64_t at = (int64_t)first * DIM;
    void *d_pooled = su_tower_d_pooled(s->tower);
    d->ops->normalise_backward(d, s->projected, su_acc_at(d, s->dz, at), su_acc_at(d, s->z, at),
                               su_acc_at(d, s->norm, first), in.batch, DIM);
    d->ops->linear_backward(d, d_pooled, false, su_param_grad(&j->params, s->projection), NULL, s->projected,
                            su_tower_pooled(s->tower), su_param_weight(&j->params, s->projection), in.batch,
                            DIM, s->config.width);
    check(su_tower_backward(s->tower, &in, d_pooled, NULL, &err), &err);
}

static float objective(job *j)
{
    su_device *d = j->device;
    su_error err = {0};
    const size_t acc = su_dtype_size(d->acc);
    void *dz[STREAMS];
    const void *z[STREAMS];
    d->ops->zero(d, j->losses, acc);
    for (int k = 0; k < STREAMS; k++) {
        dz[k] = j->s[k].dz, z[k] = j->s[k].z;
        d->ops->zero(d, dz[k], (size_t)j->batch * DIM * acc);
    }
    const void *scale = su_acc_at(d, j->params.master, j->params.items[j->logit_scale].offset);
    check(d->ops->infonce(d, j->losses, dz[TEXT], dz[IMAGE], su_param_grad(&j->params, j->logit_scale),
                          z[TEXT], z[IMAGE], scale, 1, j->batch, DIM, &err),
          &err);
    d->ops->atp(d, j->losses, dz[TEXT], dz[IMAGE], z[TEXT], z[IMAGE], 1, j->batch, DIM);
    check(d->ops->cu(d, j->losses, dz, z, STREAMS, SU_CENTROIDS_NORMALISED, 1, j->batch, DIM, &err), &err);
    float loss = 0;
    d->ops->download(d, &loss, j->losses, sizeof loss);
    return loss;
}

static float train_step(job *j, int64_t step, double *norm)
{
    su_optimiser o = {
        .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .weight_decay = 0.05, .clip_norm = 1, .steps = 1000};
    su_error err = {0};
    const int32_t last = (j->batch - 1) / j->micro * j->micro;
    for (int i = 0; i < SU_LR_GROUPS; i++) o.lr[i] = 1e-4;
    for (int32_t first = 0; first < j->batch; first += j->micro)
        for (int k = STREAMS - 1; k >= 0; k--) forward(j, k, first, true);
    const float loss = objective(j);
    for (int32_t first = last; first >= 0; first -= j->micro)
        for (int k = 0; k < STREAMS; k++) {
            if (first != last) forward(j, k, first, true);
            backward(j, k, first);
        }
    check(su_optimiser_step(&o, &j->params, step, norm, &err), &err);
    return loss;
}

int bench_step(int argc, char **argv)
{
    job j = {0};
    su_error err = {0};
    while (argc == 8 && j.level < SU_CHECKPOINTING_LEVELS &&
           strcmp(argv[6], su_checkpointing_names[j.level]) != 0)
        j.level++;
    if (argc != 8 || atoi(argv[4]) < 2 || atoi(argv[5]) < 1 || j.level == SU_CHECKPOINTING_LEVELS)
        return usage("train|image|text DEVICE MODEL BATCH MICRO none|selective|full ROUNDS");
    const int rounds = atoi(argv[7]);
    const bool train = !strcmp(argv[1], "train");
    j.batch = atoi(argv[4]);
    j.micro = atoi(argv[5]) < j.batch ? atoi(argv[5]) : j.batch;
    check(su_device_open(argv[2], 0, &j.device, &err), &err);
    if (!prepare(&j, argv[3], train, rounds > 0)) return 0;
    send_images(&j, 1);
    check(j.device->ops->sync(j.device, &err), &err);
    for (int r = 1; r <= rounds; r++) {
        double norm = 0, start = now();
        float loss = 0;
        j.round = r;
        send_images(&j, r + 1);
        if (train)
            loss = train_step(&j, r, &norm);
        else
            for (int32_t first = 0; first < j.batch; first += j.micro)
                forward(&j, strcmp(argv[1], "image") ? TEXT : IMAGE, first, false);
        check(j.device->ops->sync(j.device, &err), &err);
        told(now() - start, loss, norm);
    }
    return 0; /* the process ends, and all with it */
}
