/* .npy files: the header's bytes, and what is refused. NumPy itself reads them in tests/dicom. */
#include "base/file.h"
#include "base/memory.h"
#include "base/npy.h"
#include "tests/base/scratch.h"

static void a_file_is_its_header_and_its_data(void **state)
{
    (void)state;
    const float values[6] = {1, 2, 3, 4, 5, 6};
    const int64_t shape[2] = {2, 3};
    const char *path = at("a.npy");
    su_npy_writer *w = NULL;
    assert_int_equal(su_npy_open(path, "<f4", 2, shape, &w, NULL), SU_OK);
    assert_int_equal(su_npy_add(w, values, 8, NULL), SU_OK);
    assert_int_equal(su_npy_add(w, values + 2, 16, NULL), SU_OK);
    assert_false(su_file_exists(path));
    assert_int_equal(su_npy_commit(w, NULL), SU_OK);
    char *data = NULL;
    size_t length = 0;
    assert_int_equal(su_file_read(path, 4096, &data, &length, NULL), SU_OK);
    assert_int_equal(length, 128 + 24);
    assert_memory_equal(
        data, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,3,), }", 68);
    assert_int_equal(data[127], '\n');
    assert_memory_equal(data + 128, values, 24);
    su_free(data);
}

static void missing_or_surplus_data_leave_no_file(void **state)
{
    (void)state;
    const int64_t shape[1] = {4};
    const uint8_t bytes[5] = {0};
    for (size_t n = 3; n <= 5; n += 2) {
        su_npy_writer *w = NULL;
        assert_int_equal(su_npy_open(at("b.npy"), "|u1", 1, shape, &w, NULL), SU_OK);
        assert_int_equal(su_npy_add(w, bytes, n, NULL), SU_OK);
        assert_int_equal(su_npy_commit(w, NULL), SU_EINVAL);
        assert_false(su_file_exists(at("b.npy")));
    }
}

static void shapes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{0, 1}, {-1, 2}, {INT64_MAX, INT64_MAX}};
    su_npy_writer *w = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(su_npy_open(at("c.npy"), "<f8", 2, shapes[i], &w, NULL), SU_EINVAL);
        assert_null(w);
    }
    assert_int_equal(su_npy_open(at("c.npy"), "<f", 1, shapes[2], &w, NULL), SU_EINVAL);
    assert_int_equal(su_npy_open(at("none/c.npy"), "<f4", 1, (int64_t[1]){1}, &w, NULL), SU_ENOTFOUND);
    assert_null(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_its_header_and_its_data),
        cmocka_unit_test(missing_or_surplus_data_leave_no_file),
        cmocka_unit_test(shapes_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
