/* Properties of the whole score; its values are compared with NumPy by check_embeddings.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data.h"
#include "eval/alignment.h"
#include "tests/tolerance.h"
#include <stdio.h>
#include <string.h>

enum { N = 203, WIDTH = 37, STREAMS = 3 };

typedef struct {
    float *z[STREAMS];
    const float *view[STREAMS];
    int32_t labels[N];
    char text[N][16], group[N][16];
    const char *texts[N], *groups[N];
    su_alignment_options options;
} problem;

static problem *problem_new(void)
{
    problem *p = su_calloc(1, sizeof *p);
    for (int m = 0; m < STREAMS; m++) p->view[m] = p->z[m] = make_stream(m, N, WIDTH);
    for (int i = 0; i < N; i++) {
        p->labels[i] = i % 4 - 1;
        snprintf(p->text[i], sizeof p->text[i], "text %d", i / 3);
        snprintf(p->group[i], sizeof p->group[i], "g%d", i / 2);
        p->texts[i] = p->text[i];
        p->groups[i] = p->group[i];
    }
    su_alignment_defaults(&p->options);
    p->options.draws = 50;
    p->options.labels = p->labels;
    p->options.texts = p->texts;
    p->options.groups = p->groups;
    return p;
}

static void problem_free(problem *p)
{
    for (int m = 0; m < STREAMS; m++) su_free(p->z[m]);
    su_free(p);
}

static su_status compute(problem *p, su_alignment_score *score, su_error *err)
{
    memset(score, 0, sizeof *score); /* padding too: scores are compared as bytes */
    return su_alignment_score_compute(p->view, STREAMS, N, WIDTH, &p->options, score, err);
}

static void any_thread_count_gives_the_same_bits(void **state)
{
    (void)state;
    problem *p = problem_new();
    su_alignment_score alone, together;
    assert_int_equal(compute(p, &alone, NULL), SU_OK);
    assert_true(alone.clustered);
    for (int threads = 1; threads <= 5; threads++) {
        assert_int_equal(su_pool_new(threads, &p->options.pool, NULL), SU_OK);
        assert_int_equal(compute(p, &together, NULL), SU_OK);
        assert_memory_equal(&alone.pair[0][1], &together.pair[0][1], sizeof(su_pair_score));
        assert_memory_equal(&alone.pair[0][2], &together.pair[0][2], sizeof(su_pair_score));
        assert_memory_equal(&alone.pair[1][2], &together.pair[1][2], sizeof(su_pair_score));
        assert_memory_equal(alone.angular_value, together.angular_value, sizeof alone.angular_value);
        assert_memory_equal(&alone.v_measure, &together.v_measure, sizeof(double));
        assert_memory_equal(&alone.knn_accuracy, &together.knn_accuracy, sizeof(double));
        su_pool_free(p->options.pool);
        p->options.pool = NULL;
    }
    problem_free(p);
}

static void a_seed_names_its_intervals(void **state)
{
    (void)state;
    problem *p = problem_new();
    su_alignment_score a, b, c;
    assert_int_equal(compute(p, &a, NULL), SU_OK);
    assert_int_equal(compute(p, &b, NULL), SU_OK);
    p->options.seed = 1;
    assert_int_equal(compute(p, &c, NULL), SU_OK);
    assert_memory_equal(&a.pair[0][1], &b.pair[0][1], sizeof(su_pair_score));
    assert_true(a.pair[0][1].gap_ci95[0] != c.pair[0][1].gap_ci95[0]);
    assert_true(a.pair[0][1].gap == c.pair[0][1].gap);
    problem_free(p);
}

static void intervals_lie_around_their_scores(void **state)
{
    (void)state;
    problem *p = problem_new();
    p->options.draws = 400;
    su_alignment_score score;
    assert_int_equal(compute(p, &score, NULL), SU_OK);
    for (int a = 0; a < STREAMS; a++)
        for (int b = a + 1; b < STREAMS; b++) {
            const su_pair_score *s = &score.pair[a][b];
            assert_true(s->gap_ci95[0] < s->gap && s->gap < s->gap_ci95[1]);
            assert_true(s->cos_ci95[0] < s->cos_true_pairs && s->cos_true_pairs < s->cos_ci95[1]);
            assert_true(s->forward.r10_ci95[0] < s->forward.r10 && s->forward.r10 < s->forward.r10_ci95[1]);
            assert_true(s->backward.r1_ci95[0] < s->backward.r1 && s->backward.r1 < s->backward.r1_ci95[1]);
        }
    problem_free(p);
}

static void without_draws_there_are_no_intervals(void **state)
{
    (void)state;
    problem *p = problem_new();
    p->options.draws = 0;
    su_alignment_score score;
    assert_int_equal(compute(p, &score, NULL), SU_OK);
    assert_true(isnan(score.pair[0][1].gap_ci95[0]) && isnan(score.pair[0][1].forward.r10_ci95[1]));
    assert_true(isfinite(score.pair[0][1].gap));
    problem_free(p);
}

static void the_scale_of_a_row_does_not_matter(void **state)
{
    (void)state;
    problem *p = problem_new();
    su_alignment_score before, after;
    assert_int_equal(compute(p, &before, NULL), SU_OK);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < WIDTH; k++) p->z[1][i * WIDTH + k] *= i % 2 ? 0x1p-100f : 0x1p100f;
    assert_int_equal(compute(p, &after, NULL), SU_OK);
    double tolerance = su_tolerance("eval.f64");
    assert_true(fabs(before.pair[0][1].gap - after.pair[0][1].gap) <= tolerance);
    assert_true(fabs(before.angular_value[1] - after.angular_value[1]) <= tolerance);
    assert_true(before.pair[0][1].forward.mrr == after.pair[0][1].forward.mrr);
    problem_free(p);
}

static void identical_streams_have_no_gap_and_perfect_recall(void **state)
{
    (void)state;
    problem *p = problem_new();
    p->view[1] = p->view[0];
    su_alignment_score score;
    assert_int_equal(compute(p, &score, NULL), SU_OK);
    const su_pair_score *s = &score.pair[0][1];
    assert_true(s->gap == 0 && s->gap_ci95[1] == 0 && s->forward.r1 == 1 && s->backward.median_rank == 1);
    assert_true(fabs(s->cos_true_pairs - 1) <= su_tolerance("eval.f64"));
    problem_free(p);
}

static void one_direction_for_all_ranks_everything_last(void **state)
{
    (void)state;
    problem *p = problem_new();
    p->options.texts = NULL;
    for (int m = 0; m < STREAMS; m++)
        for (int i = 0; i < N * WIDTH; i++) p->z[m][i] = i % WIDTH == 3;
    su_alignment_score score;
    assert_int_equal(compute(p, &score, NULL), SU_OK);
    const su_pair_score *s = &score.pair[0][1];
    assert_true(s->forward.median_rank == N && s->backward.r10 == 0);
    assert_true(isnan(s->rmg) && isnan(s->forward.r1_dup));
    problem_free(p);
}

static void texts_are_folded_before_they_are_compared(void **state)
{
    (void)state;
    /* Samples 0 and 1 point the same way: strictly each counts against the other, as duplicates both are
     * hits. */
    static const float z[] = {1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1};
    static const struct {
        const char *first, *second;
        bool same;
    } cases[] = {
        {"Chest X-ray", "  chest \t x-RAY\r\n", true},
        {"chest x-ray", "chest xray", false},
        {"\xc3\x84rm", "\xc3\xa4rm", false}, /* only ASCII letters are lowered */
        {"", " ", false},                    /* an empty text equals none */
    };
    const float *view[] = {z, z};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const char *texts[] = {cases[c].first, cases[c].second, "c", "d"};
        su_alignment_options options;
        su_alignment_defaults(&options);
        options.texts = texts;
        su_alignment_score score;
        assert_int_equal(su_alignment_score_compute(view, 2, 4, 3, &options, &score, NULL), SU_OK);
        assert_true(score.pair[0][1].forward.r1 == 0.5);
        assert_true(score.pair[0][1].forward.r1_dup == (cases[c].same ? 1 : 0.5));
        assert_true(score.pair[0][1].backward.r1_dup == (cases[c].same ? 1 : 0.5));
    }
}

static void a_zero_row_is_an_error_that_names_it(void **state)
{
    (void)state;
    problem *p = problem_new();
    const char *names[] = {"image", "lateral", "text"};
    su_alignment_score score;
    su_error err = {0};
    memset(p->z[1] + 17 * WIDTH, 0, WIDTH * sizeof(float));
    p->z[2][5 * WIDTH] = NAN;
    assert_int_equal(compute(p, &score, &err), SU_ENUMERIC);
    assert_int_equal(err.position, 17);
    assert_non_null(strstr(err.message, "stream 1, row 17"));
    p->options.names = names;
    assert_int_equal(compute(p, &score, &err), SU_ENUMERIC);
    assert_non_null(strstr(err.message, "'lateral', row 17 (from 0) is zero"));
    problem_free(p);
}

static void nan_and_infinity_are_errors_that_name_their_row(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int b = 0; b < 3; b++) {
        problem *p = problem_new();
        su_alignment_score score;
        su_error err = {0};
        p->z[2][202 * WIDTH + 36] = bad[b];
        assert_int_equal(compute(p, &score, &err), SU_ENUMERIC);
        assert_int_equal(err.position, 202);
        assert_non_null(strstr(err.message, "stream 2, row 202 (from 0) holds a NaN or an infinity"));
        problem_free(p);
    }
}

static void arguments_out_of_range_are_refused(void **state)
{
    (void)state;
    problem *p = problem_new();
    su_alignment_score score;
    su_alignment_options many = p->options;
    many.draws = 100001;
    assert_int_equal(su_alignment_score_compute(p->view, 1, N, WIDTH, &p->options, &score, NULL), SU_EINVAL);
    assert_int_equal(su_alignment_score_compute(p->view, 9, N, WIDTH, &p->options, &score, NULL), SU_EINVAL);
    assert_int_equal(su_alignment_score_compute(p->view, 2, 1, WIDTH, &p->options, &score, NULL), SU_EINVAL);
    assert_int_equal(su_alignment_score_compute(p->view, 2, N, 0, &p->options, &score, NULL), SU_EINVAL);
    assert_int_equal(su_alignment_score_compute(p->view, 2, N, WIDTH, &many, &score, NULL), SU_EINVAL);
    problem_free(p);
}

static void labels_of_one_class_are_not_clustered(void **state)
{
    (void)state;
    problem *p = problem_new();
    su_alignment_score score;
    for (int i = 0; i < N; i++) p->labels[i] = i % 2 ? 7 : -1;
    assert_int_equal(compute(p, &score, NULL), SU_OK);
    assert_false(score.clustered);
    assert_int_equal(score.classes, 1);
    for (int i = 0; i < N; i++) p->labels[i] = -1;
    assert_int_equal(compute(p, &score, NULL), SU_OK);
    assert_false(score.clustered);
    problem_free(p);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    problem *p = problem_new();
    su_alignment_score score;
    su_status status = SU_ENOMEM;
    int64_t n = 0;
    p->options.draws = 3;
    while (status && n < 2000) {
        su_error err = {0};
        su_alloc_fail_after(++n);
        status = compute(p, &score, &err);
        su_alloc_fail_after(0);
        assert_true(status == SU_OK || (status == SU_ENOMEM && strstr(err.message, "memory")));
    }
    assert_int_equal(status, SU_OK);
    assert_true(n > 40);
    problem_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_thread_count_gives_the_same_bits),
        cmocka_unit_test(a_seed_names_its_intervals),
        cmocka_unit_test(intervals_lie_around_their_scores),
        cmocka_unit_test(without_draws_there_are_no_intervals),
        cmocka_unit_test(the_scale_of_a_row_does_not_matter),
        cmocka_unit_test(identical_streams_have_no_gap_and_perfect_recall),
        cmocka_unit_test(one_direction_for_all_ranks_everything_last),
        cmocka_unit_test(texts_are_folded_before_they_are_compared),
        cmocka_unit_test(a_zero_row_is_an_error_that_names_it),
        cmocka_unit_test(nan_and_infinity_are_errors_that_name_their_row),
        cmocka_unit_test(arguments_out_of_range_are_refused),
        cmocka_unit_test(labels_of_one_class_are_not_clustered),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
