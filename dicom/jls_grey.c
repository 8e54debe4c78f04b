/* Names and section numbers are T.87's.
 *
 *   line above   Rc Rb Rd          the sample x is predicted from a, b, c; the gradients d-b, b-c, c-a choose
 * one of 365 this line    Ra x              contexts, or, all near zero, a run of Ra
 *
 * Two padded lines of 16 bits are kept; a line is copied out when it is done. */
#include "dicom/jls_grey.h"
#include "base/memory.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXTS = 365, RUN_CONTEXTS = 2, MIN_C = -128, MAX_C = 127, K_MAX = 17, QUANTISED = 1 << 16 };

static const uint8_t J[32] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,  2,  3,  3,  3,  3,
                              4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15};

typedef struct {
    int32_t A, B, C, N; /* of a run context B counts the negative errors (Nn), and C is idle */
} context;

/* The bit stream: the next bits stand at the top of `bits`. After 0xFF a byte has seven bits, and one of 0x80
 * or more is a marker: the data end there, and zeros follow. */
typedef struct {
    const uint8_t *at, *begin, *end;
    uint64_t bits;
    int count;       /* valid bits, zeros behind the end included */
    bool stuffed;    /* the byte before `at` is 0xFF */
    int64_t missing; /* zeros that were put in */
} reader;

typedef struct {
    int32_t maxval, near, t1, t2, t3, reset, range, qbpp, limit;
    int run_index;
    reader in;
    context contexts[CONTEXTS + RUN_CONTEXTS];
    int8_t *quantised; /* [2 QUANTISED + 1]: -4 .. 4 of a difference + QUANTISED */
} decoder;

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* ---- bits ---- */

static void refill_slowly(reader *r)
{
    if (r->count < 64) r->bits &= ~(~(uint64_t)0 >> r->count);
    while (r->count < 56) {
        const bool after_ff = r->at > r->begin && r->at[-1] == 0xff;
        const bool marker =
            r->at < r->end &&
            (after_ff ? *r->at >= 0x80 : *r->at == 0xff && (r->at + 1 == r->end || r->at[1] >= 0x80));
        if (r->at == r->end || marker) {
            r->end = r->at;
            r->count += 8;
            r->missing += 8;
            continue;
        }
        const int n = after_ff ? 7 : 8;
        r->bits |= (uint64_t)*r->at++ << (64 - n) >> r->count;
        r->count += n;
    }
}

/* At least 56 bits, at most 63. Without a 0xFF ahead eight bytes are put in at once; those that do not count
 * yet are put in again, the same, by the next call. */
static inline void refill(reader *r)
{
    if (r->end - r->at >= 8) {
        uint64_t x;
        memcpy(&x, r->at, 8);
        const uint64_t inverse = ~x; /* a byte of 0xff is a zero byte here */
        if (!((inverse - 0x0101010101010101u) & ~inverse & 0x8080808080808080u) && !r->stuffed) {
            r->bits |= __builtin_bswap64(x) >> r->count;
            r->at += (63 - r->count) >> 3;
            r->count |= 56;
            return;
        }
    }
    refill_slowly(r);
    r->stuffed = r->at > r->begin && r->at[-1] == 0xff;
}

static inline uint32_t take(reader *r, int n) /* 0 .. 32 */
{
    const uint32_t v = (uint32_t)(r->bits >> 1 >> (63 - n));
    r->bits <<= n;
    r->count -= n;
    return v;
}

/* A.5.3: a number of Golomb code k, of at most `limit` bits. Codes that no encoder makes give some number:
 * the check of the data's end and of every sample's range is what counts. */
static inline int32_t golomb(reader *r, int k, int32_t limit, int32_t qbpp)
{
    refill(r);
    const int zeros = __builtin_clzll(r->bits | 1);
    if (__builtin_expect(zeros < limit - qbpp - 1, 1)) {
        r->bits <<= zeros + 1;
        r->count -= zeros + 1;
        if (__builtin_expect(r->count < k, 0)) refill(r);
        return (zeros << k) + (int32_t)take(r, k);
    }
    r->bits <<= limit - qbpp;
    r->count -= limit - qbpp;
    refill(r);
    return (int32_t)take(r, qbpp) + 1;
}

/* The least k with N << k >= A. */
static inline int parameter(int32_t n, int32_t a)
{
    int k = __builtin_clz((unsigned)n) - __builtin_clz((unsigned)a | 1);
    k = k < 0 ? 0 : k;
    k += n << k < a;
    return k < K_MAX ? k : K_MAX;
}

/* ---- parameters ---- */

static int32_t clamp(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* C.2.4.1.1.1: CLAMP gives the lower bound to whatever lies outside. */
static int32_t threshold(int32_t v, int32_t low, int32_t maxval)
{
    return v > maxval || v < low ? low : v;
}

static void default_thresholds(decoder *d)
{
    const int32_t near = d->near, maxval = d->maxval;
    if (maxval >= 128) {
        const int32_t factor = ((maxval < 4095 ? maxval : 4095) + 128) / 256;
        d->t1 = threshold(factor + 2 + 3 * near, near + 1, maxval);
        d->t2 = threshold(factor * 4 + 3 + 5 * near, d->t1, maxval);
        d->t3 = threshold(factor * 17 + 4 + 7 * near, d->t2, maxval);
    } else {
        const int32_t factor = 256 / (maxval + 1);
        d->t1 = threshold(larger(2, 3 / factor + 3 * near), near + 1, maxval);
        d->t2 = threshold(larger(3, 7 / factor + 5 * near), d->t1, maxval);
        d->t3 = threshold(larger(4, 21 / factor + 7 * near), d->t2, maxval);
    }
}

static int ceil_log2(int32_t v)
{
    int n = 0;
    while ((1 << n) < v) n++;
    return n;
}

static int8_t quantise(const decoder *d, int32_t v)
{
    const int32_t a = v < 0 ? -v : v;
    const int q = a <= d->near ? 0 : a < d->t1 ? 1 : a < d->t2 ? 2 : a < d->t3 ? 3 : 4;
    return (int8_t)(v < 0 ? -q : q);
}

/* A.2.1 */
static void begin(decoder *d)
{
    const int32_t bpp = larger(2, ceil_log2(d->maxval + 1));
    d->range = (d->maxval + 2 * d->near) / (2 * d->near + 1) + 1;
    d->qbpp = ceil_log2(d->range);
    d->limit = 2 * (bpp + larger(8, bpp));
    for (int i = 0; i < CONTEXTS + RUN_CONTEXTS; i++)
        d->contexts[i] = (context){.A = larger(2, (d->range + 32) / 64), .N = 1};
    for (int32_t v = -d->maxval; v <= d->maxval; v++) d->quantised[v + QUANTISED] = quantise(d, v);
}

/* ---- samples ---- */

static inline int32_t reconstruct(const decoder *d, int32_t near, int32_t predicted, int32_t error)
{
    const int32_t step = 2 * near + 1;
    int32_t x = predicted + error * step;
    if (x < -near)
        x += d->range * step;
    else if (x > d->maxval + near)
        x -= d->range * step;
    return clamp(x, 0, d->maxval);
}

/* A.4 to A.6 */
static inline int32_t regular(decoder *d, int32_t near, int32_t index, int32_t a, int32_t b, int32_t c)
{
    const int32_t sign = index >> 31;
    context *q = &d->contexts[(index ^ sign) - sign];
    const int32_t low = a < b ? a : b, high = a < b ? b : a;
    int32_t predicted = c >= high ? low : c <= low ? high : a + b - c;
    predicted = clamp(predicted + ((q->C ^ sign) - sign), 0, d->maxval);
    const int k = parameter(q->N, q->A);
    const int32_t mapped = golomb(&d->in, k, d->limit, d->qbpp);
    int32_t error = (mapped >> 1) ^ -(mapped & 1);
    if (near == 0 && k == 0 && 2 * q->B <= -q->N) error = ~error;
    int32_t B = q->B + error * (2 * near + 1), N = q->N;
    q->A += error < 0 ? -error : error;
    if (__builtin_expect(N == d->reset, 0)) {
        q->A >>= 1;
        B >>= 1; /* towards minus infinity, for negative ones as well: -((1 - B) >> 1) */
        N >>= 1;
    }
    N++;
    /* A.6.2, without a branch that noise would mislead. */
    const int32_t less = B <= -N, more = B > 0;
    const int32_t lowered = larger(B + N, 1 - N), raised = B - N > 0 ? 0 : B - N;
    q->B = less ? lowered : more ? raised : B;
    q->C += (more & (q->C < MAX_C)) - (less & (q->C > MIN_C));
    q->N = N;
    return reconstruct(d, near, predicted, (error ^ sign) - sign);
}

/* A.7.2: the sample that ends a run. */
static int32_t interruption(decoder *d, int32_t near, int32_t a, int32_t b)
{
    const bool same = abs(a - b) <= near;
    context *q = &d->contexts[CONTEXTS + same];
    const int32_t temp = q->A + (same ? q->N >> 1 : 0);
    const int k = parameter(q->N, temp);
    const int32_t mapped = golomb(&d->in, k, d->limit - J[d->run_index] - 1, d->qbpp);
    const int32_t odd = (mapped + same) & 1, size = (mapped + same + odd) / 2;
    const int32_t error = (k != 0 || 2 * q->B >= q->N) == (odd != 0) ? -size : size;
    if (error < 0) q->B++;
    q->A += (mapped + 1 - same) >> 1;
    if (q->N == d->reset) {
        q->A >>= 1;
        q->B >>= 1;
        q->N >>= 1;
    }
    q->N++;
    return reconstruct(d, near, same ? a : b, !same && a > b ? -error : error);
}

/* A.7.1, from x on: fills the run, and the sample after it where there is one; where to go on. -1: damaged.
 */
static int32_t run(decoder *d, int32_t near, const uint16_t *above, uint16_t *line, int32_t x, int32_t width)
{
    const uint16_t a = line[x - 1];
    for (;;) {
        refill(&d->in);
        const bool whole = take(&d->in, 1);
        const int32_t most = 1 << J[d->run_index];
        int32_t n = whole ? most : (int32_t)take(&d->in, J[d->run_index]);
        if (n > width - x) {
            if (!whole) return -1;
            n = width - x;
        }
        for (int32_t i = 0; i < n; i++) line[x + i] = a;
        x += n;
        if (!whole) break;
        if (n == most && d->run_index < 31) d->run_index++;
        if (x == width) return x;
    }
    if (x == width) return -1;
    line[x] = (uint16_t)interruption(d, near, a, above[x]);
    if (d->run_index > 0) d->run_index--;
    return x + 1;
}

static inline __attribute__((always_inline)) bool decode_line(decoder *d, int32_t near, const uint16_t *above,
                                                              uint16_t *line, int32_t width)
{
    const int8_t *q = d->quantised + QUANTISED;
    int32_t a = line[-1], b = above[0], c = above[-1];
    for (int32_t x = 0; x < width;) {
        const int32_t next = above[x + 1], index = (q[next - b] * 9 + q[b - c]) * 9 + q[c - a];
        if (__builtin_expect(index != 0, 1)) {
            line[x++] = (uint16_t)(a = regular(d, near, index, a, b, c));
            c = b;
            b = next;
            continue;
        }
        x = run(d, near, above, line, x, width);
        if (x < 0) return false;
        a = line[x - 1];
        b = above[x];
        c = above[x - 1];
    }
    return true;
}

static void copy_line(const uint16_t *line, int32_t width, int bytes, void *out, int64_t row)
{
    if (bytes == 2)
        memcpy((uint16_t *)out + row * width, line, (size_t)width * 2);
    else if (bytes == 1)
        for (int32_t x = 0; x < width; x++) ((uint8_t *)out)[row * width + x] = (uint8_t)line[x];
    else
        for (int32_t x = 0; x < width; x++) ((uint32_t *)out)[row * width + x] = line[x];
}

static su_status decode_scan(decoder *d, int32_t rows, int32_t width, int bytes, const char *name, void *out,
                             su_error *err)
{
    uint16_t *lines = su_calloc(2 * ((size_t)width + 2), sizeof *lines);
    d->quantised = su_alloc(2 * (size_t)QUANTISED + 1, 1);
    su_status st =
        lines && d->quantised ? SU_OK : su_fail(err, SU_ENOMEM, "%s: no memory to decode it", name);
    if (!st) begin(d);
    for (int32_t y = 0; !st && y < rows; y++) {
        uint16_t *line = lines + (y & 1 ? width + 2 : 0) + 1, *above = lines + (y & 1 ? 0 : width + 2) + 1;
        above[width] = above[width - 1];
        line[-1] = above[0];
        const bool good =
            d->near ? decode_line(d, d->near, above, line, width) : decode_line(d, 0, above, line, width);
        if (!good || d->in.missing > d->in.count)
            st = su_fail(err, SU_EFORMAT, "%s: JPEG-LS: %s in line %d of %d", name,
                         good ? "truncated" : "damaged", y + 1, rows);
        else
            copy_line(line, width, bytes, out, y);
    }
    su_free(lines);
    su_free(d->quantised);
    return st;
}

/* ---- markers [C.2] ---- */

typedef struct {
    const uint8_t *data;
    size_t length, at;
} stream;

static int32_t word(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

/* The next marker and its segment; NULL at the end. SOI has none. */
static const uint8_t *next_segment(stream *s, int *marker, int32_t *size)
{
    while (s->at + 1 < s->length && s->data[s->at] == 0xff && s->data[s->at + 1] == 0xff) s->at++;
    if (s->at + 2 > s->length || s->data[s->at] != 0xff) return NULL;
    *marker = s->data[s->at + 1];
    *size = 0;
    s->at += 2;
    const uint8_t *segment = s->data + s->at;
    if (*marker == 0xd8) return segment;
    if (s->at + 2 > s->length) return NULL;
    *size = word(segment) - 2;
    if (*size < 0 || s->at + 2 + (size_t)*size > s->length) return NULL;
    s->at += 2 + (size_t)*size;
    return segment + 2;
}

static su_status unsupported(const char *name, const char *what, su_error *err)
{
    return su_fail(err, SU_EUNSUPPORTED, "%s: JPEG-LS: %s", name, what);
}

/* LSE of type 1, but for its MAXVAL; zeros mean the defaults. */
static bool apply_preset(decoder *d, const int32_t *p)
{
    default_thresholds(d);
    if (p[1]) d->t1 = p[1];
    if (p[2]) d->t2 = p[2];
    if (p[3]) d->t3 = p[3];
    d->reset = p[4] ? p[4] : 64;
    return d->near <= (d->maxval < 510 ? d->maxval / 2 : 255) && d->t1 > d->near && d->t2 >= d->t1 &&
           d->t3 >= d->t2 && d->t3 <= d->maxval && d->reset >= 3 && d->reset <= larger(255, d->maxval);
}

su_status su_jls_grey_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int bytes,
                             const char *name, void *out, su_error *err)
{
    stream s = {data, length, 0};
    decoder d = {0};
    int32_t preset[5] = {0}, size = 0, precision = 0;
    int marker = 0;
    const uint8_t *p = next_segment(&s, &marker, &size);
    if (!p || marker != 0xd8) return su_fail(err, SU_EFORMAT, "%s: JPEG-LS: it does not begin as one", name);
    while ((p = next_segment(&s, &marker, &size))) {
        if (marker == 0xf7) { /* SOF55 */
            if (size < 6 || size != 6 + 3 * p[5]) break;
            if (p[5] != 1) return unsupported(name, "several components", err);
            precision = p[0];
            if (precision < 2 || precision > 16 || word(p + 1) != rows || word(p + 3) != columns)
                return su_fail(err, SU_EFORMAT, "%s: its JPEG-LS picture is not of %d x %d pixels", name,
                               columns, rows);
        } else if (marker == 0xf8) { /* LSE */
            if (size < 1 || (p[0] == 1 && size != 11)) break;
            if (p[0] != 1) return unsupported(name, "mapping tables", err);
            for (int i = 0; i < 5; i++) preset[i] = word(p + 1 + 2 * i);
        } else if (marker == 0xdd) {
            return unsupported(name, "restart intervals", err);
        } else if (marker == 0xda) { /* SOS */
            if (size != 6 || p[0] != 1 || !precision) break;
            if (p[2] || p[4] || p[5]) return unsupported(name, "a mapping table or a point transform", err);
            d.near = p[3];
            d.maxval = (1 << precision) - 1;
            if (preset[0] && preset[0] != d.maxval) return unsupported(name, "a MAXVAL of its own", err);
            if (!apply_preset(&d, preset)) break;
            if ((bytes == 1 && precision > 8)) break;
            d.in = (reader){.at = data + s.at, .begin = data + s.at, .end = data + length};
            return decode_scan(&d, rows, columns, bytes, name, out, err);
        } else if (!(marker == 0xfe || (marker >= 0xe0 && marker <= 0xef))) {
            break;
        }
    }
    return su_fail(err, SU_EFORMAT, "%s: JPEG-LS: damaged header", name);
}
