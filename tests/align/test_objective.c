/* The whole objective through towers and projections: against PyTorch, against differences, and cut into
 * pieces. */
#include "tests/align/models.h"

static const su_objective closegap = {.lambda_infonce = 1,
                                      .lambda_atp = 1,
                                      .lambda_cu = 1,
                                      .temperature = 0.07,
                                      .learn_temperature = true,
                                      .atp_end = -1,
                                      .cu_end = -1};

/* --- against PyTorch --------------------------------------------------------------------------------------- */

static void equals_pytorch(int streams, su_dtype type, int threads, const char *tolerance)
{
    static const char *const names[] = {"normalised/", "raw/"};
    char path[256], front[32];
    snprintf(path, sizeof path, TOWERS "objective%d.safetensors", streams);
    su_safetensors *file = golden_open(path);
    su_model_config c = golden_config(streams);
    su_device *d = check_device(type, threads);
    su_model *m = new_model(&c, d, true, 1);
    golden_set(&m->params, file);
    su_step *step = new_step(m, GOLDEN_BATCH, 0);
    su_step_batch batch = golden_batch(&c, file, 0);
    for (int form = 0; form < 2; form++) {
        su_objective o = closegap;
        su_losses losses;
        su_error err = {0};
        o.centroids = form ? SU_CENTROIDS_RAW : SU_CENTROIDS_NORMALISED;
        zero_gradients(&m->params);
        ok(su_step_run(step, &batch, &o, 0.0, &losses, &err), &err);
        check_close("losses", (const double[]){losses.total, losses.infonce, losses.atp, losses.cu},
                    golden_values(file, names[form], "losses", NULL), 4, su_tolerance(tolerance));
        snprintf(front, sizeof front, "%sgrad/", names[form]);
        golden_gradients(&m->params, file, front, su_tolerance(tolerance));
    }
    su_step_free(step);
    su_model_free(m);
    su_device_close(d);
    su_safetensors_close(file);
    check_free_all();
}

static void losses_and_all_gradients_equal_pytorch(void **state)
{
    (void)state;
    for (int streams = 2; streams <= 3; streams++) {
        equals_pytorch(streams, SU_DTYPE_F32, 2, "align.f32");
        equals_pytorch(streams, SU_DTYPE_F64, 1, "align.f64");
    }
}

/* --- against differences -------------------------------------------------------------------------------- */

typedef struct {
    su_model *model;
    su_step *step;
    const su_step_batch *batch;
    const su_objective *objective;
    int64_t index;
    const double *values;
} difference;

static double moved_loss(void *context)
{
    difference *c = context;
    su_losses losses;
    su_error err = {0};
    ok(su_params_set(&c->model->params, c->index, c->values, &err), &err);
    su_params_refresh(&c->model->params);
    ok(su_step_run(c->step, c->batch, c->objective, 0.0, &losses, &err), &err);
    return losses.total;
}

/* Two or three streams, with and without projection, dropout on (its key is the step's), pieces of 2 of 5
 * samples. */
static void every_gradient_equals_differences_with_dropout_in_pieces(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++) {
        su_model_config c = golden_config(k == 1 ? 3 : 2);
        for (int m = 0; m < c.streams; m++) {
            su_tower_config *t = &c.stream[m].tower;
            t->width = 12;
            t->heads = 2 + m;
            t->mlp = 10;
            t->depth = 1;
            t->dropout = 0.1;
            t->attention_dropout = 0.1;
            t->drop_path = 0.2;
            if (t->kind == SU_TOWER_VIT) t->patch_dropout = 0.3;
        }
        c.dim = k == 2 ? 0 : 7;
        if (c.streams == 3) c.stream[2].tower.heads = 3;
        su_objective o = closegap;
        o.lambda_atp = 0.7;
        o.lambda_cu = 1.3;
        o.centroids = k ? SU_CENTROIDS_RAW : SU_CENTROIDS_NORMALISED;
        su_device *d = check_device(SU_DTYPE_F64, 1);
        su_model *m = new_model(&c, d, true, 1);
        for (int64_t i = 0; i < m->params.count; i++) {
            su_error err = {0};
            if (i == m->logit_scale) continue;
            ok(su_params_set(&m->params, i, check_normal((uint64_t)(90 + i), m->params.items[i].count, 0.3),
                             &err),
               &err);
        }
        su_params_refresh(&m->params);
        su_step *step = new_step(m, 5, 2);
        su_step_batch batch = random_batch(&c, 5, 6);
        batch.train = true;
        su_losses losses;
        su_error err = {0};
        ok(su_step_run(step, &batch, &o, 0.0, &losses, &err), &err);
        for (int64_t i = 0; i < m->params.count; i++) {
            zero_gradients(&m->params);
            double *x = weight_values(&m->params, i);
            difference context = {m, step, &batch, &o, i, x};
            moved_loss(&context);
            double *gradient = gradient_values(&m->params, i);
            int64_t n = m->params.items[i].count, some = n < 12 ? n : 12,
                    first = n > some ? i * 37 % (n - some) : 0;
            check_gradient(m->params.items[i].name, moved_loss, &context, x + first, gradient + first, some,
                           su_tolerance("align.difference"));
            moved_loss(&context);
        }
        su_step_free(step);
        su_model_free(m);
        su_device_close(d);
        check_free_all();
    }
}

/* --- pieces --------------------------------------------------------------------------------------------- */

/* The gradient of `count` samples in pieces of `micro`, and the losses. Everything random is on: what a sample
 * draws depends on its place in the batch alone. */
static double *pieces_at(su_checkpointing level, su_dtype type, int32_t count, int32_t micro, int threads,
                         su_losses *losses, int64_t *n)
{
    su_model_config c = golden_config(2);
    for (int i = 0; i < 2; i++) {
        c.stream[i].tower.dropout = 0.1;
        c.stream[i].tower.attention_dropout = 0.1;
        c.stream[i].tower.drop_path = 0.2;
    }
    c.stream[0].tower.patch_dropout = 0.3;
    su_device *d = check_device(type, threads);
    su_model *m = new_model(&c, d, true, 3);
    m->checkpointing = level;
    su_step *step = new_step(m, count, micro);
    su_step_batch batch = random_batch(&c, count, 8);
    batch.train = true;
    su_error err = {0};
    ok(su_step_run(step, &batch, &closegap, 0.0, losses, &err), &err);
    double *all = check_zeros(m->params.elements);
    for (int64_t i = 0; i < m->params.count; i++)
        memcpy(all + m->params.items[i].offset, gradient_values(&m->params, i),
               (size_t)m->params.items[i].count * sizeof *all);
    *n = m->params.elements;
    su_step_free(step);
    su_model_free(m);
    su_device_close(d);
    return all;
}

static double *pieces(su_dtype type, int32_t count, int32_t micro, int threads, su_losses *losses, int64_t *n)
{
    return pieces_at(SU_CHECKPOINTING_NONE, type, count, micro, threads, losses, n);
}

static void a_batch_of_256_equals_4_pieces_of_64(void **state)
{
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        su_dtype type = wide ? SU_DTYPE_F64 : SU_DTYPE_F32;
        const char *tolerance = wide ? "align.f64.pieces" : "align.f32.pieces";
        su_losses whole, cut, uneven;
        int64_t n = 0;
        double *one = pieces(type, 256, 256, 2, &whole, &n);
        double *four = pieces(type, 256, 64, 2, &cut, &n);
        double *odd = pieces(type, 256, 100, 2, &uneven, &n);
        check_close("four pieces", four, one, n, su_tolerance(tolerance));
        check_close("100 + 100 + 56", odd, one, n, su_tolerance(tolerance));
        check_close("loss", (const double[]){cut.total, uneven.total},
                    (const double[]){whole.total, whole.total}, 2, su_tolerance(tolerance));
        check_free_all();
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    su_losses losses[3];
    int64_t n = 0;
    double *gradient[3];
    for (int k = 0; k < 3; k++) {
        gradient[k] = pieces(SU_DTYPE_F32, 37, 16, k + 1, &losses[k], &n);
        check_same_bits("gradient", gradient[k], gradient[0], n);
        assert_true(losses[k].total == losses[0].total);
    }
    check_free_all();
}

/* --- checkpointing -------------------------------------------------------------------------------------- */

static void checkpointing_does_not_change_a_bit(void **state)
{
    (void)state;
    for (int32_t micro = 5; micro <= 13; micro += 8) {
        su_losses losses[SU_CHECKPOINTING_LEVELS];
        double *none = NULL;
        int64_t n = 0;
        for (int level = 0; level < SU_CHECKPOINTING_LEVELS; level++) {
            double *all = pieces_at((su_checkpointing)level, SU_DTYPE_F32, 13, micro, 2, &losses[level], &n);
            if (!none) none = all;
            check_same_bits(su_checkpointing_names[level], all, none, n);
            assert_true(losses[level].total == losses[0].total);
        }
    }
    check_free_all();
}

static size_t taken;
static su_status (*alloc_of_device)(su_device *d, size_t bytes, void **memory, su_error *err);

static su_status counting_alloc(su_device *d, size_t bytes, void **memory, su_error *err)
{
    taken += bytes;
    return alloc_of_device(d, bytes, memory, err);
}

/* From the plan to the end of a step: what was told is what is taken, and a higher level takes less. */
static void the_plan_is_what_is_taken(void **state)
{
    (void)state;
    check_cpu_only();
    size_t before = SIZE_MAX;
    for (int level = 0; level < SU_CHECKPOINTING_LEVELS; level++) {
        su_model_config c = golden_config(3);
        su_device *d = check_device(SU_DTYPE_F32, 1);
        const su_device_ops *ops = d->ops;
        su_device_ops counting = *ops;
        counting.alloc = counting_alloc;
        alloc_of_device = ops->alloc;
        d->ops = &counting;
        su_model *m = NULL;
        su_step *step = NULL;
        su_error err = {0};
        su_losses losses;
        size_t activations = 0, weights = 0;
        ok(su_model_table(&c, d, small_vocabulary(), &m, &err), &err);
        m->checkpointing = (su_checkpointing)level;
        weights = su_params_bytes(&m->params, true);
        activations = su_step_bytes(m, 9, 4);
        taken = 0;
        ok(su_model_start(m, true, 1, &err), &err);
        ok(su_step_new(m, 9, 4, &step, &(size_t){0}, &err), &err);
        su_step_batch batch = random_batch(&c, 9, 8);
        ok(su_step_run(step, &batch, &closegap, 0.0, &losses, &err), &err);
        assert_true(taken <= weights + activations && taken > 0.99 * (double)(weights + activations));
        assert_true(activations < before);
        before = activations;
        su_step_free(step);
        su_model_free(m);
        d->ops = ops;
        su_device_close(d);
        check_free_all();
    }
}

/* --- weights -------------------------------------------------------------------------------------------- */

static void scheduled_weights_hold_then_move_linearly(void **state)
{
    (void)state;
    su_objective o = {.lambda_infonce = 1,
                      .lambda_atp = 1,
                      .atp_end = 0,
                      .atp_from = 0.2,
                      .lambda_cu = 1,
                      .cu_end = 2,
                      .cu_from = 0.5};
    static const double expected[][3] = {
        {0, 1, 1}, {0.2, 1, 1}, {0.6, 0.5, 1.2}, {0.75, 0.3125, 1.5}, {1, 0, 2}};
    for (int i = 0; i < 5; i++) {
        double atp, cu;
        su_objective_weights(&o, expected[i][0], &atp, &cu);
        assert_true(fabs(atp - expected[i][1]) < 1e-15);
        assert_true(fabs(cu - expected[i][2]) < 1e-15);
    }
    o.atp_end = o.cu_end = -1;
    double atp, cu;
    su_objective_weights(&o, 0.9, &atp, &cu);
    assert_true(atp == 1 && cu == 1);
}

static void parts_with_weight_zero_are_left_out(void **state)
{
    (void)state;
    su_model_config c = golden_config(2);
    su_device *d = check_device(SU_DTYPE_F64, 1);
    su_model *m = new_model(&c, d, true, 3);
    su_step *step = new_step(m, 6, 0);
    su_step_batch batch = random_batch(&c, 6, 8);
    su_objective o = closegap;
    su_losses losses;
    su_error err = {0};
    o.lambda_atp = o.lambda_cu = 0;
    o.learn_temperature = false;
    ok(su_step_run(step, &batch, &o, 0.0, &losses, &err), &err);
    assert_true(losses.total == losses.infonce && isnan(losses.atp) && isnan(losses.cu));
    assert_true(gradient_values(&m->params, m->logit_scale)[0] == 0.0);
    assert_int_equal(batch.count, 6);
    batch.count = 7;
    assert_int_equal(su_step_run(step, &batch, &o, 0.0, &losses, &err), SU_EINVAL);
    batch.count = 1;
    assert_int_equal(su_step_run(step, &batch, &o, 0.0, &losses, &err), SU_EINVAL);
    su_step_free(step);
    su_model_free(m);
    su_device_close(d);
    check_free_all();
}

static void a_loss_that_is_not_finite_stops_the_step(void **state)
{
    (void)state;
    su_model_config c = golden_config(2);
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_model *m = new_model(&c, d, true, 3);
    su_step *step = new_step(m, 6, 0);
    su_step_batch batch = random_batch(&c, 6, 8);
    su_losses losses;
    su_error err = {0};
    double *bias = weight_values(&m->params, su_params_find(&m->params, "text.embeddings.LayerNorm.bias"));
    bias[3] = NAN;
    ok(su_params_set(&m->params, su_params_find(&m->params, "text.embeddings.LayerNorm.bias"), bias, &err),
       &err);
    assert_int_equal(su_step_run(step, &batch, &closegap, 0.0, &losses, &err), SU_ENUMERIC);
    assert_non_null(strstr(err.message, "loss"));
    su_step_free(step);
    su_model_free(m);
    su_device_close(d);
    check_free_all();
}

static void a_frozen_tower_gets_no_gradient_and_its_projection_does(void **state)
{
    (void)state;
    su_model_config c = golden_config(2);
    double *gradient[2][128];
    int64_t count = 0;
    su_losses losses[2];
    su_model *models[2];
    su_device *d = check_device(SU_DTYPE_F64, 1);
    for (int k = 0; k < 2; k++) {
        c.stream[0].lr_factor = k ? 0.0 : 1.0;
        su_model *m = models[k] = new_model(&c, d, true, 3);
        su_step *step = new_step(m, 7, 3);
        su_step_batch batch = random_batch(&c, 7, 8);
        su_error err = {0};
        ok(su_step_run(step, &batch, &closegap, 0.0, &losses[k], &err), &err);
        count = m->params.count;
        for (int64_t i = 0; i < count; i++)
            gradient[k][i] = su_param_learns(&m->params, i) ? gradient_values(&m->params, i) : NULL;
        su_step_free(step);
    }
    assert_true(losses[0].total == losses[1].total);
    for (int64_t i = 0; i < count; i++) {
        const su_param *q = &models[1]->params.items[i];
        bool tower = !strncmp(q->name, "image.", 6) && i != models[1]->projection[0];
        if (tower)
            assert_null(gradient[1][i]);
        else
            check_same_bits(q->name, gradient[1][i], gradient[0][i], q->count);
    }
    for (int k = 0; k < 2; k++) su_model_free(models[k]);
    su_device_close(d);
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_all_gradients_equal_pytorch),
        cmocka_unit_test(every_gradient_equals_differences_with_dropout_in_pieces),
        cmocka_unit_test(a_batch_of_256_equals_4_pieces_of_64),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(checkpointing_does_not_change_a_bit),
        cmocka_unit_test(the_plan_is_what_is_taken),
        cmocka_unit_test(scheduled_weights_hold_then_move_linearly),
        cmocka_unit_test(parts_with_weight_zero_are_left_out),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_the_step),
        cmocka_unit_test(a_frozen_tower_gets_no_gradient_and_its_projection_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
