/* Linear layers against plain loops in double and against finite differences. */
#include "tests/nn/check.h"

typedef struct {
    int64_t rows;
    int32_t out, in;
} shape;

static const shape shapes[] = {{1, 1, 1},   {1, 5, 64},    {3, 64, 5},    {17, 88, 192},
                               {65, 1, 88}, {65, 192, 64}, {257, 64, 88}, {257, 200, 1}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    shape s;
    su_activation f;
    double *x, *w, *b; /* b may be NULL */
    double *weight;    /* of each output in the scalar that finite differences look at */
    su_device *d;
} layer;

static layer make(su_device *d, shape s, su_activation f, bool bias, uint64_t seed)
{
    layer l = {.s = s, .f = f, .d = d};
    l.x = check_normal(seed, s.rows * s.in, 1);
    l.w = check_normal(seed + 1, (int64_t)s.out * s.in, 1 / sqrt((double)s.in));
    if (bias) l.b = check_normal(seed + 2, s.out, 1);
    l.weight = check_normal(seed + 3, s.rows * s.out, 1);
    return l;
}

typedef struct {
    double *y, *pre;
} result;

static result forward(su_device *d, const layer *l, bool keep)
{
    int64_t n = l->s.rows * l->s.out;
    void *x = check_upload(d, l->x, l->s.rows * l->s.in),
         *w = check_upload(d, l->w, (int64_t)l->s.out * l->s.in);
    void *b = l->b ? check_upload(d, l->b, l->s.out) : NULL, *y = check_upload(d, NULL, n);
    void *pre = keep ? check_upload(d, NULL, n) : NULL;
    d->ops->linear(d, y, pre, x, w, b, l->f, l->s.rows, l->s.out, l->s.in);
    d->ops->release(d, x);
    d->ops->release(d, w);
    d->ops->release(d, b);
    result r = {check_take(d, y, n), keep ? check_take(d, pre, n) : NULL};
    return r;
}

/* y = x W^T + b + l->weight, in place or not. */
static double *forward_add(su_device *d, const layer *l, bool in_place)
{
    int64_t n = l->s.rows * l->s.out;
    void *x = check_upload(d, l->x, l->s.rows * l->s.in),
         *w = check_upload(d, l->w, (int64_t)l->s.out * l->s.in);
    void *b = l->b ? check_upload(d, l->b, l->s.out) : NULL, *residual = check_upload(d, l->weight, n);
    void *y = in_place ? residual : check_upload(d, NULL, n);
    d->ops->linear_add(d, y, residual, x, w, b, l->s.rows, l->s.out, l->s.in);
    d->ops->release(d, x);
    d->ops->release(d, w);
    d->ops->release(d, b);
    if (!in_place) d->ops->release(d, residual);
    return check_take(d, y, n);
}

static result reference(const layer *l)
{
    int64_t n = l->s.rows * l->s.out;
    result r = {check_zeros(n), check_zeros(n)};
    for (int64_t i = 0; i < l->s.rows; i++)
        for (int64_t o = 0; o < l->s.out; o++) {
            double sum = l->b ? l->b[o] : 0;
            for (int64_t j = 0; j < l->s.in; j++) sum += l->x[i * l->s.in + j] * l->w[o * l->s.in + j];
            r.pre[i * l->s.out + o] = sum;
            r.y[i * l->s.out + o] = check_activation(l->f, sum);
        }
    return r;
}

static void forward_equals_the_reference(void **state)
{
    (void)state;
    su_device *f64 = check_device(SU_DTYPE_F64, 2), *f32 = check_device(SU_DTYPE_F32, 2);
    for (int i = 0; i < SHAPES; i++)
        for (int k = 0; k < CHECK_ACTIVATIONS; k++)
            for (int variant = 0; variant < 4; variant++) {
                bool keep = variant & 1, bias = variant & 2;
                layer l = make(f64, shapes[i], check_activations[k], bias, (uint64_t)(10 * i + k));
                int64_t n = shapes[i].rows * shapes[i].out;
                result want = reference(&l), wide = forward(f64, &l, keep), single = forward(f32, &l, keep);
                check_close("y f64", wide.y, want.y, n, su_tolerance("nn.f64"));
                check_close("y f32", single.y, want.y, n, su_tolerance("nn.f32"));
                if (keep) check_close("pre f64", wide.pre, want.pre, n, su_tolerance("nn.f64"));
                if (keep) check_close("pre f32", single.pre, want.pre, n, su_tolerance("nn.f32"));
                for (int64_t j = 0; j < n; j++) want.pre[j] += l.weight[j];
                check_close("sum f64", forward_add(f64, &l, keep), want.pre, n, su_tolerance("nn.f64"));
                check_close("sum f32", forward_add(f32, &l, keep), want.pre, n, su_tolerance("nn.f32"));
                check_free_all();
            }
    su_device_close(f64);
    su_device_close(f32);
}

typedef struct {
    double *dx, *dw, *db;
} gradients;

/* start: what dx (when add), dw and db hold before; which: bits 1, 2, 4 ask for dx, dw, db. */
static gradients backward(su_device *d, const layer *l, const double *dy, bool add, const gradients *start,
                          int which)
{
    int64_t nx = l->s.rows * l->s.in, nw = (int64_t)l->s.out * l->s.in;
    void *x = check_upload(d, l->x, nx), *w = check_upload(d, l->w, nw);
    void *g = check_upload(d, dy, l->s.rows * l->s.out);
    void *dx = which & 1 ? check_upload(d, add ? start->dx : NULL, nx) : NULL;
    void *dw = which & 2 ? check_upload(d, start->dw, nw) : NULL;
    void *db = which & 4 ? check_upload(d, start->db, l->s.out) : NULL;
    d->ops->linear_backward(d, dx, add, dw, db, g, x, w, l->s.rows, l->s.out, l->s.in);
    d->ops->release(d, x);
    d->ops->release(d, w);
    d->ops->release(d, g);
    gradients r = {dx ? check_take(d, dx, nx) : NULL, dw ? check_take(d, dw, nw) : NULL,
                   db ? check_take(d, db, l->s.out) : NULL};
    return r;
}

static gradients reference_backward(const layer *l, const double *dy, bool add, const gradients *start)
{
    int64_t nx = l->s.rows * l->s.in, nw = (int64_t)l->s.out * l->s.in;
    gradients r = {add ? check_copy(start->dx, nx) : check_zeros(nx), check_copy(start->dw, nw),
                   check_copy(start->db, l->s.out)};
    for (int64_t i = 0; i < l->s.rows; i++)
        for (int64_t o = 0; o < l->s.out; o++) {
            double g = dy[i * l->s.out + o];
            r.db[o] += g;
            for (int64_t j = 0; j < l->s.in; j++) {
                r.dx[i * l->s.in + j] += g * l->w[o * l->s.in + j];
                r.dw[o * l->s.in + j] += g * l->x[i * l->s.in + j];
            }
        }
    return r;
}

static void check_backward(shape s, uint64_t seed)
{
    su_dtype types[] = {SU_DTYPE_F64, SU_DTYPE_F32};
    for (int t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        double sums = su_tolerance(t ? "nn.f32.sum" : "nn.f64");
        layer l = make(d, s, SU_ACT_NONE, true, seed);
        int64_t nx = s.rows * s.in, nw = (int64_t)s.out * s.in;
        gradients start = {check_normal(seed + 5, nx, 1), check_normal(seed + 6, nw, 1),
                           check_normal(seed + 7, s.out, 1)};
        for (int add = 0; add < 2; add++) {
            gradients want = reference_backward(&l, l.weight, add, &start);
            for (int which = 1; which < 8; which++) {
                gradients got = backward(d, &l, l.weight, add, &start, which);
                if (got.dx) check_close("dx", got.dx, want.dx, nx, sums);
                if (got.dw) check_close("dw", got.dw, want.dw, nw, sums);
                if (got.db) check_close("db", got.db, want.db, s.out, sums);
            }
        }
        su_device_close(d);
        check_free_all();
    }
}

static void backward_equals_the_reference_for_every_subset_of_gradients(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) check_backward(shapes[i], (uint64_t)(100 + i));
}

static void backward_over_many_rows_is_cut_and_summed(void **state)
{
    (void)state;
    check_backward((shape){2500, 40, 24}, 200);
    check_backward((shape){1537, 300, 9}, 201);
}

static double scalar(void *context)
{
    const layer *l = context;
    result r = forward(l->d, l, false);
    double sum = 0;
    for (int64_t i = 0; i < l->s.rows * l->s.out; i++) sum += r.y[i] * l->weight[i];
    return sum;
}

static void backward_equals_finite_differences(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 2);
    const shape few[] = {{3, 5, 7}, {17, 64, 5}};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < CHECK_ACTIVATIONS; k++) {
            shape s = few[i];
            layer l = make(d, s, check_activations[k], true, 300);
            result r = forward(d, &l, true);
            int64_t n = s.rows * s.out, nx = s.rows * s.in, nw = (int64_t)s.out * s.in;
            void *g = check_upload(d, l.weight, n), *pre = check_upload(d, r.pre, n);
            void *bias = check_upload(d, check_zeros(s.out), s.out);
            d->ops->act_backward(d, g, NULL, bias, g, pre, l.f, s.rows, s.out);
            d->ops->release(d, pre);
            double *dpre = check_take(d, g, n), *db = check_take(d, bias, s.out);
            gradients zero = {check_zeros(nx), check_zeros(nw), check_zeros(s.out)};
            gradients got = backward(d, &l, dpre, false, &zero, 7);
            check_gradient("dx", scalar, &l, l.x, got.dx, nx, su_tolerance("nn.difference"));
            check_gradient("dw", scalar, &l, l.w, got.dw, nw, su_tolerance("nn.difference"));
            check_gradient("db", scalar, &l, l.b, got.db, s.out, su_tolerance("nn.difference"));
            check_close("db of act_backward", db, got.db, s.out, su_tolerance("nn.f64"));
            check_free_all();
        }
    su_device_close(d);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    const shape many[] = {{4100, 72, 40}, {130, 700, 96}, {5, 257, 300}};
    const int threads[] = {1, 2, 3, 8};
    for (int i = 0; i < 3; i++) {
        shape s = many[i];
        int64_t nx = s.rows * s.in, nw = (int64_t)s.out * s.in;
        layer l = make(NULL, s, SU_ACT_GELU, true, 400);
        gradients start = {check_normal(1, nx, 1), check_normal(2, nw, 1), check_normal(3, s.out, 1)},
                  first = {0};
        result r = {0};
        for (int t = 0; t < 4; t++) {
            su_device *d = check_device(SU_DTYPE_F32, threads[t]);
            result y = forward(d, &l, true);
            gradients g = backward(d, &l, l.weight, true, &start, 7);
            if (t == 0) r = y, first = g;
            check_same_bits("y", y.y, r.y, s.rows * s.out);
            check_same_bits("dx", g.dx, first.dx, nx);
            check_same_bits("dw", g.dw, first.dw, nw);
            check_same_bits("db", g.db, first.db, s.out);
            su_device_close(d);
        }
        check_free_all();
    }
}

/* What lets a caption be the same whatever is captioned beside it. Only the CPU device promises the bits: a GPU's
 * library chooses how it sums by the product's shape. There both are within the tolerance of the right value. */
static void a_row_does_not_depend_on_how_many_there_are(void **state)
{
    (void)state;
    if (getenv("SUTURE_BLAS")) skip(); /* another library's products promise nothing of the kind */
    static const int32_t ins[] = {5, 64, 300, 777}, outs[] = {3, 97, 401};
    static const int64_t counts[] = {1, 2, 3, 7, 16, 17, 48, 95, 96, 97, 200};
    enum { ROWS = 201 };
    for (size_t i = 0; i < 4; i++)
        for (size_t o = 0; o < 3; o++) {
            su_device *d = check_device(SU_DTYPE_F32, 2);
            layer l = make(d, (shape){ROWS, outs[o], ins[i]}, SU_ACT_GELU, true, 4);
            double *all = forward(d, &l, true).y;
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
                layer few = l;
                few.s.rows = counts[c];
                few.x = l.x + (ROWS - counts[c]) * ins[i];
                const int64_t at = (ROWS - counts[c]) * outs[o], n = counts[c] * outs[o];
                double *y = forward(d, &few, c % 2).y, *whole = check_copy(all, ROWS * outs[o]);
                memcpy(whole + at, y, (size_t)n * sizeof *y);
                if (check_other_device())
                    check_close("y", whole, all, ROWS * outs[o], 2 * su_tolerance("nn.f32"));
                else
                    check_same_bits("y", y, all + at, n);
            }
            su_device_close(d);
            check_free_all();
        }
}

static void nan_reaches_its_row_and_no_other(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 2);
    layer l = make(d, (shape){17, 64, 48}, SU_ACT_GELU, true, 500);
    l.x[3 * 48 + 7] = NAN;
    result r = forward(d, &l, false);
    for (int64_t i = 0; i < 17; i++)
        for (int64_t o = 0; o < 64; o++) assert_true(isnan(r.y[i * 64 + o]) == (i == 3));
    su_device_close(d);
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_equals_the_reference),
        cmocka_unit_test(backward_equals_the_reference_for_every_subset_of_gradients),
        cmocka_unit_test(backward_over_many_rows_is_cut_and_summed),
        cmocka_unit_test(backward_equals_finite_differences),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(a_row_does_not_depend_on_how_many_there_are),
        cmocka_unit_test(nan_reaches_its_row_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
