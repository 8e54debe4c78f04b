/* Splits by group, and licence names. */
#include "datasets/licence.h"
#include "datasets/split.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { GROUPS = 20000 };

static const char *side(const su_split_rule *rule, int group)
{
    char name[32];
    const char *split = NULL;
    snprintf(name, sizeof name, "PMC%d", group);
    assert_int_equal(su_split_of_group(rule, name, &split, NULL), SU_OK);
    return split;
}

static void fractions_are_kept(void **state)
{
    (void)state;
    su_split_rule rule;
    int train = 0, val = 0;
    su_split_defaults(&rule);
    for (int i = 0; i < GROUPS; i++) {
        train += !strcmp(side(&rule, i), "train");
        val += !strcmp(side(&rule, i), "val");
    }
    /* Four standard deviations of a binomial: 4 sqrt(N p (1 - p)). */
    assert_in_range(train, 16000 - 227, 16000 + 227);
    assert_in_range(val, 2000 - 170, 2000 + 170);
}

static void a_group_keeps_its_side_when_fractions_of_train_grow(void **state)
{
    (void)state;
    su_split_rule small, large;
    su_split_defaults(&small);
    su_split_defaults(&large);
    assert_int_equal(su_split_parse_fractions("0.7,0.2,0.1", &small, NULL), SU_OK);
    for (int i = 0; i < GROUPS; i++)
        if (!strcmp(side(&small, i), "train")) assert_string_equal(side(&large, i), "train");
}

static void the_seed_changes_the_split_and_nothing_else_does(void **state)
{
    (void)state;
    su_split_rule a, b, c;
    int moved = 0;
    su_split_defaults(&a);
    su_split_defaults(&b);
    su_split_defaults(&c);
    c.seed = 1;
    for (int i = 0; i < GROUPS; i++) {
        assert_string_equal(side(&a, i), side(&b, i));
        moved += strcmp(side(&a, i), side(&c, i)) != 0;
    }
    assert_true(moved > GROUPS / 5);
}

static void a_fraction_of_zero_gets_nothing(void **state)
{
    (void)state;
    su_split_rule rule;
    su_split_defaults(&rule);
    assert_int_equal(su_split_parse_fractions("0.9,0.1,0", &rule, NULL), SU_OK);
    for (int i = 0; i < GROUPS; i++) assert_string_not_equal(side(&rule, i), "test");
    assert_int_equal(su_split_parse_fractions("0.9,0,0.1", &rule, NULL), SU_OK);
    for (int i = 0; i < GROUPS; i++) assert_string_not_equal(side(&rule, i), "val");
    assert_int_equal(su_split_parse_fractions("0,0,1", &rule, NULL), SU_OK);
    for (int i = 0; i < GROUPS; i++) assert_string_equal(side(&rule, i), "test");
}

static void fractions_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "0.8",          "0.8,0.1",    "0.8,0.1,0.2", "0.8,0.3,-0.1",
                                      "1,1,1",  "0.8,0.1,0.1x", "a,b,c",      "nan,0,1",     "0.8;0.1;0.1",
                                      "2,-1,0", "inf,0,0",      "0.5,0.5,0,0"};
    su_split_rule rule;
    su_error err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(su_split_parse_fractions(bad[i], &rule, &err), SU_EINVAL);
    assert_non_null(strstr(err.message, "0.8,0.1,0.1"));
}

static void usual_names_of_splits_become_ours(void **state)
{
    (void)state;
    assert_string_equal(su_split_name("Validation"), "val");
    assert_string_equal(su_split_name("dev"), "val");
    assert_string_equal(su_split_name("TRAINING"), "train");
    assert_string_equal(su_split_name("testing"), "test");
    assert_string_equal(su_split_name("fold3"), "fold3");
}

static void licences_have_one_spelling(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"CC BY", "cc-by"},
        {"cc-by", "cc-by"},
        {"CC_BY 4.0", "cc-by"},
        {"CC BY-NC-SA", "cc-by-nc-sa"},
        {"CC BY-SA-NC", "cc-by-nc-sa"},
        {"CC BY-NC-ND", "cc-by-nc-nd"},
        {"CC0", "cc0"},
        {"CC0 1.0 Universal", "cc0"},
        {"https://creativecommons.org/licenses/by/4.0/", "cc-by"},
        {"http://creativecommons.org/licenses/by-nc/3.0/", "cc-by-nc"},
        {"https://creativecommons.org/publicdomain/zero/1.0/", "cc0"},
        {"Creative Commons Attribution-NonCommercial 4.0 International", "cc-by-nc"},
        {"NO-CC CODE", "no-cc-code"},
        {"CC", "cc"},
        {"used by permission", "used-by-permission"},
        {"CC BY, figures all rights reserved", "cc-by-figures-all-rights-reserved"},
        {"", ""},
        {" - ", ""},
    };
    char canonical[SU_LICENCE_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        su_licence_canonical(names[i][0], canonical);
        assert_string_equal(canonical, names[i][1]);
    }
}

static void a_licence_passes_only_for_itself(void **state)
{
    (void)state;
    assert_true(su_licence_in("cc-by,cc0", "CC BY"));
    assert_true(su_licence_in("cc-by, CC0", "CC0 1.0"));
    assert_false(su_licence_in("cc-by,cc0", "CC BY-NC"));
    assert_false(su_licence_in("cc-by-nc", "CC BY"));
    assert_false(su_licence_in("cc-by,cc0", "NO-CC CODE"));
    assert_false(su_licence_in("cc-by,cc0", "used by permission"));
    assert_false(su_licence_in("cc-by,cc0", ""));
    assert_false(su_licence_in("", ""));
    assert_true(su_licence_in("cc-by,no-cc-code", "NO-CC CODE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fractions_are_kept),
        cmocka_unit_test(a_group_keeps_its_side_when_fractions_of_train_grow),
        cmocka_unit_test(the_seed_changes_the_split_and_nothing_else_does),
        cmocka_unit_test(a_fraction_of_zero_gets_nothing),
        cmocka_unit_test(fractions_that_are_none_are_refused),
        cmocka_unit_test(usual_names_of_splits_become_ours),
        cmocka_unit_test(licences_have_one_spelling),
        cmocka_unit_test(a_licence_passes_only_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
