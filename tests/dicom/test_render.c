/* Rendering against the standard's formulas, written down here once more and evaluated pixel by pixel in
 * double. */
#include "base/memory.h"
#include "dicom/render.h"
#include "tests/tolerance.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { SIDE = 61, PIXELS = SIDE * 53 };

static const su_dicom_recipe *standard(void)
{
    const su_dicom_recipe *r = NULL;
    assert_int_equal(su_dicom_recipe_find(NULL, &r, NULL), SU_OK);
    return r;
}

static uint64_t random_state;
static uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static double uniform(double low, double high)
{
    return low + (high - low) * random_bits() / 2147483648.0;
}

/* ---- the reference ---- */

static double table_entry(const su_dicom_lut *t, double x)
{
    const long i =
        lround(x) - t->first; /* away from zero where the room rounds up: only at halves below zero */
    return t->entries[i < 0 ? 0 : i >= t->count ? t->count - 1 : i];
}

static double reference(const su_dicom_display *d, const su_dicom_voi *voi, double v)
{
    if (d->padded && v >= d->padding_low && v <= d->padding_high) return -1;
    const double x = d->modality.count ? table_entry(&d->modality, v) : d->slope * v + d->intercept;
    const double c = voi->centre, w = voi->width;
    double y;
    if (voi->kind == SU_VOI_LINEAR) {
        if (x <= c - 0.5 - (w - 1) / 2)
            y = 0;
        else if (x > c - 0.5 + (w - 1) / 2)
            y = 255;
        else
            y = ((x - (c - 0.5)) / (w - 1) + 0.5) * (255 - 0) + 0;
    } else if (voi->kind == SU_VOI_LINEAR_EXACT) {
        if (x <= c - w / 2)
            y = 0;
        else if (x > c + w / 2)
            y = 255;
        else
            y = ((x - c) / w + 0.5) * (255 - 0) + 0;
    } else if (voi->kind == SU_VOI_SIGMOID) {
        y = (255 - 0) / (1 + exp(-4 * (x - c) / w)) + 0;
    } else if (voi->kind == SU_VOI_TABLE) {
        y = table_entry(&voi->table, x) / (pow(2, voi->table.bits) - 1) * 255;
    } else {
        y = x <= voi->low ? 0 : x >= voi->high ? 255 : (x - voi->low) / (voi->high - voi->low) * 255;
    }
    return d->inverse ? 255 - y : y;
}

static double value_at(const su_dicom_frame *f, int i)
{
    switch (f->type) {
    case SU_DICOM_U8:
        return ((const uint8_t *)f->values)[i];
    case SU_DICOM_S8:
        return ((const int8_t *)f->values)[i];
    case SU_DICOM_U16:
        return ((const uint16_t *)f->values)[i];
    case SU_DICOM_S16:
        return ((const int16_t *)f->values)[i];
    case SU_DICOM_U32:
        return ((const uint32_t *)f->values)[i];
    case SU_DICOM_S32:
        return ((const int32_t *)f->values)[i];
    case SU_DICOM_F32:
        return (double)((const float *)f->values)[i];
    default:
        return ((const double *)f->values)[i];
    }
}

static void compare(const su_dicom_frame *f, const su_dicom_display *d, const su_dicom_voi *voi,
                    const char *what)
{
    su_image image;
    su_error err = {0};
    if (su_dicom_render(f, d, standard(), &image, &err)) fail_msg("%s: %s", what, err.message);
    assert_int_equal(image.channels, 1);
    assert_int_equal(image.width, f->columns);
    assert_int_equal(image.height, f->rows);
    for (int i = 0; i < f->rows * f->columns; i++) {
        const double want = reference(d, voi, value_at(f, i));
        if (want < 0 ? image.pixels[i] != 0 : fabs(image.pixels[i] - want) > su_tolerance("dicom.render"))
            fail_msg("%s: stored value %.17g became %d, the formula says %.6f", what, value_at(f, i),
                     image.pixels[i], want);
    }
    su_image_free(&image);
}

/* ---- frames ---- */

static union {
    uint8_t u8[PIXELS];
    int8_t s8[PIXELS];
    uint16_t u16[PIXELS];
    int16_t s16[PIXELS];
    uint32_t u32[PIXELS];
    int32_t s32[PIXELS];
    float f32[PIXELS];
    double f64[PIXELS];
} values;

/* Values of `bits` bits; every one of 8 bits occurs, and the extremes of all. */
static su_dicom_frame frame(su_dicom_type type, int bits)
{
    const uint32_t mask = bits == 32 ? 0xffffffffu : (1u << bits) - 1;
    for (int i = 0; i < PIXELS; i++) {
        uint32_t v = i < 256    ? (uint32_t)i & mask
                     : i == 256 ? 0
                     : i == 257 ? mask
                                : (random_bits() * 2654435761u) & mask;
        if (i == 258) v = mask >> 1;
        if (i == 259) v = (mask >> 1) + 1;
        const int32_t s = (int32_t)(v << (32 - bits)) >> (32 - bits);
        switch (type) {
        case SU_DICOM_U8:
            values.u8[i] = (uint8_t)v;
            break;
        case SU_DICOM_S8:
            values.s8[i] = (int8_t)s;
            break;
        case SU_DICOM_U16:
            values.u16[i] = (uint16_t)v;
            break;
        case SU_DICOM_S16:
            values.s16[i] = (int16_t)s;
            break;
        case SU_DICOM_U32:
            values.u32[i] = v;
            break;
        case SU_DICOM_S32:
            values.s32[i] = s;
            break;
        case SU_DICOM_F32:
            values.f32[i] = (float)s / 7;
            break;
        default:
            values.f64[i] = s / 7.0;
            break;
        }
    }
    return (su_dicom_frame){&values, type, PIXELS / SIDE, SIDE, 1};
}

static const struct {
    su_dicom_type type;
    int bits;
} stored_kinds[] = {{SU_DICOM_U8, 8},   {SU_DICOM_U8, 1},   {SU_DICOM_S8, 7},   {SU_DICOM_U16, 10},
                    {SU_DICOM_U16, 12}, {SU_DICOM_U16, 16}, {SU_DICOM_S16, 12}, {SU_DICOM_S16, 16},
                    {SU_DICOM_U32, 32}, {SU_DICOM_S32, 20}, {SU_DICOM_F32, 16}, {SU_DICOM_F64, 16}};
enum { STORED_KINDS = sizeof stored_kinds / sizeof *stored_kinds };

static su_dicom_display plain(void)
{
    return (su_dicom_display){.colour = SU_DICOM_GREY, .bits = 16, .slope = 1};
}

static uint16_t entries[2][65536];

static su_dicom_lut table(int which, int32_t first, int32_t count, int bits)
{
    for (int32_t i = 0; i < count; i++) entries[which][i] = (uint16_t)(random_bits() & ((1u << bits) - 1));
    entries[which][0] = 0;
    entries[which][count - 1] = (uint16_t)((1u << bits) - 1);
    return (su_dicom_lut){first, count, bits, entries[which]};
}

/* ---- tests ---- */

static void every_function_is_its_formula(void **state)
{
    (void)state;
    static const double widths[] = {1, 1.5, 2, 3, 100, 255, 256, 350.25, 4096, 70000};
    static const double slopes[] = {1, -1, 0.5, -2.75, 1e-3, 37};
    static const double intercepts[] = {0, -1024, 1000.5};
    int cases = 0;
    for (int k = 0; k < STORED_KINDS; k++) {
        const su_dicom_frame f = frame(stored_kinds[k].type, stored_kinds[k].bits);
        for (size_t s = 0; s < sizeof slopes / sizeof *slopes; s++)
            for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
                for (int kind = SU_VOI_LINEAR; kind <= SU_VOI_SIGMOID; kind++) {
                    su_dicom_display d = plain();
                    d.slope = slopes[s];
                    d.intercept = intercepts[random_bits() % 3];
                    d.inverse = random_bits() & 1;
                    const double centre = d.slope * value_at(&f, (int)(random_bits() % PIXELS)) + d.intercept;
                    d.voi = (su_dicom_voi){.kind = kind, .centre = round(centre * 2) / 2, .width = widths[w]};
                    char what[80];
                    snprintf(what, sizeof what, "type %d, function %d, slope %g, window %g/%g",
                             stored_kinds[k].type, kind, d.slope, d.voi.width, d.voi.centre);
                    compare(&f, &d, &d.voi, what);
                    cases++;
                }
    }
    assert_int_equal(cases, STORED_KINDS * 6 * 10 * 3);
}

/* Windows below one are defined for the exact and the sigmoid function. */
static void narrow_exact_and_sigmoid_windows_are_their_formulas(void **state)
{
    (void)state;
    static const double widths[] = {1e-6, 0.25, 0.5, 1};
    const su_dicom_frame f = frame(SU_DICOM_S16, 12);
    for (int w = 0; w < 4; w++)
        for (int kind = SU_VOI_LINEAR_EXACT; kind <= SU_VOI_SIGMOID; kind++) {
            su_dicom_display d = plain();
            d.slope = 0.125;
            d.voi = (su_dicom_voi){.kind = kind, .centre = 3.0625, .width = widths[w]};
            compare(&f, &d, &d.voi, "narrow");
        }
}

/* What PS3.3 C.11.2.1.2.1 gives as examples. */
static void the_examples_of_the_standard_hold(void **state)
{
    (void)state;
    static const struct {
        double centre, width;
        int16_t in;
        uint8_t out;
    } examples[] = {
        {2048, 4096, 0, 0}, {2048, 4096, 4095, 255}, {2048, 4096, 2048, 128}, {2048, 4096, 2047, 127},
        {2048, 1, 2047, 0}, {2048, 1, 2048, 255},    {0, 100, -50, 0},        {0, 100, 49, 255},
        {0, 100, 50, 255},  {0, 100, 0, 129},        {0, 1, -1, 0},           {0, 1, 0, 255},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        const su_dicom_frame f = {&examples[i].in, SU_DICOM_S16, 1, 1, 1};
        su_dicom_display d = plain();
        d.voi =
            (su_dicom_voi){.kind = SU_VOI_LINEAR, .centre = examples[i].centre, .width = examples[i].width};
        su_image image;
        assert_int_equal(su_dicom_render(&f, &d, standard(), &image, NULL), SU_OK);
        if (image.pixels[0] != examples[i].out)
            fail_msg("example %zu: %d, not %d", i, image.pixels[0], examples[i].out);
        su_image_free(&image);
    }
}

static void tables_of_every_width_and_first_value_are_looked_up(void **state)
{
    (void)state;
    static const int bits[] = {8, 10, 12, 16};
    static const int32_t firsts[] = {-32768, -1024, -1, 0, 1, 300, 60000},
                         counts[] = {1, 2, 256, 4096, 65536};
    for (int k = 0; k < STORED_KINDS; k++) {
        const su_dicom_frame f = frame(stored_kinds[k].type, stored_kinds[k].bits);
        for (int b = 0; b < 4; b++)
            for (int a = 0; a < 7; a++)
                for (int n = 0; n < 5; n++) {
                    su_dicom_display d = plain();
                    d.inverse = random_bits() & 1;
                    if (random_bits() & 1)
                        d.modality = table(0, firsts[random_bits() % 7], counts[random_bits() % 5], 12);
                    d.voi = (su_dicom_voi){.kind = SU_VOI_TABLE,
                                           .table = table(1, firsts[a], counts[n], bits[b])};
                    compare(&f, &d, &d.voi, "VOI table");
                    d = plain();
                    d.modality = table(0, firsts[a], counts[n], bits[b]);
                    d.voi = (su_dicom_voi){.kind = SU_VOI_LINEAR + (int)(random_bits() % 3),
                                           .centre = 1 << (bits[b] - 1),
                                           .width = 1 << bits[b]};
                    compare(&f, &d, &d.voi, "Modality table");
                }
    }
}

static void padding_is_black_and_leaves_no_trace_in_the_range(void **state)
{
    (void)state;
    for (int k = 0; k < STORED_KINDS; k++) {
        const su_dicom_frame f = frame(stored_kinds[k].type, stored_kinds[k].bits);
        for (int form = 0; form < 16; form++) {
            su_dicom_display d = plain();
            double a = value_at(&f, (int)(random_bits() % PIXELS)), b = value_at(&f, 256 + (form & 1));
            if (form & 2) b = a;
            d.padded = true;
            d.padding_low = fmin(a, b);
            d.padding_high = fmax(a, b);
            d.slope = form & 4 ? -0.75 : 2;
            d.intercept = -10;
            d.inverse = form & 8;
            /* The range, by hand. */
            su_dicom_voi voi = {.kind = SU_VOI_SPAN, .low = INFINITY, .high = -INFINITY};
            for (int i = 0; i < PIXELS; i++) {
                const double v = value_at(&f, i), x = d.slope * v + d.intercept;
                if (v >= d.padding_low && v <= d.padding_high) continue;
                voi.low = fmin(voi.low, x);
                voi.high = fmax(voi.high, x);
            }
            d.voi.kind = SU_VOI_RANGE;
            if (voi.low < INFINITY || f.type < SU_DICOM_F32) compare(&f, &d, &voi, "padded");
            d.voi = (su_dicom_voi){
                .kind = SU_VOI_LINEAR, .centre = uniform(-100, 300), .width = uniform(1, 2000)};
            compare(&f, &d, &d.voi, "padded window");
        }
    }
}

static void the_range_through_a_table_is_that_of_the_values_that_occur(void **state)
{
    (void)state;
    const su_dicom_frame f = frame(SU_DICOM_U16, 10);
    su_dicom_display d = plain();
    d.modality = table(0, 200, 500, 16);
    d.padded = true;
    d.padding_low = d.padding_high = 699; /* the greatest entry's input */
    su_dicom_voi voi = {.kind = SU_VOI_SPAN, .low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < PIXELS; i++) {
        if (value_at(&f, i) == 699) continue;
        const double x = table_entry(&d.modality, value_at(&f, i));
        voi.low = fmin(voi.low, x);
        voi.high = fmax(voi.high, x);
    }
    compare(&f, &d, &voi, "range of a table");
}

static void a_frame_of_one_value_or_of_padding_alone_is_rendered(void **state)
{
    (void)state;
    static const uint16_t same[4] = {7, 7, 7, 7};
    const su_dicom_frame f = {same, SU_DICOM_U16, 2, 2, 1};
    for (int form = 0; form < 4; form++) {
        su_dicom_display d = plain();
        su_image image;
        d.inverse = form & 1;
        d.padded = form & 2;
        d.padding_low = d.padding_high = 7;
        assert_int_equal(su_dicom_render(&f, &d, standard(), &image, NULL), SU_OK);
        for (int i = 0; i < 4; i++) assert_int_equal(image.pixels[i], form == 1 ? 255 : 0);
        su_image_free(&image);
    }
}

static void values_that_are_no_numbers_are_black(void **state)
{
    (void)state;
    static const float some[4] = {NAN, 1, INFINITY, 3}, none[2] = {NAN, INFINITY};
    su_dicom_display d = plain();
    su_image image;
    su_error err = {0};
    const su_dicom_frame f = {some, SU_DICOM_F32, 1, 4, 1}, g = {none, SU_DICOM_F32, 1, 2, 1};
    assert_int_equal(su_dicom_render(&f, &d, standard(), &image, NULL), SU_OK);
    assert_int_equal(image.pixels[0], 0);
    assert_int_equal(image.pixels[1], 0);
    assert_int_equal(image.pixels[2], 255);
    assert_int_equal(image.pixels[3], 255);
    su_image_free(&image);
    assert_int_equal(su_dicom_render(&g, &d, standard(), &image, &err), SU_ENUMERIC);
    assert_null(image.pixels);
}

/* Whose distance is no number, or too small for one. */
static void ranges_at_the_ends_of_the_numbers_are_shown(void **state)
{
    (void)state;
    static const double wide[3] = {-DBL_MAX, 0, DBL_MAX}, narrow[3] = {0, 0, 4.9e-324};
    const su_dicom_frame f = {wide, SU_DICOM_F64, 1, 3, 1}, g = {narrow, SU_DICOM_F64, 1, 3, 1};
    const su_dicom_display d = plain();
    int count = 0;
    const su_dicom_recipe *all = su_dicom_recipes(&count);
    for (int i = 0; i < count; i++) {
        su_image image;
        if (all[i].kind == SU_RECIPE_WINDOW) continue;
        assert_int_equal(su_dicom_render(&f, &d, &all[i], &image, NULL), SU_OK);
        assert_int_equal(image.pixels[0], 0);
        assert_int_equal(image.pixels[1], 128);
        assert_int_equal(image.pixels[2], 255);
        su_image_free(&image);
        assert_int_equal(su_dicom_render(&g, &d, &all[i], &image, NULL), SU_OK);
        assert_int_equal(image.pixels[0], 0);
        su_image_free(&image);
    }
}

static void a_fixed_window_and_the_full_range_override_the_file(void **state)
{
    (void)state;
    const su_dicom_frame f = frame(SU_DICOM_S16, 12);
    const su_dicom_recipe *lung = NULL, *range = NULL;
    assert_int_equal(su_dicom_recipe_find("ct-lung/1", &lung, NULL), SU_OK);
    assert_int_equal(su_dicom_recipe_find("full-range", &range, NULL), SU_OK);
    su_dicom_display d = plain(), e = plain();
    d.intercept = e.intercept = -1024;
    d.voi = (su_dicom_voi){.kind = SU_VOI_LINEAR, .centre = 40, .width = 400};
    e.voi = (su_dicom_voi){.kind = SU_VOI_LINEAR, .centre = -600, .width = 1500};
    su_image a, b;
    assert_int_equal(su_dicom_render(&f, &d, lung, &a, NULL), SU_OK);
    assert_int_equal(su_dicom_render(&f, &e, standard(), &b, NULL), SU_OK);
    assert_memory_equal(a.pixels, b.pixels, PIXELS);
    su_image_free(&a);
    su_image_free(&b);
    e.voi = (su_dicom_voi){.kind = SU_VOI_RANGE};
    assert_int_equal(su_dicom_render(&f, &d, range, &a, NULL), SU_OK);
    assert_int_equal(su_dicom_render(&f, &e, standard(), &b, NULL), SU_OK);
    assert_memory_equal(a.pixels, b.pixels, PIXELS);
    su_image_free(&a);
    su_image_free(&b);
}

static void recipes_are_found_by_name_and_version(void **state)
{
    (void)state;
    const su_dicom_recipe *r = NULL;
    su_error err = {0};
    assert_int_equal(su_dicom_recipe_find("dicom-standard/1", &r, NULL), SU_OK);
    assert_ptr_equal(r, standard());
    assert_int_equal(su_dicom_recipe_find("dicom-standard/2", &r, &err), SU_EUNSUPPORTED);
    assert_int_equal(su_dicom_recipe_find("dicom-standard/", &r, &err), SU_EUNSUPPORTED);
    assert_int_equal(su_dicom_recipe_find("ct-lun", &r, &err), SU_EINVAL);
    assert_non_null(strstr(err.message, "ct-lung"));
    assert_int_equal(su_dicom_recipe_find("", &r, &err), SU_EINVAL);
    int count = 0;
    const su_dicom_recipe *all = su_dicom_recipes(&count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(su_dicom_recipe_find(all[i].name, &r, NULL), SU_OK);
        assert_ptr_equal(r, &all[i]);
        assert_true(strlen(all[i].name) + 4 < SU_RECIPE_NAME_MAX);
    }
}

/* ---- colour ---- */

static void luma_and_chroma_become_the_colours_of_bt601(void **state)
{
    (void)state;
    enum { STEPS = 18, N = STEPS * STEPS * STEPS };
    uint8_t in[N][3];
    for (int i = 0; i < N; i++) {
        in[i][0] = (uint8_t)(i % STEPS * 15);
        in[i][1] = (uint8_t)(i / STEPS % STEPS * 15);
        in[i][2] = (uint8_t)(i / STEPS / STEPS * 15);
    }
    const su_dicom_frame f = {in, SU_DICOM_U8, STEPS, STEPS * STEPS, 3};
    for (int partial = 0; partial < 2; partial++) {
        su_dicom_display d = plain();
        su_image image;
        d.colour = partial ? SU_DICOM_YBR_PARTIAL : SU_DICOM_YBR_FULL;
        d.bits = 8;
        assert_int_equal(su_dicom_render(&f, &d, standard(), &image, NULL), SU_OK);
        assert_int_equal(image.channels, 3);
        for (int i = 0; i < N; i++) {
            const double y = partial ? (in[i][0] - 16) * 255.0 / 219 : in[i][0];
            const double b = (in[i][1] - 128) * (partial ? 255.0 / 224 : 1),
                         r = (in[i][2] - 128) * (partial ? 255.0 / 224 : 1);
            /* Kr = 0.299, Kb = 0.114 [ITU-R BT.601] */
            const double rgb[3] = {y + 2 * (1 - 0.299) * r,
                                   y - 2 * (1 - 0.114) * 0.114 / 0.587 * b -
                                       2 * (1 - 0.299) * 0.299 / 0.587 * r,
                                   y + 2 * (1 - 0.114) * b};
            for (int k = 0; k < 3; k++) {
                const double want = fmin(fmax(rgb[k], 0), 255);
                if (fabs(image.pixels[3 * i + k] - want) > su_tolerance("dicom.render.colour"))
                    fail_msg("channel %d of %d,%d,%d: %d, not %.3f", k, in[i][0], in[i][1], in[i][2],
                             image.pixels[3 * i + k], want);
            }
        }
        su_image_free(&image);
    }
}

static void wide_colour_samples_are_scaled(void **state)
{
    (void)state;
    static const uint16_t in[6] = {0, 32768, 65535, 4095, 2048, 100};
    su_dicom_display d = plain();
    su_image image;
    const su_dicom_frame f = {in, SU_DICOM_U16, 1, 2, 3};
    d.colour = SU_DICOM_RGB;
    for (d.bits = 12; d.bits <= 16; d.bits += 4) {
        assert_int_equal(su_dicom_render(&f, &d, standard(), &image, NULL), SU_OK);
        for (int i = 0; i < 6; i++) {
            const double want = fmin(in[i] * 255.0 / (pow(2, d.bits) - 1), 255);
            assert_true(fabs(image.pixels[i] - want) <= su_tolerance("dicom.render"));
        }
        su_image_free(&image);
    }
}

static void a_palette_colours_indexes_and_clamps(void **state)
{
    (void)state;
    static const uint16_t red[4] = {0, 65535, 32768, 100}, green[2] = {255, 7}, blue[3] = {9, 8, 7};
    static const int16_t in[6] = {-5, -3, -2, 0, 1, 200};
    su_dicom_display d = plain();
    su_image image;
    const su_dicom_frame f = {in, SU_DICOM_S16, 2, 3, 1};
    d.colour = SU_DICOM_PALETTE;
    d.palette[0] = (su_dicom_lut){-3, 4, 16, red};
    d.palette[1] = (su_dicom_lut){0, 2, 8, green};
    d.palette[2] = (su_dicom_lut){-1, 3, 8, blue};
    assert_int_equal(su_dicom_render(&f, &d, standard(), &image, NULL), SU_OK);
    static const uint8_t want[6][3] = {{0, 255, 9}, {0, 255, 9}, {255, 255, 9},
                                       {0, 255, 8}, {0, 7, 7},   {0, 7, 7}};
    assert_int_equal(image.channels, 3);
    assert_memory_equal(image.pixels, want, sizeof want);
    su_image_free(&image);
}

/* ---- refusals, memory, size ---- */

static void what_cannot_be_shown_is_refused(void **state)
{
    (void)state;
    static const uint16_t one[3] = {1, 2, 3};
    const su_dicom_frame f = {one, SU_DICOM_U16, 1, 1, 1}, three = {one, SU_DICOM_U16, 1, 1, 3};
    su_dicom_display bad[8];
    for (int i = 0; i < 8; i++) bad[i] = plain();
    bad[0].voi = (su_dicom_voi){.kind = SU_VOI_LINEAR, .centre = 1, .width = 0.5};
    bad[1].voi = (su_dicom_voi){.kind = SU_VOI_SIGMOID, .centre = 1, .width = 0};
    bad[2].voi = (su_dicom_voi){.kind = SU_VOI_LINEAR_EXACT, .centre = NAN, .width = 1};
    bad[3].voi = (su_dicom_voi){.kind = SU_VOI_TABLE, .table = {0, 70000, 8, one}};
    bad[4].modality = (su_dicom_lut){0, 3, 17, one};
    bad[5].slope = INFINITY;
    bad[6].colour = SU_DICOM_PALETTE;
    bad[7].colour = SU_DICOM_RGB;
    for (int i = 0; i < 8; i++) {
        su_image image = {.width = 1};
        su_error err = {0};
        assert_int_equal(su_dicom_render(&f, &bad[i], standard(), &image, &err), SU_EINVAL);
        assert_true(strlen(err.message) > 10);
        assert_int_equal(image.width, 0);
    }
    su_image image;
    const su_dicom_display grey = plain();
    assert_int_equal(su_dicom_render(&three, &grey, standard(), &image, NULL), SU_EINVAL);
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    const su_dicom_frame f = frame(SU_DICOM_U16, 12);
    su_dicom_display d = plain();
    const su_dicom_recipe *mimic = NULL;
    assert_int_equal(su_dicom_recipe_find("mimic-cxr-jpg", &mimic, NULL), SU_OK);
    d.modality = table(0, 0, 4096, 12);
    int failed = 0;
    for (int form = 0; form < 2; form++)
        for (int n = 1;; n++) {
            su_image image;
            su_error err = {0};
            su_alloc_fail_after(n);
            su_status st = su_dicom_render(&f, &d, form ? mimic : standard(), &image, &err);
            if (!st) st = su_dicom_respace(&image, (double[2]){1, 1}, 2, &err);
            su_alloc_fail_after(0);
            su_image_free(&image);
            if (!st) break;
            assert_int_equal(st, SU_ENOMEM);
            failed++;
        }
    assert_true(failed >= 6);
}

static void pixels_of_any_shape_become_squares_of_one_size(void **state)
{
    (void)state;
    su_image image = {.width = 4, .height = 6, .channels = 1, .pixels = su_calloc(24, 1)};
    memset(image.pixels, 77, 24);
    assert_int_equal(su_dicom_respace(&image, (double[2]){0.5, 2.0}, 0.5, NULL), SU_OK);
    assert_int_equal(image.width, 16);
    assert_int_equal(image.height, 6);
    for (int i = 0; i < 16 * 6; i++) assert_int_equal(image.pixels[i], 77);
    assert_int_equal(su_dicom_respace(&image, (double[2]){0, 1}, 1, NULL), SU_EINVAL);
    assert_int_equal(su_dicom_respace(&image, (double[2]){1, 1}, 1e-9, NULL), SU_ELIMIT);
    assert_int_equal(su_dicom_respace(&image, (double[2]){1, 1}, 1e9, NULL), SU_ELIMIT);
    assert_int_equal(image.width, 16);
    su_image_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function_is_its_formula),
        cmocka_unit_test(narrow_exact_and_sigmoid_windows_are_their_formulas),
        cmocka_unit_test(the_examples_of_the_standard_hold),
        cmocka_unit_test(tables_of_every_width_and_first_value_are_looked_up),
        cmocka_unit_test(padding_is_black_and_leaves_no_trace_in_the_range),
        cmocka_unit_test(the_range_through_a_table_is_that_of_the_values_that_occur),
        cmocka_unit_test(a_frame_of_one_value_or_of_padding_alone_is_rendered),
        cmocka_unit_test(values_that_are_no_numbers_are_black),
        cmocka_unit_test(ranges_at_the_ends_of_the_numbers_are_shown),
        cmocka_unit_test(a_fixed_window_and_the_full_range_override_the_file),
        cmocka_unit_test(recipes_are_found_by_name_and_version),
        cmocka_unit_test(luma_and_chroma_become_the_colours_of_bt601),
        cmocka_unit_test(wide_colour_samples_are_scaled),
        cmocka_unit_test(a_palette_colours_indexes_and_clamps),
        cmocka_unit_test(what_cannot_be_shown_is_refused),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(pixels_of_any_shape_become_squares_of_one_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
