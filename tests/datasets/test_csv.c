/* The CSV reader. */
#include "base/file.h"
#include "datasets/csv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char path[512];

static int make_path(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/suture-csv-XXXXXX", base ? base : "/tmp");
    int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    return fd < 0;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static su_csv *open_bytes(const char *bytes, size_t length)
{
    su_csv *csv = NULL;
    su_error err = {0};
    assert_int_equal(su_file_write(path, bytes, length, NULL), SU_OK);
    if (su_csv_open(path, &csv, &err)) fail_msg("%s", err.message);
    return csv;
}

/* The next row's fields joined by '|', with its line: "3:a|b". "end" after the last; a broken one's reason. */
static void expect_row(su_csv *csv, const char *expected)
{
    const su_csv_row *row = NULL;
    char got[256] = "end";
    su_error err = {0};
    if (su_csv_next(csv, &row, &err)) fail_msg("%s", err.message);
    if (row) snprintf(got, sizeof got, "%lld:%s", (long long)row->line, row->broken ? row->broken : "");
    for (int i = 0; row && i < row->count; i++) {
        size_t used = strlen(got);
        snprintf(got + used, sizeof got - used, "%s%s", i ? "|" : "", row->fields[i]);
    }
    assert_string_equal(got, expected);
}

static void expect_rows(const char *text, const char *const *rows)
{
    su_csv *csv = open_bytes(text, strlen(text));
    for (; *rows; rows++) expect_row(csv, *rows);
    expect_row(csv, "end");
    expect_row(csv, "end");
    su_csv_close(csv);
}

#define EXPECT_ROWS(text, ...) expect_rows(text, (const char *const[]){__VA_ARGS__, NULL})

static void plain_rows_with_any_line_end(void **state)
{
    (void)state;
    EXPECT_ROWS("a,b\n1,2\n", "1:a|b", "2:1|2");
    EXPECT_ROWS("a,b\r\n1,2\r\n", "1:a|b", "2:1|2");
    EXPECT_ROWS("a,b\r1,2\r", "1:a|b", "2:1|2");
    EXPECT_ROWS("a,b\n1,2", "1:a|b", "2:1|2");
    EXPECT_ROWS("a,b\n\n\r\n  \n1,2\n", "1:a|b", "5:1|2");
    EXPECT_ROWS("a,b\n1,\n,2\n,\n", "1:a|b", "2:1|", "3:|2", "4:|");
}

static void quotes_hold_commas_quotes_and_line_ends(void **state)
{
    (void)state;
    EXPECT_ROWS("a,b\n\"x, y\",\"he said \"\"no\"\"\"\n", "1:a|b", "2:x, y|he said \"no\"");
    EXPECT_ROWS("a,b\n\"one\ntwo\r\n\nthree\",2\n3,4\n", "1:a|b", "2:one\ntwo\r\n\nthree|2", "6:3|4");
    EXPECT_ROWS("a,b\n\"\",\"\"\n", "1:a|b", "2:|");
}

static void rows_may_be_of_any_width(void **state)
{
    (void)state;
    EXPECT_ROWS("a,b\n1\n1,2,3\n", "1:a|b", "2:1", "3:1|2|3");
}

static void a_byte_order_mark_is_passed_over(void **state)
{
    (void)state;
    EXPECT_ROWS("\xef\xbb\xbf"
                "a,b\n1,2\n",
                "1:a|b", "2:1|2");
}

static void the_delimiter_is_the_first_lines(void **state)
{
    (void)state;
    EXPECT_ROWS("a;b\n1,5;2\n", "1:a|b", "2:1,5|2");
    EXPECT_ROWS("a\tb\n1,5\t2\n", "1:a|b", "2:1,5|2");
    EXPECT_ROWS("a\nb,c\n", "1:a", "2:b|c");
}

static void an_unclosed_quote_costs_one_row(void **state)
{
    (void)state;
    static const char why[] = ":a quote that is never closed";
    char three[64], four[64];
    snprintf(three, sizeof three, "3%s", why);
    snprintf(four, sizeof four, "4%s", why);
    EXPECT_ROWS("a,b\n1,2\n\"open,3\n4,5\n", "1:a|b", "2:1|2", three, "4:4|5");
    EXPECT_ROWS("a,b\r\n1,2\r\n\"open,3\r\nx,\"y\r\n", "1:a|b", "2:1|2", three, four);
    EXPECT_ROWS("a\n1\n2\n\"3", "1:a", "2:1", "3:2", four);
}

static void an_empty_file_has_no_rows(void **state)
{
    (void)state;
    su_csv *csv = open_bytes("\n", 1);
    expect_row(csv, "end");
    su_csv_close(csv);
}

static void rewinding_begins_again(void **state)
{
    (void)state;
    const char *text = "\xef\xbb\xbf"
                       "a\n\"x\ny\"\n2\n\"never";
    su_csv *csv = open_bytes(text, strlen(text));
    for (int i = 0; i < 3; i++) {
        expect_row(csv, "1:a");
        expect_row(csv, "2:x\ny");
        if (i == 1) {
            expect_row(csv, "4:2");
            expect_row(csv, "5:a quote that is never closed");
        }
        su_csv_rewind(csv);
    }
    su_csv_close(csv);
}

static void a_nul_byte_shows_in_the_length(void **state)
{
    (void)state;
    const su_csv_row *row = NULL;
    su_csv *csv = open_bytes("a\0b,c\n", 6);
    assert_int_equal(su_csv_next(csv, &row, NULL), SU_OK);
    assert_int_equal(row->count, 2);
    assert_int_equal(row->lengths[0], 3);
    assert_memory_equal(row->fields[0], "a\0b", 4);
    su_csv_close(csv);
}

static void utf16_is_refused(void **state)
{
    (void)state;
    su_csv *csv = NULL;
    su_error err = {0};
    assert_int_equal(su_file_write(path,
                                   "\xff\xfe"
                                   "a\0",
                                   4, NULL),
                     SU_OK);
    assert_int_equal(su_csv_open(path, &csv, &err), SU_EFORMAT);
    assert_non_null(strstr(err.message, "UTF-8"));
}

static void an_endless_row_costs_its_first_line(void **state)
{
    (void)state;
    const su_csv_row *row = NULL;
    su_error err = {0};
    size_t length = (size_t)SU_CSV_ROW_MAX * 2 + 1024;
    char *big = malloc(length);
    memset(big, 'x', length);
    memcpy(big, "a,b\n\"", 5);
    for (size_t i = 100; i < length; i += 100) big[i] = '\n';
    big[length - 2] = '"';
    su_csv *csv = open_bytes(big, length);
    expect_row(csv, "1:a|b");
    expect_row(csv, "2:longer than 16 MiB; does it open a quote that is never closed?");
    for (int64_t line = 3; line < 1000; line++) {
        assert_int_equal(su_csv_next(csv, &row, &err), SU_OK);
        assert_int_equal(row->line, line);
        assert_int_equal(row->lengths[0], 99);
    }
    su_csv_close(csv);

    memset(big, 'x', length); /* one line of 32 MiB between two others */
    memcpy(big, "a,b\n", 4);
    memcpy(big + length - 5, "\nc,d\n", 5);
    csv = open_bytes(big, length);
    expect_row(csv, "1:a|b");
    expect_row(csv, "2:longer than 16 MiB; does it open a quote that is never closed?");
    expect_row(csv, "3:c|d");
    expect_row(csv, "end");
    su_csv_close(csv);
    free(big);
}

static void too_many_broken_rows_are_no_csv(void **state)
{
    (void)state;
    enum { PAIRS = 150 };
    char text[PAIRS * 8 + 16] = "a\n";
    const su_csv_row *row = NULL;
    su_error err = {0};
    for (int i = 0; i < PAIRS; i++) strcat(text, "\"b,\"\"\n"); /* a doubled quote closes nothing */
    su_csv *csv = open_bytes(text, strlen(text));
    su_status s = SU_OK;
    int broken = 0;
    do {
        s = su_csv_next(csv, &row, &err);
        broken += !s && row && row->broken;
    } while (!s && row);
    assert_int_equal(s, SU_ELIMIT);
    assert_int_equal(broken, 100);
    assert_non_null(strstr(err.message, "is it a CSV file?"));
    su_csv_close(csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_rows_with_any_line_end),
        cmocka_unit_test(quotes_hold_commas_quotes_and_line_ends),
        cmocka_unit_test(rows_may_be_of_any_width),
        cmocka_unit_test(a_byte_order_mark_is_passed_over),
        cmocka_unit_test(the_delimiter_is_the_first_lines),
        cmocka_unit_test(an_unclosed_quote_costs_one_row),
        cmocka_unit_test(an_empty_file_has_no_rows),
        cmocka_unit_test(rewinding_begins_again),
        cmocka_unit_test(a_nul_byte_shows_in_the_length),
        cmocka_unit_test(utf16_is_refused),
        cmocka_unit_test(an_endless_row_costs_its_first_line),
        cmocka_unit_test(too_many_broken_rows_are_no_csv),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
