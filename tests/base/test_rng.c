#include "base/rng.h"
#include "tests/base/scratch.h"
#include "tests/tolerance.h"
#include <math.h>

/* The known-answer vectors of Random123 for philox4x32, 10 rounds. */
static void philox_gives_the_published_answers(void **state)
{
    (void)state;
    static const struct {
        su_rng_key key;
        uint64_t counter;
        uint32_t answer[4];
    } known[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{UINT64_MAX, UINT32_MAX, UINT32_MAX, 0}, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x299f31d0a4093822, 0x13198a2e, 0x03707344, 0},
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        su_rng_block(known[i].key, known[i].counter, out);
        assert_memory_equal(out, known[i].answer, sizeof out);
    }
}

static const su_rng_key key = {.seed = 1, .step = 2, .layer = 3};

static void assert_near(double x, double wanted, double tolerance)
{
    if (!(fabs(x - wanted) <= tolerance)) fail_msg("%.6f is not within %g of %g", x, tolerance, wanted);
}

static void uniform_numbers_fill_the_unit_interval(void **state)
{
    (void)state;
    enum { N = 200000 };
    double sum = 0, squares = 0, least = 1, most = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = su_rng_uniform(key, i);
        assert_true(x >= 0.0 && x < 1.0);
        sum += x;
        squares += x * x;
        least = fmin(least, x);
        most = fmax(most, x);
    }
    assert_near(sum / N, 0.5, su_tolerance("base.rng.moment"));
    assert_near(squares / N, 1.0 / 3.0, su_tolerance("base.rng.moment"));
    assert_true(least < 1e-4 && most > 1.0 - 1e-4);
}

static void normal_numbers_have_the_normal_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    double m[5] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double x = su_rng_normal(key, i), power = 1.0;
        assert_true(isfinite(x));
        for (int k = 1; k < 5; k++) m[k] += (power *= x) / N;
    }
    assert_near(m[1], 0.0, su_tolerance("base.rng.moment"));
    assert_near(m[2], 1.0, 2.0 * su_tolerance("base.rng.moment"));
    assert_near(m[3], 0.0, 4.0 * su_tolerance("base.rng.moment"));
    assert_near(m[4], 3.0, 10.0 * su_tolerance("base.rng.moment"));
}

static void below_covers_its_range_evenly(void **state)
{
    (void)state;
    enum { N = 70000 };
    int counts[7] = {0};
    for (uint64_t i = 0; i < N; i++) counts[su_rng_below(key, i, 7)]++;
    for (int i = 0; i < 7; i++) assert_in_range(counts[i], 9600, 10400); /* four standard deviations of 93 */
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(su_rng_below(key, i, 1), 0);
        assert_true(su_rng_below(key, i, UINT64_MAX) < UINT64_MAX);
    }
    bool upper = false; /* a large range is reached as a whole */
    for (uint64_t i = 0; i < 100; i++) upper |= su_rng_below(key, i, (uint64_t)3 << 62) >= (uint64_t)1 << 63;
    assert_true(upper);
}

static void a_shuffle_is_a_permutation_that_depends_on_the_key_only(void **state)
{
    (void)state;
    enum { N = 1000 };
    int64_t a[N], b[N], c[N], seen[N] = {0}, moved = 0;
    su_rng_key other = key;
    other.step++;
    for (int64_t i = 0; i < N; i++) a[i] = b[i] = c[i] = i;
    su_rng_shuffle(key, a, N);
    su_rng_shuffle(key, b, N);
    su_rng_shuffle(other, c, N);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    for (int64_t i = 0; i < N; i++) {
        seen[a[i]]++;
        moved += a[i] != i;
    }
    for (int64_t i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    assert_true(moved > N - 20);
    su_rng_shuffle(key, a, 0);
    su_rng_shuffle(key, a, 1);
}

/* Position of every item is uniform: each of 5! orders of five items comes up. */
static void every_order_comes_up_in_a_shuffle(void **state)
{
    (void)state;
    int counts[120] = {0};
    for (uint32_t step = 0; step < 12000; step++) {
        int64_t items[5] = {0, 1, 2, 3, 4};
        su_rng_shuffle((su_rng_key){.seed = 5, .step = step}, items, 5);
        int rank = 0;
        for (int i = 0; i < 5; i++) {
            int smaller = 0;
            for (int j = i + 1; j < 5; j++) smaller += items[j] < items[i];
            rank = rank * (5 - i) + smaller;
        }
        counts[rank]++;
    }
    for (int i = 0; i < 120; i++)
        assert_in_range(counts[i], 55, 145); /* 100 expected, standard deviation 10 */
}

static void a_name_has_a_stable_hash(void **state)
{
    (void)state;
    assert_int_equal(su_rng_name(""), 0x811c9dc5); /* FNV-1a's published values */
    assert_int_equal(su_rng_name("a"), 0xe40c292c);
    assert_int_equal(su_rng_name("foobar"), 0xbf9cf968);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(uniform_numbers_fill_the_unit_interval),
        cmocka_unit_test(normal_numbers_have_the_normal_moments),
        cmocka_unit_test(below_covers_its_range_evenly),
        cmocka_unit_test(a_shuffle_is_a_permutation_that_depends_on_the_key_only),
        cmocka_unit_test(every_order_comes_up_in_a_shuffle),
        cmocka_unit_test(a_name_has_a_stable_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
