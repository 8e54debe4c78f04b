/* The guard on cases made by hand: what it finds, what it misses and what it flags wrongly, counted. */
#include "tests/align/golden.h"
#include "base/file.h"
#include "base/memory.h"
#include "caption/guard.h"

/* One field, without the spaces around it; *line moves behind the bar. */
static char *field(char **line)
{
    char *start = *line, *bar = strchr(start, '|'), *end = bar ? bar : start + strlen(start);
    *line = bar ? bar + 1 : end;
    while (*start == ' ') start++;
    while (end > start && end[-1] == ' ') end--;
    *end = 0;
    return start;
}

static void cases_made_by_hand_are_judged_as_counted(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    su_error err = {0};
    int found = 0, missed = 0, wrong = 0, silent = 0;
    ok(su_file_read(SU_SOURCE_DIR "/tests/caption/guard_cases.txt", 1 << 20, &text, &length, &err), &err);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (*line == '#') continue;
        char *expected = field(&line), *caption = field(&line);
        const char *evidence = field(&line);
        su_flag flags[8];
        int32_t count = 0;
        bool hit = false;
        char list[256] = "";
        ok(su_guard(caption, &evidence, 1, flags, 8, &count, &err), &err);
        for (int32_t i = 0; i < count && i < 8; i++) {
            char name[80];
            snprintf(name, sizeof name, "%s %s", su_flag_name(flags[i].kind), flags[i].word);
            hit |= !strcmp(name, expected);
            snprintf(list + strlen(list), sizeof list - strlen(list), " [%s]", name);
            assert_int_equal(flags[i].evidence, 0);
            assert_string_not_equal(flags[i].caption, flags[i].other);
        }
        bool none = !strcmp(expected, "-");
        found += !none && hit;
        missed += !none && !hit;
        wrong += none && count > 0;
        silent += none && !count;
        if ((none && count) || (!none && !hit))
            print_message("%s: \"%s\" / \"%s\":%s\n", expected, caption, evidence, list);
    }
    su_free(text);
    print_message("found %d, missed %d, flagged wrongly %d, rightly silent %d\n", found, missed, wrong,
                  silent);
    assert_int_equal(found, 39);
    assert_int_equal(missed, 6);
    assert_int_equal(wrong, 3);
    assert_int_equal(silent, 25);
}

static void more_flags_than_room_are_counted_and_not_written(void **state)
{
    (void)state;
    su_error err = {0};
    su_flag flag;
    int32_t count = 0;
    const char *evidence[] = {"no effusion, no nodule, no fracture", "no effusion", ""};
    ok(su_guard("effusion, nodule, fracture", evidence, 3, &flag, 1, &count, &err), &err);
    assert_int_equal(count, 4);
    assert_string_equal(flag.word, "effusion");
    assert_string_equal(flag.caption, "present");
    assert_string_equal(flag.other, "absent");
    ok(su_guard("", evidence, 3, &flag, 1, &count, &err), &err);
    assert_int_equal(count, 0);
}

/* Long words, bytes that are no UTF-8, nothing but punctuation: no crash, no flag. */
static void any_bytes_are_read(void **state)
{
    (void)state;
    su_error err = {0};
    su_flag flags[4];
    int32_t count = 0;
    char lung[300];
    memset(lung, 'a', sizeof lung - 1);
    lung[sizeof lung - 1] = 0;
    const char *evidence[] = {lung, "\xff\xfe\x80 left", "...;;;(((", "no", "left", "of the left"};
    ok(su_guard("no \xc3\x28 right aaaaaaa. not", evidence, 6, flags, 4, &count, &err), &err);
    assert_int_equal(count, 0);
    char *exact = su_strdup("lesion of segment 3"); /* not a byte more: a digit at the end */
    ok(su_guard(exact, evidence, 6, flags, 4, &count, &err), &err);
    su_free(exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_made_by_hand_are_judged_as_counted),
        cmocka_unit_test(more_flags_than_room_are_counted_and_not_written),
        cmocka_unit_test(any_bytes_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
