/* Linear layers: products, with what stands before and behind them.
 *
 * The bias is added by the product. An activation is a pass of its own over the pre-activation, because the library fuses
 * only the tanh form of GELU and the models want the exact one; with SUTURE_PRODUCT=own in the environment GELU and its slope are
 * part of large products of bf16 on a Hopper GPU (hopper_product.h). A bias gradient behind an activation is formed with
 * its slope, another by a pass of its own: cuBLASLt's epilogue for it is a pass too, at two thirds of the speed
 * (bench/LOG.md). */
#include "nn/cuda/activation.h"
#include "nn/cuda/hopper_product.h"
#include "nn/cuda/library.h"

/* --- products with an activation in them --- */

/* Whether a product of our own is asked for, or its tiles fill the GPU. */
static bool fuses(const su_cuda *c, int64_t rows, int64_t columns, int64_t inner)
{
    if (!su_cuda_hopper(c) || c->device.act != SU_DTYPE_BF16 || columns % 8 || inner % 8) return false;
    const int64_t tiles = su_cuda_parts(rows, TILE_ROWS) * su_cuda_parts(columns, TILE_COLUMNS), each = c->properties.processors;
    const bool fills = tiles * TILE_ROWS * TILE_COLUMNS <= rows * columns / 4 * 5 && su_cuda_parts(tiles, each) * each <= tiles / 4 * 5;
    return fills || su_cuda_hopper_asked(c);
}

static bool aligned(const void *a, const void *b, const void *c)
{
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) & 15) == 0;
}

enum { PIECES = TILE_COLUMNS / 32, /* of a tile: 32 columns, four packs of a row */ BOX_PIECES = SLICE / 32 };

/* Output 0 = C + bias, or GELU of it; KEEPS: then output 1 = C + bias. */
template <bool ACTS, bool KEEPS> struct linear_finish {
    enum { AHEAD = 4 /* pieces of the bias */ };
    const bf16 *bias;
    int64_t m, n;
    uint32_t add[AHEAD][4];

    DEVICE_MEMBER void fetch(int64_t column, int piece)
    {
        column += 32 * piece + lane_id() % 4 * 2;
        UNROLL for (int j = 0; j < 4; j++)
            add[piece % AHEAD][j] = bias && column + 8 * j < n ? *reinterpret_cast<const uint32_t *>(bias + column + 8 * j) : 0u;
    }
    DEVICE_MEMBER void prepare(int64_t, int64_t column)
    {
        UNROLL for (int piece = 0; piece < AHEAD; piece++) fetch(column, piece);
    }
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &out)
    {
        const int64_t first = warp_row(row);
        if (first >= m) return;
        UNROLL for (int piece = 0; piece < PIECES; piece += BOX_PIECES)
        {
            uint32_t words[2][BOX_PACKS];
            UNROLL for (int i = 0; i < 8 * BOX_PIECES; i++)
            {
                const int r = i % 2, at = 4 * (piece * 4 + i / 2) + 2 * r;
                const uint32_t w = add[(piece + i / 8) % AHEAD][i / 2 % 4];
                words[r][i / 2] = pack_bf16(d[at] + low_of(w), d[at + 1] + high_of(w));
            }
            UNROLL for (int p = piece; p < piece + BOX_PIECES; p++)
                if (p + AHEAD < PIECES) fetch(column, p + AHEAD);
            const int box = piece / BOX_PIECES * (KEEPS ? 2 : 1);
            if (KEEPS) out.write(box % BOXES, 1, first, column + 32 * piece, words);
            if (ACTS)
                UNROLL for (int i = 0; i < 8 * BOX_PIECES; i++)
                {
                    const uint32_t w = words[i % 2][i / 2];
                    words[i % 2][i / 2] = pack_bf16(gelu<bf16>(low_of(w)), gelu<bf16>(high_of(w)));
                }
            out.write((box + (KEEPS ? 1 : 0)) % BOXES, 0, first, column + 32 * piece, words);
        }
    }
    DEVICE_MEMBER void end() {}
};

/* Output 0 = C gelu'(pre); AGAIN: output 1 = gelu(pre), which may be where pre is; parts [one for every 16 rows][n]: sums of output 0 over
 * them. */
template <bool AGAIN> struct slope_finish {
    enum { AHEAD = 3 /* pieces of pre */ };
    const bf16 *pre;
    float *parts;
    int64_t m, n;
    uint4 ahead[AHEAD][2];

    DEVICE_MEMBER void fetch(int64_t row, int64_t column, int piece)
    {
        row += lane_id() / 4;
        column += 32 * piece + lane_id() % 4 * 8;
        UNROLL for (int r = 0; r < 2; r++)
        {
            ahead[piece % AHEAD][r] = uint4{};
            if (row + 8 * r < m && column < n) ahead[piece % AHEAD][r] = *reinterpret_cast<const uint4 *>(pre + (row + 8 * r) * n + column);
        }
    }
    DEVICE_MEMBER void prepare(int64_t row, int64_t column)
    {
        UNROLL for (int piece = 0; piece < AHEAD; piece++) fetch(warp_row(row), column, piece);
    }
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &out)
    {
        const int64_t first = warp_row(row);
        if (first >= m) return;
        UNROLL for (int piece = 0; piece < PIECES; piece += BOX_PIECES)
        {
            uint32_t slopes[2][BOX_PACKS], again[2][BOX_PACKS];
            UNROLL for (int i = 0; i < 2 * BOX_PIECES; i++)
            {
                const int r = i % 2, p = i / 2;
                const uint4 packs = ahead[(piece + p) % AHEAD][r];
                const uint32_t words[4] = {packs.x, packs.y, packs.z, packs.w};
                const uint4 own = gathered(words);
                again[r][4 * p] = own.x, again[r][4 * p + 1] = own.y, again[r][4 * p + 2] = own.z, again[r][4 * p + 3] = own.w;
            }
            UNROLL for (int p = piece; p < piece + BOX_PIECES; p++)
                if (p + AHEAD < PIECES) fetch(first, column, p + AHEAD);
            UNROLL for (int i = 0; i < 8 * BOX_PIECES; i++)
            {
                const int r = i % 2, at = 4 * (piece * 4 + i / 2) + 2 * r;
                float value[2], rise[2];
                gelu_and_slope<bf16>(low_of(again[r][i / 2]), value[0], rise[0]);
                gelu_and_slope<bf16>(high_of(again[r][i / 2]), value[1], rise[1]);
                UNROLL for (int e = 0; e < 2; e++) d[at + e] *= rise[e];
                slopes[r][i / 2] = pack_bf16(d[at], d[at + 1]);
                again[r][i / 2] = pack_bf16(value[0], value[1]);
            }
            const int box = piece / BOX_PIECES * (AGAIN ? 2 : 1);
            out.write(box % BOXES, 0, first, column + 32 * piece, slopes);
            if (AGAIN) out.write((box + 1) % BOXES, 1, first, column + 32 * piece, again);
        }
        if (!parts) return;
        UNROLL for (int part = 0; part < PARTS; part++)
        {
            float sums[PART_COLUMNS];
            UNROLL for (int i = 0; i < PART_COLUMNS; i++)
            {
                const int at = 4 * (part * PART_PACKS + i / 2) + i % 2;
                sums[i] = d[at] + d[at + 2];
            }
            fold_columns(sums);
            UNROLL for (int k = 0; k < FOLDED; k++)
            {
                const int64_t at = column + folded_column(part, k);
                if (at < n) parts[first / WARP_ROWS * n + at] = sums[k];
            }
        }
    }
    DEVICE_MEMBER void end() {}
};

enum { TURNED = 32 };

/* to [columns][rows] = from [rows][columns]. */
__global__ void __launch_bounds__(TURNED *8) turn_matrix(bf16 *to, const bf16 *from, int rows, int columns, int across)
{
    SHARED(uint16_t, tile, TURNED *(TURNED + 1));
    const int row = (int)blockIdx.x / across * TURNED, column = (int)blockIdx.x % across * TURNED;
    for (int i = warp_id(); i < TURNED; i += 8)
        if (row + i < rows && column + lane_id() < columns)
            tile[i * (TURNED + 1) + lane_id()] = from[(int64_t)(row + i) * columns + column + lane_id()].bits;
    __syncthreads();
    for (int i = warp_id(); i < TURNED; i += 8)
        if (column + i < columns && row + lane_id() < rows)
            to[(int64_t)(column + i) * rows + row + lane_id()].bits = tile[lane_id() * (TURNED + 1) + i];
}

/* w [rows][columns], turned, to scratch of this size and more behind it. NULL: a failure, recorded. */
static char *turned(su_cuda *c, const void *w, int rows, int columns, size_t *size, size_t more)
{
    *size = su_cuda_room((int64_t)rows * columns, sizeof(bf16));
    char *to = (char *)su_cuda_scratch(c, *size + more);
    const int across = (int)su_cuda_parts(columns, TURNED);
    if (to) launch(c, "linear", su_cuda_parts(rows, TURNED) * across, TURNED * 8, 0, turn_matrix)((bf16 *)(void *)to, (const bf16 *)w, rows, columns, across);
    return to;
}

/* dx = dy w by a product of our own; false: not for these. */
static bool plain_dx(su_cuda *c, void *dx, const void *dy, const void *w, int64_t rows, int32_t out, int32_t in)
{
    if (!fuses(c, rows, in, out) || !aligned(dx, dy, w)) return false;
    size_t size;
    const char *m = turned(c, w, out, in, &size, 0);
    linear_finish<false, false> finish = {};
    finish.m = rows, finish.n = in;
    return !m || hopper_multiply(c, "linear", dy, out, m, out, rows, in, out, false, finish, {{dx}, in});
}

/* --- layers --- */

void su_cuda_linear(su_device *d, void *y, void *pre, const void *x, const void *w, const void *b,
                    su_activation f, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    if ((f == SU_ACT_NONE || f == SU_ACT_GELU) && fuses(c, rows, out, in) && aligned(x, w, y) && aligned(pre, b, NULL)) {
        auto go = [&](auto finish, void *kept) {
            finish.bias = (const bf16 *)b, finish.m = rows, finish.n = out;
            return hopper_multiply(c, "linear", x, in, w, in, rows, out, in, false, finish, {{y, kept}, out});
        };
        const bool keeps = pre && pre != y;
        if (f == SU_ACT_NONE && !keeps ? go(linear_finish<false, false>(), NULL)
            : f == SU_ACT_NONE        ? false
            : keeps                   ? go(linear_finish<true, true>(), pre)
                                      : go(linear_finish<true, false>(), NULL))
            return;
    }
    su_cuda_product p = {};
    p.a = x, p.b = w, p.c = pre ? pre : y, p.bias = b;
    p.tb = true;
    p.m = rows, p.n = out, p.k = in;
    p.lda = in, p.ldb = in, p.ldc = out;
    p.in = p.out = d->act;
    p.alpha = 1;
    su_cuda_multiply(c, &p);
    if (f != SU_ACT_NONE || (pre && pre != y)) su_cuda_activate(c, y, NULL, p.c, NULL, f, rows, out);
}

void su_cuda_linear_backward(su_device *d, void *dx, bool add, void *dw, void *db, const void *dy, const void *x,
                             const void *w, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    if (rows <= 0) return;
    if (dx && !(!add && plain_dx(c, dx, dy, w, rows, out, in))) {
        su_cuda_product p = {};
        p.a = dy, p.b = w, p.c = dx;
        p.m = rows, p.n = in, p.k = out;
        p.lda = out, p.ldb = in, p.ldc = in;
        p.in = p.out = d->act;
        p.add = add;
        p.alpha = 1;
        su_cuda_multiply(c, &p);
    }
    if (dw) {
        su_cuda_product p = {};
        p.a = dy, p.b = x, p.c = dw;
        p.ta = true;
        p.m = out, p.n = in, p.k = rows;
        p.lda = out, p.ldb = in, p.ldc = in;
        p.in = d->act, p.out = d->acc;
        p.add = true;
        p.alpha = 1;
        su_cuda_multiply(c, &p);
    }
    if (db) su_cuda_column_sums(c, (float *)db, dy, rows, out);
}

void su_cuda_linear_act_backward(su_device *d, void *dpre, void *y, void *db, const void *dy, const void *w, const void *pre,
                                 su_activation f, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    if (f == SU_ACT_GELU && fuses(c, rows, in, out) && aligned(dpre, dy, pre) && aligned(y, w, NULL)) {
        const int64_t shares = su_cuda_parts(rows, WARP_ROWS);
        size_t size;
        char *m = turned(c, w, out, in, &size, (size_t)(shares * in) * sizeof(float));
        if (!m) return;
        float *parts = (float *)(void *)(m + size);
        auto go = [&](auto finish) {
            finish.pre = (const bf16 *)pre, finish.m = rows, finish.n = in;
            finish.parts = db ? parts : NULL;
            return hopper_multiply(c, "linear", dy, out, m, out, rows, in, out, false, finish, {{dpre, y}, in});
        };
        if (y ? go(slope_finish<true>()) : go(slope_finish<false>())) {
            if (db) su_cuda_join(c, (float *)db, parts, shares, in);
            return;
        }
    }
    su_cuda_linear_backward(d, dpre, false, NULL, NULL, dy, NULL, w, rows, out, in);
    su_cuda_act_backward(d, dpre, y, db, dpre, pre, f, rows, in);
}
