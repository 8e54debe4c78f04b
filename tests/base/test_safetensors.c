#include "base/safetensors.h"
#include "base/file.h"
#include "tests/base/scratch.h"
#include <inttypes.h>

/* --- files by others ---------------------------------------------------------------------------------- */

static double value_at(const su_tensor_view *v, int64_t i)
{
    const uint8_t *p = (const uint8_t *)v->data + (size_t)i * su_dtype_size(v->dtype);
    union {
        double f64;
        float f32;
        int64_t i64;
        int32_t i32;
        int16_t i16;
        int8_t i8;
        uint32_t bits;
        uint16_t half;
    } u = {0};
    memcpy(&u, p, su_dtype_size(v->dtype));
    switch (v->dtype) {
    case SU_DTYPE_F64:
        return u.f64;
    case SU_DTYPE_F32:
        return (double)u.f32;
    case SU_DTYPE_I64:
        return (double)u.i64;
    case SU_DTYPE_I32:
        return u.i32;
    case SU_DTYPE_I16:
        return u.i16;
    case SU_DTYPE_I8:
        return u.i8;
    case SU_DTYPE_U8:
    case SU_DTYPE_BOOL:
        return *p;
    case SU_DTYPE_BF16:
        u.bits = (uint32_t)u.half << 16;
        return (double)u.f32;
    case SU_DTYPE_F16: /* small whole numbers only */
        return u.half == 0 ? 0.0 : (double)(1024 + (u.half & 1023)) / (double)(1 << (25 - (u.half >> 10)));
    default:
        return -1.0;
    }
}

static void a_file_by_pythons_safetensors_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        su_dtype dtype;
        int rank;
        int64_t shape[3], count;
    } expected[] = {
        {"double", SU_DTYPE_F64, 2, {2, 3}, 6}, {"weight", SU_DTYPE_F32, 2, {3, 4}, 12},
        {"half", SU_DTYPE_F16, 1, {5}, 5},      {"brain", SU_DTYPE_BF16, 2, {2, 2}, 4},
        {"ids", SU_DTYPE_I64, 1, {4}, 4},       {"int", SU_DTYPE_I32, 1, {3}, 3},
        {"short", SU_DTYPE_I16, 1, {3}, 3},     {"signed", SU_DTYPE_I8, 1, {3}, 3},
        {"bytes", SU_DTYPE_U8, 1, {7}, 7},      {"scalar", SU_DTYPE_F32, 0, {0}, 1},
        {"empty", SU_DTYPE_F32, 2, {0, 4}, 0},  {"na\u00efve \u540d", SU_DTYPE_U8, 3, {1, 1, 1}, 1},
    };
    su_safetensors *f;
    su_error err = {0};
    if (su_safetensors_open(SU_SOURCE_DIR "/tests/golden/reference.safetensors", &f, &err))
        fail_msg("%s", err.message);
    assert_int_equal(su_safetensors_count(f), 13);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const su_tensor_view *v;
        if (su_safetensors_get(f, expected[i].name, expected[i].dtype, expected[i].rank, expected[i].shape,
                               &v, &err))
            fail_msg("%s", err.message);
        assert_int_equal(v->bytes, (size_t)expected[i].count * su_dtype_size(v->dtype));
        for (int64_t k = 0; k < expected[i].count; k++) assert_true(value_at(v, k) == (double)k);
    }
    const su_tensor_view *flags = su_safetensors_find(f, "flags");
    assert_int_equal(flags->dtype, SU_DTYPE_BOOL);
    assert_memory_equal(flags->data, "\0\1\0", 3);
    assert_string_equal(su_safetensors_metadata(f, "format"), "pt");
    assert_null(su_safetensors_metadata(f, "absent"));
    assert_null(su_safetensors_find(f, "absent"));
    assert_null(su_safetensors_find(f, "__metadata__"));
    assert_null(su_safetensors_at(f, -1));
    assert_null(su_safetensors_at(f, 13));
    assert_int_equal(su_safetensors_verify(f, &err), SU_OK);
    su_safetensors_close(f);
    su_safetensors_close(NULL);
}

static void a_missing_tensor_and_a_wrong_shape_are_told_apart(void **state)
{
    (void)state;
    su_safetensors *f;
    su_error err = {0};
    const su_tensor_view *v;
    assert_int_equal(su_safetensors_open(SU_SOURCE_DIR "/tests/golden/reference.safetensors", &f, &err),
                     SU_OK);
    assert_int_equal(su_safetensors_get(f, "wieght", SU_DTYPE_F32, 0, NULL, &v, &err), SU_ENOTFOUND);
    assert_contains(err.message, "has no tensor \"wieght\"");
    assert_int_equal(su_safetensors_get(f, "weight", SU_DTYPE_F32, 2, (int64_t[]){-1, 5}, &v, &err),
                     SU_EMISMATCH);
    assert_contains(err.message, "tensor \"weight\" is F32 [3, 4], where F32 [*, 5] is needed");
    assert_null(v);
    assert_int_equal(su_safetensors_get(f, "weight", SU_DTYPE_F32, 1, (int64_t[]){12}, &v, &err),
                     SU_EMISMATCH);
    assert_int_equal(su_safetensors_get(f, "weight", SU_DTYPE_F16, 2, (int64_t[]){3, 4}, &v, &err),
                     SU_EMISMATCH);
    assert_int_equal(su_safetensors_get(f, "weight", SU_DTYPE_F32, 2, (int64_t[]){-1, 4}, &v, &err), SU_OK);
    assert_int_equal(v->shape[0], 3);
    su_safetensors_close(f);
}

/* --- our own files ------------------------------------------------------------------------------------ */

static const float ramp[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint8_t few[3] = {7, 8, 9};
static const su_tensor_view three[] = {
    {.name = "z", .dtype = SU_DTYPE_F32, .rank = 2, .shape = {3, 4}, .data = ramp, .bytes = sizeof ramp},
    {.name = "none", .dtype = SU_DTYPE_I64, .rank = 1, .shape = {0}, .data = NULL, .bytes = 0},
    {.name = "a \"quoted\" name", .dtype = SU_DTYPE_U8, .rank = 1, .shape = {3}, .data = few, .bytes = 3},
};

static void what_is_written_is_read_back_in_order(void **state)
{
    (void)state;
    static const char *const notes[] = {"recipe", "{\"size\":224}", "crc32", "copied from another file",
                                        NULL};
    su_safetensors *f;
    su_error err = {0};
    assert_int_equal(su_safetensors_write(at("t"), three, 3, notes, &err), SU_OK);
    if (su_safetensors_open(at("t"), &f, &err)) fail_msg("%s", err.message);
    assert_int_equal(su_safetensors_count(f), 3);
    for (int64_t i = 0; i < 3; i++) {
        const su_tensor_view *v = su_safetensors_at(f, i);
        assert_string_equal(v->name, three[i].name);
        assert_int_equal(v->dtype, three[i].dtype);
        assert_int_equal(v->rank, three[i].rank);
        assert_memory_equal(v->shape, three[i].shape, sizeof v->shape);
        if (v->bytes) assert_memory_equal(v->data, three[i].data, v->bytes);
        assert_ptr_equal(su_safetensors_find(f, three[i].name), v);
    }
    assert_int_equal((uintptr_t)su_safetensors_at(f, 0)->data % SU_ALIGN, 0);
    assert_string_equal(su_safetensors_metadata(f, "recipe"), "{\"size\":224}");
    assert_int_equal(strlen(su_safetensors_metadata(f, "crc32")), 8);
    assert_int_equal(su_safetensors_verify(f, &err), SU_OK);
    su_safetensors_close(f);
}

static void a_file_without_tensors_is_valid(void **state)
{
    (void)state;
    su_safetensors *f;
    assert_int_equal(su_safetensors_write(at("none"), NULL, 0, NULL, NULL), SU_OK);
    assert_int_equal(su_safetensors_open(at("none"), &f, NULL), SU_OK);
    assert_int_equal(su_safetensors_count(f), 0);
    assert_null(su_safetensors_find(f, "x"));
    su_safetensors_close(f);
}

static void damaged_data_is_noticed(void **state)
{
    (void)state;
    su_safetensors *f;
    su_error err = {0};
    assert_int_equal(su_safetensors_write(at("d"), three, 3, NULL, &err), SU_OK);
    FILE *file = fopen(at("d"), "r+b");
    fseek(file, -1, SEEK_END);
    fputc(10, file);
    fclose(file);
    assert_int_equal(su_safetensors_open(at("d"), &f, &err), SU_OK);
    assert_int_equal(su_safetensors_verify(f, &err), SU_EFORMAT);
    assert_contains(err.message, "is damaged");
    su_safetensors_close(f);
}

static void every_flipped_bit_is_noticed_or_changes_nothing(void **state)
{
    (void)state;
    static const float values[] = {1.0f, -2.5f, 3e7f};
    const su_tensor_view view = {
        .name = "v", .dtype = SU_DTYPE_F32, .rank = 1, .shape = {3}, .data = values, .bytes = sizeof values};
    char *data;
    size_t length;
    assert_int_equal(
        su_safetensors_write(at("flip"), &view, 1, (const char *const[]){"step", "12", NULL}, NULL), SU_OK);
    assert_int_equal(su_file_read(at("flip"), 1 << 20, &data, &length, NULL), SU_OK);
    int unnoticed = 0;
    for (size_t bit = 0; bit < length * 8; bit++) {
        su_safetensors *f = NULL;
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << bit % 8));
        put_bytes(at("flip"), data, length);
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << bit % 8));
        if (su_safetensors_open(at("flip"), &f, NULL)) continue;
        if (!su_safetensors_verify(f, NULL)) { /* the name of the header's own checksum was hit */
            unnoticed++;
            assert_memory_equal(su_safetensors_find(f, "v")->data, values, sizeof values);
            assert_string_equal(su_safetensors_metadata(f, "step"), "12");
        }
        su_safetensors_close(f);
    }
    assert_true(unnoticed <= 8 * (int)strlen("header_crc32"));
    su_free(data);
}

static void a_tensor_that_cannot_be_written_is_refused(void **state)
{
    (void)state;
    su_error err = {0};
    su_tensor_view bad[2] = {three[0], three[0]};
    assert_int_equal(su_safetensors_write(at("bad"), bad, 2, NULL, &err), SU_EINVAL);
    assert_contains(err.message, "two tensors are named \"z\"");
    bad[0].bytes = 47;
    assert_int_equal(su_safetensors_write(at("bad"), bad, 1, NULL, &err), SU_EINVAL);
    bad[0] = three[0];
    bad[0].shape[0] = -3;
    assert_int_equal(su_safetensors_write(at("bad"), bad, 1, NULL, &err), SU_EINVAL);
    bad[0] = three[0];
    bad[0].rank = SU_MAX_RANK + 1;
    assert_int_equal(su_safetensors_write(at("bad"), bad, 1, NULL, &err), SU_EINVAL);
    bad[0] = three[0];
    bad[0].name = "__metadata__";
    assert_int_equal(su_safetensors_write(at("bad"), bad, 1, NULL, &err), SU_EINVAL);
    bad[0].name = "not \xff UTF-8";
    assert_int_not_equal(su_safetensors_write(at("bad"), bad, 1, NULL, &err), SU_OK);
    assert_int_not_equal(su_safetensors_write(at("bad"), three, 3, (const char *[]){"k", "\xff", NULL}, &err),
                         SU_OK);
    assert_false(su_file_exists(at("bad")));
}

static void a_full_device_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(su_safetensors_write(full_device(), three, 3, NULL, NULL), SU_EIO);
}

static void thousands_of_tensors_are_found_by_name(void **state)
{
    (void)state;
    enum { N = 20000 };
    su_tensor_view *views = su_calloc(N, sizeof *views);
    char(*names)[16] = su_alloc(N, 16);
    int32_t *values = su_alloc(N, sizeof *values);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], 16, "t%d", i * 7919 % N);
        values[i] = i;
        views[i] = (su_tensor_view){.name = names[i], .dtype = SU_DTYPE_I32, .data = &values[i], .bytes = 4};
    }
    assert_int_equal(su_safetensors_write(at("many"), views, N, NULL, NULL), SU_OK);
    su_safetensors *f;
    assert_int_equal(su_safetensors_open(at("many"), &f, NULL), SU_OK);
    for (int i = 0; i < N; i++) assert_memory_equal(su_safetensors_find(f, names[i])->data, &values[i], 4);
    su_safetensors_close(f);
    su_free(views);
    su_free(names);
    su_free(values);
}

/* --- hostile files ------------------------------------------------------------------------------------ */

static uint8_t image[1 << 16];

/* A file image of this header and so many zero bytes of data. */
static size_t build(const char *header, size_t data)
{
    uint64_t n = strlen(header);
    memset(image, 0, sizeof image);
    memcpy(image, &n, 8);
    memcpy(image + 8, header, n);
    return 8 + (size_t)n + data;
}

#define ENTRY(name, dtype, shape, from, to) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void every_broken_header_is_refused_for_its_own_reason(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        su_status code;
        const char *reason;
    } cases[] = {
        {"", 0, SU_EFORMAT, "no JSON object"},
        {"[]", 0, SU_EFORMAT, "no JSON object"},
        {" {}", 0, SU_EFORMAT, "no JSON object"},
        {"{", 0, SU_EFORMAT, "line 1"},
        {"{}", 1, SU_EFORMAT, "1 bytes after the last tensor"},
        {"{\"a\":1}", 0, SU_EFORMAT, "no object"},
        {"{\"a\":{}}", 0, SU_EFORMAT, "no dtype"},
        {"{\"a\":{\"dtype\":\"F32\"}}", 0, SU_EFORMAT, "no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, SU_EFORMAT, "no data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, SU_EFORMAT, "no data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4, SU_EFORMAT,
         "no data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":\"0,4\"}}", 4, SU_EFORMAT,
         "no data_offsets"},
        {"{" ENTRY("a", "F8_E4M3", "[4]", 0, 4) "}", 4, SU_EUNSUPPORTED, "F8_E4M3"},
        {"{" ENTRY("a", "f32", "[1]", 0, 4) "}", 4, SU_EUNSUPPORTED, "f32"},
        {"{" ENTRY("a", "F32", "[1.0]", 0, 4) "}", 4, SU_EFORMAT, "no integer"},
        {"{" ENTRY("a", "F32", "[\"1\"]", 0, 4) "}", 4, SU_EFORMAT, "no integer"},
        {"{" ENTRY("a", "F32", "[-1]", 0, 4) "}", 4, SU_EFORMAT, "negative"},
        {"{" ENTRY("a", "F32", "[2]", 0, 4) "}", 4, SU_EFORMAT, "do not match"},
        {"{" ENTRY("a", "F32", "[1]", 0, 8) "}", 8, SU_EFORMAT, "do not match"},
        {"{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, SU_ELIMIT, "9 dimensions"},
        /* products that wrap around to the right number */
        {"{" ENTRY("a", "U8", "[4294967296,4294967296]", 0, 0) "}", 0, SU_EFORMAT, "2^63"},
        {"{" ENTRY("a", "F32", "[4611686018427387905]", 0, 4) "}", 4, SU_EFORMAT, "2^63"},
        {"{" ENTRY("a", "U8", "[9223372036854775807,0,9223372036854775807]", 0, 0) "}", 0, SU_EFORMAT,
         "2^63"},
        {"{" ENTRY("a", "U8", "[99999999999999999999]", 0, 4) "}", 4, SU_EFORMAT, "integer"},
        {"{" ENTRY("a", "F32", "[1]", -4, 0) "}", 4, SU_EFORMAT, "outside the file"},
        {"{" ENTRY("a", "F32", "[1]", 4, 0) "}", 4, SU_EFORMAT, "outside the file"},
        {"{" ENTRY("a", "F32", "[1]", 0, 4) "}", 3, SU_EFORMAT, "cut short"},
        {"{" ENTRY("a", "F32", "[2]", 9223372036854775800, 9223372036854775807) "}", 8, SU_EFORMAT,
         "outside"},
        {"{" ENTRY("a", "F32", "[1]", 4, 8) "}", 8, SU_EFORMAT, "hole"},
        {"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 8, 12) "}", 12, SU_EFORMAT, "hole"},
        {"{" ENTRY("a", "F32", "[2]", 0, 8) "," ENTRY("b", "F32", "[1]", 4, 8) "}", 8, SU_EFORMAT,
         "overlaps"},
        {"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 0, 4) "}", 4, SU_EFORMAT,
         "overlaps"},
        {"{" ENTRY("a", "F32", "[2]", 0, 8) "," ENTRY("b", "U8", "[0]", 4, 4) "}", 8, SU_EFORMAT, "overlaps"},
        {"{" ENTRY("a", "F32", "[1]", 0, 4) "}", 6, SU_EFORMAT, "2 bytes after"},
        {"{" ENTRY("a", "U8", "[1]", 0, 1) "," ENTRY("a", "U8", "[1]", 1, 2) "}", 2, SU_EFORMAT, "duplicate"},
        {"{\"__metadata__\":1}", 0, SU_EFORMAT, "__metadata__ is no object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, SU_EFORMAT, "is no string"},
        {"{\"__metadata__\":{\"a\":{}}}", 0, SU_EFORMAT, "is no string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_error err = {0};
        su_status st = su_safetensors_check(image, build(cases[i].header, cases[i].data), "bad.st", &err);
        if (st != cases[i].code) fail_msg("%s: %s, \"%s\"", cases[i].header, su_status_name(st), err.message);
        assert_contains(err.message, cases[i].reason);
        assert_contains(err.message, "bad.st");
    }
}

static void headers_that_are_allowed_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
    } cases[] = {
        {"{}", 0},
        {"{}      ", 0},
        {"{\"__metadata__\":{}}", 0},
        {"{" ENTRY("b", "F32", "[1]", 4, 8) "," ENTRY("a", "F32", "[]", 0, 4) "}", 8}, /* any order */
        {"{" ENTRY("a", "U8", "[0]", 0, 0) "," ENTRY("b", "U8", "[2]", 0, 2) "," ENTRY("c", "U8", "[5,0]", 2,
                                                                                       2) "}",
         2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_error err = {0};
        if (su_safetensors_check(image, build(cases[i].header, cases[i].data), "x", &err))
            fail_msg("%s", err.message);
    }
}

static void a_header_of_any_claimed_size_is_refused_without_allocating(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {3,
                                     100,
                                     100000000,
                                     100000001,
                                     UINT32_MAX,
                                     1ull << 32,
                                     (1ull << 63) - 1,
                                     1ull << 63,
                                     (1ull << 63) + 8,
                                     UINT64_MAX - 7,
                                     UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        su_error err = {0};
        size_t total = build("{}", 0);
        memcpy(image, &sizes[i], 8);
        su_status st = su_safetensors_check(image, total, "big", &err);
        assert_int_equal(st, sizes[i] > 100000000 ? SU_ELIMIT : SU_EFORMAT);
        put_bytes(at("big"), image, total);
        su_safetensors *f;
        assert_int_equal(su_safetensors_open(at("big"), &f, &err), st);
        assert_null(f);
    }
}

static void a_file_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    char *whole;
    size_t length;
    assert_int_equal(
        su_file_read(SU_SOURCE_DIR "/tests/golden/reference.safetensors", 1 << 20, &whole, &length, NULL),
        SU_OK);
    for (size_t n = 0; n < length; n++) {
        uint8_t *part =
            su_alloc(n, 1); /* its own block, so that a read past the end is seen by the sanitizer */
        memcpy(part, whole, n);
        su_status st = su_safetensors_check(part, n, "cut", NULL);
        su_free(part);
        assert_int_equal(st, SU_EFORMAT);
    }
    uint8_t *longer = su_alloc(length + 1, 1);
    memcpy(longer, whole, length);
    longer[length] = 0;
    assert_int_equal(su_safetensors_check(longer, length + 1, "longer", NULL), SU_EFORMAT);
    su_free(longer);
    su_free(whole);
}

/* Every byte of the header replaced by a few others: any verdict is fine, reading outside is not. */
static void no_damaged_header_is_read_outside_its_bounds(void **state)
{
    (void)state;
    static const uint8_t others[] = {0, '0', '9', '"', '{', '[', ',', '-', 0xff};
    char *whole;
    size_t length;
    uint64_t header;
    int refused = 0;
    assert_int_equal(
        su_file_read(SU_SOURCE_DIR "/tests/golden/reference.safetensors", 1 << 20, &whole, &length, NULL),
        SU_OK);
    memcpy(&header, whole, 8);
    uint8_t *copy = su_alloc(length, 1);
    memcpy(copy, whole, length);
    for (size_t i = 0; i < 8 + (size_t)header; i++) {
        for (size_t k = 0; k < sizeof others; k++) {
            copy[i] = others[k];
            su_error err = {0};
            su_status st = su_safetensors_check(copy, length, "damaged", &err);
            refused += st != SU_OK;
            assert_true(st == SU_OK || err.message[0]);
        }
        copy[i] = (uint8_t)whole[i];
    }
    assert_true(refused > (int)header);
    su_free(copy);
    su_free(whole);
}

static void a_git_lfs_pointer_is_recognised(void **state)
{
    (void)state;
    su_error err = {0};
    su_safetensors *f;
    put_text(at("lfs"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    assert_int_equal(su_safetensors_open(at("lfs"), &f, &err), SU_EFORMAT);
    assert_contains(err.message, "git lfs pull");
    put_text(at("lfs"), "");
    assert_int_equal(su_safetensors_open(at("lfs"), &f, &err), SU_EFORMAT);
    assert_int_equal(su_safetensors_open(at("absent"), &f, &err), SU_ENOTFOUND);
}

static su_status write_and_open(su_error *err)
{
    su_safetensors *f;
    su_status st = su_safetensors_write(at("scarce"), three, 3, (const char *[]){"k", "v", NULL}, err);
    if (st) return st;
    st = su_safetensors_open(at("scarce"), &f, err);
    if (!st) assert_int_equal(su_safetensors_count(f), 3);
    su_safetensors_close(f);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    assert_true(fail_every_allocation(write_and_open) > 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_by_pythons_safetensors_is_read),
        cmocka_unit_test(a_missing_tensor_and_a_wrong_shape_are_told_apart),
        cmocka_unit_test(what_is_written_is_read_back_in_order),
        cmocka_unit_test(a_file_without_tensors_is_valid),
        cmocka_unit_test(damaged_data_is_noticed),
        cmocka_unit_test(every_flipped_bit_is_noticed_or_changes_nothing),
        cmocka_unit_test(a_tensor_that_cannot_be_written_is_refused),
        cmocka_unit_test(a_full_device_is_an_error),
        cmocka_unit_test(thousands_of_tensors_are_found_by_name),
        cmocka_unit_test(every_broken_header_is_refused_for_its_own_reason),
        cmocka_unit_test(headers_that_are_allowed_are_read),
        cmocka_unit_test(a_header_of_any_claimed_size_is_refused_without_allocating),
        cmocka_unit_test(a_file_cut_at_any_byte_is_refused),
        cmocka_unit_test(no_damaged_header_is_read_outside_its_bounds),
        cmocka_unit_test(a_git_lfs_pointer_is_recognised),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
