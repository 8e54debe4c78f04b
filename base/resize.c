/* Bicubic resampling as two runs of one kernel.
 *
 * The kernel blends whole lines: out line o = sum of weighted input lines, 32 bytes ("lanes") at a time. For
 * columns the lines are the image's rows. For rows a block of image rows is turned on its side first, so that
 * the lines are pixel columns and the lanes are (row, channel):
 *
 *   rows [R][x][c]  --turn-->  [x][R c lanes]  --blend-->  [x'][R c lanes]  --turn back-->  rows [R][x'][c]
 *
 * R * c is 32 or 63, so that the turned block stays in the first-level cache. */
#include "base/resize.h"
#include "base/memory.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    WEIGHT_BITS = 22,    /* 8 bits of pixel, 22 of weight, 2 for the overshoot of the cubic */
    LANES = 32,          /* lines are padded to a multiple of this many bytes */
    GREY_ROWS = 32,      /* image rows in a turned block: 32 lanes */
    COLOUR_ROWS = 21,    /* 63 lanes, and one to spare */
    TURNED_WIDTH = 8192, /* pixels; wider images are blended without turning */
};

/* Which input lines make output line o: first[o] .. first[o] + count[o] - 1, weighted by weight[o * most ..]. */
typedef struct {
    int32_t lines, most;
    int32_t *first, *count, *weight;
} taps;

static double cubic(double t)
{
    t = fabs(t);
    if (t < 1.0) return (1.5 * t - 2.5) * t * t + 1.0;
    if (t < 2.0) return (((t - 5.0) * t + 8.0) * t - 4.0) * -0.5;
    return 0.0;
}

static void taps_free(taps *t)
{
    su_free(t->first);
    su_free(t->count);
    su_free(t->weight);
}

/* On failure, too, *t is to be freed. */
static bool taps_plan(taps *t, int32_t in_size, float from, float to, int32_t out_size)
{
    const double scale = (double)(to - from) / out_size, stretch = scale < 1.0 ? 1.0 : scale;
    const double reach = 2.0 * stretch, shrink = 1.0 / stretch;
    t->lines = out_size;
    t->most = (int32_t)ceil(reach) * 2 + 1;
    t->first = su_alloc((size_t)out_size, sizeof *t->first);
    t->count = su_alloc((size_t)out_size, sizeof *t->count);
    t->weight = su_calloc((size_t)out_size * (size_t)t->most, sizeof *t->weight);
    double *w = su_alloc((size_t)t->most, sizeof *w);
    if (!t->first || !t->count || !t->weight || !w) {
        su_free(w);
        return false;
    }
    for (int32_t o = 0; o < out_size; o++) {
        const double centre = from + (o + 0.5) * scale;
        double low = centre - reach + 0.5, high = centre + reach + 0.5, sum = 0.0;
        const int32_t first = low < 0.0 ? 0 : (int32_t)low;
        const int32_t end = high > in_size ? in_size : (int32_t)high;
        for (int32_t i = first; i < end; i++) {
            w[i - first] = cubic((i - centre + 0.5) * shrink);
            sum += w[i - first];
        }
        for (int32_t i = first; i < end; i++) {
            double v = sum != 0.0 ? w[i - first] / sum : w[i - first];
            v *= 1 << WEIGHT_BITS;
            t->weight[(size_t)o * (size_t)t->most + (size_t)(i - first)] =
                (int32_t)(v < 0.0 ? v - 0.5 : v + 0.5);
        }
        t->first[o] = first;
        t->count[o] = end - first;
    }
    su_free(w);
    return true;
}

static uint8_t clip(int32_t sum)
{
    sum >>= WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* out[o][lane] = clip(round(sum_i weight[o][i] * in[first[o] + i - base][lane])), for all output lines of t.
 * in [..][stride], out [lines][out_stride]; lanes a multiple of LANES and at most the strides. Sums are exact
 * in 32 bits, so that both forms give the same bits. */
static void blend_plain(const taps *t, const uint8_t *in, int64_t stride, int32_t base, uint8_t *out,
                        int64_t out_stride, int64_t lanes)
{
    for (int32_t o = 0; o < t->lines; o++) {
        const int32_t *weight = t->weight + (int64_t)o * t->most;
        for (int64_t lane = 0; lane < lanes; lane += LANES) {
            const uint8_t *p = in + (t->first[o] - base) * stride + lane;
            uint8_t *q = out + o * out_stride + lane;
            int32_t sum[LANES];
            for (int l = 0; l < LANES; l++) sum[l] = 1 << (WEIGHT_BITS - 1);
            for (int32_t i = 0; i < t->count[o]; i++, p += stride)
                for (int l = 0; l < LANES; l++) sum[l] += weight[i] * p[l];
            for (int l = 0; l < LANES; l++) q[l] = clip(sum[l]);
        }
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static __m256i eight(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

__attribute__((target("avx2"))) static void blend_avx2(const taps *t, const uint8_t *in, int64_t stride,
                                                       int32_t base, uint8_t *out, int64_t out_stride,
                                                       int64_t lanes)
{
    const __m256i half = _mm256_set1_epi32(1 << (WEIGHT_BITS - 1));
    const __m256i order =
        _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* undoes the interleaving of the packs */
    for (int32_t o = 0; o < t->lines; o++) {
        const int32_t *weight = t->weight + (int64_t)o * t->most;
        for (int64_t lane = 0; lane < lanes; lane += LANES) {
            const uint8_t *p = in + (t->first[o] - base) * stride + lane;
            __m256i a = half, b = half, c = half, d = half;
            for (int32_t i = 0; i < t->count[o]; i++, p += stride) {
                const __m256i w = _mm256_set1_epi32(weight[i]);
                a = _mm256_add_epi32(a, _mm256_mullo_epi32(w, eight(p)));
                b = _mm256_add_epi32(b, _mm256_mullo_epi32(w, eight(p + 8)));
                c = _mm256_add_epi32(c, _mm256_mullo_epi32(w, eight(p + 16)));
                d = _mm256_add_epi32(d, _mm256_mullo_epi32(w, eight(p + 24)));
            }
            a = _mm256_packs_epi32(_mm256_srai_epi32(a, WEIGHT_BITS), _mm256_srai_epi32(b, WEIGHT_BITS));
            c = _mm256_packs_epi32(_mm256_srai_epi32(c, WEIGHT_BITS), _mm256_srai_epi32(d, WEIGHT_BITS));
            a = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, c), order);
            _mm256_storeu_si256((__m256i *)(out + o * out_stride + lane), a);
        }
    }
}
#endif

static void blend(const taps *t, const uint8_t *in, int64_t stride, int32_t base, uint8_t *out,
                  int64_t out_stride, int64_t lanes)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        blend_avx2(t, in, stride, base, out, out_stride, lanes);
        return;
    }
#endif
    blend_plain(t, in, stride, base, out, out_stride, lanes);
}

static int64_t padded(int64_t bytes)
{
    return (bytes + LANES - 1) / LANES * LANES;
}

/* The plain form of the row pass, for images too wide to turn: out row [width'][c]. */
static void blend_row(const taps *t, const uint8_t *in, int32_t channels, uint8_t *out)
{
    for (int32_t o = 0; o < t->lines; o++)
        for (int32_t c = 0; c < channels; c++) {
            const int32_t *weight = t->weight + (int64_t)o * t->most;
            const uint8_t *p = in + (int64_t)t->first[o] * channels + c;
            int32_t sum = 1 << (WEIGHT_BITS - 1);
            for (int32_t i = 0; i < t->count[o]; i++) sum += weight[i] * p[(int64_t)i * channels];
            out[(int64_t)o * channels + c] = clip(sum);
        }
}

typedef uint8_t sixteen __attribute__((vector_size(16)));

/* 16 x 16 bytes: interleaving row i with row i + 8, four times over, turns a square on its side. */
static void turn_square(const uint8_t *in, int64_t stride, uint8_t *out, int64_t out_stride)
{
    sixteen a[16], b[16];
    for (int i = 0; i < 16; i++) memcpy(&a[i], in + i * stride, 16);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6,
                                               22, 7, 23);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                                   29, 14, 30, 15, 31);
        }
        memcpy(a, b, sizeof a);
    }
    for (int i = 0; i < 16; i++) memcpy(out + i * out_stride, &a[i], 16);
}

/* Bytes [rows][stride] to [columns][out_stride]. */
static void turn_grey(const uint8_t *in, int64_t stride, int32_t rows, int32_t columns, uint8_t *out,
                      int64_t out_stride)
{
    const int32_t whole_rows = rows & ~15, whole_columns = columns & ~15;
    for (int32_t r = 0; r < whole_rows; r += 16)
        for (int32_t c = 0; c < whole_columns; c += 16)
            turn_square(in + r * stride + c, stride, out + c * out_stride + r, out_stride);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            out[c * out_stride + r] = in[r * stride + c];
}

/* n pixels of three bytes, from and to places that far apart. Four bytes are moved but for the last pixel:
 * the fourth is either overwritten by what comes next, or falls into the lane that a turned block of colour
 * has to spare. */
static void move_colours(const uint8_t *in, int64_t in_step, uint8_t *out, int64_t out_step, int32_t n)
{
    for (int32_t x = 0; x < n - 1; x++) memcpy(out + x * out_step, in + x * in_step, 4);
    memcpy(out + (n - 1) * out_step, in + (n - 1) * in_step, 3);
}

/* Turns rows [rows][stride] into columns [width][lanes], lane = row * channels + channel. */
static void turn(const uint8_t *in, int64_t stride, int32_t rows, int32_t width, int32_t channels,
                 uint8_t *out, int64_t lanes)
{
    if (channels == 1)
        turn_grey(in, stride, rows, width, out, lanes);
    else
        for (int32_t r = 0; r < rows; r++) move_colours(in + r * stride, 3, out + 3 * r, lanes, width);
}

static void turn_back(const uint8_t *in, int64_t lanes, int32_t rows, int32_t width, int32_t channels,
                      uint8_t *out, int64_t stride)
{
    if (channels == 1)
        turn_grey(in, lanes, width, rows, out, stride);
    else
        for (int32_t r = 0; r < rows; r++) move_colours(in + 3 * r, lanes, out + r * stride, 3, width);
}

/* Resamples `rows` rows of in (its first is at `in`) to out [rows][out_stride], out_stride >= width' *
 * channels. */
static bool resize_rows(const taps *t, const uint8_t *in, int64_t stride, int32_t rows, int32_t width,
                        int32_t channels, uint8_t *out, int64_t out_stride)
{
    if (width > TURNED_WIDTH) {
        for (int32_t r = 0; r < rows; r++) blend_row(t, in + r * stride, channels, out + r * out_stride);
        return true;
    }
    const int32_t block = channels == 1 ? GREY_ROWS : COLOUR_ROWS;
    const int32_t base = t->first[0], end = t->first[t->lines - 1] + t->count[t->lines - 1];
    const int64_t lanes = padded((int64_t)(rows < block ? rows : block) * channels);
    uint8_t *turned = su_calloc((size_t)(end - base), (size_t)lanes);
    uint8_t *made = su_alloc((size_t)t->lines, (size_t)lanes);
    if (turned && made)
        for (int32_t r = 0; r < rows; r += block) {
            const int32_t n = rows - r < block ? rows - r : block;
            turn(in + r * stride + (int64_t)base * channels, stride, n, end - base, channels, turned, lanes);
            blend(t, turned, lanes, base, made, lanes, lanes);
            turn_back(made, lanes, n, t->lines, channels, out + r * out_stride, out_stride);
        }
    const bool ok = turned && made;
    su_free(turned);
    su_free(made);
    return ok;
}

static void copy_rows(const uint8_t *in, int64_t stride, int32_t rows, int64_t bytes, uint8_t *out,
                      int64_t out_stride)
{
    for (int32_t r = 0; r < rows; r++) memcpy(out + r * out_stride, in + r * stride, (size_t)bytes);
}

su_status su_resize(const su_raster *in, const su_box *box, const su_raster *out, su_error *err)
{
    const su_box whole = {0.0f, 0.0f, (float)in->width, (float)in->height};
    if (!box) box = &whole;
    if (in->width < 1 || in->height < 1 || out->width < 1 || out->height < 1)
        return su_fail(err, SU_EINVAL, "resize: an image of %dx%d pixels cannot become one of %dx%d",
                       in->width, in->height, out->width, out->height);
    if (in->channels != out->channels || (in->channels != 1 && in->channels != 3))
        return su_fail(err, SU_EINVAL, "resize: %d channels cannot become %d", in->channels, out->channels);
    if (!(box->x0 >= 0.0f && box->y0 >= 0.0f && box->x1 <= whole.x1 && box->y1 <= whole.y1 &&
          box->x0 < box->x1 && box->y0 < box->y1))
        return su_fail(
            err, SU_EINVAL, "resize: the box (%g, %g, %g, %g) does not lie inside an image of %dx%d pixels",
            (double)box->x0, (double)box->y0, (double)box->x1, (double)box->y1, in->width, in->height);

    const int32_t channels = in->channels;
    const int64_t bytes = (int64_t)out->width * channels;
    const bool across = out->width != in->width || box->x0 != 0.0f || box->x1 != whole.x1;
    const bool down = out->height != in->height || box->y0 != 0.0f || box->y1 != whole.y1;
    if (!across && !down) {
        copy_rows(in->pixels, in->stride, in->height, bytes, out->pixels, out->stride);
        return SU_OK;
    }

    taps x = {0}, y = {0};
    uint8_t *rows = NULL, *made = NULL;
    bool ok = (!across || taps_plan(&x, in->width, box->x0, box->x1, out->width)) &&
              (!down || taps_plan(&y, in->height, box->y0, box->y1, out->height));
    if (ok && !down) {
        ok = resize_rows(&x, in->pixels, in->stride, in->height, in->width, channels, out->pixels,
                         out->stride);
    } else if (ok) {
        const int32_t base = y.first[0], count = y.first[y.lines - 1] + y.count[y.lines - 1] - base;
        const int64_t lanes = padded(bytes);
        const uint8_t *from = in->pixels + base * in->stride;
        rows = su_calloc((size_t)count, (size_t)lanes);
        made = su_alloc((size_t)out->height, (size_t)lanes);
        ok = rows && made;
        if (ok && across)
            ok = resize_rows(&x, from, in->stride, count, in->width, channels, rows, lanes);
        else if (ok)
            copy_rows(from, in->stride, count, bytes, rows, lanes);
        if (ok) {
            blend(&y, rows, lanes, base, made, lanes, lanes);
            copy_rows(made, lanes, out->height, bytes, out->pixels, out->stride);
        }
    }
    su_free(rows);
    su_free(made);
    taps_free(&x);
    taps_free(&y);
    return ok ? SU_OK : su_fail(err, SU_ENOMEM, "resize: no memory for %dx%d pixels", in->width, in->height);
}
