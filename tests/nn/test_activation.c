/* Activation functions: values through a linear layer with the identity as weight, slopes through
 * act_backward. */
#include "tests/nn/check.h"

enum { N = 4097 }; /* not a multiple of a register */

/* -12 .. 12 in even steps: both tails and the middle. */
static double *ramp(int64_t n)
{
    double *x = check_zeros(n);
    for (int64_t i = 0; i < n; i++) x[i] = (double)(float)(-12 + 24.0 * (double)i / (double)(n - 1));
    return x;
}

static double *values(su_device *d, su_activation f, const double *x, int64_t n)
{
    const double one = 1;
    void *dx = check_upload(d, x, n), *w = check_upload(d, &one, 1), *y = check_upload(d, NULL, n);
    d->ops->linear(d, y, NULL, dx, w, NULL, f, n, 1, 1);
    d->ops->release(d, dx);
    d->ops->release(d, w);
    return check_take(d, y, n);
}

static double *slopes(su_device *d, su_activation f, const double *dy, const double *x, int64_t n)
{
    void *dev_dy = check_upload(d, dy, n), *pre = check_upload(d, x, n), *dpre = check_upload(d, NULL, n);
    d->ops->act_backward(d, dpre, NULL, NULL, dev_dy, pre, f, 1, (int32_t)n);
    d->ops->release(d, dev_dy);
    d->ops->release(d, pre);
    return check_take(d, dpre, n);
}

static void values_equal_the_reference(void **state)
{
    (void)state;
    su_device *f64 = check_device(SU_DTYPE_F64, 2), *f32 = check_device(SU_DTYPE_F32, 2);
    double *x = ramp(N), *want = check_zeros(N);
    for (int k = 0; k < CHECK_ACTIVATIONS; k++) {
        su_activation f = check_activations[k];
        for (int64_t i = 0; i < N; i++) want[i] = check_activation(f, x[i]);
        check_close("f64", values(f64, f, x, N), want, N, su_tolerance("nn.f64"));
        check_close("f32", values(f32, f, x, N), want, N, su_tolerance("nn.f32"));
        /* near and below zero every value keeps its own digits */
        double *got = values(f32, f, x, N);
        for (int64_t i = 0; i < N; i++)
            if (x[i] > -3 && fabs(want[i]) > 1e-3)
                check_close("one value", got + i, want + i, 1, su_tolerance("nn.f32.one"));
    }
    su_device_close(f64);
    su_device_close(f32);
    check_free_all();
}

static void gelu_keeps_its_digits_in_the_lower_tail(void **state)
{
    (void)state;
    su_device *f32 = check_device(SU_DTYPE_F32, 1);
    double x[6] = {-4, -5, -6, -8, -10, -12}, want[6];
    for (int i = 0; i < 6; i++) want[i] = check_activation(SU_ACT_GELU, x[i]);
    double *got = values(f32, SU_ACT_GELU, x, 6);
    for (int i = 0; i < 6; i++) check_close("tail", got + i, want + i, 1, su_tolerance("nn.f32.sum"));
    su_device_close(f32);
    check_free_all();
}

static void slopes_equal_differences_of_the_reference(void **state)
{
    (void)state;
    su_device *f64 = check_device(SU_DTYPE_F64, 2), *f32 = check_device(SU_DTYPE_F32, 2);
    double *x = ramp(N), *dy = check_normal(3, N, 1), *want = check_zeros(N);
    for (int k = 0; k < CHECK_ACTIVATIONS; k++) {
        su_activation f = check_activations[k];
        double h = 1e-5;
        for (int64_t i = 0; i < N; i++)
            want[i] = dy[i] * (check_activation(f, x[i] + h) - check_activation(f, x[i] - h)) / (2 * h);
        double *got = slopes(f64, f, dy, x, N);
        check_close("differences", got, want, N, su_tolerance("nn.difference"));
        check_close("f32", slopes(f32, f, dy, x, N), got, N, su_tolerance("nn.f32"));
    }
    su_device_close(f64);
    su_device_close(f32);
    check_free_all();
}

static void backward_works_in_place_and_without_pre_for_none(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 2);
    double *x = ramp(N), *dy = check_normal(3, N, 1);
    for (int k = 0; k < CHECK_ACTIVATIONS; k++) {
        su_activation f = check_activations[k];
        double *want = slopes(d, f, dy, x, N);
        void *g = check_upload(d, dy, N), *pre = f == SU_ACT_NONE ? NULL : check_upload(d, x, N);
        d->ops->act_backward(d, g, NULL, NULL, g, pre, f, 1, N);
        d->ops->release(d, pre);
        check_same_bits("in place", check_take(d, g, N), want, N);
    }
    su_device_close(d);
    check_free_all();
}

/* f(pre) again, beside dpre or in pre's place: what linear gave, for every length of a row's end. */
static void backward_gives_the_values_again(void **state)
{
    (void)state;
    su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};
    for (int t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        double *x = ramp(N), *dy = check_normal(3, N, 1);
        for (int k = 0; k < CHECK_ACTIVATIONS; k++) {
            su_activation f = check_activations[k];
            double *want = values(d, f, x, N), *slope = slopes(d, f, dy, x, N);
            for (int in_place = 0; in_place < 2; in_place++) {
                void *g = check_upload(d, dy, N), *pre = check_upload(d, x, N);
                void *y = in_place ? pre : check_upload(d, NULL, N);
                d->ops->act_backward(d, g, y, NULL, g, pre, f, 1, N);
                if (!in_place) check_same_bits("pre", check_take(d, pre, N), x, N);
                check_same_bits("y", check_take(d, y, N), want, N);
                check_same_bits("dpre", check_take(d, g, N), slope, N);
            }
        }
        su_device_close(d);
    }
    check_free_all();
}

static void nan_stays_nan_and_large_values_saturate(void **state)
{
    (void)state;
    su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};
    for (int t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 1);
        double x[4] = {NAN, 200, -200, 0}, dy[4] = {1, 1, 1, 1};
        for (int k = 1; k < CHECK_ACTIVATIONS; k++) {
            double *y = values(d, check_activations[k], x, 4), *g = slopes(d, check_activations[k], dy, x, 4);
            bool tanh = check_activations[k] == SU_ACT_TANH;
            assert_true(isnan(y[0]) && isnan(g[0]));
            assert_true(y[1] == (tanh ? 1 : 200) && y[3] == 0);
            assert_true(tanh ? y[2] == -1 : fabs(y[2]) < 1e-37);
            assert_true(g[1] == (tanh ? 0 : 1) && fabs(g[2]) < 1e-37);
        }
        su_device_close(d);
    }
    check_free_all();
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    enum { MANY = 70001 };
    double *x = check_normal(1, MANY, 3), *dy = check_normal(2, MANY, 1), *want = NULL;
    const int threads[] = {1, 2, 3, 8};
    for (int i = 0; i < 4; i++) {
        su_device *d = check_device(SU_DTYPE_F32, threads[i]);
        double *got = slopes(d, SU_ACT_GELU, dy, x, MANY);
        if (!want) want = got;
        check_same_bits("slope", got, want, MANY);
        su_device_close(d);
    }
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_equal_the_reference),
        cmocka_unit_test(gelu_keeps_its_digits_in_the_lower_tail),
        cmocka_unit_test(slopes_equal_differences_of_the_reference),
        cmocka_unit_test(backward_works_in_place_and_without_pre_for_none),
        cmocka_unit_test(backward_gives_the_values_again),
        cmocka_unit_test(nan_stays_nan_and_large_values_saturate),
        cmocka_unit_test(threads_do_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
