/* The golden files of the main job on the CUDA device: the objective's losses and every gradient, and 20
 * steps of training, against PyTorch in float64.
 *
 *     test_cuda_golden [DEVICE]      "cuda,bf16" (default) or "cuda,f32"; exits with 77 without a GPU
 *
 * In bf16 single small elements are rounding and nothing else, so gradients and weights are compared as whole
 * tensors: the norm of what is off over the norm. */
#include "tests/align/models.h"
#include "tests/cuda/open.h"

static const char *name_of_device;

static bool is_f32(void)
{
    return strstr(name_of_device, "f32") != NULL;
}

static double limit(const char *what)
{
    char row[64];
    snprintf(row, sizeof row, "cuda.%s.%s", is_f32() ? "f32" : "bf16", what);
    return su_tolerance(row);
}

typedef struct {
    double off, all, worst;
    char name[256]; /* of the worst */
} distance;

static void add(distance *s, const char *name, const double *got, const double *want, int64_t n)
{
    double off = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        off += (got[i] - want[i]) * (got[i] - want[i]);
        all += want[i] * want[i];
    }
    s->off += off;
    s->all += all;
    if (all > 0 && !(sqrt(off / all) <= s->worst)) {
        s->worst = sqrt(off / all);
        snprintf(s->name, sizeof s->name, "%s", name);
    }
}

static void check(const char *what, const distance *s, double most, double most_of_one)
{
    print_message("%s: off by %.2g in all, %.2g in %s\n", what, sqrt(s->off / s->all), s->worst, s->name);
    if (!(sqrt(s->off / s->all) <= most)) fail_msg("%s: off by more than %g", what, most);
    if (!(s->worst <= most_of_one)) fail_msg("%s: %s is off by more than %g", what, s->name, most_of_one);
}

typedef struct {
    su_model_config config;
    su_safetensors *file;
    su_device *device;
    su_model *model;
} golden;

static golden open_golden_with(int streams, double dropout)
{
    golden g = {.config = golden_config(streams)};
    char path[256];
    for (int k = 0; k < streams; k++) {
        su_tower_config *t = &g.config.stream[k].tower;
        t->dropout = t->attention_dropout = t->drop_path = dropout;
    }
    snprintf(path, sizeof path, TOWERS "objective%d.safetensors", streams);
    g.file = golden_open(path);
    g.device = open_cuda(name_of_device);
    g.model = new_model(&g.config, g.device, true, 1);
    golden_set(&g.model->params, g.file);
    return g;
}

static golden open_golden(int streams)
{
    return open_golden_with(streams, 0);
}

static void close_golden(golden *g)
{
    su_model_free(g->model);
    su_device_close(g->device);
    su_safetensors_close(g->file);
    check_free_all();
}

static void losses_and_all_gradients_are_pytorchs(void **state)
{
    static const char *const forms[] = {"normalised/", "raw/"};
    (void)state;
    for (int streams = 2; streams <= 3; streams++) {
        golden g = open_golden(streams);
        const su_params *p = &g.model->params;
        su_step *step = new_step(g.model, GOLDEN_BATCH, 0);
        const su_step_batch batch = golden_batch(&g.config, g.file, 0);
        for (int form = 0; form < (is_f32() ? 2 : 1); form++) { /* bf16 takes its time on the host */
            const su_objective o = {.lambda_infonce = 1,
                                    .lambda_atp = 1,
                                    .lambda_cu = 1,
                                    .temperature = 0.07,
                                    .learn_temperature = true,
                                    .centroids = form ? SU_CENTROIDS_RAW : SU_CENTROIDS_NORMALISED,
                                    .atp_end = -1,
                                    .cu_end = -1};
            su_losses losses;
            su_error err = {0};
            char front[32];
            zero_gradients(&g.model->params);
            ok(su_step_run(step, &batch, &o, 0.0, &losses, &err), &err);
            check_close("losses", (const double[]){losses.total, losses.infonce, losses.atp, losses.cu},
                        golden_values(g.file, forms[form], "losses", NULL), 4, limit("losses"));
            snprintf(front, sizeof front, "%sgrad/", forms[form]);
            distance s = {0};
            for (int64_t i = 0; i < p->count; i++) {
                const char *name = p->items[i].name;
                if (strstr(name, ".key.bias")) continue; /* zero but for rounding */
                add(&s, name, gradient_values(p, i), golden_values(g.file, front, name, NULL),
                    p->items[i].count);
            }
            check(front, &s, limit("gradients"), 4 * limit("gradients"));
        }
        su_step_free(step);
        close_golden(&g);
    }
}

/* As tests/align/test_train.c does it, for two streams. */
static void twenty_steps_of_adamw_are_pytorchs(void **state)
{
    enum { STEPS = 20 };
    (void)state;
    golden g = open_golden(2);
    const su_params *p = &g.model->params;
    su_step *step = new_step(g.model, GOLDEN_BATCH, is_f32() ? 4 : 0);
    const su_objective o = {.lambda_infonce = 1,
                            .lambda_atp = 1,
                            .lambda_cu = 1,
                            .atp_end = -1,
                            .cu_end = -1,
                            .learn_temperature = true};
    su_optimiser adam = {.beta1 = 0.9,
                         .beta2 = 0.98,
                         .eps = 1e-8,
                         .weight_decay = 0.05,
                         .clip_norm = 1,
                         .warmup = 4,
                         .steps = STEPS};
    adam.lr[SU_GROUP_STREAM] = 2e-3;
    adam.lr[SU_GROUP_STREAM + 1] = 4e-3;
    adam.lr[SU_GROUP_PROJECTION] = 4e-3;
    adam.lr[SU_GROUP_LOGIT_SCALE] = 1e-2;
    double losses[STEPS * 4], norms[STEPS];
    for (int64_t i = 1; i <= STEPS; i++) {
        const su_step_batch batch = golden_batch(&g.config, g.file, (int)((i - 1) % GOLDEN_BATCHES));
        su_losses l;
        su_error err = {0};
        ok(su_step_run(step, &batch, &o, (double)(i - 1) / STEPS, &l, &err), &err);
        ok(su_optimiser_step(&adam, &g.model->params, i, &norms[i - 1], &err), &err);
        memcpy(losses + (i - 1) * 4, (double[]){l.total, l.infonce, l.atp, l.cu}, 4 * sizeof *losses);
    }
    check_close("losses", losses, golden_values(g.file, "train/", "losses", NULL), STEPS * 4,
                limit("train.losses"));
    check_close("norms", norms, golden_values(g.file, "train/", "norms", NULL), STEPS, limit("train.losses"));
    distance s = {0};
    for (int64_t i = 0; i < p->count; i++) {
        const char *name = p->items[i].name;
        if (strstr(name, ".key.bias")) continue;
        add(&s, name, weight_values(p, i), golden_values(g.file, "train/final/", name, NULL),
            p->items[i].count);
    }
    check("weights after 20 steps", &s, limit("train.weights"), 1);
    su_step_free(step);
    close_golden(&g);
}

/* What is formed again has the bits of what forward had. */
static void checkpointing_does_not_change_a_bit(void **state)
{
    (void)state;
    double *none = NULL;
    for (int level = 0; level < SU_CHECKPOINTING_LEVELS; level++) {
        golden g = open_golden_with(2, 0.2);
        su_params *p = &g.model->params;
        const su_objective o = {
            .lambda_infonce = 1, .lambda_atp = 1, .lambda_cu = 1, .atp_end = -1, .cu_end = -1};
        const su_step_batch batch = golden_batch(&g.config, g.file, 0);
        su_losses losses;
        su_error err = {0};
        double *all = malloc((size_t)p->elements * sizeof *all);
        assert_non_null(all);
        g.model->checkpointing = (su_checkpointing)level;
        su_step *step = new_step(g.model, GOLDEN_BATCH, 0);
        ok(su_step_run(step, &batch, &o, 0.0, &losses, &err), &err);
        for (int64_t i = 0; i < p->count; i++)
            memcpy(all + p->items[i].offset, gradient_values(p, i), (size_t)p->items[i].count * sizeof *all);
        for (int64_t i = 0; none && i < p->count; i++)
            check_same_bits(p->items[i].name, all + p->items[i].offset, none + p->items[i].offset,
                            p->items[i].count);
        if (none)
            free(all);
        else
            none = all;
        su_step_free(step);
        close_golden(&g);
    }
    free(none);
}

int main(int argc, char **argv)
{
    name_of_device = argc > 1 ? argv[1] : "cuda,bf16";
    su_device_close(open_cuda(name_of_device)); /* or ends here */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_all_gradients_are_pytorchs),
        cmocka_unit_test(twenty_steps_of_adamw_are_pytorchs),
        cmocka_unit_test(checkpointing_does_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
