/* AdamW against PyTorch's, step by step, and the sum of squares. */
#include "tests/nn/golden.h"

static const su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};

static void twenty_steps_of_adamw_equal_those_of_pytorch(void **state)
{
    su_safetensors *file = golden_open();
    int cases = 0;
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (int k = 0; golden_find(file, "adamw", k, "g"); k++, cases++) {
            su_device *d = check_device(types[t], 1);
            int64_t steps = golden_find(file, "adamw", k, "g")->shape[0],
                    n = golden_find(file, "adamw", k, "g")->shape[1];
            double *g = golden_values(file, "adamw", k, "g"), *path = golden_values(file, "adamw", k, "w");
            double *o = golden_values(file, "adamw", k, "options"), *zero = check_zeros(n);
            void *w = check_upload(d, path, n), *m = check_upload(d, zero, n), *v = check_upload(d, zero, n);
            assert_int_equal(steps, 20);
            for (int64_t step = 1; step <= steps; step++) {
                su_adamw_run all = {n, o[0], o[4]};
                su_adamw options = {.beta1 = o[1],
                                    .beta2 = o[2],
                                    .eps = o[3],
                                    .grad_scale = o[5],
                                    .step = step};
                void *gradient = check_upload(d, g + (step - 1) * n, n), *copy = check_upload(d, NULL, n);
                d->ops->adamw(d, w, NULL, m, v, gradient, &options, &all, 1);
                d->ops->copy(d, copy, w, (size_t)n * su_dtype_size(d->acc));
                check_close("w", check_take(d, copy, n), path + step * n, n,
                            su_tolerance(types[t] == SU_DTYPE_F32 ? "nn.f32" : "nn.f64"));
                check_take(d, gradient, 0);
            }
            check_take(d, w, 0);
            check_take(d, m, 0);
            check_take(d, v, 0);
            check_free_all();
            su_device_close(d);
        }
    assert_int_equal(cases, 4);
    su_safetensors_close(file);
}

static void adamw_and_sum_squares_give_the_same_bits_for_any_number_of_threads(void **state)
{
    const int64_t n = 300001;
    const su_adamw_run runs[] = {{100003, 1e-3, 0.01}, {100004, 2e-3, 0}, {n, 1e-3, 0}};
    su_adamw o = {.beta1 = 0.9,
                  .beta2 = 0.98,
                  .eps = 1e-8,
                  .step = 3,
                  .grad_scale = 1};
    double *first = NULL, first_sum = 0;
    (void)state;
    for (int threads = 1; threads <= 5; threads += 2) {
        su_device *d = check_device(SU_DTYPE_F32, threads);
        double sum = 0, *v = check_normal(3, n, 1);
        for (int64_t i = 0; i < n; i++) v[i] = fabs(v[i]);
        void *w = check_upload(d, check_normal(1, n, 1), n), *m = check_upload(d, check_normal(2, n, 1), n);
        void *mv = check_upload(d, v, n), *g = check_upload(d, check_normal(4, n, 1), n);
        d->ops->sum_squares(d, &sum, g, n);
        d->ops->adamw(d, w, NULL, m, mv, g, &o, runs, 3);
        double *got = check_take(d, w, n);
        if (!first) first = got, first_sum = sum;
        check_same_bits("w", got, first, n);
        check_same_bits("sum", &sum, &first_sum, 1);
        check_take(d, m, 0);
        check_take(d, mv, 0);
        check_take(d, g, 0);
        su_device_close(d);
    }
    check_free_all();
}

/* In float32 arithmetic the small squares would be lost beside the large one. */
static void sum_squares_is_accumulated_in_double(void **state)
{
    static const int64_t sizes[] = {0, 1, 15, 17, 65537, 1000003};
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            int64_t n = sizes[s];
            double *x = check_normal(1, n, 1e-3), want = 0, got = -1;
            if (n) x[0] = 4096;
            for (int64_t i = 0; i < n; i++) want += x[i] * x[i];
            void *memory = check_upload(d, x, n);
            d->ops->sum_squares(d, &got, memory, n);
            check_close("sum", &got, &want, 1, su_tolerance("nn.f64"));
            check_take(d, memory, 0);
            check_free_all();
        }
        su_device_close(d);
    }
}

static void a_sum_past_the_most_parts_is_whole(void **state)
{
    const int64_t n = 256 * 65536 + 77777; /* longer parts from here on */
    double *x = check_zeros(n), got = 0;
    su_device *d = check_device(SU_DTYPE_F32, 2);
    (void)state;
    for (int64_t i = 0; i < n; i++) x[i] = 0.5;
    void *memory = check_upload(d, x, n);
    d->ops->sum_squares(d, &got, memory, n);
    assert_true(got == 0.25 * (double)n);
    d->ops->release(d, memory);
    check_free_all();
    su_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twenty_steps_of_adamw_equal_those_of_pytorch),
        cmocka_unit_test(adamw_and_sum_squares_give_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(sum_squares_is_accumulated_in_double),
        cmocka_unit_test(a_sum_past_the_most_parts_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
