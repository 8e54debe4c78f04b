/* Attention over a cache against plain loops in double: rows anywhere, lengths, heads of odd width. */
#include "tests/nn/check.h"

typedef struct {
    const char *name;
    int32_t rows, heads, dim, longest, pool;
    bool listed;  /* keys by index; otherwise one behind the other from `first` */
    bool by_head; /* a head's keys lie together */
} shape;

static const shape shapes[] = {
    {"one", 1, 1, 1, 1, 1, true, false},
    {"three keys", 2, 1, 5, 3, 7, true, false},
    {"beams", 9, 6, 64, 41, 300, true, false},
    {"odd heads", 4, 3, 17, 33, 64, true, false},
    {"image tokens", 6, 2, 48, 197, 600, false, false},
    {"image tokens by head", 6, 3, 32, 197, 600, false, true},
    {"one key each", 70, 2, 8, 1, 70, false, false},
    {"long", 3, 1, 33, 513, 700, true, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    shape s;
    int64_t q_row, kv_row, kv_head, kv_size, o_row;
    double *q, *kv;
    int32_t *index, *first, *lengths;
} problem;

static problem make(shape s, uint64_t seed)
{
    int64_t width = (int64_t)s.heads * s.dim;
    problem p = {.s = s, .q_row = width + 1, .kv_row = 2 * width + 3, .kv_head = s.dim, .o_row = width + 2};
    if (s.by_head) { /* [heads][pool][dim + 1], keys then values */
        p.kv_row = s.dim + 1;
        p.kv_head = s.pool * p.kv_row;
    }
    p.kv_size = s.by_head ? 2 * s.heads * p.kv_head : s.pool * p.kv_row;
    su_rng_key key = {.seed = seed};
    p.q = check_normal(seed, s.rows * p.q_row, 1);
    p.kv = check_normal(seed + 1, p.kv_size, 1);
    p.index = check_alloc((int64_t)s.rows * s.longest, sizeof *p.index);
    p.first = check_alloc(s.rows, sizeof *p.first);
    p.lengths = check_alloc(s.rows, sizeof *p.lengths);
    for (int32_t i = 0; i < s.rows * s.longest; i++)
        p.index[i] = (int32_t)su_rng_below(key, (uint64_t)i, (uint64_t)s.pool);
    for (int32_t r = 0; r < s.rows; r++) {
        p.lengths[r] = r % 5 == 4 ? 0 : s.longest - (r * 7) % s.longest;
        p.first[r] = (r * 13) % (s.pool - s.longest + 1);
    }
    return p;
}

/* Where the values begin. */
static int64_t values_at(const problem *p)
{
    return p->s.by_head ? p->s.heads * p->kv_head : (int64_t)p->s.heads * p->s.dim;
}

static double *reference(const problem *p)
{
    const shape *s = &p->s;
    double *o = check_zeros(s->rows * p->o_row), *e = check_zeros(s->longest);
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t h = 0; h < s->heads; h++) {
            double most = -INFINITY, sum = 0;
            for (int64_t j = 0; j < p->lengths[r]; j++) {
                int64_t row = s->listed ? p->index[r * s->longest + j] : p->first[r] + j;
                const double *k = p->kv + row * p->kv_row + h * p->kv_head;
                e[j] = 0;
                for (int64_t i = 0; i < s->dim; i++) e[j] += p->q[r * p->q_row + h * s->dim + i] * k[i];
                e[j] /= sqrt(s->dim);
                most = fmax(most, e[j]);
            }
            for (int64_t j = 0; j < p->lengths[r]; j++) sum += e[j] = exp(e[j] - most);
            for (int64_t j = 0; j < p->lengths[r]; j++) {
                int64_t row = s->listed ? p->index[r * s->longest + j] : p->first[r] + j;
                const double *v = p->kv + values_at(p) + row * p->kv_row + h * p->kv_head;
                for (int64_t i = 0; i < s->dim; i++) o[r * p->o_row + h * s->dim + i] += e[j] / sum * v[i];
            }
        }
    return o;
}

/* Rows [from, from + count) alone; what lies between rows of o stays 0. */
static double *attend(su_device *d, const problem *p, int32_t from, int32_t count)
{
    const shape *s = &p->s;
    int64_t n = count * p->o_row;
    void *q = check_upload(d, p->q + from * p->q_row, count * p->q_row),
         *kv = check_upload(d, p->kv, p->kv_size), *o = check_upload(d, check_zeros(n), n);
    int32_t *index = check_upload_int(d, p->index + from * s->longest, (int64_t)count * s->longest),
            *first = check_upload_int(d, p->first + from, count),
            *lengths = check_upload_int(d, p->lengths + from, count);
    su_attend a = {.rows = count,
                   .heads = s->heads,
                   .dim = s->dim,
                   .q_stride = p->q_row,
                   .kv_stride = p->kv_row,
                   .kv_head = p->kv_head,
                   .o_stride = p->o_row,
                   .index = s->listed ? index : NULL,
                   .first = s->listed ? NULL : first,
                   .lengths = lengths,
                   .index_stride = s->longest,
                   .scale = 1 / sqrt(s->dim)};
    d->ops->attend(d, &a, o, q, kv, su_act_at(d, kv, values_at(p)));
    d->ops->release(d, q);
    d->ops->release(d, kv);
    d->ops->release(d, index);
    d->ops->release(d, first);
    d->ops->release(d, lengths);
    return check_take(d, o, n);
}

static void equals_the_reference(void **state)
{
    (void)state;
    static const su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < SHAPES; i++) {
            su_device *d = check_device(types[t], 2);
            problem p = make(shapes[i], 10 + (uint64_t)i);
            check_close(p.s.name, attend(d, &p, 0, p.s.rows), reference(&p), p.s.rows * p.o_row,
                        su_tolerance(t ? "nn.f64" : "nn.f32"));
            su_device_close(d);
            check_free_all();
        }
}

static void a_row_does_not_depend_on_the_others_nor_on_threads(void **state)
{
    (void)state;
    problem p = make(shapes[2], 3);
    su_device *d = check_device(SU_DTYPE_F32, 1), *more = check_device(SU_DTYPE_F32, 3);
    double *all = attend(d, &p, 0, p.s.rows);
    check_same_bits("threads", attend(more, &p, 0, p.s.rows), all, p.s.rows * p.o_row);
    for (int32_t r = 0; r < p.s.rows; r++)
        check_same_bits("a row alone", attend(d, &p, r, 1), all + r * p.o_row, p.o_row);
    su_device_close(d);
    su_device_close(more);
    check_free_all();
}

static void large_scores_do_not_overflow(void **state)
{
    (void)state;
    problem p = make(shapes[1], 4);
    for (int64_t i = 0; i < p.s.rows * p.q_row; i++) p.q[i] *= 1000;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    check_close("o", attend(d, &p, 0, p.s.rows), reference(&p), p.s.rows * p.o_row, 1e-3);
    su_device_close(d);
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_reference),
        cmocka_unit_test(a_row_does_not_depend_on_the_others_nor_on_threads),
        cmocka_unit_test(large_scores_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
