/* Cross-entropy and L_ATP against the formulas in double, differences and PyTorch; and the vector exp
 * beneath. */
#include "tests/nn/golden.h"
#include "nn/cpu/math.h"

static const su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};

static double tolerance_of(su_dtype type)
{
    return su_tolerance(type == SU_DTYPE_F32 ? "nn.f32" : "nn.f64");
}

/* --- exp, as this file's own level of processor compiles it */

#include "nn/cpu/f32.h"
static void exp_f32(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += F(LANES)) F(lanes_exp)((F(lanes) *)(x + i));
}

#include "nn/cpu/f64.h"
static void exp_f64(double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += F(LANES)) F(lanes_exp)((F(lanes) *)(x + i));
}

static void vector_exp_is_within_two_units_in_the_last_place(void **state)
{
    enum { N = 1 << 20 };
    float *x = check_alloc(N, sizeof *x), *y = check_alloc(N, sizeof *y);
    double *u = check_alloc(N, sizeof *u), *v = check_alloc(N, sizeof *v), worst = 0, worst64 = 0;
    (void)state;
    for (int i = 0; i < N; i++) {
        u[i] = v[i] = -87 + 175 * (double)i / N;
        x[i] = y[i] = (float)u[i];
    }
    exp_f32(y, N);
    exp_f64(v, N);
    for (int i = 0; i < N; i++) {
        double e = exp((double)x[i]), ulp = (double)(nextafterf((float)e, INFINITY) - (float)e);
        worst = fmax(worst, fabs((double)y[i] - e) / ulp);
        long double e64 = expl((long double)u[i]);
        worst64 = fmax(worst64, (double)(fabsl((long double)v[i] - e64) /
                                         (nextafter((double)e64, INFINITY) - (double)e64)));
    }
    print_message("worst error: %.2f ulp in float32, %.2f ulp in float64\n", worst, worst64);
    assert_true(worst < 2 && worst64 < 2);
    check_free_all();
}

static void vector_exp_reaches_zero_infinity_and_nan(void **state)
{
    float x[16] = {-INFINITY, -1e30F, -104, -100, 88.7F, 89, 1e30F, INFINITY, NAN, 0, -0.0F, 1e-30F};
    double y[16] = {-INFINITY, -1e300, -746, -740, 709.7, 711, 1e300, INFINITY, NAN, 0, -0.0, 1e-300};
    (void)state;
    exp_f32(x, 16);
    exp_f64(y, 16);
    for (int i = 0; i < 3; i++) assert_true(x[i] == 0 && y[i] == 0);
    assert_true(fabs((double)x[3] - exp(-100)) <= 2 * 0x1p-149 && fabs(y[3] - exp(-740)) <= 2 * 0x1p-1074);
    assert_true(isfinite(x[4]) && isfinite(y[4]));
    for (int i = 5; i < 8; i++) assert_true(isinf(x[i]) && isinf(y[i]));
    assert_true(isnan(x[8]) && isnan(y[8]));
    for (int i = 9; i < 12; i++) assert_true(x[i] == 1 && y[i] == 1);
}

/* --- cross-entropy */

typedef struct {
    su_device *d;
    int64_t rows;
    int32_t classes;
    double *logits;
    int32_t *targets;
    double smoothing, weight;
    bool value_only, in_place;
    double loss, *losses, *dlogits; /* results; loss is added to */
} entropy;

static void run_entropy(entropy *c)
{
    su_device *d = c->d;
    int64_t n = c->rows * c->classes;
    void *logits = check_upload(d, c->logits, n), *losses = check_upload(d, NULL, c->rows);
    void *dlogits = c->in_place ? logits : check_upload(d, NULL, n), *loss = check_upload(d, &c->loss, 1);
    int32_t *targets = check_upload_int(d, c->targets, c->rows);
    d->ops->cross_entropy(d, loss, c->value_only ? NULL : losses, c->value_only ? NULL : dlogits, logits,
                          targets, c->smoothing, c->weight, c->rows, c->classes);
    c->loss = *check_take(d, loss, 1);
    c->losses = check_take(d, losses, c->rows);
    c->dlogits = check_take(d, dlogits, n);
    if (!c->in_place) check_take(d, logits, 0);
    d->ops->release(d, targets);
}

static double entropy_value(void *context)
{
    entropy c = *(entropy *)context;
    c.value_only = true;
    c.loss = 0;
    run_entropy(&c);
    return c.loss;
}

static entropy new_entropy(su_device *d, int64_t rows, int32_t classes, double smoothing)
{
    entropy c = {.d = d, .rows = rows, .classes = classes, .smoothing = smoothing, .weight = 0.75, .loss = 2};
    c.logits = check_normal((uint64_t)(rows + classes), rows * classes, 4);
    c.targets = check_alloc(rows, sizeof *c.targets);
    for (int64_t r = 0; r < rows; r++)
        c.targets[r] =
            r % 5 == 3 ? -1 : (int32_t)((r * 7919 + classes - 1) % classes); /* the last class first */
    return c;
}

static void cross_entropy_equals_the_formula(void **state)
{
    static const struct {
        int64_t rows;
        int32_t classes;
    } shapes[] = {{1, 2}, {7, 3}, {600, 16}, {65, 17}, {64, 1000}, {11, 30522}};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int kind = 0; kind < 4; kind++) {
                su_device *d = check_device(types[t], 2);
                entropy c = new_entropy(d, shapes[s].rows, shapes[s].classes, kind % 2 ? 0.1 : 0);
                c.in_place = kind / 2;
                int64_t rows = c.rows, k = c.classes;
                double *losses = check_zeros(rows), *dlogits = check_zeros(rows * k), loss = 2;
                for (int64_t r = 0; r < rows; r++) {
                    double sum = 0;
                    if (c.targets[r] < 0) continue;
                    for (int64_t i = 0; i < k; i++) sum += exp(c.logits[r * k + i]);
                    for (int64_t i = 0; i < k; i++) {
                        double target = (i == c.targets[r] ? 1 - c.smoothing : 0) + c.smoothing / (double)k;
                        losses[r] -= target * (c.logits[r * k + i] - log(sum));
                        dlogits[r * k + i] = c.weight * (exp(c.logits[r * k + i]) / sum - target);
                    }
                    loss += c.weight * losses[r];
                }
                run_entropy(&c);
                check_close("loss", &c.loss, &loss, 1, tolerance_of(types[t]));
                check_close("losses", c.losses, losses, rows, tolerance_of(types[t]));
                check_close("dlogits", c.dlogits, dlogits, rows * k, tolerance_of(types[t]));
                for (int64_t r = 3; r < rows; r += 5) {
                    assert_true(c.losses[r] == 0);
                    for (int64_t i = 0; i < k; i++) assert_true(c.dlogits[r * k + i] == 0);
                }
                check_free_all();
                su_device_close(d);
            }
}

static void cross_entropy_gradient_equals_differences(void **state)
{
    su_device *d = check_device(SU_DTYPE_F64, 1);
    (void)state;
    for (int smooth = 0; smooth < 2; smooth++) {
        entropy c = new_entropy(d, 7, 33, smooth * 0.1), backward = c;
        run_entropy(&backward);
        check_gradient("dlogits", entropy_value, &c, c.logits, backward.dlogits, 7 * 33,
                       su_tolerance("nn.difference"));
        check_free_all();
    }
    su_device_close(d);
}

static void cross_entropy_equals_that_of_pytorch(void **state)
{
    su_safetensors *file = golden_open();
    int cases = 0;
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (int k = 0; golden_find(file, "cross_entropy", k, "logits"); k++, cases++) {
            const su_tensor_view *logits = golden_find(file, "cross_entropy", k, "logits");
            const su_tensor_view *targets = golden_find(file, "cross_entropy", k, "targets");
            su_device *d = check_device(types[t], 2);
            entropy c = {.d = d, .rows = logits->shape[0], .classes = (int32_t)logits->shape[1], .weight = 1};
            c.logits = golden_values(file, "cross_entropy", k, "logits");
            c.smoothing = *golden_values(file, "cross_entropy", k, "smoothing");
            c.targets = check_alloc(c.rows, sizeof *c.targets);
            memcpy(c.targets, targets->data, targets->bytes);
            run_entropy(&c);
            double tolerance = tolerance_of(types[t]);
            check_close("losses", c.losses, golden_values(file, "cross_entropy", k, "losses"), c.rows,
                        tolerance);
            check_close("loss", &c.loss, golden_values(file, "cross_entropy", k, "loss"), 1, tolerance);
            check_close("dlogits", c.dlogits, golden_values(file, "cross_entropy", k, "dlogits"),
                        c.rows * c.classes, tolerance);
            check_free_all();
            su_device_close(d);
        }
    assert_int_equal(cases, 2 * 3);
    su_safetensors_close(file);
}

static void a_certain_row_has_no_loss_and_large_logits_are_finite(void **state)
{
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 1);
        entropy c = {.d = d, .rows = 1, .classes = 3, .weight = 1};
        double logits[] = {3e4, -3e4, -INFINITY};
        int32_t target = 0;
        c.logits = logits;
        c.targets = &target;
        run_entropy(&c);
        assert_true(c.loss == 0 && c.dlogits[0] == 0 && c.dlogits[1] == 0 && c.dlogits[2] == 0);
        target = 1;
        run_entropy(&c);
        assert_true(c.loss == 6e4 && c.dlogits[0] == 1 && c.dlogits[1] == -1 && c.dlogits[2] == 0);
        c.classes = 1;
        c.loss = target = 0;
        run_entropy(&c);
        assert_true(c.loss == 0 && c.dlogits[0] == 0);
        check_free_all();
        su_device_close(d);
    }
}

static void cross_entropy_gives_the_same_bits_for_any_number_of_threads(void **state)
{
    entropy first = {0};
    (void)state;
    for (int threads = 1; threads <= 5; threads += 2) {
        su_device *d = check_device(SU_DTYPE_F32, threads);
        entropy c = new_entropy(d, 999, 77, 0.1);
        run_entropy(&c);
        if (threads == 1) first = c;
        check_same_bits("loss", &c.loss, &first.loss, 1);
        check_same_bits("dlogits", c.dlogits, first.dlogits, 999 * 77);
        su_device_close(d);
    }
    check_free_all();
}

/* --- L_ATP */

typedef struct {
    su_device *d;
    int64_t n;
    int32_t width;
    double *x, *y, weight;
    bool value_only;
    double loss, *dx, *dy; /* added to */
} pull;

static void run_pull(pull *c)
{
    su_device *d = c->d;
    int64_t n = c->n * c->width;
    void *x = check_upload(d, c->x, n), *y = check_upload(d, c->y, n), *loss = check_upload(d, &c->loss, 1);
    void *dx = check_upload(d, c->dx, n), *dy = check_upload(d, c->dy, n);
    d->ops->atp(d, loss, c->value_only ? NULL : dx, c->value_only ? NULL : dy, x, y, c->weight, c->n,
                c->width);
    c->loss = *check_take(d, loss, 1);
    c->dx = check_take(d, dx, n);
    c->dy = check_take(d, dy, n);
    check_take(d, x, 0);
    check_take(d, y, 0);
}

static double pull_value(void *context)
{
    pull c = *(pull *)context;
    c.value_only = true;
    c.loss = 0;
    run_pull(&c);
    return c.loss;
}

static void atp_equals_the_formula_and_adds(void **state)
{
    static const int64_t sizes[] = {1, 2, 3, 7, 255, 256, 257, 600};
    static const int32_t widths[] = {1, 3, 64, 512};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < 8 * 4; s++) {
            su_device *d = check_device(types[t], 2);
            pull c = {.d = d, .n = sizes[s / 4], .width = widths[s % 4], .weight = 0.75, .loss = 2};
            int64_t n = c.n * c.width;
            c.x = check_normal(1, n, 1), c.y = check_normal(2, n, 1);
            c.dx = check_normal(3, n, 1e-3), c.dy = check_normal(4, n, 1e-3);
            double loss = 2, *dx = check_copy(c.dx, n), *dy = check_copy(c.dy, n);
            for (int64_t i = 0; i < n; i++) {
                double e = c.x[i] - c.y[i], factor = c.weight / (double)c.n;
                loss += factor * e * e;
                dx[i] += 2 * factor * e;
                dy[i] -= 2 * factor * e;
            }
            run_pull(&c);
            check_close("loss", &c.loss, &loss, 1, tolerance_of(types[t]));
            check_close("dx", c.dx, dx, n, tolerance_of(types[t]));
            check_close("dy", c.dy, dy, n, tolerance_of(types[t]));
            double full = c.loss;
            c.loss = 2;
            c.value_only = true;
            run_pull(&c);
            check_same_bits("value only", &c.loss, &full, 1);
            check_free_all();
            su_device_close(d);
        }
}

static void atp_gradient_equals_differences_and_pytorch(void **state)
{
    su_safetensors *file = golden_open();
    int cases = 0;
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (int k = 0; golden_find(file, "atp", k, "x"); k++, cases++) {
            su_device *d = check_device(types[t], 2);
            const int64_t *shape = golden_find(file, "atp", k, "x")->shape;
            pull c = {.d = d, .n = shape[0], .width = (int32_t)shape[1], .weight = 1}, backward;
            int64_t n = c.n * c.width;
            c.x = golden_values(file, "atp", k, "x"), c.y = golden_values(file, "atp", k, "y");
            c.dx = c.dy = check_zeros(n);
            backward = c;
            run_pull(&backward);
            check_close("loss", &backward.loss, golden_values(file, "atp", k, "loss"), 1,
                        tolerance_of(types[t]));
            check_close("dx", backward.dx, golden_values(file, "atp", k, "dx"), n, tolerance_of(types[t]));
            check_close("dy", backward.dy, golden_values(file, "atp", k, "dy"), n, tolerance_of(types[t]));
            if (types[t] == SU_DTYPE_F64) {
                check_gradient("dx", pull_value, &c, c.x, backward.dx, n, su_tolerance("nn.difference"));
                check_gradient("dy", pull_value, &c, c.y, backward.dy, n, su_tolerance("nn.difference"));
            }
            check_free_all();
            su_device_close(d);
        }
    assert_int_equal(cases, 2 * 3);
    su_safetensors_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector_exp_is_within_two_units_in_the_last_place),
        cmocka_unit_test(vector_exp_reaches_zero_infinity_and_nan),
        cmocka_unit_test(cross_entropy_equals_the_formula),
        cmocka_unit_test(cross_entropy_gradient_equals_differences),
        cmocka_unit_test(cross_entropy_equals_that_of_pytorch),
        cmocka_unit_test(a_certain_row_has_no_loss_and_large_logits_are_finite),
        cmocka_unit_test(cross_entropy_gives_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(atp_equals_the_formula_and_adds),
        cmocka_unit_test(atp_gradient_equals_differences_and_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
