/* A stripe of four rows is kept as words of 16 columns, a bit a sample in the order in which a pass visits
 * them:
 *
 *     column    0   1   2  ..  15
 *     row 0     0   4   8      60
 *     row 1     1   5   9      61
 *     row 2     2   6  10      62
 *     row 3     3   7  11      63
 *
 * so that the members of a pass are found for 64 samples at once, and a pass jumps from one to the next. What
 * a context is made of, the significance of the eight neighbours and the signs of four, is kept for each
 * sample, and brought up to date when a sample becomes significant, which it does once. */
#include "dicom/decoder/j2k_block.h"
#include "base/memory.h"
#include <stdbool.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum {
    WORDS = SU_J2K_SIDE_MAX / 16,
    STRIPES = SU_J2K_SIDE_MAX / 4 + 2, /* an empty one above and one below */
    COLUMN = SU_J2K_SIDE_MAX + 4,      /* distance of two columns of neighbourhoods */
    STATES = 47,
    ZERO = 0, /* contexts [Table D.7]: 0 .. 8, then 5 of signs */
    SIGN = 9,
    MAGNITUDE = 14,
    RUN = 17,
    UNIFORM = 18,
    CONTEXTS,
};

/* Of a neighbourhood. Which neighbour is significant: */
enum { NW = 1, SW = 2, NE = 4, SE = 8, W = 16, E = 32, N = 64, S = 128, NEGATIVE = 4 /* bits further up */ };

typedef struct {
    uint64_t c;    /* the code register: its upper 16 bits are compared */
    uint32_t a;    /* the interval */
    int32_t ahead; /* bits of code in c below these 16 */
    const uint8_t *at;
} arithmetic;

struct su_j2k_block_decoder {
    uint32_t state[2 * STATES]; /* of a context: Qe << 16, state after LPS << 8, after MPS << 1, MPS */
    uint8_t zero[4][256];       /* context by orientation and neighbours */
    uint8_t sign[256];          /* context << 1, and the bit to invert with, by W .. S and their signs */
    int width, height;
    uint32_t context[CONTEXTS];
    uint64_t significant[STRIPES][WORDS], visited[STRIPES][WORDS], refined[STRIPES][WORDS],
        negative[STRIPES][WORDS];
    uint16_t around[(SU_J2K_SIDE_MAX + 2) * COLUMN]; /* by column, a column and a row of nothing around it */
    uint32_t magnitude[SU_J2K_SIDE_MAX * SU_J2K_SIDE_MAX];
};

/* ---- tables ---- */

static const struct {
    uint16_t qe;
    uint8_t mps, lps, turn;
} rows[STATES] = {
    /* Table C.2 */
    {0x5601, 1, 1, 1},   {0x3401, 2, 6, 0},   {0x1801, 3, 9, 0},   {0x0ac1, 4, 12, 0},  {0x0521, 5, 29, 0},
    {0x0221, 38, 33, 0}, {0x5601, 7, 6, 1},   {0x5401, 8, 14, 0},  {0x4801, 9, 14, 0},  {0x3801, 10, 14, 0},
    {0x3001, 11, 17, 0}, {0x2401, 12, 18, 0}, {0x1c01, 13, 20, 0}, {0x1601, 29, 21, 0}, {0x5601, 15, 14, 1},
    {0x5401, 16, 14, 0}, {0x5101, 17, 15, 0}, {0x4801, 18, 16, 0}, {0x3801, 19, 17, 0}, {0x3401, 20, 18, 0},
    {0x3001, 21, 19, 0}, {0x2801, 22, 19, 0}, {0x2401, 23, 20, 0}, {0x2201, 24, 21, 0}, {0x1c01, 25, 22, 0},
    {0x1801, 26, 23, 0}, {0x1601, 27, 24, 0}, {0x1401, 28, 25, 0}, {0x1201, 29, 26, 0}, {0x1101, 30, 27, 0},
    {0x0ac1, 31, 28, 0}, {0x09c1, 32, 29, 0}, {0x08a1, 33, 30, 0}, {0x0521, 34, 31, 0}, {0x0441, 35, 32, 0},
    {0x02a1, 36, 33, 0}, {0x0221, 37, 34, 0}, {0x0141, 38, 35, 0}, {0x0111, 39, 36, 0}, {0x0085, 40, 37, 0},
    {0x0049, 41, 38, 0}, {0x0025, 42, 39, 0}, {0x0015, 43, 40, 0}, {0x0009, 44, 41, 0}, {0x0005, 45, 42, 0},
    {0x0001, 45, 43, 0}, {0x5601, 46, 46, 0},
};

static int zero_context(int orientation, int around) /* Table D.1 */
{
    int h = !!(around & W) + !!(around & E), v = !!(around & N) + !!(around & S);
    const int d = !!(around & NW) + !!(around & SW) + !!(around & NE) + !!(around & SE);
    if (orientation == 3) {
        if (d >= 3) return 8;
        if (d == 2) return h + v ? 7 : 6;
        if (d == 1) return h + v >= 2 ? 5 : 3 + h + v;
        return h + v >= 2 ? 2 : h + v;
    }
    if (orientation == 1) {
        const int other = h;
        h = v;
        v = other;
    }
    if (h == 2) return 8;
    if (h == 1) return v ? 7 : d ? 6 : 5;
    if (v) return 2 + v;
    return d >= 2 ? 2 : d;
}

static int sign_context(int around) /* Tables D.2 and D.3; around: W .. S as bits 0 .. 3, signs as 4 .. 7 */
{
    int part[2];
    for (int k = 0; k < 2; k++) {
        int sum = 0;
        for (int bit = 2 * k; bit < 2 * k + 2; bit++)
            if (around >> bit & 1) sum += around >> (bit + NEGATIVE) & 1 ? -1 : 1;
        part[k] = (sum > 0) - (sum < 0);
    }
    const bool inverted = part[0] < 0 || (part[0] == 0 && part[1] < 0);
    const int h = inverted ? -part[0] : part[0], v = inverted ? -part[1] : part[1];
    return (SIGN + 3 * h + v) << 1 | inverted;
}

su_j2k_block_decoder *su_j2k_block_decoder_new(void)
{
    su_j2k_block_decoder *d = su_calloc(1, sizeof *d);
    if (!d) return NULL;
    for (uint32_t k = 0; k < STATES; k++)
        for (uint32_t mps = 0; mps < 2; mps++)
            d->state[2 * k + mps] = (uint32_t)rows[k].qe << 16 |
                                    (2u * rows[k].lps + (mps ^ rows[k].turn)) << 8 |
                                    (2u * rows[k].mps + mps) << 1 | mps;
    for (int around = 0; around < 256; around++) {
        for (int o = 0; o < 4; o++) d->zero[o][around] = (uint8_t)zero_context(o, around);
        d->sign[around] = (uint8_t)sign_context(around);
    }
    return d;
}

/* ---- the arithmetic decoder [C.3], with the code's bytes taken ahead of need ---- */

/* A byte behind 0xff whose first bit is set carries into what was there before it, and is left until it is
 * due: a decoder that takes bytes one by one compares without that carry. */
static __attribute__((noinline)) void refill(arithmetic *m)
{
    uint64_t c = m->c;
    int32_t ahead = m->ahead;
    const uint8_t *p = m->at;
    do {
        const uint64_t byte = p[1];
        if (*p == 0xff && byte > 0x8f) { /* the end: ones */
            c += (uint64_t)0xff << (40 - ahead);
            ahead += 8;
        } else if (*p == 0xff) {
            if (byte >= 0x80 && ahead >= 0) break;
            c += byte << (41 - ahead);
            ahead += 7;
            p++;
        } else {
            c += byte << (40 - ahead);
            ahead += 8;
            p++;
        }
    } while (ahead <= 40);
    m->c = c;
    m->ahead = ahead;
    m->at = p;
}

/* After a decision: the context's next state, and the interval as long as it must be. */
INLINE void renormalize(arithmetic *m, uint32_t a)
{
    const int shift = __builtin_clz(a) - 16;
    m->a = a << shift;
    m->c <<= shift;
    m->ahead -= shift;
    if (__builtin_expect(m->ahead < 0, 0)) {
        arithmetic more = *m; /* so that m can live in registers */
        refill(&more);
        *m = more;
    }
}

/* A decision that is mostly the one that is expected. */
INLINE uint32_t decide(arithmetic *m, uint32_t *context, const uint32_t *states)
{
    const uint32_t state = *context, qe = state >> 16, upper = m->a - qe;
    const uint64_t least = (uint64_t)qe << 48;
    uint32_t lps = upper >= qe, a = qe;
    if (m->c >= least) {
        m->c -= least;
        a = upper;
        if (a >= 0x8000) {
            m->a = a;
            return state & 1;
        }
        lps = !lps;
    }
    *context = states[lps ? state >> 8 & 127 : state >> 1 & 127];
    renormalize(m, a);
    return (state & 1) ^ lps;
}

/* The same without branches, for decisions that can go either way. */
INLINE uint32_t toss(arithmetic *m, uint32_t *context, const uint32_t *states)
{
    const uint32_t state = *context, qe = state >> 16, upper = m->a - qe;
    const uint64_t least = (uint64_t)qe << 48;
    const uint32_t low = m->c < least, lps = low ^ (upper < qe), a = upper + ((qe - upper) & -low);
    const uint32_t after_mps = states[state >> 1 & 127], after_lps = states[state >> 8 & 127];
    const uint32_t next = after_mps ^ ((after_mps ^ after_lps) & -lps);
    *context = a < 0x8000 ? next : state;
    m->c -= least & ((uint64_t)low - 1);
    renormalize(m, a);
    return (state & 1) ^ lps;
}

/* ---- the three passes [D.3] ---- */

static const uint64_t TOP = 0x1111111111111111u; /* first rows */

/* Those with a significant one above or below. */
INLINE uint64_t beside(const su_j2k_block_decoder *d, int s, int k)
{
    const uint64_t here = d->significant[s][k];
    return (here << 1 & ~TOP) | (here >> 1 & ~(TOP << 3)) | (d->significant[s - 1][k] >> 3 & TOP) |
           (d->significant[s + 1][k] & TOP) << 3;
}

/* Those with a significant neighbour. */
INLINE uint64_t near(const su_j2k_block_decoder *d, int s, int k)
{
    const uint64_t vertical = beside(d, s, k), three = vertical | d->significant[s][k];
    uint64_t found = vertical | three << 4 | three >> 4;
    if (k > 0) found |= (beside(d, s, k - 1) | d->significant[s][k - 1]) >> 60;
    if (k < WORDS - 1) found |= (beside(d, s, k + 1) | d->significant[s][k + 1]) << 60;
    return found;
}

/* Neighbours of one in its word that come later. */
INLINE uint64_t later(uint64_t one)
{
    const uint64_t below = one << 1 & ~TOP, above = one >> 1 & ~(TOP << 3);
    return below | (above | one | below) << 4;
}

INLINE uint64_t inside(const su_j2k_block_decoder *d, int s, int k)
{
    const int below = d->height - 4 * (s - 1), right = d->width - 16 * k;
    const uint64_t all = TOP * (below >= 4 ? 15 : (1u << below) - 1);
    return right >= 16 ? all : all & (((uint64_t)1 << 4 * right) - 1);
}

INLINE uint16_t *around(su_j2k_block_decoder *d, int s, int k, int i)
{
    return d->around + COLUMN * (1 + 16 * k) + 1 + 4 * (s - 1) + i + (COLUMN / 4 - 1) * (i & ~3);
}

/* Becomes significant: returns whether it is negative, and tells its neighbours. */
INLINE bool become(su_j2k_block_decoder *d, arithmetic *m, uint16_t *p)
{
    const uint32_t how = d->sign[*p >> 4];
    const uint32_t v = toss(m, &d->context[how >> 1], d->state) ^ (how & 1);
    p[1] |= (uint16_t)(N | v * (N << NEGATIVE));
    p[-1] |= (uint16_t)(S | v * (S << NEGATIVE));
    p[COLUMN] |= (uint16_t)(W | v * (W << NEGATIVE));
    p[-COLUMN] |= (uint16_t)(E | v * (E << NEGATIVE));
    p[COLUMN + 1] |= NW;
    p[COLUMN - 1] |= SW;
    p[-COLUMN + 1] |= NE;
    p[-COLUMN - 1] |= SE;
    return v;
}

INLINE void propagate(su_j2k_block_decoder *d, arithmetic *coder, const uint8_t *zero, uint32_t value)
{
    arithmetic m = *coder;
    for (int s = 1; 4 * (s - 1) < d->height; s++)
        for (int k = 0; 16 * k < d->width; k++) {
            uint64_t significant = d->significant[s][k], negative = d->negative[s][k];
            const uint64_t open = inside(d, s, k) & ~significant;
            uint64_t members = near(d, s, k) & open, visited = members;
            uint32_t *magnitude = d->magnitude + 64 * ((s - 1) * WORDS + k);
            for (; members; members &= members - 1) {
                const int i = __builtin_ctzll(members);
                const uint64_t one = members & -members;
                uint16_t *p = around(d, s, k, i);
                if (!decide(&m, &d->context[zero[*p & 255]], d->state)) continue;
                if (become(d, &m, p)) negative |= one;
                magnitude[i] = value;
                significant |= one;
                members |= later(one) & open;
                visited |= members;
            }
            d->significant[s][k] = significant;
            d->negative[s][k] = negative;
            d->visited[s][k] = visited;
        }
    *coder = m;
}

INLINE uint32_t halved(uint32_t up, uint32_t half)
{
    return (half ^ (up - 1)) - (up - 1); /* half, or -half */
}

INLINE void refine(su_j2k_block_decoder *d, arithmetic *coder, uint32_t half)
{
    arithmetic m = *coder;
    for (int s = 1; 4 * (s - 1) < d->height; s++)
        for (int k = 0; 16 * k < d->width; k++) {
            uint64_t members = d->significant[s][k] & ~d->visited[s][k];
            if (!members) continue;
            const uint64_t first = members & ~d->refined[s][k], with = near(d, s, k);
            uint32_t *magnitude = d->magnitude + 64 * ((s - 1) * WORDS + k);
            d->refined[s][k] |= members;
            if (first) {
                for (; members; members &= members - 1) {
                    const int i = __builtin_ctzll(members);
                    const uint32_t context =
                        first >> i & 1 ? MAGNITUDE + (uint32_t)(with >> i & 1) : MAGNITUDE + 2u;
                    magnitude[i] += halved(toss(&m, &d->context[context], d->state), half);
                }
            } else {
                uint32_t context = d->context[MAGNITUDE + 2];
                for (; members; members &= members - 1)
                    magnitude[__builtin_ctzll(members)] += halved(toss(&m, &context, d->state), half);
                d->context[MAGNITUDE + 2] = context;
            }
        }
    *coder = m;
}

INLINE void clean_up(su_j2k_block_decoder *d, arithmetic *coder, const uint8_t *zero, uint32_t value)
{
    arithmetic m = *coder;
    for (int s = 1; 4 * (s - 1) < d->height; s++)
        for (int k = 0; 16 * k < d->width; k++) {
            uint64_t significant = d->significant[s][k], negative = d->negative[s][k];
            uint64_t members = inside(d, s, k) & ~significant & ~d->visited[s][k], with = near(d, s, k);
            uint32_t *magnitude = d->magnitude + 64 * ((s - 1) * WORDS + k);
            const bool whole = d->height - 4 * (s - 1) >= 4;
            while (members) {
                int i = __builtin_ctzll(members);
                uint16_t *p;
                if (whole && i % 4 == 0 && !(with >> i & 15)) {
                    if (!decide(&m, &d->context[RUN], d->state)) {
                        members &= ~((uint64_t)15 << i);
                        continue;
                    }
                    uint32_t run = decide(&m, &d->context[UNIFORM], d->state) << 1;
                    run |= decide(&m, &d->context[UNIFORM], d->state);
                    members &= ~((((uint64_t)2 << run) - 1) << i);
                    i += (int)run;
                    p = around(d, s, k, i);
                } else {
                    members &= members - 1;
                    p = around(d, s, k, i);
                    if (!decide(&m, &d->context[zero[*p & 255]], d->state)) continue;
                }
                const uint64_t one = (uint64_t)1 << i;
                if (become(d, &m, p)) negative |= one;
                magnitude[i] = value;
                significant |= one;
                with |= later(one);
            }
            d->significant[s][k] = significant;
            d->negative[s][k] = negative;
            d->visited[s][k] = 0;
        }
    *coder = m;
}

/* ---- blocks ---- */

static void clear(su_j2k_block_decoder *d)
{
    memset(d->significant, 0, sizeof d->significant);
    memset(d->visited, 0, sizeof d->visited);
    memset(d->refined, 0, sizeof d->refined);
    memset(d->negative, 0, sizeof d->negative);
    memset(d->around, 0, sizeof d->around);
    memset(d->magnitude, 0, sizeof d->magnitude);
    for (int i = 0; i < CONTEXTS; i++) d->context[i] = d->state[0];
    d->context[ZERO] = d->state[2 * 4];
    d->context[RUN] = d->state[2 * 3];
    d->context[UNIFORM] = d->state[2 * 46];
}

/* Magnitudes have a bit below the last plane, for halves. */
static void store(const su_j2k_block_decoder *d, int32_t *out, size_t stride)
{
    for (int y = 0; y < d->height; y++, out += stride)
        for (int x = 0; x < d->width; x++) {
            const int word = (y >> 2) * WORDS + (x >> 4), i = (x & 15) << 2 | (y & 3);
            const int32_t v = (int32_t)(d->magnitude[64 * word + i] >> 1);
            const int32_t sign = (int32_t)(d->negative[1 + (y >> 2)][x >> 4] >> i & 1);
            out[x] = (v ^ -sign) + sign;
        }
}

INLINE void decode(su_j2k_block_decoder *d, int orientation, int planes, int passes, const uint8_t *code,
                   size_t length)
{
    arithmetic m = {.c = (uint64_t)(length ? *code : 0xff) << 55, .a = 0x8000, .ahead = -7, .at = code};
    const uint8_t *zero = d->zero[orientation];
    refill(&m);
    for (int pass = 2; passes > 0; pass++, passes--) {
        const uint32_t one = 1u << (planes - pass / 3), half = one >> 1;
        if (pass % 3 == 0)
            propagate(d, &m, zero, one | half);
        else if (pass % 3 == 1)
            refine(d, &m, half);
        else
            clean_up(d, &m, zero, one | half);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,bmi,bmi2,lzcnt"))) static void decode_bmi2(su_j2k_block_decoder *d,
                                                                       int orientation, int planes,
                                                                       int passes, const uint8_t *code,
                                                                       size_t length)
{
    decode(d, orientation, planes, passes, code, length);
}
#endif

void su_j2k_block_decode(su_j2k_block_decoder *d, int width, int height, int orientation, int planes,
                         int passes, const uint8_t *code, size_t length, int32_t *out, size_t stride)
{
    d->width = width;
    d->height = height;
    clear(d);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
        decode_bmi2(d, orientation, planes, passes, code, length);
    else
#endif
        decode(d, orientation, planes, passes, code, length);
    store(d, out, stride);
}
