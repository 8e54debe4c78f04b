#include "datasets/image.h"
#include "tests/base/scratch.h"
#include "tests/datasets/picture.h"
#include "tests/tolerance.h"
#include <stdbool.h>

static su_safetensors *golden;

static char *read_golden(const char *file, size_t *length)
{
    char path[512], *data = NULL;
    snprintf(path, sizeof path, GOLDEN_IMAGES "/%s", file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    data = su_alloc(1 << 20, 1);
    assert_non_null(data);
    *length = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

/* Calls `each` for every golden file's content. */
static int for_every_file(void (*each)(const char *name, const char *data, size_t length))
{
    int count = 0;
    for (int64_t i = 0; i < su_safetensors_count(golden); i++) {
        const char *name = su_safetensors_at(golden, i)->name;
        if (strncmp(name, "decode/", 7) != 0) continue;
        size_t length;
        char *data = read_golden(name + 7, &length);
        each(name, data, length);
        su_free(data);
        count++;
    }
    return count;
}

/* A copy of exactly this length, so that the sanitizer sees a read beyond it. */
static su_status decode_copy(const void *data, size_t length, su_image *image, su_error *err)
{
    uint8_t *copy = su_alloc(length, 1);
    memcpy(copy, data, length);
    const su_status status = su_image_decode(copy, length, "file", image, err);
    su_free(copy);
    return status;
}

static void assert_refused(const void *data, size_t length, su_status code, const char *reason)
{
    su_image image;
    su_error err = {0};
    const su_status status = decode_copy(data, length, &image, &err);
    if (status != code) fail_msg("\"%s\" has code %d, not %d", err.message, status, code);
    assert_contains(err.message, "file: ");
    assert_contains(err.message, reason);
    assert_null(image.pixels);
}

static void compare(const char *name, const char *data, size_t length)
{
    const su_tensor_view *want = su_safetensors_find(golden, name);
    const bool jpeg = strstr(name, ".jpg") != NULL;
    su_image image;
    su_error err = {0};
    if (decode_copy(data, length, &image, &err)) fail_msg("%s: %s", name, err.message);
    assert_int_equal(image.height, want->shape[0]);
    assert_int_equal(image.width, want->shape[1]);
    assert_int_equal(image.channels, want->shape[2]);
    const int d = farthest(image.pixels, want->data, want->bytes);
    if (d > su_tolerance(jpeg ? "image.jpeg" : "image.png")) fail_msg("%s differs by %d levels", name, d);
    su_image_free(&image);
    assert_null(image.pixels);
}

static void every_kind_of_file_has_the_pixels_of_the_reference(void **state)
{
    (void)state;
    assert_int_equal(for_every_file(compare), 37);
}

static void a_file_is_what_its_content_says(void **state)
{
    (void)state;
    size_t length;
    char *data = read_golden("grey.jpg", &length);
    put_bytes(at("a.png"), data, length);
    su_free(data);
    su_image image;
    assert_int_equal(su_image_load(at("a.png"), NULL, &image, NULL), SU_OK);
    assert_int_equal(image.width, 61);
    su_image_free(&image);
    su_image_free(NULL);
}

static void a_missing_file_and_other_formats_are_named(void **state)
{
    (void)state;
    su_image image;
    su_error err = {0};
    assert_int_equal(su_image_load(at("none.jpg"), NULL, &image, &err), SU_ENOTFOUND);
    assert_contains(err.message, "none.jpg");
    assert_int_equal(su_image_load(scratch, NULL, &image, &err), SU_EIO);
    assert_refused("", 0, SU_EFORMAT, "empty");
    assert_refused("GIF89a", 6, SU_EFORMAT, "a GIF file; JPEG");
    assert_refused("II*\0....", 8, SU_EFORMAT, "TIFF");
    assert_refused("<!DOCTYPE html>", 15, SU_EFORMAT, "web page");
    assert_refused("\xff\xd8\xff", 3, SU_EFORMAT, "truncated JPEG");
    assert_refused("\xff\xd8", 2, SU_EFORMAT, "no image format");
    assert_refused("\x89PNG\r\n\x1a\n", 8, SU_EFORMAT, "truncated PNG");
    char dicom[132] = {0};
    memcpy(dicom + 128, "DICM", 4);
    assert_refused(dicom, sizeof dicom, SU_EFORMAT, "a DICOM file");
}

/* No allocation may succeed, so whatever is refused for its size was refused before one. */
static void a_huge_size_is_refused_before_anything_is_allocated(void **state)
{
    (void)state;
    su_image image;
    su_error err = {0};
    static const uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\2\0\0\0....";
    su_alloc_fail_after(1);
    assert_int_equal(su_image_decode(png, sizeof png - 1, "f", &image, &err), SU_ELIMIT);
    assert_contains(err.message, "60000x60000 pixels");
    size_t length;
    su_alloc_fail_after(0);
    char *jpeg = read_golden("grey.jpg", &length);
    for (size_t i = 2; i < length - 8; i++) /* the size in the frame header */
        if ((uint8_t)jpeg[i] == 0xff && (uint8_t)jpeg[i + 1] == 0xc0)
            memcpy(jpeg + i + 5, "\xea\x60\xea\x60", 4);
    su_alloc_fail_after(1);
    assert_int_equal(su_image_decode((uint8_t *)jpeg, length, "f", &image, &err), SU_ELIMIT);
    su_alloc_fail_after(0);
    assert_contains(err.message, "60000x60000 pixels");
    su_free(jpeg);
}

static void refuse_every_beginning(const char *name, const char *data, size_t length)
{
    for (size_t n = 0; n < length; n++) {
        su_image image;
        su_error err = {0};
        if (!decode_copy(data, n, &image, &err))
            fail_msg("%s was read from its first %zu of %zu bytes", name, n, length);
        assert_true(strlen(err.message) > 8);
        assert_null(image.pixels);
    }
}

static void a_truncated_file_is_refused_wherever_it_ends(void **state)
{
    (void)state;
    for_every_file(refuse_every_beginning);
}

static void mutate(const char *name, const char *data, size_t length)
{
    const bool png = strstr(name, ".png") != NULL;
    char *copy = su_alloc(length, 1);
    for (int round = 0; round < 600; round++) {
        memcpy(copy, data, length);
        const uint32_t changes = 1 + dice(4);
        for (uint32_t c = 0; c < changes; c++) {
            const size_t place = dice((uint32_t)length), run = 1 + dice(8);
            switch (dice(4)) {
            case 0:
                copy[place] ^= (char)(1 << dice(8));
                break;
            case 1:
                copy[place] = (char)dice(256);
                break;
            case 2:
                copy[place] = (char)(dice(2) ? 0xff : 0);
                break;
            default: /* a short run from elsewhere */
                for (size_t i = 0; i < run && place + i < length; i++)
                    copy[place + i] = copy[dice((uint32_t)length)];
            }
        }
        su_image image;
        su_error err = {0};
        const su_status status = decode_copy(copy, length, &image, &err);
        if (status) {
            assert_int_equal(status, err.code);
            assert_true(strncmp(err.message, "file: ", 6) == 0 && strlen(err.message) > 12);
            assert_null(image.pixels);
        } else {
            if (png && memcmp(copy, data, length) != 0) fail_msg("a change in %s went unnoticed", name);
            assert_true(image.channels == 1 || image.channels == 3);
            volatile uint8_t last =
                image.pixels[(size_t)image.width * (size_t)image.height * (size_t)image.channels - 1];
            (void)last;
        }
        su_image_free(&image);
    }
    su_free(copy);
}

static void a_damaged_file_is_read_or_refused_with_a_reason(void **state)
{
    (void)state;
    for_every_file(mutate);
}

static su_image decoded;
static const char *failing;

static su_status decode_failing(su_error *err)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN_IMAGES "/%s", failing);
    return su_image_load(path, NULL, &decoded, err);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const files[] = {"cmyk.jpg", "progressive.jpg", "rgb_alpha_16.png", "palette_4.png"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        failing = files[i];
        assert_true(fail_every_allocation(decode_failing) >= 2);
        su_image_free(&decoded);
    }
}

/* ---- a JPEG of very many scans: four blocks without content, one coefficient and one bit at a time ---- */

static char bomb[1 << 16];
static size_t bomb_length;

static void add(const char *bytes, size_t n)
{
    memcpy(bomb + bomb_length, bytes, n);
    bomb_length += n;
}

static void add_scan(int coefficient, int high, int low)
{
    const char scan[] = {
        (char)0xff, (char)0xda, 0, 8, 1, 1, 0, (char)coefficient, (char)coefficient, (char)(high << 4 | low),
        0x0f};
    add(scan, sizeof scan); /* 0x0f: four one-bit codes, one a block, and padding */
}

static void add_table(const char *head, size_t n, char fill, size_t times)
{
    add(head, n);
    for (size_t i = 0; i < times; i++) add(&fill, 1);
}

static void make_scans(int coefficients)
{
    bomb_length = 0;
    add_table("\xff\xd8\xff\xdb\0\x43\0", 7, 1, 64);     /* quantisation by 1 */
    add("\xff\xc2\0\x0b\x08\0\x10\0\x10\1\1\x11\0", 13); /* progressive, 16x16, grey */
    add_table("\xff\xc4\0\x14\x00\1", 6, 0, 16);         /* DC: one code of one bit, "no change" */
    add_table("\xff\xc4\0\x14\x10\1", 6, 0, 16);         /* AC: the same, "end of block" */
    for (int k = 0; k < coefficients; k++)
        for (int low = 13; low >= 0; low--) add_scan(k, low == 13 ? 0 : low + 1, low);
    add("\xff\xd9", 2);
}

static void many_scans_are_read_and_absurdly_many_refused(void **state)
{
    (void)state;
    su_image image;
    su_error err = {0};
    make_scans(8);
    if (decode_copy(bomb, bomb_length, &image, &err)) fail_msg("%s", err.message);
    assert_int_equal(image.width, 16);
    for (int i = 0; i < 256; i++) assert_int_equal(image.pixels[i], 128);
    su_image_free(&image);
    make_scans(64);
    assert_refused(bomb, bomb_length, SU_ELIMIT, "scans");
}

static void the_stored_square_is_what_pillow_pads_and_fits(void **state)
{
    (void)state;
    int compared = 0;
    for (int i = 0; i < 9; i++) {
        char name[64];
        snprintf(name, sizeof name, "shapes/%d", i);
        const int32_t *shape = su_safetensors_find(golden, name)->data;
        su_image image = {.width = shape[0],
                          .height = shape[1],
                          .channels = shape[2],
                          .pixels = noise(shape[0], shape[1], shape[2])};
        for (int form = 0; form < 4; form++) {
            const su_image_recipe recipe = {.size = 32, .channels = form & 1 ? 3 : 1, .crop = form & 2};
            snprintf(name, sizeof name, "recipe/%s/%d/%d", recipe.crop ? "crop" : "pad", recipe.channels, i);
            uint8_t out[32 * 32 * 3];
            memset(out, 99, sizeof out);
            assert_int_equal(su_image_to_recipe(&image, &recipe, out, NULL), SU_OK);
            const su_tensor_view *want = su_safetensors_find(golden, name);
            if (!want) continue;
            const int d = farthest(out, want->data, want->bytes);
            if (d > su_tolerance("image.resize")) fail_msg("%s differs by %d levels", name, d);
            compared++;
        }
        su_free(image.pixels);
    }
    assert_int_equal(compared, 9 * 4 - 2 * 2);
}

static void a_thread_of_pixels_keeps_one_pixel_of_width(void **state)
{
    (void)state;
    uint8_t pixels[500], out[32 * 32];
    memset(pixels, 200, sizeof pixels);
    const su_image image = {.width = 500, .height = 1, .channels = 1, .pixels = pixels};
    const su_image_recipe recipe = {.size = 32, .channels = 1};
    assert_int_equal(su_image_to_recipe(&image, &recipe, out, NULL), SU_OK);
    int bright = 0;
    for (int i = 0; i < 32 * 32; i++) bright += out[i] == 200;
    assert_int_equal(bright, 32);
    const su_image_recipe two = {.size = 32, .channels = 2};
    assert_int_equal(su_image_to_recipe(&image, &two, out, NULL), SU_EINVAL);
}

static void a_spacing_gives_every_picture_the_same_scale(void **state)
{
    (void)state;
    enum { SIDE = 32 };
    const su_image_recipe recipe = {.size = SIDE, .channels = 1, .spacing = 2};
    static const struct {
        int32_t width, height;
        double rows, columns; /* mm */
        int shown_width, shown_height;
    } cases[] = {{20, 10, 2, 2, 20, 10},       {20, 10, 4, 1, 10, 20}, {300, 8, 2, 1, 32, 8},
                 {100, 100, 0.01, 0.01, 1, 1}, {33, 31, 2, 2, 32, 31}, {10, 10, 7, 7, 32, 32}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_image image = {.width = cases[i].width, .height = cases[i].height, .channels = 1};
        uint8_t out[SIDE * SIDE];
        int columns = 0, rows = 0;
        image.spacing[0] = cases[i].rows;
        image.spacing[1] = cases[i].columns;
        image.pixels = su_alloc((size_t)image.width, (size_t)image.height);
        memset(image.pixels, 200, (size_t)image.width * (size_t)image.height);
        assert_int_equal(su_image_to_recipe(&image, &recipe, out, NULL), SU_OK);
        for (int k = 0; k < SIDE; k++) {
            columns += out[SIDE / 2 * SIDE + k - (cases[i].shown_height == 1 ? SIDE : 0)] == 200;
            rows += out[k * SIDE + SIDE / 2 - (cases[i].shown_width == 1)] == 200;
        }
        if (columns != cases[i].shown_width || rows != cases[i].shown_height)
            fail_msg("case %zu: %d x %d pixels are shown", i, columns, rows);
        su_free(image.pixels);
    }
    /* Equal scale: pixels are moved, not changed. */
    su_image image = {
        .width = 30, .height = 30, .channels = 1, .pixels = noise(30, 30, 1), .spacing = {2, 2}};
    uint8_t out[SIDE * SIDE];
    assert_int_equal(su_image_to_recipe(&image, &recipe, out, NULL), SU_OK);
    for (int y = 0; y < 30; y++) assert_memory_equal(out + (y + 1) * SIDE + 1, image.pixels + 30 * y, 30);
    image.spacing[0] = 0;
    su_error err = {0};
    assert_int_equal(su_image_to_recipe(&image, &recipe, out, &err), SU_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "spacing"));
    su_free(image.pixels);
}

static int open_all(void **state)
{
    return scratch_setup(state) || su_safetensors_open(GOLDEN_IMAGES "/expected.safetensors", &golden, NULL);
}

static int close_all(void **state)
{
    su_safetensors_close(golden);
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_file_has_the_pixels_of_the_reference),
        cmocka_unit_test(a_file_is_what_its_content_says),
        cmocka_unit_test(a_missing_file_and_other_formats_are_named),
        cmocka_unit_test(a_huge_size_is_refused_before_anything_is_allocated),
        cmocka_unit_test(a_truncated_file_is_refused_wherever_it_ends),
        cmocka_unit_test(a_damaged_file_is_read_or_refused_with_a_reason),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(many_scans_are_read_and_absurdly_many_refused),
        cmocka_unit_test(the_stored_square_is_what_pillow_pads_and_fits),
        cmocka_unit_test(a_thread_of_pixels_keeps_one_pixel_of_width),
        cmocka_unit_test(a_spacing_gives_every_picture_the_same_scale),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
