/* LayerNorm with its residual against plain loops in double and against finite differences. */
#include "tests/nn/check.h"

typedef struct {
    int64_t rows;
    int32_t width;
} shape;

static const shape shapes[] = {{1, 1}, {1, 5}, {3, 64}, {17, 88}, {65, 192}, {257, 5}, {70, 385}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const double eps = 1e-5;

typedef struct {
    su_device *d;
    shape s;
    double *x, *residual, *gamma, *beta, *weight; /* residual may be NULL */
} layer;

typedef struct {
    double *y, *sum, *mean, *rstd;
} result;

static layer make(su_device *d, shape s, bool residual, uint64_t seed)
{
    int64_t n = s.rows * s.width;
    layer l = {.d = d, .s = s};
    l.x = check_normal(seed, n, 2);
    if (residual) l.residual = check_normal(seed + 1, n, 1);
    for (int64_t i = 0; i < n; i++) l.x[i] += 3; /* a mean that a one-pass variance would stumble over */
    l.gamma = check_normal(seed + 2, s.width, 1);
    l.beta = check_normal(seed + 3, s.width, 1);
    l.weight = check_normal(seed + 4, n, 1);
    return l;
}

enum { SUM_APART, SUM_IS_X, SUM_IS_RESIDUAL };

static result forward(su_device *d, const layer *l, int where, bool keep)
{
    int64_t n = l->s.rows * l->s.width;
    void *x = check_upload(d, l->x, n), *residual = l->residual ? check_upload(d, l->residual, n) : NULL;
    void *gamma = check_upload(d, l->gamma, l->s.width), *beta = check_upload(d, l->beta, l->s.width);
    void *y = check_upload(d, NULL, n), *apart = check_upload(d, NULL, n);
    void *mean = keep ? check_upload(d, NULL, l->s.rows) : NULL,
         *rstd = keep ? check_upload(d, NULL, l->s.rows) : NULL;
    void *sum = where == SUM_IS_X ? x : where == SUM_IS_RESIDUAL ? residual : apart;
    d->ops->norm(d, y, residual ? sum : NULL, mean, rstd, x, residual, gamma, beta, eps, l->s.rows,
                 l->s.width);
    result r = {.y = check_take(d, y, n)};
    if (keep) {
        r.mean = check_take(d, mean, l->s.rows);
        r.rstd = check_take(d, rstd, l->s.rows);
    }
    if (sum == x)
        r.sum = check_take(d, x, n);
    else
        d->ops->release(d, x);
    if (sum == residual && residual)
        r.sum = check_take(d, residual, n);
    else
        d->ops->release(d, residual);
    if (sum == apart && residual)
        r.sum = check_take(d, apart, n);
    else
        d->ops->release(d, apart);
    d->ops->release(d, gamma);
    d->ops->release(d, beta);
    return r;
}

static result reference(const layer *l)
{
    int64_t rows = l->s.rows, width = l->s.width;
    result r = {check_zeros(rows * width), check_zeros(rows * width), check_zeros(rows), check_zeros(rows)};
    for (int64_t i = 0; i < rows; i++) {
        double mean = 0, var = 0;
        for (int64_t j = 0; j < width; j++) {
            r.sum[i * width + j] = l->x[i * width + j] + (l->residual ? l->residual[i * width + j] : 0);
            mean += r.sum[i * width + j] / (double)width;
        }
        for (int64_t j = 0; j < width; j++) var += pow(r.sum[i * width + j] - mean, 2) / (double)width;
        r.mean[i] = mean;
        r.rstd[i] = 1 / sqrt(var + eps);
        for (int64_t j = 0; j < width; j++)
            r.y[i * width + j] = (r.sum[i * width + j] - mean) * r.rstd[i] * l->gamma[j] + l->beta[j];
    }
    return r;
}

static void forward_equals_the_reference(void **state)
{
    (void)state;
    su_device *devices[] = {check_device(SU_DTYPE_F64, 2), check_device(SU_DTYPE_F32, 2)};
    for (int i = 0; i < SHAPES; i++)
        for (int t = 0; t < 2; t++)
            for (int where = 0; where < 4; where++) { /* 3: no residual */
                if (shapes[i].width == 1 && t == 1)
                    continue; /* a width of 1 divides rounding errors by sqrt(eps) */
                double tolerance = su_tolerance(t ? "nn.f32" : "nn.f64");
                layer l = make(devices[t], shapes[i], where < 3, (uint64_t)i);
                int64_t n = shapes[i].rows * shapes[i].width;
                result want = reference(&l), got = forward(devices[t], &l, where % 3, true);
                check_close("y", got.y, want.y, n, tolerance);
                check_close("mean", got.mean, want.mean, shapes[i].rows, tolerance);
                check_close("rstd", got.rstd, want.rstd, shapes[i].rows, tolerance);
                if (where < 3) check_close("sum", got.sum, want.sum, n, tolerance);
                result again = forward(devices[t], &l, where % 3, false);
                check_same_bits("y without statistics", again.y, got.y, n);
                check_free_all();
            }
    su_device_close(devices[0]);
    su_device_close(devices[1]);
}

typedef struct {
    double *dx, *dgamma, *dbeta, *sums; /* sums: NULL: not asked for */
} gradients;

static gradients backward(su_device *d, const layer *l, const result *kept, bool add, bool in_place,
                          const gradients *start)
{
    int64_t n = l->s.rows * l->s.width;
    const double *sum = l->residual ? kept->sum : l->x;
    void *dy = check_upload(d, l->weight, n), *s = check_upload(d, sum, n);
    void *mean = check_upload(d, kept->mean, l->s.rows), *rstd = check_upload(d, kept->rstd, l->s.rows);
    void *gamma = check_upload(d, l->gamma, l->s.width);
    void *dgamma = check_upload(d, start->dgamma, l->s.width),
         *dbeta = check_upload(d, start->dbeta, l->s.width);
    void *dx = in_place ? dy : check_upload(d, add ? start->dx : NULL, n);
    void *sums = start->sums ? check_upload(d, start->sums, l->s.width) : NULL;
    d->ops->norm_backward(d, dx, add, sums, dgamma, dbeta, dy, s, mean, rstd, gamma, l->s.rows, l->s.width);
    d->ops->release(d, s);
    d->ops->release(d, mean);
    d->ops->release(d, rstd);
    d->ops->release(d, gamma);
    if (!in_place) d->ops->release(d, dy);
    gradients g = {check_take(d, dx, n), check_take(d, dgamma, l->s.width), check_take(d, dbeta, l->s.width),
                   sums ? check_take(d, sums, l->s.width) : NULL};
    return g;
}

/* dL/ds_j = sum_k dL/dn_k dn_k/ds_j written out: dn_k/ds_j = rstd (delta_jk - 1/w - n_j n_k / w) */
static gradients reference_backward(const layer *l, const result *r, bool add, const gradients *start)
{
    int64_t rows = l->s.rows, width = l->s.width, n = rows * width;
    gradients g = {add ? check_copy(start->dx, n) : check_zeros(n), check_copy(start->dgamma, width),
                   check_copy(start->dbeta, width), check_copy(start->sums, width)};
    double *hat = check_zeros(width);
    for (int64_t i = 0; i < rows; i++) {
        const double *dy = l->weight + i * width;
        for (int64_t j = 0; j < width; j++) {
            hat[j] = (r->sum[i * width + j] - r->mean[i]) * r->rstd[i];
            g.dgamma[j] += dy[j] * hat[j];
            g.dbeta[j] += dy[j];
        }
        for (int64_t j = 0; j < width; j++)
            for (int64_t k = 0; k < width; k++)
                g.dx[i * width + j] += dy[k] * l->gamma[k] * r->rstd[i] *
                                       ((j == k) - 1 / (double)width - hat[j] * hat[k] / (double)width);
        for (int64_t j = 0; j < width; j++) g.sums[j] += g.dx[i * width + j];
    }
    return g;
}

static void backward_equals_the_reference(void **state)
{
    (void)state;
    su_device *devices[] = {check_device(SU_DTYPE_F64, 2), check_device(SU_DTYPE_F32, 2)};
    for (int i = 0; i < SHAPES; i++)
        for (int t = 0; t < 2; t++) {
            shape s = shapes[i];
            double tolerance = su_tolerance(t ? "nn.f32.sum" : "nn.f64");
            int64_t n = s.rows * s.width;
            layer l = make(devices[t], s, true, (uint64_t)(50 + i));
            result r = reference(&l);
            gradients start = {check_normal(1, n, 1), check_normal(2, s.width, 1), check_normal(3, s.width, 1),
                               check_normal(4, s.width, 1)};
            for (int variant = 0; variant < 3; variant++) {
                bool add = variant == 1, in_place = variant == 2;
                gradients want = reference_backward(&l, &r, add, &start);
                gradients got = backward(devices[t], &l, &r, add, in_place, &start);
                if (s.width == 1) { /* dx is 0 but for rounding; nothing to be relative to */
                    assert_true(fabs(got.dx[0] - want.dx[0]) < su_tolerance("nn.f32.sum"));
                    continue;
                }
                check_close("dx", got.dx, want.dx, n, tolerance);
                check_close("dgamma", got.dgamma, want.dgamma, s.width, tolerance);
                check_close("dbeta", got.dbeta, want.dbeta, s.width, tolerance);
                check_close("sums", got.sums, want.sums, s.width, tolerance);
            }
            check_free_all();
        }
    su_device_close(devices[0]);
    su_device_close(devices[1]);
}

static double scalar(void *context)
{
    const layer *l = context;
    result r = forward(l->d, l, SUM_APART, false);
    double sum = 0;
    for (int64_t i = 0; i < l->s.rows * l->s.width; i++) sum += r.y[i] * l->weight[i];
    return sum;
}

static void backward_equals_finite_differences(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 2);
    const shape few[] = {{3, 5}, {40, 33}};
    for (int i = 0; i < 2; i++)
        for (int residual = 0; residual < 2; residual++) {
            shape s = few[i];
            int64_t n = s.rows * s.width;
            layer l = make(d, s, residual, 90);
            result r = forward(d, &l, SUM_APART, true);
            gradients zero = {NULL, check_zeros(s.width), check_zeros(s.width), NULL};
            gradients g = backward(d, &l, &r, false, false, &zero);
            double tolerance = su_tolerance("nn.difference");
            check_gradient("dx", scalar, &l, l.x, g.dx, n, tolerance);
            if (residual) check_gradient("dresidual", scalar, &l, l.residual, g.dx, n, tolerance);
            check_gradient("dgamma", scalar, &l, l.gamma, g.dgamma, s.width, tolerance);
            check_gradient("dbeta", scalar, &l, l.beta, g.dbeta, s.width, tolerance);
            check_free_all();
        }
    su_device_close(d);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    const shape s = {9000, 65};
    const int threads[] = {1, 2, 3, 8};
    int64_t n = s.rows * s.width;
    layer l = make(NULL, s, true, 7);
    gradients zero = {NULL, check_zeros(s.width), check_zeros(s.width), check_zeros(s.width)}, first = {0};
    result r = {0};
    for (int t = 0; t < 4; t++) {
        su_device *d = check_device(SU_DTYPE_F32, threads[t]);
        result y = forward(d, &l, SUM_APART, true);
        gradients g = backward(d, &l, &y, false, false, &zero);
        if (t == 0) r = y, first = g;
        check_same_bits("y", y.y, r.y, n);
        check_same_bits("dx", g.dx, first.dx, n);
        check_same_bits("dgamma", g.dgamma, first.dgamma, s.width);
        check_same_bits("dbeta", g.dbeta, first.dbeta, s.width);
        check_same_bits("sums", g.sums, first.sums, s.width);
        su_device_close(d);
    }
    check_free_all();
}

static void nan_fills_its_row_and_no_other(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    layer l = make(d, (shape){5, 40}, true, 8);
    l.x[2 * 40 + 39] = NAN;
    result r = forward(d, &l, SUM_APART, true);
    for (int64_t i = 0; i < 5 * 40; i++) assert_true(isnan(r.y[i]) == (i / 40 == 2));
    su_device_close(d);
    check_free_all();
}

static void a_constant_row_gives_beta(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    layer l = make(d, (shape){1, 24}, false, 9);
    for (int j = 0; j < 24; j++) l.x[j] = 7;
    result r = forward(d, &l, SUM_APART, true);
    check_close("y", r.y, l.beta, 24, su_tolerance("nn.f32"));
    su_device_close(d);
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_equals_the_reference),       cmocka_unit_test(backward_equals_the_reference),
        cmocka_unit_test(backward_equals_finite_differences), cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(nan_fills_its_row_and_no_other),     cmocka_unit_test(a_constant_row_gives_beta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
