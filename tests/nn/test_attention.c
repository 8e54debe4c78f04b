/* Attention against plain loops in double and against finite differences: lengths, causal, cross, packed,
 * dropout. */
#include "tests/nn/check.h"

typedef struct {
    const char *name;
    int32_t batch, heads, dim, tq, tk;
    bool causal, lengths, packed; /* packed: q, k and v are read in place from [B, T, 3, H, dim] */
    double dropout;
} shape;

static const shape shapes[] = {
    {"one", 1, 1, 1, 1, 1, false, false, false, 0},
    {"three", 2, 1, 5, 3, 3, false, true, false, 0},
    {"seventeen, packed", 3, 2, 32, 17, 17, false, true, true, 0},
    {"sixty-five", 2, 3, 64, 65, 65, false, false, true, 0},
    {"sixty-five, lengths", 4, 2, 48, 65, 65, false, true, true, 0},
    {"257 of 88", 1, 2, 88, 257, 257, false, true, false, 0},
    {"causal", 2, 2, 32, 65, 65, true, true, true, 0},
    {"causal, 257", 1, 1, 16, 257, 257, true, false, false, 0},
    {"cross", 2, 2, 24, 9, 70, false, true, false, 0},
    {"causal with keys before", 2, 1, 8, 5, 21, true, false, false, 0},
    {"causal, first queries blind", 1, 2, 8, 21, 5, true, false, false, 0},
    {"long queries, few keys", 1, 1, 192, 300, 3, false, true, false, 0},
    {"dropout", 2, 2, 16, 33, 35, false, true, false, 0.3},
    {"dropout, causal", 2, 1, 5, 140, 140, true, true, true, 0.5},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    su_device *d;
    shape s;
    int64_t q_row, kv_row, o_row; /* strides */
    int64_t q_size, kv_size, o_size;
    double *q, *k, *v; /* packed: k and v point into q's memory */
    double *weight;    /* d_o */
    int32_t *lengths;
} problem;

static problem make(su_device *d, shape s, uint64_t seed)
{
    problem p = {.d = d, .s = s};
    int64_t width = (int64_t)s.heads * s.dim;
    p.o_row = width + (s.packed ? 0 : 3);
    p.q_row = s.packed ? 3 * width : width + 1;
    p.kv_row = s.packed ? 3 * width : 2 * width;
    p.q_size = (int64_t)s.batch * s.tq * p.q_row;
    p.kv_size = (int64_t)s.batch * s.tk * p.kv_row;
    p.o_size = (int64_t)s.batch * s.tq * p.o_row;
    p.q = check_normal(seed, p.q_size, 1);
    p.k = s.packed ? p.q + width : check_normal(seed + 1, p.kv_size, 1);
    p.v = s.packed ? p.q + 2 * width : check_normal(seed + 2, p.kv_size, 1);
    p.weight = check_normal(seed + 3, p.o_size, 1);
    if (s.lengths) {
        p.lengths = check_alloc(s.batch, sizeof *p.lengths);
        for (int32_t b = 0; b < s.batch; b++)
            p.lengths[b] = 1 + (b * 37 + s.tk - 1 - s.tk / 3 * (b % 2)) % s.tk;
    }
    return p;
}

static su_attention arguments(const problem *p, const int32_t *lengths)
{
    return (su_attention){.batch = p->s.batch,
                          .heads = p->s.heads,
                          .dim = p->s.dim,
                          .tq = p->s.tq,
                          .tk = p->s.tk,
                          .q_stride = p->q_row,
                          .kv_stride = p->kv_row,
                          .o_stride = p->o_row,
                          .lengths = lengths,
                          .causal = p->s.causal,
                          .scale = 1 / sqrt(p->s.dim),
                          .dropout = p->s.dropout,
                          .key = {.seed = 5, .step = 6, .layer = 7}};
}

/* The device's copies of the inputs; packed ones share one block. */
typedef struct {
    void *q, *k, *v;
    int32_t *lengths;
    bool packed;
} inputs;

static inputs upload(su_device *d, const problem *p)
{
    int64_t width = (int64_t)p->s.heads * p->s.dim;
    inputs in = {.q = check_upload(d, p->q, p->q_size),
                 .packed = p->s.packed,
                 .lengths = check_upload_int(d, p->lengths, p->s.batch)};
    in.k = in.packed ? su_act_at(d, in.q, width) : check_upload(d, p->k, p->kv_size);
    in.v = in.packed ? su_act_at(d, in.q, 2 * width) : check_upload(d, p->v, p->kv_size);
    return in;
}

static void release(su_device *d, inputs *in)
{
    d->ops->release(d, in->q);
    if (!in->packed) d->ops->release(d, in->k);
    if (!in->packed) d->ops->release(d, in->v);
    d->ops->release(d, in->lengths);
}

typedef struct {
    double *o, *lse;
} result;

static result forward(su_device *d, const problem *p, bool keep)
{
    inputs in = upload(d, p);
    su_attention a = arguments(p, in.lengths);
    int64_t rows = (int64_t)p->s.batch * p->s.heads * p->s.tq;
    void *o = check_upload(d, check_zeros(p->o_size), p->o_size),
         *lse = keep ? check_upload(d, NULL, rows) : NULL;
    d->ops->attention(d, &a, o, lse, in.q, in.k, in.v);
    release(d, &in);
    return (result){check_take(d, o, p->o_size), keep ? check_take(d, lse, rows) : NULL};
}

typedef struct {
    double *dq, *dk, *dv; /* with the strides of q, k, v; zero between */
    double *dbq, *dbv;    /* [heads][dim] */
} gradients;

static gradients backward(su_device *d, const problem *p, const result *r)
{
    inputs in = upload(d, p);
    su_attention a = arguments(p, in.lengths);
    int64_t rows = (int64_t)p->s.batch * p->s.heads * p->s.tq;
    void *d_o = check_upload(d, p->weight, p->o_size), *o = check_upload(d, r->o, p->o_size);
    void *lse = check_upload(d, r->lse, rows);
    void *dq = check_upload(d, check_zeros(p->q_size), p->q_size);
    void *dk = check_upload(d, check_zeros(p->kv_size), p->kv_size);
    void *dv = check_upload(d, check_zeros(p->kv_size), p->kv_size);
    const int64_t columns = (int64_t)p->s.heads * p->s.dim;
    double *start = check_normal(77, columns, 1);
    void *dbq = check_upload(d, start, columns), *dbv = check_upload(d, start, columns);
    d->ops->attention_backward(d, &a, dq, dk, dv, dbq, dbv, d_o, o, lse, in.q, in.k, in.v);
    release(d, &in);
    d->ops->release(d, d_o);
    d->ops->release(d, o);
    d->ops->release(d, lse);
    return (gradients){check_take(d, dq, p->q_size), check_take(d, dk, p->kv_size),
                       check_take(d, dv, p->kv_size), check_take(d, dbq, columns), check_take(d, dbv, columns)};
}

/* What dbq or dbv becomes: column sums of x, rows `stride` apart, added to what backward starts with. */
static double *sums_of(const problem *p, const double *x, int64_t rows, int64_t stride)
{
    const int64_t columns = (int64_t)p->s.heads * p->s.dim;
    double *sums = check_normal(77, columns, 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) sums[c] += x[r * stride + c];
    return sums;
}

/* --- the reference: one (b, h, i) at a time --- */

static double dropped(const problem *p, int64_t element)
{
    su_attention a = arguments(p, NULL);
    uint32_t words[4];
    if (p->s.dropout == 0) return 1;
    su_rng_block(a.key, (uint64_t)element / 4, words);
    return words[element % 4] < (uint64_t)(p->s.dropout * 0x1p32) ? 0 : 1 / (1 - p->s.dropout);
}

static void reference(const problem *p, result *r, gradients *g)
{
    const shape s = p->s;
    double scale = 1 / sqrt(s.dim), *row = check_zeros(s.tk);
    *r = (result){check_zeros(p->o_size), check_zeros((int64_t)s.batch * s.heads * s.tq)};
    *g = (gradients){check_zeros(p->q_size), check_zeros(p->kv_size), check_zeros(p->kv_size), NULL, NULL};
    for (int64_t b = 0; b < s.batch; b++)
        for (int64_t h = 0; h < s.heads; h++)
            for (int64_t i = 0; i < s.tq; i++) {
                int64_t line = (b * s.heads + h) * s.tq + i, limit = p->lengths ? p->lengths[b] : s.tk;
                int64_t q_at = (b * s.tq + i) * p->q_row + h * s.dim,
                        o_at = (b * s.tq + i) * p->o_row + h * s.dim;
                if (s.causal && i + s.tk - s.tq + 1 < limit) limit = i + s.tk - s.tq + 1;
                double sum = 0, delta = 0;
                for (int64_t j = 0; j < limit; j++) {
                    int64_t k_at = (b * s.tk + j) * p->kv_row + h * s.dim;
                    double dot = 0;
                    for (int64_t c = 0; c < s.dim; c++) dot += p->q[q_at + c] * p->k[k_at + c];
                    row[j] = exp(scale * dot);
                    sum += row[j];
                }
                r->lse[line] = log(sum);
                for (int64_t j = 0; j < limit; j++)
                    for (int64_t c = 0; c < s.dim; c++)
                        r->o[o_at + c] += row[j] / sum * dropped(p, line * s.tk + j) *
                                          p->v[(b * s.tk + j) * p->kv_row + h * s.dim + c];
                for (int64_t c = 0; c < s.dim; c++) delta += p->weight[o_at + c] * r->o[o_at + c];
                for (int64_t j = 0; j < limit; j++) {
                    int64_t k_at = (b * s.tk + j) * p->kv_row + h * s.dim;
                    double dp = 0, keep = dropped(p, line * s.tk + j);
                    for (int64_t c = 0; c < s.dim; c++) dp += p->weight[o_at + c] * p->v[k_at + c];
                    double ds = row[j] / sum * (keep * dp - delta);
                    for (int64_t c = 0; c < s.dim; c++) {
                        g->dq[q_at + c] += scale * ds * p->k[k_at + c];
                        g->dk[k_at + c] += scale * ds * p->q[q_at + c];
                        g->dv[k_at + c] += row[j] / sum * keep * p->weight[o_at + c];
                    }
                }
            }
}

static void check_case(shape s, su_dtype type, uint64_t seed)
{
    su_device *d = check_device(type, 2);
    problem p = make(d, s, seed);
    int64_t rows = (int64_t)s.batch * s.heads * s.tq;
    double near = su_tolerance(type == SU_DTYPE_F32 ? "nn.f32" : "nn.f64");
    double sums = su_tolerance(type == SU_DTYPE_F32 ? "nn.f32.sum" : "nn.f64");
    result want, got = forward(d, &p, true);
    gradients gradient;
    reference(&p, &want, &gradient);
    check_close(s.name, got.o, want.o, p.o_size, near);
    for (int64_t i = 0; i < rows; i++) {
        if (isinf(want.lse[i]))
            assert_true(got.lse[i] == want.lse[i]); /* a row that sees no key */
        else
            check_close("lse", got.lse + i, want.lse + i, 1, fmax(near, near / fabs(want.lse[i])));
    }
    check_same_bits("o without lse", forward(d, &p, false).o, got.o, p.o_size);
    gradients g = backward(d, &p, &got);
    check_close("dq", g.dq, gradient.dq, p.q_size, sums);
    check_close("dk", g.dk, gradient.dk, p.kv_size, sums);
    check_close("dv", g.dv, gradient.dv, p.kv_size, sums);
    const int64_t columns = (int64_t)s.heads * s.dim;
    check_close("dbq", g.dbq, sums_of(&p, gradient.dq, (int64_t)s.batch * s.tq, p.q_row), columns, sums);
    check_close("dbv", g.dbv, sums_of(&p, gradient.dv, (int64_t)s.batch * s.tk, p.kv_row), columns, sums);
    su_device_close(d);
    check_free_all();
}

static void float64_equals_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) check_case(shapes[i], SU_DTYPE_F64, (uint64_t)(10 * i));
}

static void float32_equals_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) check_case(shapes[i], SU_DTYPE_F32, (uint64_t)(10 * i));
}

static void every_length_equals_the_reference(void **state)
{
    (void)state;
    for (int32_t length = 1; length <= 35; length++)
        check_case((shape){"length", 1, 1, 8, length, length, length % 2, false, true, 0}, SU_DTYPE_F32,
                   (uint64_t)length);
}

static double scalar(void *context)
{
    const problem *p = context;
    result r = forward(p->d, p, false);
    double sum = 0;
    for (int64_t i = 0; i < p->o_size; i++) sum += r.o[i] * p->weight[i];
    return sum;
}

static void backward_equals_finite_differences(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F64, 2);
    const shape few[] = {
        {"plain", 2, 2, 5, 7, 7, false, true, false, 0},
        {"causal", 1, 2, 8, 9, 9, true, false, false, 0},
        {"cross with dropout", 2, 1, 6, 5, 11, false, true, false, 0.25},
    };
    for (int i = 0; i < 3; i++) {
        problem p = make(d, few[i], (uint64_t)(900 + i));
        result r = forward(d, &p, true);
        gradients g = backward(d, &p, &r);
        check_gradient("dq", scalar, &p, p.q, g.dq, p.q_size, su_tolerance("nn.difference"));
        check_gradient("dk", scalar, &p, p.k, g.dk, p.kv_size, su_tolerance("nn.difference"));
        check_gradient("dv", scalar, &p, p.v, g.dv, p.kv_size, su_tolerance("nn.difference"));
        check_free_all();
    }
    su_device_close(d);
}

static void keys_beyond_the_length_do_not_matter_and_get_no_gradient(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 2);
    problem p = make(d, (shape){"padding", 2, 2, 32, 40, 40, false, true, false, 0}, 31);
    p.lengths[0] = 13;
    p.lengths[1] = 40;
    result r = forward(d, &p, true);
    for (int64_t t = 13; t < 40; t++)
        for (int64_t c = 0; c < p.kv_row; c++) p.k[t * p.kv_row + c] = p.v[t * p.kv_row + c] = NAN;
    result same = forward(d, &p, true);
    check_same_bits("o", same.o, r.o, p.o_size);
    gradients g = backward(d, &p, &same);
    for (int64_t t = 0; t < 40; t++)
        for (int64_t c = 0; c < 2 * 32; c++) {
            double dk = g.dk[t * p.kv_row + c], dv = g.dv[t * p.kv_row + c];
            assert_true(t < 13 ? !isnan(dk) && !isnan(dv) : dk == 0 && dv == 0);
        }
    su_device_close(d);
    check_free_all();
}

static void large_scores_do_not_overflow(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    problem p = make(d, (shape){"large", 1, 1, 16, 20, 20, false, false, false, 0}, 41);
    for (int64_t i = 0; i < p.q_size; i++) p.q[i] *= 1e4;
    result r = forward(d, &p, true);
    gradients g = backward(d, &p, &r);
    for (int64_t i = 0; i < p.o_size; i++) assert_true(isfinite(r.o[i]) && fabs(r.o[i]) < 10);
    for (int64_t i = 0; i < p.kv_size; i++) assert_true(isfinite(g.dk[i]) && isfinite(g.dv[i]));
    su_device_close(d);
    check_free_all();
}

static void nan_in_a_query_reaches_its_row_and_no_other(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    problem p = make(d, (shape){"nan", 1, 1, 16, 20, 20, false, false, false, 0}, 51);
    p.q[7 * p.q_row + 3] = NAN;
    result r = forward(d, &p, true);
    for (int64_t i = 0; i < 20; i++)
        for (int64_t c = 0; c < 16; c++) assert_true(isnan(r.o[i * p.o_row + c]) == (i == 7));
    p.k[3] = NAN; /* a key that everyone sees */
    r = forward(d, &p, true);
    for (int64_t i = 0; i < 20; i++) assert_true(isnan(r.o[i * p.o_row]));
    su_device_close(d);
    check_free_all();
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    const int threads[] = {1, 2, 3, 8};
    problem p = make(NULL, (shape){"bits", 5, 3, 40, 150, 150, true, true, true, 0.1}, 61);
    result first = {0};
    gradients first_gradients = {0};
    for (int t = 0; t < 4; t++) {
        su_device *d = check_device(SU_DTYPE_F32, threads[t]);
        result r = forward(d, &p, true);
        gradients g = backward(d, &p, &r);
        if (t == 0) first = r, first_gradients = g;
        check_same_bits("o", r.o, first.o, p.o_size);
        check_same_bits("dq", g.dq, first_gradients.dq, p.q_size);
        check_same_bits("dk", g.dk, first_gradients.dk, p.kv_size);
        check_same_bits("dv", g.dv, first_gradients.dv, p.kv_size);
        su_device_close(d);
    }
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float64_equals_the_reference),
        cmocka_unit_test(float32_equals_the_reference),
        cmocka_unit_test(every_length_equals_the_reference),
        cmocka_unit_test(backward_equals_finite_differences),
        cmocka_unit_test(keys_beyond_the_length_do_not_matter_and_get_no_gradient),
        cmocka_unit_test(large_scores_do_not_overflow),
        cmocka_unit_test(nan_in_a_query_reaches_its_row_and_no_other),
        cmocka_unit_test(threads_do_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
