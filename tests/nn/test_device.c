/* The CPU device itself: opening, memory, conversion, failures that wait for sync. */
#include "tests/nn/check.h"
#include "base/memory.h"

static void a_device_opens_by_name(void **state)
{
    (void)state;
    su_device *d = NULL;
    su_error err = {0};
    assert_int_equal(su_device_open("cpu", 3, &d, &err), SU_OK);
    assert_true(d->act == SU_DTYPE_F32 && d->acc == SU_DTYPE_F32);
    assert_int_equal(su_pool_workers(d->pool), 3);
    assert_non_null(strstr(d->description, "CPU, 3 threads"));
    su_device_close(d);
    assert_int_equal(su_device_open("tpu", 0, &d, &err), SU_EINVAL);
    assert_null(d);
    assert_non_null(strstr(err.message, "tpu"));
    assert_int_equal(su_device_cpu(1, SU_DTYPE_F16, &d, &err), SU_EINVAL);
    su_device_close(NULL);
}

static void every_failing_allocation_fails_the_opening_cleanly(void **state)
{
    (void)state;
    int failures = 0;
    for (int64_t n = 1;; n++) {
        su_device *d = NULL;
        su_error err = {0};
        su_alloc_fail_after(n);
        su_status status = su_device_cpu(2, SU_DTYPE_F32, &d, &err);
        su_alloc_fail_after(0);
        if (status == SU_OK) {
            su_device_close(d);
            break;
        }
        assert_int_equal(status, SU_ENOMEM);
        assert_null(d);
        failures++;
    }
    assert_true(failures > 0);
}

static void memory_is_aligned_copied_and_zeroed(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_error err = {0};
    void *a = NULL, *b = NULL, *none = NULL;
    char text[32] = "what goes up comes down", back[32];
    assert_int_equal(d->ops->alloc(d, sizeof text, &a, &err), SU_OK);
    assert_int_equal(d->ops->alloc(d, 0, &b, &err), SU_OK);
    assert_non_null(b);
    d->ops->release(d, b);
    assert_int_equal(d->ops->alloc(d, sizeof text, &b, &err), SU_OK);
    assert_true((uintptr_t)a % SU_ALIGN == 0 && (uintptr_t)b % SU_ALIGN == 0);
    d->ops->upload(d, a, text, sizeof text);
    d->ops->copy(d, b, a, sizeof text);
    d->ops->zero(d, a, sizeof text);
    d->ops->download(d, back, b, sizeof text);
    assert_memory_equal(back, text, sizeof text);
    d->ops->download(d, back, a, sizeof text);
    assert_true(back[0] == 0 && back[31] == 0);
    su_alloc_fail_after(1);
    assert_int_equal(d->ops->alloc(d, 64, &none, &err), SU_ENOMEM);
    su_alloc_fail_after(0);
    assert_null(none);
    d->ops->release(d, a);
    d->ops->release(d, b);
    d->ops->release(d, NULL);
    su_device_close(d);
}

static void conversion_rounds_to_nearest_even(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 2);
    const double in[] = {0,       1,         -2.5, 65504,       65519.9,     65520,   1e30, 0x1p-14,  0x1p-24,
                         0x1p-25, 0x1.8p-25, 0.1,  1 + 0x1p-11, 1 + 0x3p-11, 2047.75, NAN,  -INFINITY};
    enum { N = sizeof in / sizeof *in };
    const uint16_t f16[N] = {0, 0x3c00, 0xc100, 0x7bff, 0x7bff, 0x7c00, 0x7c00, 0x0400, 1,
                             0, 1,      0x2e66, 0x3c00, 0x3c02, 0x6800, 0x7e00, 0xfc00};
    const double bf16_in[] = {1, 1 + 0x1p-8, 1 + 0x3p-8, -3.140625, 3.3895314e38, NAN, 1e-40};
    const uint16_t bf16[] = {0x3f80, 0x3f80, 0x3f82, 0xc049, 0x7f7f, 0x7fc0, 0x0001};
    uint16_t out[N];
    double back[N];
    d->ops->convert(d, out, SU_DTYPE_F16, in, SU_DTYPE_F64, N);
    assert_memory_equal(out, f16, sizeof out);
    d->ops->convert(d, back, SU_DTYPE_F64, f16, SU_DTYPE_F16, N);
    d->ops->convert(d, out, SU_DTYPE_F16, back, SU_DTYPE_F64, N);
    assert_memory_equal(out, f16, sizeof out);
    assert_true(back[2] == -2.5 && back[3] == 65504 && back[8] == 0x1p-24 && isnan(back[15]) &&
                back[16] == -INFINITY);
    d->ops->convert(d, out, SU_DTYPE_BF16, bf16_in, SU_DTYPE_F64, 7);
    assert_memory_equal(out, bf16, sizeof bf16);
    float single[7];
    d->ops->convert(d, single, SU_DTYPE_F32, bf16, SU_DTYPE_BF16, 7);
    assert_true(single[0] == 1 && single[2] == 1 + 0x4p-8f && isnan(single[5]));
    d->ops->convert(d, out, SU_DTYPE_I16, in, SU_DTYPE_F64, 1);
    su_error err = {0};
    assert_int_equal(d->ops->sync(d, &err), SU_EUNSUPPORTED);
    su_device_close(d);
}

static void conversion_of_many_elements_is_whole(void **state)
{
    (void)state;
    enum { N = 50001 };
    su_device *d = check_device(SU_DTYPE_F32, 3);
    double *x = check_normal(1, N, 1), *back = check_zeros(N);
    float *single = check_alloc(N, sizeof *single);
    d->ops->convert(d, single, SU_DTYPE_F32, x, SU_DTYPE_F64, N);
    d->ops->convert(d, back, SU_DTYPE_F64, single, SU_DTYPE_F32, N);
    check_same_bits("converted", back, x, N); /* check_normal's values are floats */
    su_device_close(d);
    check_free_all();
}

static void a_failure_inside_an_operation_is_told_by_the_next_sync_and_once(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 2);
    su_error err = {0};
    double *x = check_normal(1, 64 * 64, 1);
    void *q = check_upload(d, x, 64 * 64), *o = check_upload(d, x, 64 * 64);
    su_attention a = {.batch = 2,
                      .heads = 1,
                      .dim = 64,
                      .tq = 16,
                      .tk = 16,
                      .q_stride = 64,
                      .kv_stride = 64,
                      .o_stride = 64,
                      .scale = 1};
    su_alloc_fail_after(1);
    d->ops->attention(d, &a, o, NULL, q, q, q);
    su_alloc_fail_after(0);
    assert_int_equal(d->ops->sync(d, &err), SU_ENOMEM);
    assert_true(err.message[0] != 0);
    assert_int_equal(d->ops->sync(d, &err), SU_OK);
    d->ops->attention(d, &a, o, NULL, q, q, q);
    assert_int_equal(d->ops->sync(d, &err), SU_OK);
    d->ops->release(d, q);
    d->ops->release(d, o);
    su_device_close(d);
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_opens_by_name),
        cmocka_unit_test(every_failing_allocation_fails_the_opening_cleanly),
        cmocka_unit_test(memory_is_aligned_copied_and_zeroed),
        cmocka_unit_test(conversion_rounds_to_nearest_even),
        cmocka_unit_test(conversion_of_many_elements_is_whole),
        cmocka_unit_test(a_failure_inside_an_operation_is_told_by_the_next_sync_and_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
