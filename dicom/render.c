/* Frames of up to 16 bits are rendered by one table over the stored values that occur: the formulas are
 * evaluated once a value, in double, not once a pixel. Wider integers and floats take the formulas pixel by
 * pixel. */
#include "dicom/render.h"
#include "base/memory.h"
#include "base/resize.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { RESPACED_MAX = 64 << 20 }; /* pixels */

/* ---- stored values of any type ---- */

static double stored(const su_dicom_frame *f, int64_t i)
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

static bool is_narrow(su_dicom_type type)
{
    return type <= SU_DICOM_S16;
}

/* EACH(type, values, DO): DO(T, p) with p the values as what they are, for the types of up to 16 bits. */
#define EACH_NARROW(frame, DO) \
    switch ((frame)->type) {   \
    case SU_DICOM_U8:          \
        DO(uint8_t)            \
        break;                 \
    case SU_DICOM_S8:          \
        DO(int8_t)             \
        break;                 \
    case SU_DICOM_U16:         \
        DO(uint16_t)           \
        break;                 \
    default:                   \
        DO(int16_t)            \
        break;                 \
    }

/* Least and greatest stored value of a narrow frame. */
static void extremes(const su_dicom_frame *f, int64_t n, int32_t *least, int32_t *greatest)
{
#define SCAN(T)                               \
    {                                         \
        const T *p = f->values;               \
        T low = p[0], high = p[0];            \
        for (int64_t i = 0; i < n; i++) {     \
            low = p[i] < low ? p[i] : low;    \
            high = p[i] > high ? p[i] : high; \
        }                                     \
        *least = low;                         \
        *greatest = high;                     \
    }
    EACH_NARROW(f, SCAN)
#undef SCAN
}

/* seen[v - least] = 1 for every stored value v of a narrow frame. */
static void occurring(const su_dicom_frame *f, int64_t n, int32_t least, uint8_t *seen)
{
#define MARK(T)                                                 \
    {                                                           \
        const T *p = f->values;                                 \
        for (int64_t i = 0; i < n; i++) seen[p[i] - least] = 1; \
    }
    EACH_NARROW(f, MARK)
#undef MARK
}

static void apply(const su_dicom_frame *f, int64_t n, int32_t least, const uint8_t *table, uint8_t *out)
{
#define LOOK_UP(T)                                                    \
    {                                                                 \
        const T *p = f->values;                                       \
        for (int64_t i = 0; i < n; i++) out[i] = table[p[i] - least]; \
    }
    EACH_NARROW(f, LOOK_UP)
#undef LOOK_UP
}

/* ---- the formulas ---- */

double su_dicom_lut_value(const su_dicom_lut *lut, double x)
{
    double at = floor(x + 0.5) - lut->first;
    if (!(at > 0)) at = 0;
    if (at > lut->count - 1) at = lut->count - 1;
    return lut->entries[(int32_t)at];
}

static bool is_padding(const su_dicom_display *d, double v)
{
    return isnan(v) || (d->padded && v >= d->padding_low && v <= d->padding_high);
}

static double modality(const su_dicom_display *d, double v)
{
    return d->modality.count ? su_dicom_lut_value(&d->modality, v) : d->slope * v + d->intercept;
}

void su_dicom_modality_values(const su_dicom_frame *f, const su_dicom_display *d, float *out)
{
    const int64_t n = (int64_t)f->rows * f->columns;
    for (int64_t i = 0; i < n; i++) out[i] = (float)modality(d, stored(f, i));
}

/* How far x lies between low and high, 0 to 1. Halves, for the distance of two numbers may be none. */
static double share(double low, double high, double x)
{
    const double reach = high / 2 - low / 2;
    return reach > 0 ? (x / 2 - low / 2) / reach : 0;
}

/* Modality value to 0 .. 255. */
static double value_of_interest(const su_dicom_voi *voi, double x)
{
    const double c = voi->centre, w = voi->width;
    switch (voi->kind) {
    case SU_VOI_LINEAR:
        if (x <= c - 0.5 - (w - 1) / 2) return 0;
        if (x > c - 0.5 + (w - 1) / 2) return 255;
        return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255;
    case SU_VOI_LINEAR_EXACT:
        if (x <= c - w / 2) return 0;
        if (x > c + w / 2) return 255;
        return ((x - c) / w + 0.5) * 255;
    case SU_VOI_SIGMOID:
        return 255 / (1 + exp(-4 * (x - c) / w));
    case SU_VOI_TABLE:
        return su_dicom_lut_value(&voi->table, x) * 255 / ((1 << voi->table.bits) - 1);
    default:
        if (x <= voi->low) return 0;
        if (x >= voi->high) return 255;
        return share(voi->low, voi->high, x) * 255;
    }
}

static uint8_t level(double y)
{
    return (uint8_t)(y > 0 ? y >= 255 ? 255 : (int)(y + 0.5) : 0);
}

static uint8_t shown(const su_dicom_display *d, const su_dicom_voi *voi, double v)
{
    if (is_padding(d, v)) return 0;
    const double y = value_of_interest(voi, modality(d, v));
    return level(d->inverse ? 255 - y : y);
}

/* ---- the range of a frame ---- */

typedef struct {
    double low, high;
    bool found;
} span;

static void widen(span *s, double x)
{
    if (!isfinite(x)) return;
    if (!s->found || x < s->low) s->low = x;
    if (!s->found || x > s->high) s->high = x;
    s->found = true;
}

/* Of the stored values, or of those that the Modality LUT makes of them and that are not padding. */
static su_status frame_span(const su_dicom_frame *f, const su_dicom_display *d, bool raw, span *out,
                            su_error *err)
{
    const int64_t n = (int64_t)f->rows * f->columns;
    *out = (span){0};
    if (!is_narrow(f->type)) {
        for (int64_t i = 0; i < n; i++) {
            const double v = stored(f, i);
            if (raw)
                widen(out, v);
            else if (!is_padding(d, v))
                widen(out, modality(d, v));
        }
        if (!out->found && f->type >= SU_DICOM_F32)
            return su_fail(err, SU_ENUMERIC, "no pixel has a finite value that is not padding");
        return SU_OK;
    }
    int32_t least, greatest;
    extremes(f, n, &least, &greatest);
    const bool monotone = raw || !d->modality.count;
    if (monotone && (raw || !(d->padded && d->padding_low <= greatest && d->padding_high >= least))) {
        widen(out, raw ? least : modality(d, least));
        widen(out, raw ? greatest : modality(d, greatest));
        return SU_OK;
    }
    uint8_t *seen = su_calloc((size_t)(greatest - least + 1), 1);
    if (!seen) return su_fail(err, SU_ENOMEM, "no memory to render a frame");
    occurring(f, n, least, seen);
    for (int32_t v = least; v <= greatest; v++)
        if (seen[v - least] && !is_padding(d, v)) widen(out, modality(d, v));
    su_free(seen);
    return SU_OK;
}

/* ---- grey ---- */

bool su_dicom_range(const su_dicom_frame *f, const su_dicom_display *d, bool raw, double range[2])
{
    span s;
    if (frame_span(f, d, raw, &s, NULL) || !s.found) return false;
    range[0] = s.low;
    range[1] = s.high;
    return true;
}

static su_status render_window(const su_dicom_frame *f, const su_dicom_display *d, su_dicom_voi voi,
                               uint8_t *out, su_error *err)
{
    const int64_t n = (int64_t)f->rows * f->columns;
    if (voi.kind == SU_VOI_RANGE) {
        span s;
        su_status st = frame_span(f, d, false, &s, err);
        if (st) return st;
        voi = (su_dicom_voi){.kind = SU_VOI_SPAN, .low = s.low, .high = s.high};
    }
    if (!is_narrow(f->type)) {
        for (int64_t i = 0; i < n; i++) out[i] = shown(d, &voi, stored(f, i));
        return SU_OK;
    }
    int32_t least, greatest;
    extremes(f, n, &least, &greatest);
    uint8_t *table = su_alloc((size_t)(greatest - least + 1), 1);
    if (!table) return su_fail(err, SU_ENOMEM, "no memory to render a frame");
    for (int32_t v = least; v <= greatest; v++) table[v - least] = shown(d, &voi, v);
    apply(f, n, least, table, out);
    su_free(table);
    return SU_OK;
}

/* Spreads the levels of a picture so that each is as frequent as the next, in the arithmetic of OpenCV's
 * equalizeHist: the first level that occurs becomes 0; steps in float, ties to even. */
static void equalise(uint8_t *pixels, int64_t n)
{
    int64_t histogram[256] = {0}, sum = 0;
    uint8_t table[256] = {0};
    for (int64_t i = 0; i < n; i++) histogram[pixels[i]]++;
    int first = 0;
    while (!histogram[first]) first++;
    if (histogram[first] == n) return;
    const float scale = 255.0f / (float)(n - histogram[first]);
    for (int v = first + 1; v < 256; v++) {
        sum += histogram[v];
        table[v] = (uint8_t)lrintf((float)sum * scale);
    }
    for (int64_t i = 0; i < n; i++) pixels[i] = table[pixels[i]];
}

/* MIMIC-CXR-JPG [Johnson et al. 2019, arXiv:1901.07042]: stored values less the least, over the greatest of
 * the shifted ones, times 255, cut to an integer; MONOCHROME1 inverted; the histogram equalised. */
static uint8_t mimic_level(const span *s, bool turned, double v)
{
    const double y = isfinite(v) ? share(s->low, s->high, v) * 255 : 0;
    return (uint8_t)(turned ? 255 - (int)y : (int)y);
}

static su_status render_mimic(const su_dicom_frame *f, const su_dicom_display *d, uint8_t *out, su_error *err)
{
    const int64_t n = (int64_t)f->rows * f->columns;
    span s;
    su_status st = frame_span(f, d, true, &s, err);
    if (st) return st;
    if (is_narrow(f->type)) {
        const int32_t least = (int32_t)s.low, greatest = (int32_t)s.high;
        uint8_t *table = su_alloc((size_t)(greatest - least + 1), 1);
        if (!table) return su_fail(err, SU_ENOMEM, "no memory to render a frame");
        for (int32_t v = least; v <= greatest; v++) table[v - least] = mimic_level(&s, d->monochrome1, v);
        apply(f, n, least, table, out);
        su_free(table);
    } else {
        for (int64_t i = 0; i < n; i++) out[i] = mimic_level(&s, d->monochrome1, stored(f, i));
    }
    equalise(out, n);
    return SU_OK;
}

static su_status check_lut(const su_dicom_lut *lut, const char *which, su_error *err)
{
    if (lut->count >= 1 && lut->count <= 65536 && lut->bits >= 1 && lut->bits <= 16 && lut->entries)
        return SU_OK;
    return su_fail(err, SU_EINVAL, "the %s has %d entries of %d bits; 1 to 65536 of 1 to 16 can be", which,
                   lut->count, lut->bits);
}

static su_status check_voi(const su_dicom_voi *voi, su_error *err)
{
    const double least = voi->kind == SU_VOI_LINEAR ? 1 : 0;
    switch (voi->kind) {
    case SU_VOI_LINEAR:
    case SU_VOI_LINEAR_EXACT:
    case SU_VOI_SIGMOID:
        if (isfinite(voi->centre) && isfinite(voi->width) && voi->width >= least && voi->width > 0)
            return SU_OK;
        return su_fail(err, SU_EINVAL, "a window of width %g at %g shows nothing", voi->width, voi->centre);
    case SU_VOI_TABLE:
        return check_lut(&voi->table, "VOI LUT", err);
    default:
        return SU_OK;
    }
}

static su_status render_grey(const su_dicom_frame *f, const su_dicom_display *d,
                             const su_dicom_recipe *recipe, uint8_t *out, su_error *err)
{
    su_dicom_voi voi = d->voi;
    if (recipe->kind == SU_RECIPE_MIMIC) return render_mimic(f, d, out, err);
    if (recipe->kind == SU_RECIPE_RANGE) voi = (su_dicom_voi){.kind = SU_VOI_RANGE};
    if (recipe->kind == SU_RECIPE_WINDOW)
        voi = (su_dicom_voi){.kind = SU_VOI_LINEAR, .centre = recipe->centre, .width = recipe->width};
    su_status st = check_voi(&voi, err);
    if (!st && d->modality.count) st = check_lut(&d->modality, "Modality LUT", err);
    if (!st && !(isfinite(d->slope) && isfinite(d->intercept)))
        st = su_fail(err, SU_EINVAL, "the rescale slope or intercept is not a finite number");
    return st ? st : render_window(f, d, voi, out, err);
}

/* ---- colour ---- */

/* Samples of up to 8 bits are copied; wider ones are scaled. */
static void render_rgb(const su_dicom_frame *f, int32_t bits, uint8_t *out)
{
    const int64_t n = (int64_t)f->rows * f->columns * 3;
    if (f->type == SU_DICOM_U8 && bits == 8) {
        memcpy(out, f->values, (size_t)n);
        return;
    }
    const double scale = 255 / (ldexp(1, bits) - 1);
    for (int64_t i = 0; i < n; i++) out[i] = level(stored(f, i) * scale);
}

static uint8_t rounded(float y)
{
    y += 0.5f;
    y = y < 0.0f ? 0.0f : y > 255.0f ? 255.0f : y;
    return (uint8_t)(int)y;
}

/* The inverse of PS3.3 C.7.6.3.1.2 (BT.601); partial: luma 16 .. 235, chroma 16 .. 240. */
static void render_ybr(const su_dicom_frame *f, int32_t bits, bool partial, uint8_t *out)
{
    const int64_t n = (int64_t)f->rows * f->columns;
    const float luma = partial ? 255.0f / 219.0f : 1.0f, chroma = partial ? 255.0f / 224.0f : 1.0f;
    const float black = partial ? 16.0f : 0.0f, scale = (float)(255 / (ldexp(1, bits) - 1));
    const uint8_t *bytes = f->type == SU_DICOM_U8 && bits == 8 ? f->values : NULL;
    for (int64_t i = 0; i < n; i++) {
        float s[3];
        for (int k = 0; k < 3; k++)
            s[k] = bytes ? (float)bytes[3 * i + k] : (float)stored(f, 3 * i + k) * scale;
        const float y = (s[0] - black) * luma, b = (s[1] - 128.0f) * chroma, r = (s[2] - 128.0f) * chroma;
        out[3 * i] = rounded(y + 1.402f * r);
        out[3 * i + 1] = rounded(y - 0.344136286f * b - 0.714136286f * r);
        out[3 * i + 2] = rounded(y + 1.772f * b);
    }
}

static su_status render_palette(const su_dicom_frame *f, const su_dicom_display *d, uint8_t *out,
                                su_error *err)
{
    static const char *const names[] = {"red palette", "green palette", "blue palette"};
    const int64_t n = (int64_t)f->rows * f->columns;
    for (int k = 0; k < 3; k++) {
        su_status st = check_lut(&d->palette[k], names[k], err);
        if (st) return st;
    }
    if (!is_narrow(f->type)) return su_fail(err, SU_EINVAL, "a palette colour frame of more than 16 bits");
    int32_t least, greatest;
    extremes(f, n, &least, &greatest);
    uint8_t *table = su_alloc((size_t)(greatest - least + 1), 3);
    if (!table) return su_fail(err, SU_ENOMEM, "no memory to render a frame");
    for (int32_t v = least; v <= greatest; v++)
        for (int k = 0; k < 3; k++) {
            const su_dicom_lut *lut = &d->palette[k];
            table[3 * (v - least) + k] = level(su_dicom_lut_value(lut, v) * 255 / ((1 << lut->bits) - 1));
        }
    for (int64_t i = 0; i < n; i++) memcpy(out + 3 * i, table + 3 * ((int32_t)stored(f, i) - least), 3);
    su_free(table);
    return SU_OK;
}

static su_status check_frame(const su_dicom_frame *f, const su_dicom_display *d, su_error *err)
{
    const bool three = d->colour >= SU_DICOM_RGB;
    if (f->rows < 1 || f->columns < 1 || f->rows > 65535 || f->columns > 65535)
        return su_fail(err, SU_EINVAL, "a frame of %d x %d pixels cannot be rendered", f->columns, f->rows);
    if (f->samples != (three ? 3 : 1))
        return su_fail(err, SU_EINVAL, "%d samples a pixel do not fit the photometric interpretation",
                       f->samples);
    if (three && (d->bits < 1 || d->bits > 32))
        return su_fail(err, SU_EINVAL, "colour samples of %d bits", d->bits);
    return SU_OK;
}

su_status su_dicom_render(const su_dicom_frame *f, const su_dicom_display *d, const su_dicom_recipe *recipe,
                          su_image *out, su_error *err)
{
    *out = (su_image){0};
    su_status st = check_frame(f, d, err);
    if (st) return st;
    const int32_t channels = d->colour == SU_DICOM_GREY ? 1 : 3;
    uint8_t *pixels = su_alloc((size_t)f->rows * (size_t)f->columns, (size_t)channels);
    if (!pixels) return su_fail(err, SU_ENOMEM, "no memory for %d x %d pixels", f->columns, f->rows);
    switch (d->colour) {
    case SU_DICOM_GREY:
        st = render_grey(f, d, recipe, pixels, err);
        break;
    case SU_DICOM_PALETTE:
        st = render_palette(f, d, pixels, err);
        break;
    case SU_DICOM_RGB:
        render_rgb(f, d->bits, pixels);
        break;
    default:
        render_ybr(f, d->bits, d->colour == SU_DICOM_YBR_PARTIAL, pixels);
        break;
    }
    if (st)
        su_free(pixels);
    else
        *out = (su_image){.width = f->columns, .height = f->rows, .channels = channels, .pixels = pixels};
    return st;
}

/* ---- physical size ---- */

su_status su_dicom_respace(su_image *image, const double spacing[2], double size, su_error *err)
{
    if (!(spacing[0] > 0 && spacing[1] > 0 && size > 0))
        return su_fail(err, SU_EINVAL, "pixels of %g x %g mm cannot become pixels of %g mm", spacing[1],
                       spacing[0], size);
    const double width = floor(image->width * spacing[1] / size + 0.5);
    const double height = floor(image->height * spacing[0] / size + 0.5);
    if (!(width >= 1 && height >= 1 && width * height <= RESPACED_MAX))
        return su_fail(err, SU_ELIMIT, "%d x %d pixels of %g x %g mm would be %g x %g pixels of %g mm",
                       image->width, image->height, spacing[1], spacing[0], width, height, size);
    const int32_t channels = image->channels, w = (int32_t)width, h = (int32_t)height;
    su_image made = {.width = w, .height = h, .channels = channels, .spacing = {size, size}};
    made.pixels = su_alloc((size_t)w * (size_t)h, (size_t)channels);
    if (!made.pixels) return su_fail(err, SU_ENOMEM, "no memory for %d x %d pixels", w, h);
    const su_raster from = {image->pixels, image->width, image->height, channels,
                            (int64_t)image->width * channels};
    const su_raster to = {made.pixels, w, h, channels, (int64_t)w * channels};
    su_status st = su_resize(&from, NULL, &to, err);
    if (st) {
        su_image_free(&made);
        return st;
    }
    su_image_free(image);
    *image = made;
    return SU_OK;
}
