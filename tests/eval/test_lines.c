#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "eval/lines.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static int make_path(void **state)
{
    (void)state;
    strcpy(path, "/tmp/suture-lines-XXXXXX");
    int file = mkstemp(path);
    return file < 0 ? -1 : close(file);
}

static int drop_path(void **state)
{
    (void)state;
    return unlink(path);
}

static su_status read_lines(const char *text, size_t length, su_lines *lines, su_error *err)
{
    assert_int_equal(su_file_write(path, text, length, NULL), SU_OK);
    return su_lines_read(path, lines, err);
}

static void lines_end_as_on_any_system(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t count;
        const char *last;
    } cases[] = {
        {"", 0, NULL},         {"\n", 1, ""},    {"a", 1, "a"},          {"a\n", 1, "a"},
        {"a\nb", 2, "b"},      {"a\n\n", 2, ""}, {"a\r\nb\r\n", 2, "b"}, {"a\r\n\r\n", 2, ""},
        {"a\rb\n", 1, "a\rb"}, {"\r", 1, "\r"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_lines lines;
        assert_int_equal(read_lines(cases[i].text, strlen(cases[i].text), &lines, NULL), SU_OK);
        assert_int_equal(lines.count, cases[i].count);
        if (lines.count) assert_string_equal(lines.line[lines.count - 1], cases[i].last);
        su_lines_free(&lines);
    }
}

static void a_nul_byte_is_an_error_that_names_its_line(void **state)
{
    (void)state;
    su_lines lines;
    su_error err = {0};
    assert_int_equal(read_lines("a\nb\0c\n", 6, &lines, &err), SU_EFORMAT);
    assert_int_equal(err.position, 2);
    assert_null(lines.text);
}

static void equal_labels_get_equal_numbers(void **state)
{
    (void)state;
    int32_t *labels;
    int64_t count;
    const char *text = "ct\nmri\n\n ct \nx ray\nmri\t\r\n";
    assert_int_equal(su_file_write(path, text, strlen(text), NULL), SU_OK);
    assert_int_equal(su_labels_read(path, &labels, &count, NULL), SU_OK);
    static const int32_t wanted[] = {0, 1, -1, 0, 2, 1};
    assert_int_equal(count, 6);
    assert_memory_equal(labels, wanted, sizeof wanted);
    su_free(labels);
}

static void labels_come_from_npy_too(void **state)
{
    (void)state;
    const char *header = "{'descr': '<i4', 'fortran_order': False, 'shape': (5,)}";
    static const int32_t values[] = {70000, -1, 3, 70000, 0}, wanted[] = {2, -1, 1, 2, 0};
    uint8_t file[256] = "\x93NUMPY\x01";
    size_t length = strlen(header);
    file[8] = (uint8_t)length;
    memcpy(file + 10, header, length);
    memcpy(file + 10 + length, values, sizeof values);
    int32_t *labels;
    int64_t count;
    su_error err = {0};
    assert_int_equal(su_file_write(path, file, 10 + length + sizeof values, NULL), SU_OK);
    assert_int_equal(su_labels_read(path, &labels, &count, NULL), SU_OK);
    assert_int_equal(count, 5);
    assert_memory_equal(labels, wanted, sizeof wanted);
    su_free(labels);
    file[10 + 12] = 'f';
    assert_int_equal(su_file_write(path, file, 10 + length + sizeof values, NULL), SU_OK);
    assert_int_equal(su_labels_read(path, &labels, &count, &err), SU_EMISMATCH);
    assert_non_null(strstr(err.message, "whole numbers"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_as_on_any_system),
        cmocka_unit_test(a_nul_byte_is_an_error_that_names_its_line),
        cmocka_unit_test(equal_labels_get_equal_numbers),
        cmocka_unit_test(labels_come_from_npy_too),
    };
    return cmocka_run_group_tests(tests, make_path, drop_path);
}
