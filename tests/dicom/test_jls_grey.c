/* Our JPEG-LS decoder against CharLS: what CharLS encodes, decoded by both. */
#include "base/memory.h"
#include "dicom/jls_grey.h"
#include <charls/charls.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { SIDE_MAX = 80, OUT_MAX = SIDE_MAX * SIDE_MAX * 2, CODE_MAX = 1 << 16 };

static uint64_t state = 7;
static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* Smooth ramps, runs, noise or extremes, by kind. */
static void picture(int kind, int32_t rows, int32_t columns, int bits, uint8_t *out)
{
    const uint32_t top = (1u << bits) - 1;
    for (int32_t y = 0; y < rows; y++)
        for (int32_t x = 0; x < columns; x++) {
            uint32_t v = 0;
            if (kind == 0) v = (uint32_t)(x * 3 + y * 5 + (int32_t)draw(4)) & top;
            if (kind == 1) v = draw(40) ? (uint32_t)(y / 7) & top : draw(top + 1);
            if (kind == 2) v = draw(top + 1);
            if (kind == 3) v = draw(2) * top;
            if (kind == 4) v = top;
            if (bits > 8) {
                const uint16_t w = (uint16_t)v;
                memcpy(out + 2 * (y * columns + x), &w, 2);
            } else {
                out[y * columns + x] = (uint8_t)v;
            }
        }
}

static size_t encode(const uint8_t *pixels, int32_t rows, int32_t columns, int bits, int32_t near,
                     const charls_jpegls_pc_parameters *preset, uint8_t *code)
{
    const charls_frame_info info = {(uint32_t)columns, (uint32_t)rows, bits, 1};
    charls_jpegls_encoder *e = charls_jpegls_encoder_create();
    size_t length = 0;
    assert_non_null(e);
    assert_int_equal(charls_jpegls_encoder_set_destination_buffer(e, code, CODE_MAX), 0);
    assert_int_equal(charls_jpegls_encoder_set_frame_info(e, &info), 0);
    assert_int_equal(charls_jpegls_encoder_set_near_lossless(e, near), 0);
    if (preset) assert_int_equal(charls_jpegls_encoder_set_preset_coding_parameters(e, preset), 0);
    assert_int_equal(charls_jpegls_encoder_encode_from_buffer(
                         e, pixels, (size_t)rows * (size_t)columns * (bits > 8 ? 2 : 1), 0),
                     0);
    assert_int_equal(charls_jpegls_encoder_get_bytes_written(e, &length), 0);
    charls_jpegls_encoder_destroy(e);
    return length;
}

static bool charls(const uint8_t *code, size_t length, uint8_t *out, size_t size)
{
    charls_jpegls_decoder *d = charls_jpegls_decoder_create();
    const bool good = charls_jpegls_decoder_set_source_buffer(d, code, length) == 0 &&
                      charls_jpegls_decoder_read_header(d) == 0 &&
                      charls_jpegls_decoder_decode_to_buffer(d, out, size, 0) == 0;
    charls_jpegls_decoder_destroy(d);
    return good;
}

static uint8_t pixels[OUT_MAX], code[CODE_MAX], ours[OUT_MAX], theirs[OUT_MAX];

static void compare(int kind, int32_t rows, int32_t columns, int bits, int32_t near,
                    const charls_jpegls_pc_parameters *preset)
{
    su_error err = {0};
    const int bytes = bits > 8 ? 2 : 1;
    const size_t size = (size_t)rows * (size_t)columns * (size_t)bytes;
    picture(kind, rows, columns, bits, pixels);
    const size_t length = encode(pixels, rows, columns, bits, near, preset, code);
    assert_true(charls(code, length, theirs, size));
    memset(ours, 0xa5, size);
    if (su_jls_grey_decode(code, length, rows, columns, bytes, "x", ours, &err))
        fail_msg("kind %d, %d x %d, %d bits, near %d: %s", kind, columns, rows, bits, near, err.message);
    if (memcmp(ours, theirs, size) != 0)
        fail_msg("kind %d, %d x %d, %d bits, near %d: other pixels", kind, columns, rows, bits, near);
    if (near == 0) assert_memory_equal(ours, pixels, size);
}

static void every_depth_and_size_is_decoded_as_by_charls(void **unused)
{
    (void)unused;
    static const int32_t sides[][2] = {{1, 1}, {1, 2}, {2, 1}, {3, 80}, {80, 3}, {17, 33}, {64, 64}};
    for (int bits = 2; bits <= 16; bits++)
        for (int kind = 0; kind < 5; kind++)
            for (size_t s = 0; s < sizeof sides / sizeof *sides; s++)
                compare(kind, sides[s][0], sides[s][1], bits, 0, NULL);
}

static void near_lossless_is_decoded_as_by_charls(void **unused)
{
    (void)unused;
    static const int32_t nears[] = {1, 2, 3, 7, 30, 120};
    for (int bits = 8; bits <= 16; bits += 4)
        for (int kind = 0; kind < 5; kind++)
            for (size_t n = 0; n < sizeof nears / sizeof *nears; n++)
                compare(kind, 40, 50, bits, nears[n], NULL);
}

static void preset_parameters_are_followed(void **unused)
{
    (void)unused;
    const charls_jpegls_pc_parameters presets[] = {
        {255, 5, 9, 30, 31}, {255, 3, 7, 21, 255}, {200, 10, 20, 40, 64}};
    for (int p = 0; p < 2; p++)
        for (int kind = 0; kind < 5; kind++) compare(kind, 60, 70, 8, 0, &presets[p]);
    picture(0, 60, 70, 7, pixels);
    const size_t length = encode(pixels, 60, 70, 8, 0, &presets[2], code);
    assert_int_equal(su_jls_grey_decode(code, length, 60, 70, 1, "x", ours, NULL), SU_EUNSUPPORTED);
}

static void values_may_be_wider_than_the_samples(void **unused)
{
    (void)unused;
    picture(0, 20, 30, 8, pixels);
    const size_t length = encode(pixels, 20, 30, 8, 0, NULL, code);
    static uint16_t words[20 * 30];
    static uint32_t longs[20 * 30];
    assert_int_equal(su_jls_grey_decode(code, length, 20, 30, 2, "x", words, NULL), SU_OK);
    assert_int_equal(su_jls_grey_decode(code, length, 20, 30, 4, "x", longs, NULL), SU_OK);
    for (int i = 0; i < 600; i++) assert_true(words[i] == pixels[i] && longs[i] == pixels[i]);
}

/* Every cut is noticed: the last bytes are EOI and padding, which are nobody's samples. */
static void a_cut_picture_is_refused(void **unused)
{
    (void)unused;
    picture(2, 12, 20, 12, pixels);
    const size_t length = encode(pixels, 12, 20, 12, 0, NULL, code);
    for (size_t n = 0; n + 4 < length; n++) {
        su_error err = {0};
        uint8_t *copy = su_alloc(n + 1, 1); /* so that a sanitizer sees what is read behind the end */
        memcpy(copy, code, n);
        assert_int_equal(su_jls_grey_decode(copy, n, 12, 20, 2, "x", ours, &err), SU_EFORMAT);
        assert_non_null(strstr(err.message, "x: "));
        su_free(copy);
    }
    assert_int_equal(su_jls_grey_decode(code, length, 12, 21, 2, "x", ours, NULL), SU_EFORMAT);
    assert_int_equal(su_jls_grey_decode(code, length, 12, 20, 1, "x", ours, NULL), SU_EFORMAT);
}

/* Whatever it gives, it ends, and writes nothing outside. */
static void flipped_bits_do_no_harm(void **unused)
{
    (void)unused;
    for (int round = 0; round < 3000; round++) {
        const int bits = 2 + (int)draw(15), kind = (int)draw(4);
        const int32_t rows = 1 + (int32_t)draw(20), columns = 1 + (int32_t)draw(20),
                      near = draw(3) ? 0 : (int32_t)draw(1u << (bits - 1));
        picture(kind, rows, columns, bits, pixels);
        const size_t length = encode(pixels, rows, columns, bits, near > 127 ? 127 : near, NULL, code);
        for (uint32_t n = draw(12) + 1; n; n--) code[draw((uint32_t)length)] ^= (uint8_t)(1u << draw(8));
        uint8_t *copy = su_alloc(length, 1), *out = su_alloc((size_t)rows * (size_t)columns, 2);
        memcpy(copy, code, length);
        (void)su_jls_grey_decode(copy, length, rows, columns, 2, "x", out, NULL);
        su_free(copy);
        su_free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_depth_and_size_is_decoded_as_by_charls),
        cmocka_unit_test(near_lossless_is_decoded_as_by_charls),
        cmocka_unit_test(preset_parameters_are_followed),
        cmocka_unit_test(values_may_be_wider_than_the_samples),
        cmocka_unit_test(a_cut_picture_is_refused),
        cmocka_unit_test(flipped_bits_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
