/* The parameter table, its files, the schedule and the optimiser step over it. */
#include "tests/nn/check.h"
#include "base/memory.h"
#include "nn/params.h"
#include <unistd.h>

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/suture-params-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path_of("p.safetensors"));
    return rmdir(folder);
}

static void ok(su_status st, const su_error *err)
{
    if (st != SU_OK) fail_msg("%s", err->message);
}

/* Three matrices packed, a vector of odd length, a constant: decay and groups differ between neighbours. */
static su_params small_table(su_device *d, bool training)
{
    su_params p;
    su_error err = {0};
    su_params_init(&p, d);
    su_params_add(&p, "a.weight", 2, (int64_t[]){5, 3}, true, 0, SU_INIT_NORMAL, 0.5, false);
    su_params_add(&p, "b.weight", 2, (int64_t[]){5, 3}, true, 0, SU_INIT_NORMAL, 0.5, true);
    su_params_add(&p, "c.bias", 1, (int64_t[]){7}, false, 0, SU_INIT_ONE, 0, false);
    su_params_add(&p, "d.weight", 3, (int64_t[]){2, 2, 9}, true, 1, SU_INIT_NORMAL, 0.02, false);
    su_params_add(&p, "e", 1, (int64_t[]){1}, false, 7, SU_INIT_CONSTANT, 2.66, false);
    ok(su_params_commit(&p, training, &err), &err);
    ok(su_params_randomise(&p, 9, &err), &err);
    return p;
}

static double *values_of(const su_params *p, int64_t index)
{
    su_error err = {0};
    double *x = check_zeros(p->items[index].count);
    ok(su_params_get(p, index, x, &err), &err);
    return x;
}

static void packed_parameters_follow_without_a_gap_and_others_are_aligned(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_params p = small_table(d, false);
    assert_int_equal(p.items[1].offset, p.items[0].offset + 15);
    for (int64_t i = 0; i < p.count; i++)
        if (i != 1) assert_int_equal((size_t)p.items[i].offset * 2 % SU_ALIGN, 0);
    assert_int_equal(su_params_find(&p, "d.weight"), 3);
    assert_int_equal(su_params_find(&p, "d.weigh"), -1);
    assert_ptr_equal(p.compute, p.master);
    assert_null(p.grad);
    su_params_free(&p);
    su_device_close(d);
}

static void a_parameter_starts_the_same_whatever_else_is_in_the_table(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 1);
    su_params p = small_table(d, false), q;
    su_error err = {0};
    su_params_init(&q, d);
    int64_t at = su_params_add(&q, "d.weight", 3, (int64_t[]){2, 2, 9}, true, 1, SU_INIT_NORMAL, 0.02, false);
    ok(su_params_commit(&q, false, &err), &err);
    ok(su_params_randomise(&q, 9, &err), &err);
    check_same_bits("d.weight", values_of(&q, at), values_of(&p, 3), 36);
    double *one = values_of(&q, at);
    ok(su_params_randomise(&q, 10, &err), &err);
    assert_memory_not_equal(one, values_of(&q, at), 36 * sizeof *one);
    assert_true(values_of(&p, 2)[6] == 1.0);
    assert_true(values_of(&p, 4)[0] == 2.66);
    su_params_free(&p);
    su_params_free(&q);
    su_device_close(d);
    check_free_all();
}

static void normal_weights_have_their_deviation_and_end_at_two_of_them(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 1);
    su_params p;
    su_error err = {0};
    enum { N = 40000 };
    su_params_init(&p, d);
    su_params_add(&p, "w", 1, (int64_t[]){N}, true, 0, SU_INIT_NORMAL, 0.02, false);
    ok(su_params_commit(&p, false, &err), &err);
    ok(su_params_randomise(&p, 1, &err), &err);
    double *x = values_of(&p, 0), mean = 0, square = 0, top = 0;
    for (int i = 0; i < N; i++) {
        mean += x[i] / N;
        square += x[i] * x[i] / N;
        top = fmax(top, fabs(x[i]));
    }
    /* The normal density cut at +-2 has variance 0.7737. */
    assert_true(fabs(mean) < 4 * 0.02 / sqrt(N));
    assert_true(fabs(sqrt(square / 0.7737) / 0.02 - 1) < 0.02);
    assert_true(top <= 0.04 && top > 0.0395);
    su_params_free(&p);
    su_device_close(d);
    check_free_all();
}

/* A grid of 2 x 2 in 13 columns: three frequencies, and one column that is left over. */
static void positions_of_a_grid_are_sines_of_column_and_row(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 1);
    su_params p;
    su_error err = {0};
    su_params_init(&p, d);
    su_params_add(&p, "positions", 3, (int64_t[]){1, 5, 13}, false, 0, SU_INIT_GRID, 0.0, false);
    ok(su_params_commit(&p, false, &err), &err);
    ok(su_params_randomise(&p, 1, &err), &err);
    const double *x = values_of(&p, 0), frequencies[] = {1.0, 1e-2, 1e-4};
    for (int patch = -1; patch < 4; patch++) {
        const double *row = x + 13 * (patch + 1);
        for (int i = 0; i < 3; i++) {
            double column = patch % 2 * frequencies[i], line = patch / 2 * frequencies[i];
            bool token = patch < 0;
            assert_true(fabs(row[i] - (token ? 0 : sin(column))) < 1e-12);
            assert_true(fabs(row[3 + i] - (token ? 0 : cos(column))) < 1e-12);
            assert_true(fabs(row[6 + i] - (token ? 0 : sin(line))) < 1e-12);
            assert_true(fabs(row[9 + i] - (token ? 0 : cos(line))) < 1e-12);
        }
        assert_true(row[12] == 0.0);
    }
    su_params_free(&p);
    su_device_close(d);
    check_free_all();
}

static void weights_and_moments_come_back_from_a_file(void **state)
{
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        su_device *d = check_device(wide ? SU_DTYPE_F64 : SU_DTYPE_F32, 1);
        su_params p = small_table(d, true), q = small_table(d, true);
        su_error err = {0};
        size_t size = su_dtype_size(d->acc);
        for (int64_t i = 0; i < p.elements; i++) { /* eighths: exact in float32 */
            double m = (double)i / 8, v = (double)i / 4;
            float m32 = (float)m, v32 = (float)v;
            d->ops->upload(d, su_acc_at(d, p.m, i), wide ? (void *)&m : (void *)&m32, size);
            d->ops->upload(d, su_acc_at(d, p.v, i), wide ? (void *)&v : (void *)&v32, size);
        }
        double *w = check_normal(3, 36, 1);
        ok(su_params_set(&p, 3, w, &err), &err);
        ok(su_params_save(&p, path_of("p.safetensors"), true, (const char *const[]){"step", "3", NULL}, &err),
           &err);
        su_safetensors *file = NULL;
        ok(su_safetensors_open(path_of("p.safetensors"), &file, &err), &err);
        assert_string_equal(su_safetensors_metadata(file, "step"), "3");
        assert_int_equal(su_safetensors_count(file), 15);
        ok(su_params_load(&q, file, true, &err), &err);
        check_same_bits("d.weight", values_of(&q, 3), w, 36);
        for (int64_t i = 0; i < p.count; i++) {
            size_t bytes = (size_t)p.items[i].count * size;
            assert_memory_equal(su_acc_at(d, q.m, q.items[i].offset), su_acc_at(d, p.m, p.items[i].offset),
                                bytes);
            assert_memory_equal(su_acc_at(d, q.v, q.items[i].offset), su_acc_at(d, p.v, p.items[i].offset),
                                bytes);
        }
        su_safetensors_close(file);
        su_params_free(&p);
        su_params_free(&q);
        su_device_close(d);
        check_free_all();
    }
}

static void a_missing_or_misshapen_parameter_is_named(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_params p = small_table(d, false), q;
    su_error err = {0};
    su_safetensors *file = NULL;
    ok(su_params_save(&p, path_of("p.safetensors"), false, NULL, &err), &err);
    ok(su_safetensors_open(path_of("p.safetensors"), &file, &err), &err);
    su_params_init(&q, d);
    su_params_add(&q, "absent", 1, (int64_t[]){4}, true, 0, SU_INIT_ZERO, 0, false);
    ok(su_params_commit(&q, false, &err), &err);
    assert_int_equal(su_params_load(&q, file, false, &err), SU_ENOTFOUND);
    assert_non_null(strstr(err.message, "absent"));
    su_params_free(&q);
    su_params_init(&q, d);
    su_params_add(&q, "c.bias", 1, (int64_t[]){8}, true, 0, SU_INIT_ZERO, 0, false);
    ok(su_params_commit(&q, false, &err), &err);
    assert_int_equal(su_params_load(&q, file, false, &err), SU_EMISMATCH);
    assert_non_null(strstr(err.message, "c.bias"));
    su_params_free(&q);
    assert_int_equal(su_params_load(&p, file, true, &err), SU_ENOTFOUND); /* no moments in this file */
    su_safetensors_close(file);
    su_params_free(&p);
    su_device_close(d);
}

static void sizes_beyond_64_bits_are_refused(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_params p;
    su_error err = {0};
    su_params_init(&p, d);
    su_params_add(&p, "w", 2, (int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40}, true, 0, SU_INIT_ZERO, 0,
                  false);
    assert_int_not_equal(su_params_commit(&p, false, &err), SU_OK);
    assert_true(strlen(err.message) > 0);
    su_params_free(&p);
    su_device_close(d);
}

static void every_allocation_that_fails_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 1);
    su_error err = {0};
    su_status st = SU_ENOMEM;
    int64_t n = 1;
    for (; st != SU_OK && n < 200; n++) {
        su_alloc_fail_after(n);
        su_params p;
        su_params_init(&p, d);
        for (int i = 0; i < 70; i++) /* past the table's first 64 */
            su_params_add(&p, "w", 1, (int64_t[]){3}, true, 0, SU_INIT_NORMAL, 1, false);
        st = su_params_commit(&p, true, &err);
        if (!st) st = su_params_randomise(&p, 1, &err);
        if (!st) st = su_params_save(&p, path_of("p.safetensors"), true, NULL, &err);
        su_alloc_fail_after(0);
        if (st) assert_int_equal(st, SU_ENOMEM);
        su_params_free(&p);
    }
    assert_true(n > 75 && n < 200 + 1);
    su_device_close(d);
}

static void the_schedule_warms_up_linearly_then_follows_half_a_cosine(void **state)
{
    (void)state;
    su_optimiser o = {.warmup = 4, .steps = 20};
    assert_true(su_schedule(&o, 1) == 0.25);
    assert_true(su_schedule(&o, 4) == 1.0);
    assert_true(su_schedule(&o, 5) == 1.0);
    assert_true(fabs(su_schedule(&o, 13) - 0.5) < 1e-15);
    assert_true(fabs(su_schedule(&o, 20) - 0.5 * (1 + cos(M_PI * 15 / 16))) < 1e-15);
    assert_true(su_schedule(&o, 21) == 0.0);
    o.warmup = 0;
    assert_true(su_schedule(&o, 1) == 1.0);
    o = (su_optimiser){.warmup = 3, .steps = 3};
    assert_true(su_schedule(&o, 3) == 1.0);
}

/* Loshchilov & Hutter, decoupled weight decay, over plain arrays. */
static void plain_adamw(double *w, double *m, double *v, const double *g, int64_t n, double lr,
                        const su_optimiser *o, double decay, double scale, int64_t step)
{
    for (int64_t i = 0; i < n; i++) {
        double x = g[i] * scale;
        m[i] = o->beta1 * m[i] + (1 - o->beta1) * x;
        v[i] = o->beta2 * v[i] + (1 - o->beta2) * x * x;
        double mean = m[i] / (1 - pow(o->beta1, (double)step)),
               square = v[i] / (1 - pow(o->beta2, (double)step));
        w[i] -= lr * (mean / (sqrt(square) + o->eps) + decay * w[i]);
    }
}

static void a_step_keeps_each_parameters_rate_and_decay_and_cuts_the_global_norm(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 1);
    su_params p = small_table(d, true);
    su_error err = {0};
    su_optimiser o = {.lr = {[0] = 0.1, [1] = 0.01, [7] = 1.0},
                      .beta1 = 0.9,
                      .beta2 = 0.98,
                      .eps = 1e-8,
                      .weight_decay = 0.3,
                      .clip_norm = 2.0,
                      .warmup = 2,
                      .steps = 6};
    double *w[5], *m[5], *v[5];
    for (int64_t i = 0; i < p.count; i++) {
        w[i] = values_of(&p, i);
        m[i] = check_zeros(p.items[i].count);
        v[i] = check_zeros(p.items[i].count);
    }
    for (int64_t step = 1; step <= 6; step++) {
        double square = 0, *g[5], norm = 0;
        for (int64_t i = 0; i < p.count; i++) {
            g[i] = check_normal((uint64_t)(100 * step + i), p.items[i].count, step > 3 ? 0.01 : 1);
            d->ops->upload(d, su_param_grad(&p, i), g[i], (size_t)p.items[i].count * sizeof(double));
            for (int64_t j = 0; j < p.items[i].count; j++) square += g[i][j] * g[i][j];
        }
        ok(su_optimiser_step(&o, &p, step, &norm, &err), &err);
        assert_true(fabs(norm - sqrt(square)) < 1e-12);
        assert_true((norm > 2.0) == (step <= 3)); /* both with and without cutting */
        for (int64_t i = 0; i < p.count; i++) {
            const su_param *q = &p.items[i];
            plain_adamw(w[i], m[i], v[i], g[i], q->count, o.lr[q->group] * su_schedule(&o, step), &o,
                        q->decay ? 0.3 : 0, norm > 2 ? 2 / norm : 1, step);
            check_close(q->name, values_of(&p, i), w[i], q->count, 1e-13);
        }
        double *left = check_read(d, p.grad, p.learning);
        for (int64_t i = 0; i < p.learning; i++) assert_true(left[i] == 0.0);
    }
    su_params_free(&p);
    su_device_close(d);
    check_free_all();
}

/* The same step with and without another group in between: what learns takes the same way. */
static void a_frozen_group_has_a_weight_and_nothing_else(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 1);
    su_error err = {0};
    su_optimiser o = {.lr = {[0] = 0.1, [1] = 0.1, [7] = 1.0},
                      .beta1 = 0.9,
                      .beta2 = 0.98,
                      .eps = 1e-8,
                      .weight_decay = 0.3,
                      .clip_norm = 0.5,
                      .steps = 6};
    for (int frozen = 0; frozen < 2; frozen++) {
        su_params all = small_table(d, true), p;
        double norm[2];
        su_params_init(&p, d);
        for (int64_t i = 0; i < all.count; i++) {
            const su_param *q = &all.items[i];
            su_params_add(&p, q->name, q->rank, q->shape, q->decay, q->group, q->init, q->scale, i == 1);
        }
        su_params_freeze(&p, frozen);
        ok(su_params_commit(&p, true, &err), &err);
        ok(su_params_randomise(&p, 9, &err), &err);
        assert_true(p.learning < p.elements - (frozen ? 35 : 30));
        for (int64_t i = 0; i < p.count; i++) {
            assert_int_equal(su_param_learns(&p, i), p.items[i].group != frozen);
            if (!su_param_learns(&p, i)) continue;
            double *g = check_normal((uint64_t)i, p.items[i].count, 1);
            d->ops->upload(d, su_param_grad(&p, i), g, (size_t)p.items[i].count * sizeof *g);
            d->ops->upload(d, su_param_grad(&all, i), g, (size_t)p.items[i].count * sizeof *g);
        }
        double *kept = values_of(&p, frozen ? 3 : 0);
        ok(su_optimiser_step(&o, &p, 1, &norm[0], &err), &err);
        ok(su_optimiser_step(&o, &all, 1, &norm[1], &err), &err);
        check_close("norm", &norm[0], &norm[1], 1, 1e-14);
        check_same_bits("frozen", values_of(&p, frozen ? 3 : 0), kept, frozen ? 36 : 15);
        for (int64_t i = 0; i < p.count; i++)
            if (su_param_learns(&p, i))
                check_close(p.items[i].name, values_of(&p, i), values_of(&all, i), p.items[i].count, 1e-14);
        /* Its checkpoint has moments for what learns alone, and comes back. */
        su_safetensors *file = NULL;
        ok(su_params_save(&p, path_of("p.safetensors"), true, NULL, &err), &err);
        ok(su_safetensors_open(path_of("p.safetensors"), &file, &err), &err);
        assert_null(su_safetensors_find(file, frozen ? "adam.m/d.weight" : "adam.v/a.weight"));
        double *m = check_zeros(p.learning), *after = check_zeros(p.learning);
        d->ops->download(d, m, p.m, (size_t)p.learning * sizeof *m);
        d->ops->zero(d, p.m, (size_t)p.learning * sizeof *m);
        ok(su_params_load(&p, file, true, &err), &err);
        d->ops->download(d, after, p.m, (size_t)p.learning * sizeof *m);
        check_close("m", after, m, p.learning, 1e-6); /* through float32 */
        su_safetensors_close(file);
        su_params_free(&p);
        su_params_free(&all);
    }
    su_device_close(d);
    check_free_all();
}

static void a_gradient_that_is_not_finite_changes_nothing(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY};
    for (int k = 0; k < 2; k++) {
        su_device *d = check_device(SU_DTYPE_F64, 1);
        su_params p = small_table(d, true);
        su_error err = {0};
        su_optimiser o = {
            .lr = {1, 1, 1, 1, 1, 1, 1, 1}, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .steps = 6};
        double *before = values_of(&p, 3), norm = 0;
        d->ops->upload(d, su_acc_at(d, p.grad, p.items[3].state + 5), &bad[k], sizeof(double));
        assert_int_equal(su_optimiser_step(&o, &p, 2, &norm, &err), SU_ENUMERIC);
        assert_non_null(strstr(err.message, "step 2"));
        check_same_bits("d.weight", values_of(&p, 3), before, 36);
        su_params_free(&p);
        su_device_close(d);
        check_free_all();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_parameters_follow_without_a_gap_and_others_are_aligned),
        cmocka_unit_test(a_parameter_starts_the_same_whatever_else_is_in_the_table),
        cmocka_unit_test(normal_weights_have_their_deviation_and_end_at_two_of_them),
        cmocka_unit_test(positions_of_a_grid_are_sines_of_column_and_row),
        cmocka_unit_test(weights_and_moments_come_back_from_a_file),
        cmocka_unit_test(a_missing_or_misshapen_parameter_is_named),
        cmocka_unit_test(sizes_beyond_64_bits_are_refused),
        cmocka_unit_test(every_allocation_that_fails_is_reported_and_leaks_nothing),
        cmocka_unit_test(the_schedule_warms_up_linearly_then_follows_half_a_cosine),
        cmocka_unit_test(a_step_keeps_each_parameters_rate_and_decay_and_cuts_the_global_norm),
        cmocka_unit_test(a_frozen_group_has_a_weight_and_nothing_else),
        cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
