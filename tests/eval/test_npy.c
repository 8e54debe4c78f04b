/* .npy and safetensors matrices: every layout that is read, and every way in which a header can lie. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/safetensors.h"
#include "eval/matrix.h"
#include "eval/npy.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/suture-npy-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* Builds a file of the given version around a header; returns its length. */
static size_t build(uint8_t *to, int major, const char *header, const void *data, size_t bytes)
{
    size_t length = strlen(header), begin = major == 1 ? 10 : 12;
    memset(to, 0, 16);
    memcpy(to, "\x93NUMPY", 6);
    to[6] = (uint8_t)major;
    to[8] = (uint8_t)length;
    to[9] = (uint8_t)(length >> 8);
    memcpy(to + begin, header, length);
    if (bytes) memcpy(to + begin + length, data, bytes);
    return begin + length + bytes;
}

/* Parses from a block of exactly the file's length, so that AddressSanitizer sees any read beyond it. */
static su_status parse_exact(const uint8_t *bytes, size_t length, su_npy *npy, su_error *err)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, bytes, length);
    su_status status = su_npy_parse(copy, length, "x.npy", npy, err);
    free(copy);
    return status;
}

static su_status parse(const char *header, size_t data_bytes)
{
    uint8_t file[1024];
    static const uint8_t zeros[256];
    su_npy npy;
    su_error err = {0};
    size_t length = build(file, 1, header, zeros, data_bytes);
    su_status status = parse_exact(file, length, &npy, &err);
    assert_true(!status || strstr(err.message, "x.npy: ") == err.message);
    return status;
}

static void headers_as_numpy_writes_them_are_read(void **state)
{
    (void)state;
    assert_int_equal(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n", 24), SU_OK);
    assert_int_equal(parse("{'descr': '<f8', 'fortran_order': True, 'shape': (2,), }\n", 16), SU_OK);
    assert_int_equal(parse("{\"shape\":(2L,3L),\"fortran_order\":False,\"descr\":\"|i1\"}", 6), SU_OK);
    assert_int_equal(parse("{'descr': '>f2', 'fortran_order': False, 'shape': ()}", 2), SU_OK);
    assert_int_equal(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807)}", 0),
                     SU_OK);
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    static const char *const nonsense[] = {
        "",
        "{",
        "{}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (24)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,6)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4\\'', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4, 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'fortran_order': False, 'shape': (2, 3)}",
    };
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++)
        assert_int_equal(parse(nonsense[i], 24), SU_EFORMAT);
    static const char *const types[] = {"<c8", "|O",  "<U3", "<f3", "<f1", "<f9",
                                        "?f4", "<i3", "|b2", "<M8", "<f16"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char header[128];
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (2, 3)}", types[i]);
        assert_int_equal(parse(header, 24), SU_EUNSUPPORTED);
    }
    assert_int_equal(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", 23), SU_EFORMAT);
    assert_int_equal(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", 25), SU_EFORMAT);
    assert_int_equal(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 24),
                     SU_ELIMIT);
    assert_int_equal(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 1)}", 24),
                     SU_ELIMIT);
}

static void versions_and_lengths_are_checked(void **state)
{
    (void)state;
    uint8_t file[1024];
    su_npy npy;
    static const float one = 1;
    const char *header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1)}";
    for (int major = 1; major <= 3; major++) {
        size_t length = build(file, major, header, &one, 4);
        assert_int_equal(parse_exact(file, length, &npy, NULL), SU_OK);
        for (size_t cut = 0; cut < length; cut++)
            assert_int_equal(parse_exact(file, cut, &npy, NULL), SU_EFORMAT);
    }
    size_t length = build(file, 4, header, &one, 4);
    assert_int_equal(parse_exact(file, length, &npy, NULL), SU_EUNSUPPORTED);
    length = build(file, 2, header, &one, 4);
    file[11] = 0xff; /* a header of 4 GB */
    assert_int_equal(parse_exact(file, length, &npy, NULL), SU_ELIMIT);
}

static void no_mutation_of_a_file_reads_out_of_bounds(void **state)
{
    (void)state;
    uint8_t good[256], bad[256];
    static const float data[6] = {1, 2, 3, 4, 5, 6};
    su_rng_key key = {.seed = 5};
    size_t length =
        build(good, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", data, sizeof data);
    uint64_t counter = 0;
    for (int round = 0; round < 20000; round++) {
        su_npy npy;
        memcpy(bad, good, length);
        int changes = 1 + (int)su_rng_below(key, counter++, 4);
        for (int c = 0; c < changes; c++) {
            uint64_t at = su_rng_below(key, counter++, length);
            bad[at] = (uint8_t)su_rng_below(key, counter++, 256);
        }
        uint8_t *copy = malloc(length);
        memcpy(copy, bad, length);
        if (!su_npy_parse(copy, length, "x.npy", &npy, NULL) && npy.count) {
            double sum = 0; /* reads the last element of whatever was accepted */
            if (npy.kind == 'f')
                sum += su_npy_double(&npy, npy.count - 1);
            else
                sum += (double)su_npy_int(&npy, npy.count - 1);
            assert_true(sum == sum || isnan(sum));
        }
        free(copy);
    }
}

static void numbers_of_every_type_come_out(void **state)
{
    (void)state;
    static const struct {
        const char *descr;
        uint8_t bytes[8];
        size_t size;
        double value;
    } cases[] = {
        {"<f2", {0x00, 0x3c}, 2, 1},
        {">f2", {0xc2, 0x00}, 2, -3},
        {"<f2", {0x01, 0x00}, 2, 0x1p-24},
        {"<f2", {0xff, 0x83}, 2, -1023 * 0x1p-24},
        {"<f2", {0xff, 0x7b}, 2, 65504},
        {"<f2", {0x00, 0x7c}, 2, INFINITY},
        {"<f4", {0x00, 0x00, 0xa0, 0x3f}, 4, 1.25},
        {">f4", {0x3f, 0xa0, 0x00, 0x00}, 4, 1.25},
        {"<f8", {0, 0, 0, 0, 0, 0, 0xf4, 0xbf}, 8, -1.25},
        {">f8", {0xbf, 0xf4, 0, 0, 0, 0, 0, 0}, 8, -1.25},
        {"|i1", {0xff}, 1, -1},
        {"|u1", {0xff}, 1, 255},
        {"|b1", {1}, 1, 1},
        {"<i2", {0xfe, 0xff}, 2, -2},
        {">i2", {0xff, 0xfe}, 2, -2},
        {"<u2", {0xfe, 0xff}, 2, 65534},
        {"<i4", {0, 0, 0, 0x80}, 4, -2147483648.0},
        {"<u4", {0, 0, 0, 0x80}, 4, 2147483648.0},
        {">i8", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf6}, 8, -10},
        {"<u8", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8, 9223372036854775807.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t file[256];
        char header[128];
        su_npy npy;
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (1,)}",
                 cases[i].descr);
        size_t length = build(file, 1, header, cases[i].bytes, cases[i].size);
        assert_int_equal(su_npy_parse(file, length, "x", &npy, NULL), SU_OK);
        double value = npy.kind == 'f' ? su_npy_double(&npy, 0) : (double)su_npy_int(&npy, 0);
        assert_true(value == cases[i].value);
    }
}

static char *write_npy(const char *header, const void *data, size_t bytes)
{
    uint8_t file[512];
    char *path = su_path_join(folder, "a.npy");
    size_t length = build(file, 1, header, data, bytes);
    assert_int_equal(su_file_write(path, file, length, NULL), SU_OK);
    return path;
}

static void drop(char *path)
{
    unlink(path);
    su_free(path);
}

static void fortran_order_is_the_transpose(void **state)
{
    (void)state;
    static const float columns[] = {1, 4, 2, 5, 3, 6};
    char *path =
        write_npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", columns, sizeof columns);
    su_matrix m;
    assert_int_equal(su_matrix_read(path, NULL, "image", &m, NULL), SU_OK);
    assert_true(m.rows == 2 && m.width == 3);
    for (int i = 0; i < 6; i++) assert_true(m.data[i] == (float)(i + 1));
    su_matrix_free(&m);
    drop(path);
}

static void what_is_no_matrix_of_floats_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t bytes;
        su_status status;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", 24, SU_EMISMATCH},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3)}", 24, SU_EMISMATCH},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3)}", 0, SU_ELIMIT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0)}", 0, SU_ELIMIT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807)}", 0, SU_ELIMIT},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3)}", 24, SU_EUNSUPPORTED},
    };
    static const float zeros[6];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = write_npy(cases[i].header, zeros, cases[i].bytes);
        su_matrix m;
        su_error err = {0};
        assert_int_equal(su_matrix_read(path, NULL, NULL, &m, &err), cases[i].status);
        assert_non_null(strstr(err.message, path));
        assert_null(m.data);
        drop(path);
    }
    su_matrix m;
    assert_int_equal(su_matrix_read("/nowhere/a.npy", NULL, NULL, &m, NULL), SU_ENOTFOUND);
}

static void safetensors_of_every_float_type_give_the_same_matrix(void **state)
{
    (void)state;
    static const double f64[] = {1.5, -2, 0.25, 65504};
    static const float f32[] = {1.5f, -2, 0.25f, 65504};
    static const uint16_t f16[] = {0x3e00, 0xc000, 0x3400, 0x7bff}, bf16[] = {0x3fc0, 0xc000, 0x3e80, 0x4780};
    const su_tensor_view tensors[] = {
        {"image", SU_DTYPE_F32, 2, {2, 2}, f32, sizeof f32},
        {"half", SU_DTYPE_F16, 2, {2, 2}, f16, sizeof f16},
        {"brain", SU_DTYPE_BF16, 2, {2, 2}, bf16, sizeof bf16},
        {"wide", SU_DTYPE_F64, 2, {2, 2}, f64, sizeof f64},
        {"flat", SU_DTYPE_F32, 1, {4}, f32, sizeof f32},
        {"whole", SU_DTYPE_I32, 2, {2, 2}, f32, sizeof f32},
    };
    char *path = su_path_join(folder, "a.safetensors");
    assert_int_equal(su_safetensors_write(path, tensors, 6, NULL, NULL), SU_OK);
    su_matrix m;
    su_error err = {0};
    static const char *const names[] = {NULL, "image", "half", "brain", "wide"};
    for (size_t t = 0; t < 5; t++) { /* NULL: the one that is called like the stream */
        assert_int_equal(su_matrix_read(path, names[t], "image", &m, &err), SU_OK);
        assert_string_equal(m.tensor, names[t] ? names[t] : "image");
        for (int i = 0; i < 4; i++)
            assert_true(m.data[i] == (t == 3 && i == 3 ? 65536.0f : f32[i])); /* bfloat16 has 8 bits */
        su_matrix_free(&m);
    }
    assert_int_equal(su_matrix_read(path, "flat", NULL, &m, &err), SU_EMISMATCH);
    assert_int_equal(su_matrix_read(path, "whole", NULL, &m, &err), SU_EUNSUPPORTED);
    assert_int_equal(su_matrix_read(path, "text", NULL, &m, &err), SU_ENOTFOUND);
    assert_non_null(strstr(err.message, "no tensor 'text'; there are: 'image', 'half', 'brain'"));
    assert_int_equal(su_matrix_read(path, NULL, "text", &m, &err), SU_ENOTFOUND);
    assert_non_null(strstr(err.message, "FILE:NAME"));
    assert_int_equal(su_safetensors_write(path, tensors, 1, NULL, NULL), SU_OK);
    assert_int_equal(su_matrix_read(path, NULL, "text", &m, &err), SU_OK); /* the only one there is */
    su_matrix_free(&m);
    drop(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_as_numpy_writes_them_are_read),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(versions_and_lengths_are_checked),
        cmocka_unit_test(no_mutation_of_a_file_reads_out_of_bounds),
        cmocka_unit_test(numbers_of_every_type_come_out),
        cmocka_unit_test(fortran_order_is_the_transpose),
        cmocka_unit_test(what_is_no_matrix_of_floats_is_refused),
        cmocka_unit_test(safetensors_of_every_float_type_give_the_same_matrix),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
