#include "dicom/display.h"
#include "base/memory.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    SHARED_GROUPS = 0x52009229,
    FRAME_GROUPS = 0x52009230,
    PIXEL_MEASURES = 0x00289110,
    PIXEL_VALUES = 0x00289145,
    FRAME_VOI = 0x00289132,
    MODALITY = 0x00080060,
    SOP_CLASS = 0x00080016,
    PHOTOMETRIC = 0x00280004,
    NUMBER_OF_FRAMES = 0x00280008,
    BITS_STORED = 0x00280101,
    REPRESENTATION = 0x00280103,
    PADDING = 0x00280120,
    PADDING_LIMIT = 0x00280121,
    CENTRE = 0x00281050,
    WIDTH = 0x00281051,
    INTERCEPT = 0x00281052,
    SLOPE = 0x00281053,
    VOI_FUNCTION = 0x00281056,
    PALETTE_DESCRIPTOR = 0x00281101,
    PALETTE_DATA = 0x00281201,
    PALETTE_SEGMENTS = 0x00281221,
    MODALITY_LUT = 0x00283000,
    LUT_DESCRIPTOR = 0x00283002,
    LUT_DATA = 0x00283006,
    VOI_LUT = 0x00283010,
    PRESENTATION_SHAPE = 0x20500020,
};

static void note(su_dicom_display_file *d, const char *text)
{
    size_t used = strlen(d->note);
    snprintf(d->note + used, sizeof d->note - used, "%s%s", used ? "; " : "", text);
}

static bool text_is(su_dicom_item *item, uint32_t tag, const char *wanted)
{
    char text[80];
    return strcmp(su_dicom_text(item, tag, text, sizeof text), wanted) == 0;
}

/* ---- frames ---- */

su_status su_dicom_frames(su_dicom_file *file, int *frames, su_error *err)
{
    su_dicom_item *ds = su_dicom_dataset(file);
    int64_t n = 1;
    *frames = 1;
    if (!su_dicom_has(ds, NUMBER_OF_FRAMES)) return SU_OK;
    if (!su_dicom_integer(ds, NUMBER_OF_FRAMES, 0, &n) || n < 0 || n > INT_MAX)
        return su_fail(err, SU_EFORMAT, "%s: its number of frames (0028,0008) is no number",
                       su_dicom_path(file));
    *frames = n < 1 ? 1 : (int)n;
    return SU_OK;
}

su_dicom_item *su_dicom_frame_item(su_dicom_file *file, int frame, uint32_t sequence)
{
    su_dicom_item *ds = su_dicom_dataset(file);
    su_dicom_item *own = su_dicom_sequence(su_dicom_sequence(ds, FRAME_GROUPS, frame), sequence, 0);
    if (!own) own = su_dicom_sequence(su_dicom_sequence(ds, SHARED_GROUPS, 0), sequence, 0);
    return own ? own : ds;
}

static bool spacing_of(su_dicom_item *item, uint32_t tag, double spacing[2])
{
    return su_dicom_number(item, tag, 0, &spacing[0]) && su_dicom_number(item, tag, 1, &spacing[1]) &&
           spacing[0] > 0 && spacing[1] > 0 && isfinite(spacing[0]) && isfinite(spacing[1]);
}

bool su_dicom_spacing(su_dicom_file *file, int frame, double spacing[2], const char **from)
{
    enum {
        REGIONS = 0x00186011,
        UNITS_X = 0x00186024,
        UNITS_Y = 0x00186026,
        DELTA_X = 0x0018602c,
        DELTA_Y = 0x0018602e,
        PIXEL_SPACING = 0x00280030,
        IMAGER_SPACING = 0x00181164,
        SCANNED_SPACING = 0x00182010,
        CENTIMETRES = 3
    };
    su_dicom_item *ds = su_dicom_dataset(file), *region = NULL;
    const struct {
        su_dicom_item *item;
        uint32_t tag;
        const char *name;
    } places[] = {{su_dicom_frame_item(file, frame, PIXEL_MEASURES), PIXEL_SPACING, "Pixel Spacing"},
                  {ds, PIXEL_SPACING, "Pixel Spacing"},
                  {ds, IMAGER_SPACING, "Imager Pixel Spacing"},
                  {ds, SCANNED_SPACING, "Nominal Scanned Pixel Spacing"}};
    const char *unused;
    if (!from) from = &unused;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        *from = places[i].name;
        if (spacing_of(places[i].item, places[i].tag, spacing)) return true;
    }
    *from = "Sequence of Ultrasound Regions";
    for (int i = 0; (region = su_dicom_sequence(ds, REGIONS, i)); i++) {
        int64_t x = 0, y = 0;
        if (su_dicom_integer(region, UNITS_X, 0, &x) && su_dicom_integer(region, UNITS_Y, 0, &y) &&
            x == CENTIMETRES && y == CENTIMETRES && su_dicom_number(region, DELTA_Y, 0, &spacing[0]) &&
            su_dicom_number(region, DELTA_X, 0, &spacing[1])) {
            for (int k = 0; k < 2; k++) spacing[k] = fabs(spacing[k]) * 10;
            return spacing[0] > 0 && spacing[1] > 0 && isfinite(spacing[0]) && isfinite(spacing[1]);
        }
    }
    return false;
}

/* ---- tables ---- */

su_status su_dicom_unfold(const uint16_t *words, int64_t count, int bits, int32_t wanted, uint16_t **entries,
                          su_error *err)
{
    enum { DISCRETE, LINEAR, INDIRECT };
    const uint8_t *bytes = (const uint8_t *)words; /* of 8 bits: codes, lengths and values are bytes */
    const int64_t n = bits == 8 ? 2 * count : count;
    int64_t at = 0, resume = -1, left = 0; /* where to go on after `left` more segments of an indirect one */
    int32_t made = 0;
    uint16_t *out = su_alloc((size_t)wanted, sizeof *out);
    *entries = NULL;
    if (!out) return su_fail(err, SU_ENOMEM, "no memory for a palette");
#define UNIT(i) (bits == 8 ? (uint32_t)bytes[i] : (uint32_t)words[i])
    while (made < wanted && at + 2 <= n) {
        const uint32_t code = UNIT(at), length = UNIT(at + 1);
        at += 2;
        if (length == 0) break; /* a file of such would be read for ever */
        if (code == DISCRETE) {
            if (at + length > n || made + (int64_t)length > wanted) break;
            for (uint32_t i = 0; i < length; i++) out[made++] = (uint16_t)UNIT(at + i);
            at += length;
        } else if (code == LINEAR) {
            if (at + 1 > n || made == 0 || made + (int64_t)length > wanted) break;
            const int32_t from = out[made - 1], to = (int32_t)UNIT(at);
            for (uint32_t i = 1; i <= length; i++)
                out[made++] = (uint16_t)lrint(from + (double)(to - from) * i / length);
            at += 1;
        } else if (code == INDIRECT && resume < 0) {
            /* length segments from a place that is given in bytes; they hold no indirect one. */
            const int parts = bits == 8 ? 4 : 2;
            if (at + parts > n) break;
            int64_t target = 0;
            for (int i = 0; i < parts; i++) target |= (int64_t)UNIT(at + i) << (bits == 8 ? 8 : 16) * i;
            resume = at + parts;
            left = length;
            at = bits == 8 ? target : target / 2;
            if (at > n) break;
            continue;
        } else {
            break;
        }
        if (resume >= 0 && --left == 0) {
            at = resume;
            resume = -1;
        }
    }
#undef UNIT
    if (made != wanted) {
        su_free(out);
        return su_fail(err, SU_EFORMAT, "a segmented palette gives %d of %d entries", made, wanted);
    }
    *entries = out;
    return SU_OK;
}

/* The three values of a descriptor. negative: the table's input may be below zero. */
static bool read_descriptor(su_dicom_item *item, uint32_t tag, bool negative, su_dicom_lut *lut)
{
    int64_t count = 0, first = 0, bits = 0;
    *lut = (su_dicom_lut){0};
    if (!su_dicom_integer(item, tag, 0, &count) || !su_dicom_integer(item, tag, 1, &first) ||
        !su_dicom_integer(item, tag, 2, &bits))
        return false;
    count &= 0xffff;
    if (first > 32767 && negative) first -= 65536;
    *lut = (su_dicom_lut){(int32_t)first, count ? (int32_t)count : 65536, (int32_t)bits, NULL};
    return true;
}

/* The first place for a table of our own. */
static uint16_t **own(su_dicom_display_file *d)
{
    uint16_t **place = d->owned;
    while (*place) place++;
    return place;
}

/* Entries of 8 bits stand in bytes, or (against the standard, but it is done) each in a word: the length
 * tells. */
static su_status read_entries(su_dicom_display_file *d, su_dicom_item *item, uint32_t tag, su_dicom_lut *lut,
                              su_error *err)
{
    int64_t n = 0;
    const uint16_t *words = su_dicom_words(item, tag, &n);
    if (lut->bits == 8 && words && n < lut->count && 2 * n >= lut->count) {
        const uint8_t *bytes = (const uint8_t *)words;
        uint16_t *unpacked = su_alloc((size_t)lut->count, sizeof *unpacked);
        if (!unpacked) return su_fail(err, SU_ENOMEM, "no memory for a table of %d entries", lut->count);
        for (int32_t i = 0; i < lut->count; i++) unpacked[i] = bytes[i];
        *own(d) = unpacked;
        lut->entries = unpacked;
        return SU_OK;
    }
    if (words && n < lut->count) {
        note(d, "a table is shorter than its descriptor says");
        lut->count = (int32_t)n;
    }
    if (!words) lut->count = 0;
    lut->entries = words;
    if (lut->bits < 1 || lut->bits > 16) {
        uint32_t most = 1;
        for (int32_t i = 0; i < lut->count; i++)
            if (words[i] > most) most = words[i];
        for (lut->bits = 1; most >> lut->bits;) lut->bits++;
        note(d, "a table's bits an entry are out of range: taken from its entries");
    }
    return SU_OK;
}

static su_status read_lut(su_dicom_display_file *d, su_dicom_item *item, bool negative, su_dicom_lut *lut,
                          su_error *err)
{
    if (!read_descriptor(item, LUT_DESCRIPTOR, negative, lut)) return SU_OK;
    return read_entries(d, item, LUT_DATA, lut, err);
}

static su_status read_palette(su_dicom_display_file *d, su_dicom_file *file, bool negative, su_error *err)
{
    su_dicom_item *ds = su_dicom_dataset(file);
    bool bytes = true;
    for (uint32_t k = 0; k < 3; k++) {
        su_dicom_lut *lut = &d->show.palette[k];
        su_status st = SU_OK;
        if (!read_descriptor(ds, PALETTE_DESCRIPTOR + k, negative, lut))
            return su_fail(err, SU_EFORMAT, "%s: PALETTE COLOR without a palette", su_dicom_path(file));
        if (su_dicom_has(ds, PALETTE_SEGMENTS + k)) {
            int64_t n = 0;
            const uint16_t *words = su_dicom_words(ds, PALETTE_SEGMENTS + k, &n);
            uint16_t **place = own(d);
            if (lut->bits != 8) lut->bits = 16;
            st = su_dicom_unfold(words, words ? n : 0, lut->bits, lut->count, place, err);
            lut->entries = *place;
        } else {
            st = read_entries(d, ds, PALETTE_DATA + k, lut, err);
        }
        if (st) return su_fail_context(err, st, "%s", su_dicom_path(file));
        if (!lut->count)
            return su_fail(err, SU_EFORMAT, "%s: PALETTE COLOR without a palette", su_dicom_path(file));
        for (int32_t i = 0; bytes && i < lut->count; i++) bytes = lut->entries[i] < 256;
    }
    /* Palettes that say 16 bits and hold 8 would be black. */
    for (int k = 0; bytes && k < 3; k++)
        if (d->show.palette[k].bits > 8) {
            d->show.palette[k].bits = 8;
            if (k == 0) note(d, "the palette's entries are of 8 bits, not of 16 as it says");
        }
    return SU_OK;
}

/* ---- the stages ---- */

static bool modality_is_for_display(su_dicom_item *ds)
{
    static const char *const not_for[] = {
        "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.1.1", /* XA, Enhanced XA */
        "1.2.840.10008.5.1.4.1.1.12.2", "1.2.840.10008.5.1.4.1.1.12.2.1", /* XRF, Enhanced XRF */
        "1.2.840.10008.5.1.4.1.1.12.3",                                   /* XA biplane, retired */
    };
    for (size_t i = 0; i < sizeof not_for / sizeof *not_for; i++)
        if (text_is(ds, SOP_CLASS, not_for[i])) return false;
    return true;
}

static su_status read_modality(su_dicom_display_file *d, su_dicom_file *file, int frame, bool is_signed,
                               su_error *err)
{
    su_dicom_item *ds = su_dicom_dataset(file), *table = su_dicom_sequence(ds, MODALITY_LUT, 0);
    su_dicom_display *show = &d->show;
    show->slope = 1;
    if (!modality_is_for_display(ds)) return SU_OK;
    if (table) {
        su_status st = read_lut(d, table, is_signed, &show->modality, err);
        if (st || show->modality.count) return st;
        note(d, "the Modality LUT Sequence holds no table");
    }
    su_dicom_item *item = su_dicom_frame_item(file, frame, PIXEL_VALUES);
    if (!su_dicom_has(item, SLOPE) && !su_dicom_has(item, INTERCEPT)) item = ds;
    if (su_dicom_number(item, SLOPE, 0, &show->slope) && (show->slope == 0 || !isfinite(show->slope))) {
        note(d, "a rescale slope that is zero or no number is ignored");
        show->slope = 1;
    }
    if (su_dicom_number(item, INTERCEPT, 0, &show->intercept) && !isfinite(show->intercept))
        show->intercept = 0;
    return SU_OK;
}

/* Digital X-ray, mammography and intra-oral images: where these have no VOI attributes, their values are
 * P-values. */
static bool for_presentation(su_dicom_item *ds)
{
    static const char *const classes[] = {"1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.2",
                                          "1.2.840.10008.5.1.4.1.1.1.3"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (text_is(ds, SOP_CLASS, classes[i])) return true;
    return false;
}

static void stored_range(int32_t bits, bool is_signed, double *low, double *high)
{
    *low = is_signed ? -ldexp(1, bits - 1) : 0;
    *high = is_signed ? ldexp(1, bits - 1) - 1 : ldexp(1, bits) - 1;
}

/* What the Modality LUT makes of all values that can be stored. */
static void modality_range(const su_dicom_display *show, bool is_signed, double *low, double *high)
{
    stored_range(show->bits, is_signed, low, high);
    if (show->modality.count) {
        *low = 0;
        *high = ldexp(1, show->modality.bits) - 1;
        return;
    }
    const double a = show->slope * *low + show->intercept, b = show->slope * *high + show->intercept;
    *low = fmin(a, b);
    *high = fmax(a, b);
}

static bool read_windows(su_dicom_display_file *d, su_dicom_item *item)
{
    su_dicom_voi *voi = &d->show.voi;
    voi->kind = SU_VOI_LINEAR;
    if (text_is(item, VOI_FUNCTION, "LINEAR_EXACT")) voi->kind = SU_VOI_LINEAR_EXACT;
    if (text_is(item, VOI_FUNCTION, "SIGMOID")) voi->kind = SU_VOI_SIGMOID;
    const int count = su_dicom_values(item, WIDTH);
    for (int i = 0; i < count; i++) {
        if (!su_dicom_number(item, WIDTH, i, &voi->width) || !su_dicom_number(item, CENTRE, i, &voi->centre))
            continue;
        if (isfinite(voi->width) && isfinite(voi->centre) && voi->width > 0 &&
            (voi->kind != SU_VOI_LINEAR || voi->width >= 1))
            return true;
    }
    if (count) note(d, "its windows are narrower than their function allows, and ignored");
    return false;
}

static su_status read_voi(su_dicom_display_file *d, su_dicom_file *file, int frame, bool is_signed,
                          su_error *err)
{
    su_dicom_display *show = &d->show;
    su_dicom_item *ds = su_dicom_dataset(file), *item = su_dicom_frame_item(file, frame, FRAME_VOI);
    double low, high;
    modality_range(show, is_signed, &low, &high);
    if (!su_dicom_has(item, WIDTH) && !su_dicom_sequence(item, VOI_LUT, 0)) item = ds;
    su_dicom_item *table = su_dicom_sequence(item, VOI_LUT, 0);
    if (table) {
        su_status st = read_lut(d, table, low < 0, &show->voi.table, err);
        show->voi.kind = SU_VOI_TABLE;
        if (st || show->voi.table.count) return st;
        note(d, "the VOI LUT Sequence holds no table");
    }
    if (read_windows(d, item)) return SU_OK;
    show->voi = (su_dicom_voi){.kind = SU_VOI_RANGE};
    if (show->bits <= 8 || (for_presentation(ds) && show->bits <= 16))
        show->voi = (su_dicom_voi){.kind = SU_VOI_SPAN, .low = low, .high = high};
    return SU_OK;
}

static void read_padding(su_dicom_display *show, su_dicom_item *ds, bool is_signed)
{
    enum {
        FLOAT_PADDING = 0x00280122,
        DOUBLE_PADDING = 0x00280123,
        FLOAT_LIMIT = 0x00280124,
        DOUBLE_LIMIT = 0x00280125
    };
    static const uint32_t floats[2][2] = {{FLOAT_PADDING, FLOAT_LIMIT}, {DOUBLE_PADDING, DOUBLE_LIMIT}};
    double ends[2] = {0, 0};
    int64_t value = 0;
    for (int i = 0; i < 2; i++)
        if (su_dicom_number(ds, floats[i][0], 0, &ends[0])) {
            show->padded = true;
            if (!su_dicom_number(ds, floats[i][1], 0, &ends[1])) ends[1] = ends[0];
        }
    if (!show->padded) {
        static const uint32_t tags[2] = {PADDING, PADDING_LIMIT};
        for (int i = 0; i < 2; i++) {
            if (!su_dicom_integer(ds, tags[i], 0, &value)) {
                if (i == 0) return;
                ends[1] = ends[0];
                break;
            }
            if (is_signed && value > 32767)
                value -= 65536; /* US where SS is meant, and the other way round */
            if (!is_signed && value < 0) value += 65536;
            ends[i] = (double)value;
        }
        show->padded = true;
    }
    show->padding_low = fmin(ends[0], ends[1]);
    show->padding_high = fmax(ends[0], ends[1]);
}

static su_status read_colour(su_dicom_display *show, su_dicom_file *file, su_error *err)
{
    static const struct {
        const char *name;
        su_dicom_colour colour;
    } known[] = {{"MONOCHROME2", SU_DICOM_GREY},
                 {"MONOCHROME1", SU_DICOM_GREY},
                 {"PALETTE COLOR", SU_DICOM_PALETTE},
                 {"RGB", SU_DICOM_RGB},
                 {"YBR_FULL", SU_DICOM_YBR_FULL},
                 {"YBR_FULL_422", SU_DICOM_YBR_FULL},
                 {"YBR_RCT", SU_DICOM_RGB},
                 {"YBR_ICT", SU_DICOM_RGB}, /* turned back by the codec */
                 {"YBR_PARTIAL_422", SU_DICOM_YBR_PARTIAL},
                 {"YBR_PARTIAL_420", SU_DICOM_YBR_PARTIAL}};
    char name[32];
    su_dicom_text(su_dicom_dataset(file), PHOTOMETRIC, name, sizeof name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            show->colour = known[i].colour;
            show->monochrome1 = strcmp(name, "MONOCHROME1") == 0;
            return SU_OK;
        }
    return su_fail(err, SU_EUNSUPPORTED,
                   "%s: photometric interpretation (0028,0004) '%s' is not one of those shown here",
                   su_dicom_path(file), name);
}

su_status su_dicom_display_open(su_dicom_file *file, int frame, su_dicom_display_file *d, su_error *err)
{
    su_dicom_item *ds = su_dicom_dataset(file);
    int64_t bits = 16, representation = 0;
    *d = (su_dicom_display_file){0};
    su_status st = read_colour(&d->show, file, err);
    if (st) return st;
    (void)su_dicom_integer(ds, BITS_STORED, 0, &bits);
    (void)su_dicom_integer(ds, REPRESENTATION, 0, &representation);
    if (!su_dicom_has(ds, BITS_STORED)) bits = 32; /* floats */
    d->show.bits = bits < 1 ? 1 : bits > 32 ? 32 : (int32_t)bits;
    const bool is_signed = representation == 1, has_shape = su_dicom_has(ds, PRESENTATION_SHAPE);
    if (d->show.colour == SU_DICOM_PALETTE) {
        st = read_palette(d, file, is_signed, err);
    } else if (d->show.colour == SU_DICOM_GREY) {
        d->show.inverse = has_shape ? text_is(ds, PRESENTATION_SHAPE, "INVERSE") : d->show.monochrome1;
        read_padding(&d->show, ds, is_signed);
        st = read_modality(d, file, frame, is_signed, err);
        if (!st) st = read_voi(d, file, frame, is_signed, err);
    }
    if (st) su_dicom_display_close(d);
    return st;
}

void su_dicom_display_close(su_dicom_display_file *d)
{
    if (!d) return;
    for (size_t i = 0; i < sizeof d->owned / sizeof *d->owned; i++) su_free(d->owned[i]);
    *d = (su_dicom_display_file){0};
}

su_status su_dicom_recipe_check(const su_dicom_recipe *recipe, su_dicom_file *file, su_error *err)
{
    char modality[20];
    if (!recipe->modality) return SU_OK;
    su_dicom_text(su_dicom_dataset(file), MODALITY, modality, sizeof modality);
    if (strcmp(modality, recipe->modality) == 0) return SU_OK;
    return su_fail(err, SU_EUNSUPPORTED, "%s: recipe %s is for %s; this is %s", su_dicom_path(file),
                   recipe->name, recipe->modality, modality[0] ? modality : "of no modality");
}
