#include "base/nearest.h"
#include "tests/base/scratch.h"

static const char *const known[] = {"batch", "epochs", "lambda-atp", "lambda-cu", "k", "temperature", NULL};

static void a_slip_of_the_finger_is_recognised(void **state)
{
    (void)state;
    assert_string_equal(su_nearest("epoch", known), "epochs");
    assert_string_equal(su_nearest("epcohs", known), "epochs");
    assert_string_equal(su_nearest("bacth", known), "batch");
    assert_string_equal(su_nearest("lambda_atp", known), "lambda-atp");
    assert_string_equal(su_nearest("lamda-cu", known), "lambda-cu");
    assert_string_equal(su_nearest("tempreture", known), "temperature");
}

static void another_word_is_not(void **state)
{
    (void)state;
    assert_null(su_nearest("zebra", known));
    assert_null(su_nearest("x", known));
    assert_null(su_nearest("", known));
    assert_null(su_nearest("batch", (const char *const[]){NULL}));
    char longest[1000];
    memset(longest, 'a', sizeof longest);
    longest[999] = '\0';
    assert_null(su_nearest(longest, known));
    assert_null(su_nearest("aaaaaa", (const char *const[]){longest, NULL}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slip_of_the_finger_is_recognised),
        cmocka_unit_test(another_word_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
