#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "eval/student.h"
#include "tests/tolerance.h"
#include <math.h>

static void critical_values_are_those_of_the_tables(void **state)
{
    (void)state;
    static const struct {
        int64_t degrees;
        double t;
    } table[] = {{1, 12.706205}, {2, 4.302653},   {3, 3.182446},      {4, 2.776445},
                 {5, 2.570582},  {9, 2.262157},   {10, 2.228139},     {29, 2.045230},
                 {30, 2.042272}, {100, 1.983972}, {1000000, 1.960201}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_true(fabs(su_student_critical(table[i].degrees) - table[i].t) <= su_tolerance("eval.student"));
}

static void three_runs_have_a_mean_and_an_interval(void **state)
{
    (void)state;
    static const double values[] = {0.10, 0.12, 0.14};
    double mean, ci95[2];
    su_student_interval(values, 3, &mean, ci95);
    double half = 4.302653 * 0.02 / sqrt(3);
    assert_true(fabs(mean - 0.12) <= su_tolerance("eval.f64"));
    assert_true(fabs(ci95[0] - (0.12 - half)) <= su_tolerance("eval.student"));
    assert_true(fabs(ci95[1] - (0.12 + half)) <= su_tolerance("eval.student"));
}

static void one_run_has_no_interval(void **state)
{
    (void)state;
    double mean, ci95[2];
    su_student_interval((const double[]){0.5}, 1, &mean, ci95);
    assert_true(mean == 0.5 && isnan(ci95[0]) && isnan(ci95[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(critical_values_are_those_of_the_tables),
        cmocka_unit_test(three_runs_have_a_mean_and_an_interval),
        cmocka_unit_test(one_run_has_no_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
