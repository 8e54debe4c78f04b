/* V-measure and k-means against scikit-learn's figures (tests/golden/clustering.json), neighbours against
 * hand-made cases. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "data.h"
#include "eval/clustering.h"
#include "tests/tolerance.h"
#include <string.h>

static json_t *golden;

static int read_golden(void **state)
{
    (void)state;
    return su_json_read(SU_SOURCE_DIR "/tests/golden/clustering.json", 1 << 20, &golden, NULL) ? -1 : 0;
}

static int drop_golden(void **state)
{
    (void)state;
    json_decref(golden);
    return 0;
}

static int32_t int_member(const json_t *o, const char *key)
{
    return (int32_t)json_integer_value(json_object_get(o, key));
}

static int64_t read_ints(const json_t *array, int32_t *to)
{
    int64_t n = (int64_t)json_array_size(array);
    for (int64_t i = 0; i < n; i++) to[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    return n;
}

static void v_measure_equals_scikit_learn(void **state)
{
    (void)state;
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "v_measure"), i, c)
    {
        int32_t class_of[128], cluster[128];
        int64_t n = read_ints(json_object_get(c, "class_of"), class_of);
        read_ints(json_object_get(c, "cluster"), cluster);
        double v;
        assert_int_equal(
            su_v_measure(class_of, int_member(c, "classes"), cluster, int_member(c, "clusters"), n, &v, NULL),
            SU_OK);
        assert_true(fabs(v - json_number_value(json_object_get(c, "v_measure"))) <= su_tolerance("eval.f64"));
    }
    assert_true(i >= 8);
}

enum { POINTS = 240, WIDTH = 5 };

static void read_points(float *z)
{
    const json_t *points = json_object_get(json_object_get(golden, "kmeans"), "points");
    for (size_t i = 0; i < POINTS * WIDTH; i++)
        z[i] = (float)json_number_value(json_array_get(json_array_get(points, i / WIDTH), i % WIDTH));
}

static void kmeans_comes_near_the_best_known_inertia(void **state)
{
    (void)state;
    float z[POINTS * WIDTH];
    int32_t cluster[POINTS];
    const json_t *problem = json_object_get(golden, "kmeans");
    int32_t k = int_member(problem, "k");
    double best = json_number_value(json_object_get(problem, "best_inertia"));
    read_points(z);
    su_rows rows = make_rows(z, POINTS, WIDTH, false);
    for (uint64_t seed = 0; seed < 5; seed++) {
        su_kmeans_result result = {.cluster = cluster};
        assert_int_equal(su_kmeans(&rows, POINTS, WIDTH, k, 10, seed, NULL, &result, NULL), SU_OK);
        assert_true(result.inertia >= best * (1 - su_tolerance("eval.f64")));
        assert_true(result.inertia <= best * 1.03); /* 10 restarts against scikit-learn's 200 */
    }
    free_rows(rows);
}

static void coinciding_points_do_not_swallow_the_one_apart(void **state)
{
    (void)state;
    float z[20] = {0};
    z[19] = 1;
    su_rows rows = make_rows(z, 20, 1, false);
    for (int32_t k = 1; k <= 20; k++) {
        int32_t cluster[20];
        su_kmeans_result result = {.cluster = cluster};
        assert_int_equal(su_kmeans(&rows, 20, 1, k, 2, 3, NULL, &result, NULL), SU_OK);
        for (int i = 0; i < 20; i++) assert_in_range(cluster[i], 0, k - 1);
        for (int i = 0; k > 1 && i < 19; i++) assert_int_not_equal(cluster[i], cluster[19]);
        assert_true(k == 1 ? fabs(result.inertia - 0.95) <= su_tolerance("eval.f64") : result.inertia == 0);
    }
    su_kmeans_result none = {0};
    assert_int_equal(su_kmeans(&rows, 20, 1, 21, 1, 0, NULL, &none, NULL), SU_EINVAL);
    assert_int_equal(su_kmeans(&rows, 20, 1, 0, 1, 0, NULL, &none, NULL), SU_EINVAL);
    free_rows(rows);
}

static double accuracy(const float *z, int64_t n, const int32_t *class_of, const bool *tested, int32_t k)
{
    double share;
    su_rows rows = make_rows(z, n, 1, false);
    assert_int_equal(su_knn_accuracy(&rows, n, 1, class_of, tested, k, NULL, &share, NULL), SU_OK);
    free_rows(rows);
    return share;
}

static void neighbours_vote_and_the_nearest_breaks_ties(void **state)
{
    (void)state;
    /* The inner product with 1 is the other row's value. Row 0 asks. */
    static const float z[] = {1, 9, 8, 7, 6, 5};
    static const bool tested[] = {true, false, false, false, false, false};
    static const int32_t ties[] = {2, 2, 1, 1, 2, 3}, most[] = {1, 2, 1, 1, 2, 1};
    assert_true(accuracy(z, 6, ties, tested, 1) == 1);
    assert_true(accuracy(z, 6, ties, tested, 2) == 1); /* one each: class 2 is nearer */
    assert_true(accuracy(z, 6, ties, tested, 3) == 0); /* two to one for class 1 */
    assert_true(accuracy(z, 6, ties, tested, 4) == 1); /* two each: class 2 is nearer */
    assert_true(accuracy(z, 6, most, tested, 5) == 1);
    assert_true(accuracy(z, 6, most, tested, 50) == 1); /* there are only five */
}

static void equal_neighbours_count_in_their_order(void **state)
{
    (void)state;
    static const float z[] = {1, 1, 2, 2, 2};
    static const bool tested[] = {true, false, false, false, false};
    static const int32_t first[] = {5, 9, 5, 9, 9};
    assert_true(accuracy(z, 5, first, tested, 1) == 1);
}

static void an_empty_side_of_the_split_has_no_accuracy(void **state)
{
    (void)state;
    static const float z[] = {1, 2};
    static const int32_t class_of[] = {0, 1};
    assert_true(isnan(accuracy(z, 2, class_of, (const bool[]){true, true}, 5)));
    assert_true(isnan(accuracy(z, 2, class_of, (const bool[]){false, false}, 5)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v_measure_equals_scikit_learn),
        cmocka_unit_test(kmeans_comes_near_the_best_known_inertia),
        cmocka_unit_test(coinciding_points_do_not_swallow_the_one_apart),
        cmocka_unit_test(neighbours_vote_and_the_nearest_breaks_ties),
        cmocka_unit_test(equal_neighbours_count_in_their_order),
        cmocka_unit_test(an_empty_side_of_the_split_has_no_accuracy),
    };
    return cmocka_run_group_tests(tests, read_golden, drop_golden);
}
