#include "datasets/augment.h"
#include "tests/base/scratch.h"
#include "tests/datasets/picture.h"
#include <math.h>

enum { SIDE = 64, DRAWN = 4000 };

static const double degree = 3.14159265358979323846 / 180.0;

static su_raster raster(uint8_t *pixels, int32_t side, int32_t channels)
{
    return (su_raster){pixels, side, side, channels, (int64_t)side * channels};
}

static su_augment_draw whole(int32_t side)
{
    return (su_augment_draw){{0.0f, 0.0f, (float)side, (float)side}, 0.0, 1.0, 1.0};
}

static void draws_fill_their_ranges_and_never_leave_them(void **state)
{
    (void)state;
    su_augment a;
    su_augment_defaults(&a);
    assert_int_equal(su_augment_check(&a, NULL), SU_OK);
    double least[6], most[6];
    for (int i = 0; i < 6; i++) least[i] = INFINITY, most[i] = -INFINITY;
    for (uint64_t n = 0; n < DRAWN; n++) {
        const su_augment_draw d = su_augment_pick(&a, 224, 224, (su_rng_key){.seed = 7, .step = 3, .layer = 11}, n);
        const double w = (double)d.box.x1 - (double)d.box.x0, h = (double)d.box.y1 - (double)d.box.y0;
        assert_true(d.box.x0 >= 0 && d.box.y0 >= 0 && d.box.x1 <= 224 && d.box.y1 <= 224);
        const double values[6] = {w * h / (224.0 * 224.0),
                                  w / h,
                                  d.angle / degree,
                                  d.brightness,
                                  d.contrast,
                                  (double)d.box.x0 / (224.0 - w + 1e-6)};
        for (int i = 0; i < 6; i++) {
            least[i] = fmin(least[i], values[i]);
            most[i] = fmax(most[i], values[i]);
        }
    }
    const double low[6] = {0.5, 1 / 1.2, -10, 0.8, 0.8, 0.0}, high[6] = {1.0, 1.2, 10, 1.2, 1.2, 1.0};
    for (int i = 0; i < 6; i++) {
        const double slack = 0.01 * (high[i] - low[i]), rounding = 1e-4;
        assert_true(least[i] >= low[i] - rounding && least[i] < low[i] + slack);
        assert_true(most[i] <= high[i] + rounding && most[i] > high[i] - slack);
    }
}

static void a_draw_depends_on_its_key_and_number_alone(void **state)
{
    (void)state;
    su_augment a;
    su_augment_defaults(&a);
    const su_rng_key key = {1, 2, 3, 0}, others[] = {{9, 2, 3, 0}, {1, 9, 3, 0}, {1, 2, 9, 0}};
    const su_augment_draw d = su_augment_pick(&a, 100, 100, key, 5);
    su_augment_pick(&a, 100, 100, others[0], 5);
    const su_augment_draw again = su_augment_pick(&a, 100, 100, key, 5);
    assert_true(d.angle == again.angle && d.box.x0 == again.box.x0 && d.contrast == again.contrast);
    for (int i = 0; i < 3; i++) assert_true(su_augment_pick(&a, 100, 100, others[i], 5).angle != d.angle);
    assert_true(su_augment_pick(&a, 100, 100, key, 6).angle != d.angle);
}

static void values_of_one_and_zero_switch_everything_off(void **state)
{
    (void)state;
    const su_augment a = {.on = true, .min_area = 1, .max_aspect = 1};
    const su_augment_draw d = su_augment_pick(&a, SIDE, SIDE, (su_rng_key){1, 2, 3, 0}, 4);
    uint8_t *in = noise(SIDE, SIDE, 3), out[SIDE * SIDE * 3];
    const su_raster from = raster(in, SIDE, 3), to = raster(out, SIDE, 3);
    assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
    assert_memory_equal(in, out, sizeof out);
    su_free(in);
}

static void values_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    su_augment a;
    su_error err = {0};
    su_augment_defaults(&a);
    a.min_area = 0;
    assert_int_equal(su_augment_check(&a, &err), SU_EINVAL);
    assert_contains(err.message, "min_area");
    a.on = false;
    assert_int_equal(su_augment_check(&a, &err), SU_OK);
    su_augment_defaults(&a);
    a.max_rotation = NAN;
    assert_int_equal(su_augment_check(&a, &err), SU_EINVAL);
    assert_contains(err.message, "max_rotation");
}

/* A turn by a right angle moves pixels without mixing them: out (column, row) is in (side - 1 - row, column). */
static void a_right_angle_moves_every_pixel_to_its_place(void **state)
{
    (void)state;
    for (int32_t channels = 1; channels <= 3; channels += 2) {
        uint8_t *in = noise(SIDE, SIDE, channels), *out = su_calloc(SIDE * SIDE, (size_t)channels);
        const su_raster from = raster(in, SIDE, channels), to = raster(out, SIDE, channels);
        su_augment_draw d = whole(SIDE);
        d.angle = 90 * degree;
        assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
        for (int32_t r = 0; r < SIDE; r++)
            for (int32_t c = 0; c < SIDE; c++)
                assert_memory_equal(out + (r * SIDE + c) * channels,
                                    in + (c * SIDE + SIDE - 1 - r) * channels, (size_t)channels);
        su_free(in);
        su_free(out);
    }
}

/* A ramp is what bicubic and bilinear both keep, so the turned ramp is known: in(x, y) = 2 x + y + 20. */
static void a_turned_ramp_is_read_at_the_turned_places(void **state)
{
    (void)state;
    uint8_t in[SIDE * SIDE], out[24 * 24];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) in[y * SIDE + x] = (uint8_t)(2 * x + y + 20);
    const su_raster from = raster(in, SIDE, 1), to = raster(out, 24, 1);
    for (int angle = -45; angle <= 45; angle += 9) {
        const su_augment_draw d = {{18.0f, 20.0f, 46.0f, 44.0f}, angle * degree, 1.0, 1.0};
        assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
        for (int r = 0; r < 24; r++)
            for (int c = 0; c < 24; c++) {
                const double u = (c + 0.5 - 12) * 28 / 24, v = (r + 0.5 - 12) * 24 / 24;
                const double x = 32 + u * cos(d.angle) - v * sin(d.angle) - 0.5;
                const double y = 32 + u * sin(d.angle) + v * cos(d.angle) - 0.5;
                assert_true(fabs(out[r * 24 + c] - (2 * x + y + 20)) <= 1.5);
            }
    }
}

static void what_lies_beyond_the_source_is_black(void **state)
{
    (void)state;
    uint8_t in[SIDE * SIDE], out[SIDE * SIDE];
    memset(in, 200, sizeof in);
    const su_raster from = raster(in, SIDE, 1), to = raster(out, SIDE, 1);
    su_augment_draw d = whole(SIDE);
    d.angle = 45 * degree;
    assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
    assert_int_equal(out[0], 0);
    assert_int_equal(out[SIDE * SIDE - 1], 0);
    assert_int_equal(out[SIDE / 2 * SIDE + SIDE / 2], 200);
}

/* The mark is a bright left border. Mirrored, it would be on the right. */
static void what_is_on_the_left_stays_on_the_left(void **state)
{
    (void)state;
    uint8_t in[SIDE * SIDE * 3], out[48 * 48 * 3];
    for (int i = 0; i < SIDE * SIDE; i++) memset(in + 3 * i, i % SIDE < 2 * SIDE / 5 ? 220 : 20, 3);
    const su_raster from = raster(in, SIDE, 3), to = raster(out, 48, 3);
    su_augment a;
    su_augment_defaults(&a);
    for (uint64_t n = 0; n < 500; n++) {
        const su_augment_draw d = su_augment_pick(&a, SIDE, SIDE, (su_rng_key){.seed = 1}, n);
        assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
        int64_t left = 0, right = 0;
        for (int i = 0; i < 48 * 48; i++) *(i % 48 < 24 ? &left : &right) += out[3 * i];
        assert_true(left > right);
    }
}

static void brightness_scales_and_contrast_spreads_about_the_mean(void **state)
{
    (void)state;
    uint8_t in[SIDE * SIDE], out[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) in[i] = i % 2 ? 60 : 140; /* mean 100 */
    const su_raster from = raster(in, SIDE, 1), to = raster(out, SIDE, 1);
    su_augment_draw d = whole(SIDE);
    d.brightness = 1.2;
    assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
    assert_int_equal(out[0], 168);
    assert_int_equal(out[1], 72);
    d.contrast = 0.5;
    assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
    assert_int_equal(out[0], 144);
    assert_int_equal(out[1], 96);
    d.brightness = 2.0;
    d.contrast = 2.0;
    assert_int_equal(su_augment_apply(&d, &from, &to, NULL), SU_OK);
    assert_int_equal(out[0], 255);
    assert_int_equal(out[1], 40);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint8_t *in = noise(SIDE, SIDE, 3), out[16 * 16 * 3];
    const su_raster from = raster(in, SIDE, 3), to = raster(out, 16, 3);
    su_augment_draw d = whole(SIDE);
    d.angle = 0.1;
    su_status status = SU_ENOMEM;
    for (int n = 1; status == SU_ENOMEM; n++) {
        su_alloc_fail_after(n);
        status = su_augment_apply(&d, &from, &to, NULL);
        su_alloc_fail_after(0);
    }
    assert_int_equal(status, SU_OK);
    su_free(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_fill_their_ranges_and_never_leave_them),
        cmocka_unit_test(a_draw_depends_on_its_key_and_number_alone),
        cmocka_unit_test(values_of_one_and_zero_switch_everything_off),
        cmocka_unit_test(values_out_of_range_are_refused_by_name),
        cmocka_unit_test(a_right_angle_moves_every_pixel_to_its_place),
        cmocka_unit_test(a_turned_ramp_is_read_at_the_turned_places),
        cmocka_unit_test(what_lies_beyond_the_source_is_black),
        cmocka_unit_test(what_is_on_the_left_stays_on_the_left),
        cmocka_unit_test(brightness_scales_and_contrast_spreads_about_the_mean),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
