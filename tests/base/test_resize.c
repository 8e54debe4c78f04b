/* The kernels are static, so that their source is included here. */
#include "base/resize.c"
#include "tests/datasets/picture.h"
#include "tests/tolerance.h"

static su_raster raster(uint8_t *pixels, int32_t width, int32_t height, int32_t channels)
{
    return (su_raster){pixels, width, height, channels, (int64_t)width * channels};
}

static void resampled_pictures_are_those_of_pillow(void **state)
{
    (void)state;
    su_safetensors *golden;
    su_error err = {0};
    assert_int_equal(su_safetensors_open(GOLDEN_IMAGES "/expected.safetensors", &golden, &err), SU_OK);
    int cases = 0;
    for (;; cases++) {
        char name[32];
        snprintf(name, sizeof name, "resize/%d", cases);
        const su_tensor_view *want = su_safetensors_find(golden, name);
        if (!want) break;
        snprintf(name, sizeof name, "sizes/%d", cases);
        const int32_t *size = su_safetensors_find(golden, name)->data;
        snprintf(name, sizeof name, "boxes/%d", cases);
        su_box box;
        memcpy(&box, su_safetensors_find(golden, name)->data, sizeof box);

        uint8_t *in = noise(size[0], size[1], size[2]), *out = su_calloc(want->bytes + 8, 1);
        const su_raster from = raster(in, size[0], size[1], size[2]);
        const su_raster to = raster(out, (int32_t)want->shape[1], (int32_t)want->shape[0], size[2]);
        memset(out + want->bytes, 77, 8);
        assert_int_equal(su_resize(&from, &box, &to, &err), SU_OK);
        const int d = farthest(out, want->data, want->bytes);
        if (d > su_tolerance("image.resize")) fail_msg("case %d differs by %d levels", cases, d);
        for (int i = 0; i < 8; i++) assert_int_equal(out[want->bytes + (size_t)i], 77);
        su_free(in);
        su_free(out);
    }
    assert_int_equal(cases, 16);
    su_safetensors_close(golden);
}

static void every_form_of_the_kernel_gives_the_same_bits(void **state)
{
    (void)state;
    enum { LINES_IN = 90, STRIDE = 4 * LANES };
    for (int round = 0; round < 200; round++) {
        taps t = {0};
        const int32_t in_size = 1 + (int32_t)dice(LINES_IN), out_size = 1 + (int32_t)dice(100);
        const float from = (float)dice(1000) / 1001.0f * 0.5f * (float)in_size,
                    to = (float)in_size - from * 0.5f;
        assert_true(taps_plan(&t, in_size, from, to, out_size));
        uint8_t in[LINES_IN * STRIDE], *a = su_calloc((size_t)out_size, STRIDE),
                                       *b = su_calloc((size_t)out_size, STRIDE);
        for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(dice(3) == 0 ? 255 * dice(2) : dice(256));
        const int32_t base = t.first[0];
        blend_plain(&t, in, STRIDE, base, a, STRIDE, STRIDE);
        blend(&t, in, STRIDE, base, b, STRIDE, STRIDE);
        assert_memory_equal(a, b, (size_t)out_size * STRIDE);
        /* Lane 5 as a row of its own. */
        uint8_t row[LINES_IN] = {0}, out[100];
        for (int32_t i = 0; i + base < in_size; i++) row[i + base] = in[i * STRIDE + 5];
        blend_row(&t, row, 1, out);
        for (int32_t o = 0; o < out_size; o++) assert_int_equal(out[o], a[o * STRIDE + 5]);
        taps_free(&t);
        su_free(a);
        su_free(b);
    }
}

static void a_flat_picture_stays_flat_at_any_size(void **state)
{
    (void)state;
    for (int round = 0; round < 400; round++) {
        const int32_t w = 1 + (int32_t)dice(120), h = 1 + (int32_t)dice(120), tw = 1 + (int32_t)dice(120),
                      th = 1 + (int32_t)dice(120), c = dice(2) ? 1 : 3;
        const uint8_t grey = (uint8_t)dice(256);
        const size_t n = (size_t)w * (size_t)h * (size_t)c, m = (size_t)tw * (size_t)th * (size_t)c;
        uint8_t *in = su_alloc(n, 1), *out = su_calloc(m, 1);
        memset(in, grey, n);
        const float x = (float)dice(1000) / 1000.0f * 0.9f * (float)w,
                    y = (float)dice(1000) / 1000.0f * 0.9f * (float)h;
        const su_box box = {x, y, x + ((float)w - x) * 0.7f, y + ((float)h - y) * 0.7f};
        const su_raster from = raster(in, w, h, c), to = raster(out, tw, th, c);
        assert_int_equal(su_resize(&from, dice(2) ? &box : NULL, &to, NULL), SU_OK);
        for (size_t i = 0; i < m; i++) assert_int_equal(out[i], grey);
        su_free(in);
        su_free(out);
    }
}

static void rows_apart_in_memory_are_left_alone_between(void **state)
{
    (void)state;
    uint8_t *in = noise(20, 10, 3), wide[8 * 50], close[8 * 27];
    memset(wide, 9, sizeof wide);
    const su_raster from = raster(in, 20, 10, 3), near = raster(close, 9, 8, 3), apart = {wide, 9, 8, 3, 50};
    assert_int_equal(su_resize(&from, NULL, &near, NULL), SU_OK);
    assert_int_equal(su_resize(&from, NULL, &apart, NULL), SU_OK);
    for (int r = 0; r < 8; r++) {
        assert_memory_equal(wide + r * 50, close + r * 27, 27);
        for (int i = 27; i < 50; i++) assert_int_equal(wide[r * 50 + i], 9);
    }
    su_free(in);
}

static void impossible_requests_are_refused(void **state)
{
    (void)state;
    uint8_t pixels[48] = {0};
    su_error err = {0};
    const su_raster good = raster(pixels, 4, 4, 3), empty = raster(pixels, 0, 4, 3),
                    grey = raster(pixels, 4, 4, 1);
    const su_box boxes[] = {
        {-1, 0, 4, 4}, {0, 0, 4.5f, 4}, {2, 0, 2, 4}, {0, 3, 4, 1}, {0, 0, (float)NAN, 4}};
    assert_int_equal(su_resize(&good, NULL, &empty, &err), SU_EINVAL);
    assert_int_equal(su_resize(&empty, NULL, &good, &err), SU_EINVAL);
    assert_int_equal(su_resize(&good, NULL, &grey, &err), SU_EINVAL);
    for (size_t i = 0; i < sizeof boxes / sizeof *boxes; i++)
        assert_int_equal(su_resize(&good, &boxes[i], &good, &err), SU_EINVAL);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint8_t *in = noise(40, 30, 3), out[10 * 10 * 3];
    const su_raster from = raster(in, 40, 30, 3), to = raster(out, 10, 10, 3);
    su_status status = SU_ENOMEM;
    int n = 0;
    while (status == SU_ENOMEM) {
        su_alloc_fail_after(++n);
        status = su_resize(&from, NULL, &to, NULL);
        su_alloc_fail_after(0);
    }
    assert_int_equal(status, SU_OK);
    assert_true(n > 8);
    su_free(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resampled_pictures_are_those_of_pillow),
        cmocka_unit_test(every_form_of_the_kernel_gives_the_same_bits),
        cmocka_unit_test(a_flat_picture_stays_flat_at_any_size),
        cmocka_unit_test(rows_apart_in_memory_are_left_alone_between),
        cmocka_unit_test(impossible_requests_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
