#include "tests/base/scratch.h"

static void an_error_has_code_position_and_message(void **state)
{
    (void)state;
    su_error err = {0};
    assert_int_equal(su_fail(&err, SU_EFORMAT, "%s: %d of %d", "a.png", 3, 4), SU_EFORMAT);
    assert_int_equal(err.code, SU_EFORMAT);
    assert_int_equal(err.position, -1);
    assert_string_equal(err.message, "a.png: 3 of 4");
    assert_int_equal(su_fail_at(&err, SU_ELIMIT, 17, "line %d", 17), SU_ELIMIT);
    assert_int_equal(err.position, 17);
    assert_string_equal(err.message, "line 17");
}

static void an_error_may_be_null(void **state)
{
    (void)state;
    assert_int_equal(su_fail(NULL, SU_EIO, "x"), SU_EIO);
    assert_int_equal(su_fail_at(NULL, SU_EIO, 1, "x"), SU_EIO);
    assert_int_equal(su_fail_context(NULL, SU_EIO, "x"), SU_EIO);
}

static void context_goes_in_front_and_keeps_code_and_position(void **state)
{
    (void)state;
    su_error err = {0};
    su_fail_at(&err, SU_EFORMAT, 9, "no number");
    assert_int_equal(su_fail_context(&err, SU_EIO, "row %d", 9), SU_EFORMAT);
    assert_string_equal(err.message, "row 9: no number");
    assert_int_equal(err.position, 9);
}

static void a_message_may_quote_the_one_it_replaces(void **state)
{
    (void)state;
    su_error err = {0};
    su_fail(&err, SU_EIO, "inner");
    su_fail(&err, SU_EFORMAT, "outer (%s)", err.message);
    assert_string_equal(err.message, "outer (inner)");
}

static void a_long_message_is_cut_between_characters(void **state)
{
    (void)state;
    su_error err;
    char text[2 * SU_ERROR_MESSAGE_MAX];
    for (int shift = 0; shift < 4; shift++) { /* a four-byte character over every place of the edge */
        memset(text, 'a', sizeof text);
        memcpy(text + SU_ERROR_MESSAGE_MAX - 5 + shift, "\xF0\x9F\xAB\x80", 4);
        text[sizeof text - 1] = '\0';
        su_fail(&err, SU_EIO, "%s", text);
        size_t length = strlen(err.message);
        size_t whole = (size_t)SU_ERROR_MESSAGE_MAX - 1,
               broken = (size_t)SU_ERROR_MESSAGE_MAX - 5 + (size_t)shift;
        assert_int_equal(length, shift == 0 ? whole : broken);
        su_fail_context(&err, SU_EIO, "x"); /* pushes the end three bytes out */
        assert_int_equal(strlen(err.message), shift == 0 ? whole - 1 : whole);
    }
}

static void every_status_has_its_own_name(void **state)
{
    (void)state;
    for (int a = SU_OK; a <= SU_EINTERRUPTED; a++) {
        assert_string_not_equal(su_status_name((su_status)a), "unknown");
        for (int b = SU_OK; b < a; b++)
            assert_string_not_equal(su_status_name((su_status)a), su_status_name((su_status)b));
    }
    assert_string_equal(su_status_name((su_status)999), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_has_code_position_and_message),
        cmocka_unit_test(an_error_may_be_null),
        cmocka_unit_test(context_goes_in_front_and_keeps_code_and_position),
        cmocka_unit_test(a_message_may_quote_the_one_it_replaces),
        cmocka_unit_test(a_long_message_is_cut_between_characters),
        cmocka_unit_test(every_status_has_its_own_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
