/* Exact search against sorting all scores. */
#include "tests/nn/check.h"
#include "base/memory.h"

static const su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};

typedef struct {
    double score;
    int64_t row;
} hit;

/* As the contract orders: larger scores, then smaller rows; NaN last. */
static int in_order(const void *a, const void *b)
{
    const hit *x = a, *y = b;
    if (isnan(x->score) != isnan(y->score)) return isnan(x->score) ? 1 : -1;
    if (x->score > y->score) return -1;
    if (x->score < y->score) return 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static hit *all_hits(const double *query, const double *x, int64_t n, int32_t width)
{
    hit *hits = check_alloc(n, sizeof *hits);
    for (int64_t j = 0; j < n; j++) {
        for (int32_t k = 0; k < width; k++) hits[j].score += query[k] * x[j * width + k];
        hits[j].row = j;
    }
    qsort(hits, (size_t)n, sizeof *hits, in_order);
    return hits;
}

/* Small integers: every product is exact in any order, and ties abound. */
static double *integers(uint64_t seed, int64_t n)
{
    double *x = check_zeros(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (double)su_rng_below((su_rng_key){.seed = seed}, (uint64_t)i, 5) - 2;
    return x;
}

static double bf16_of(double x)
{
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (f != f) return NAN;
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

/* x [n], rounded in place to what rows of bf16 hold, when half. */
static void round_rows(double *x, int64_t n, bool half)
{
    for (int64_t i = 0; half && i < n; i++) x[i] = bf16_of(x[i]);
}

static void *upload_bf16(su_device *d, const double *x, int64_t n)
{
    uint16_t *halves = check_alloc(n, sizeof *halves);
    void *memory = NULL;
    su_error err = {0};
    for (int64_t i = 0; i < n; i++) {
        const float f = (float)x[i];
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        halves[i] = (uint16_t)(bits >> 16);
    }
    if (d->ops->alloc(d, (size_t)n * sizeof *halves, &memory, &err)) fail_msg("%s", err.message);
    d->ops->upload(d, memory, halves, (size_t)n * sizeof *halves);
    return memory;
}

/* Rows are uploaded as acc, or as bf16, which holds them exactly. Their longest is known every other time. */
static void search(su_device *d, int64_t *rows, float *scores, const double *queries, const double *x,
                   bool half, int64_t nq, int64_t n, int32_t width, int32_t k)
{
    void *dq = check_upload(d, queries, nq * width),
         *dx = half ? upload_bf16(d, x, n * width) : check_upload(d, x, n * width);
    su_error err = {0};
    double longest = 0;
    for (int64_t j = 0; j < n && nq % 2; j++) {
        double square = 0;
        for (int32_t e = 0; e < width; e++) square += x[j * width + e] * x[j * width + e];
        longest = fmax(longest, sqrt(square));
    }
    if (d->ops->top_k(d, rows, scores, dq, dx, half ? SU_DTYPE_BF16 : d->acc, longest, nq, n, width, k, &err))
        fail_msg("%s", err.message);
    check_take(d, dq, 0);
    d->ops->release(d, dx);
}

static void the_best_k_come_sorted_with_ties_to_the_smaller_row(void **state)
{
    static const struct {
        int64_t nq, n;
        int32_t width, k;
    } shapes[] = {{1, 1, 1, 1},     {1, 5000, 64, 10}, {3, 100, 3, 100}, {4, 2049, 3, 50},
                  {5, 2049, 3, 50}, {5, 512, 512, 1},  {257, 600, 7, 5}, {9, 3000, 64, 3000}};
    (void)state;
    for (size_t t = 0; t < 4; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            su_device *d = check_device(types[t / 2], 2);
            const bool half = t % 2;
            int64_t nq = shapes[s].nq, n = shapes[s].n;
            int32_t width = shapes[s].width, k = shapes[s].k;
            double *queries = integers(1, nq * width), *x = integers(2, n * width);
            int64_t *rows = check_alloc(nq * k, sizeof *rows);
            float *scores = check_alloc(nq * k, sizeof *scores);
            search(d, rows, scores, queries, x, half, nq, n, width, k);
            for (int64_t q = 0; q < nq; q++) {
                hit *want = all_hits(queries + q * width, x, n, width);
                for (int32_t i = 0; i < k; i++) {
                    assert_int_equal(rows[q * k + i], want[i].row);
                    assert_true(scores[q * k + i] == (float)want[i].score);
                }
            }
            check_free_all();
            su_device_close(d);
        }
}

static void scores_of_real_numbers_are_right_to_the_last_place_of_a_float(void **state)
{
    const int64_t nq = 20, n = 3000;
    const int32_t width = 100, k = 12;
    (void)state;
    for (size_t t = 0; t < 4; t++) {
        su_device *d = check_device(types[t / 2], 2);
        const bool half = t % 2;
        double *queries = check_normal(1, nq * width, 1), *x = check_normal(2, n * width, 1);
        round_rows(x, n * width, half);
        int64_t *rows = check_alloc(nq * k, sizeof *rows);
        float *scores = check_alloc(nq * k, sizeof *scores);
        search(d, rows, scores, queries, x, half, nq, n, width, k);
        for (int64_t q = 0; q < nq; q++) {
            hit *want = all_hits(queries + q * width, x, n, width);
            for (int32_t i = 0; i < k; i++) {
                assert_int_equal(rows[q * k + i], want[i].row);
                assert_true(fabs((double)scores[q * k + i] - want[i].score) <= 0x1p-23 * fabs(want[i].score));
            }
        }
        check_free_all();
        su_device_close(d);
    }
}

/* Each query has 200 rows near it with scores near 100, some 1e-5 apart: less than the rounding of their sums
 * in float32, which alone would put the wrong rows in. Rows of bf16 are about as near each other in a last place or
 * two of theirs, and products of bf16 alone would put the wrong rows in. */
static void near_ties_are_ordered_by_their_exact_scores(void **state)
{
    const int64_t nq = 6, n = 1200;
    const int32_t width = 100, k = 12;
    (void)state;
    for (int half = 0; half < 2; half++) {
        su_device *d = check_device(SU_DTYPE_F32, 2);
        double *queries = check_normal(1, nq * width, 1), *x = check_normal(2, n * width, half ? 3e-3 : 3e-5);
        int64_t *rows = check_alloc(nq * k, sizeof *rows);
        float *scores = check_alloc(nq * k, sizeof *scores);
        for (int64_t i = 0; i < n * width; i++) x[i] = (double)(float)(x[i] + queries[i % (nq * width)]);
        round_rows(x, n * width, half);
        search(d, rows, scores, queries, x, half, nq, n, width, k);
        for (int64_t q = 0; q < nq; q++) {
            hit *want = all_hits(queries + q * width, x, n, width);
            for (int64_t j = 0; j < n; j++) want[j].score = (double)(float)want[j].score;
            qsort(want, (size_t)n, sizeof *want, in_order);
            for (int32_t i = 0; i < k; i++) assert_int_equal(rows[q * k + i], want[i].row);
        }
        check_free_all();
        su_device_close(d);
    }
}

static void a_query_gets_the_same_answer_alone_and_among_others_on_any_number_of_threads(void **state)
{
    const int64_t nq = 30, n = 5000;
    const int32_t width = 33, k = 20;
    (void)state;
    for (int half = 0; half < 2; half++) {
        double *queries = check_normal(1, nq * width, 1), *x = check_normal(2, n * width, 1);
        int64_t *rows = check_alloc(nq * k, sizeof *rows), *again = check_alloc(nq * k, sizeof *again);
        float *scores = check_alloc(nq * k, sizeof *scores),
              *once_more = check_alloc(nq * k, sizeof *once_more);
        round_rows(x, n * width, half);
        su_device *d = check_device(SU_DTYPE_F32, 1);
        search(d, rows, scores, queries, x, half, nq, n, width, k);
        for (int64_t q = 0; q < nq; q++)
            search(d, again + q * k, once_more + q * k, queries + q * width, x, half, 1, n, width, k);
        assert_memory_equal(again, rows, (size_t)(nq * k) * sizeof *rows);
        assert_memory_equal(once_more, scores, (size_t)(nq * k) * sizeof *scores);
        su_device_close(d);
        d = check_device(SU_DTYPE_F32, 3);
        search(d, again, once_more, queries, x, half, nq, n, width, k);
        assert_memory_equal(again, rows, (size_t)(nq * k) * sizeof *rows);
        assert_memory_equal(once_more, scores, (size_t)(nq * k) * sizeof *scores);
        su_device_close(d);
        check_free_all();
    }
}

static void nan_scores_come_last_and_infinities_in_their_place(void **state)
{
    const int64_t n = 1500;
    (void)state;
    for (size_t t = 0; t < 4; t++)
        for (int64_t nq = 1; nq <= 8; nq += 7) { /* by dot products, by matrix products */
            su_device *d = check_device(types[t / 2], 2);
            const bool half = t % 2;
            double *queries = check_zeros(nq), *x = integers(3, n);
            for (int64_t q = 0; q < nq; q++) queries[q] = 1;
            for (int64_t j = 0; j < n; j += 3) x[j] = NAN;
            x[100] = INFINITY;
            x[200] = -INFINITY;
            int64_t *rows = check_alloc(nq * n, sizeof *rows);
            float *scores = check_alloc(nq * n, sizeof *scores);
            for (int32_t k = 3; k <= n; k += (int32_t)n - 3) {
                search(d, rows, scores, queries, x, half, nq, n, 1, k);
                for (int64_t q = 0; q < nq; q++) {
                    hit *want = all_hits(queries + q, x, n, 1);
                    for (int32_t i = 0; i < k; i++) {
                        assert_int_equal(rows[q * k + i], want[i].row);
                        assert_int_equal(isnan(scores[q * k + i]) != 0, isnan(want[i].score) != 0);
                    }
                }
            }
            check_free_all();
            su_device_close(d);
        }
}

/* Few different numbers, so that ties abound; in two rows larger ones at both ends. */
static void the_largest_of_a_row_come_sorted_with_ties_to_the_smaller_class(void **state)
{
    static const struct {
        int64_t rows;
        int32_t classes, k;
    } shapes[] = {{1, 1, 1}, {3, 7, 7}, {5, 1000, 6}, {4, 4098, 40}, {2, 300, 300}};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            su_device *d = check_device(types[t], 2);
            const int64_t rows = shapes[s].rows;
            const int32_t classes = shapes[s].classes, k = shapes[s].k;
            const double one = 1;
            double *x = integers(7, rows * classes);
            x[0] = 5, x[rows * classes - 1] = -INFINITY, x[(rows - 1) * classes] = 9;
            int32_t *which = check_alloc(rows * k, sizeof *which);
            float *values = check_alloc(rows * k, sizeof *values),
                  *log_sums = check_alloc(rows, sizeof *log_sums);
            void *dx = check_upload(d, x, rows * classes);
            const size_t room = (size_t)(rows * k) * 4;
            char *found = check_room(d, 2 * room + (size_t)rows * 4);
            d->ops->largest(d, (void *)found, (void *)(found + room), (void *)(found + 2 * room), dx, rows,
                            classes, k);
            d->ops->download(d, which, found, room);
            d->ops->download(d, values, found + room, room);
            d->ops->download(d, log_sums, found + 2 * room, (size_t)rows * 4);
            for (int64_t r = 0; r < rows; r++) {
                double sum = 0;
                hit *want = all_hits(&one, x + r * classes, classes, 1);
                for (int32_t i = 0; i < classes; i++) sum += exp(x[r * classes + i]);
                assert_true(fabs((double)log_sums[r] - log(sum)) <= 1e-6 * fmax(1, fabs(log(sum))));
                for (int32_t i = 0; i < k; i++) {
                    assert_int_equal(which[r * k + i], want[i].row);
                    assert_true(values[r * k + i] == (float)want[i].score);
                }
            }
            d->ops->release(d, found);
            check_take(d, dx, 0);
            check_free_all();
            su_device_close(d);
        }
}

static void a_k_that_cannot_be_is_refused(void **state)
{
    su_device *d = check_device(SU_DTYPE_F32, 1);
    float x[4] = {1, 2, 3, 4}, score;
    int64_t row;
    su_error err = {0};
    (void)state;
    assert_int_equal(d->ops->top_k(d, &row, &score, x, x, d->acc, 0, 1, 4, 1, 5, &err), SU_EINVAL);
    assert_int_equal(d->ops->top_k(d, &row, &score, x, x, d->acc, 0, 1, 4, 1, 0, &err), SU_EINVAL);
    assert_int_equal(d->ops->top_k(d, &row, &score, x, x, d->acc, 0, 0, 4, 1, 1, &err), SU_OK);
    assert_int_equal(d->ops->top_k(d, &row, &score, x, x, SU_DTYPE_F16, 0, 1, 4, 1, 1, &err),
                     SU_EUNSUPPORTED);
    su_device_close(d);
}

static void every_allocation_may_fail(void **state)
{
    float x[64], scores[64];
    int64_t rows[64];
    su_status status = SU_ENOMEM;
    int failures = 0;
    (void)state;
    check_cpu_only();
    for (int i = 0; i < 64; i++) x[i] = (float)i;
    while (status != SU_OK) {
        su_device *d = check_device(SU_DTYPE_F32, 2);
        su_alloc_fail_after(failures + 1);
        status = d->ops->top_k(d, rows, scores, x, x, d->acc, 0, 8, 64, 1, 8, NULL);
        su_alloc_fail_after(0);
        if (status != SU_OK) {
            assert_int_equal(status, SU_ENOMEM);
            assert_true(++failures < 50);
        }
        su_device_close(d);
    }
    assert_true(failures >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_k_come_sorted_with_ties_to_the_smaller_row),
        cmocka_unit_test(scores_of_real_numbers_are_right_to_the_last_place_of_a_float),
        cmocka_unit_test(near_ties_are_ordered_by_their_exact_scores),
        cmocka_unit_test(a_query_gets_the_same_answer_alone_and_among_others_on_any_number_of_threads),
        cmocka_unit_test(nan_scores_come_last_and_infinities_in_their_place),
        cmocka_unit_test(the_largest_of_a_row_come_sorted_with_ties_to_the_smaller_class),
        cmocka_unit_test(a_k_that_cannot_be_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
