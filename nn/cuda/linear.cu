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

enum { FUSED_ROWS = 1024, FUSED_COLUMNS = 256 }; /* the least of C */

static bool fuses(const su_cuda *c, su_activation f, int64_t rows, int64_t columns, int64_t inner)
{
    return su_cuda_hopper_asked(c) && c->device.act == SU_DTYPE_BF16 && f == SU_ACT_GELU && rows >= FUSED_ROWS &&
           columns >= FUSED_COLUMNS && columns % 8 == 0 && inner % 8 == 0;
}

static bool aligned(const void *a, const void *b, const void *c)
{
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) & 15) == 0;
}

/* The two numbers of a word of bf16. */
DEVICE float low_of(uint32_t w)
{
    return bits_float(w << 16);
}
DEVICE float high_of(uint32_t w)
{
    return bits_float(w & 0xffff0000u);
}

enum { PIECES = TILE_COLUMNS / 32 /* of a tile: 32 columns, four packs of a row */ };

/* y = GELU of C + bias; KEEPS: pre = C + bias. Matrices [m, n]. */
template <bool KEEPS> struct gelu_finish {
    enum { AHEAD = 4 /* pieces of the bias */ };
    const bf16 *bias;
    bf16 *y, *pre;
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
    template <bool WHOLE> DEVICE_MEMBER void form(const float (&d)[GROUP_NUMBERS], int64_t row, int64_t column)
    {
        UNROLL for (int piece = 0; piece < PIECES; piece++)
        {
            uint32_t before[2][4], after[2][4];
            UNROLL for (int i = 0; i < 8; i++)
            {
                const int r = i % 2, at = 4 * (piece * 4 + i / 2) + 2 * r;
                const uint32_t bias_word = add[piece % AHEAD][i / 2];
                const uint32_t w = pack_bf16(d[at] + low_of(bias_word), d[at + 1] + high_of(bias_word));
                before[r][i / 2] = w;
                after[r][i / 2] = pack_bf16(gelu<bf16>(low_of(w)), gelu<bf16>(high_of(w)));
            }
            if (piece + AHEAD < PIECES) fetch(column, piece + AHEAD);
            if (KEEPS) store_words<WHOLE>(pre, n, m, n, row, column + 32 * piece, before);
            store_words<WHOLE>(y, n, m, n, row, column + 32 * piece, after);
        }
    }
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column)
    {
        const int64_t first = warp_row(row), own = first + lane_id() / 4;
        if (first + WARP_ROWS <= m && column + TILE_COLUMNS <= n)
            form<true>(d, own, column);
        else if (first < m)
            form<false>(d, own, column);
    }
    DEVICE_MEMBER void end() {}
};

/* dpre = C gelu'(pre); AGAIN: y = gelu(pre), which may be where pre is; parts [one for every 16 rows][n]: sums of dpre over them. */
template <bool AGAIN> struct slope_finish {
    enum { AHEAD = 3 /* pieces of pre */ };
    bf16 *dpre, *y;
    const bf16 *pre;
    float *parts;
    int64_t m, n;
    uint4 ahead[AHEAD][2];

    template <bool WHOLE> DEVICE_MEMBER void fetch(int64_t row, int64_t column, int piece)
    {
        column += 32 * piece + lane_id() % 4 * 8;
        UNROLL for (int r = 0; r < 2; r++)
        {
            if (WHOLE || (row + 8 * r < m && column < n))
                ahead[piece % AHEAD][r] = *reinterpret_cast<const uint4 *>(pre + (row + 8 * r) * n + column);
            else
                ahead[piece % AHEAD][r] = uint4{};
        }
    }
    template <bool WHOLE> DEVICE_MEMBER void form(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column)
    {
        UNROLL for (int piece = 0; piece < PIECES; piece++)
        {
            uint32_t slopes[2][4], again[2][4];
            uint4 pres[2];
            UNROLL for (int r = 0; r < 2; r++)
            {
                const uint4 packs = ahead[piece % AHEAD][r];
                const uint32_t words[4] = {packs.x, packs.y, packs.z, packs.w};
                pres[r] = gathered(words);
            }
            if (piece + AHEAD < PIECES) fetch<WHOLE>(row, column, piece + AHEAD);
            UNROLL for (int i = 0; i < 8; i++)
            {
                const int r = i % 2, at = 4 * (piece * 4 + i / 2) + 2 * r;
                const uint32_t w = i / 2 == 0 ? pres[r].x : i / 2 == 1 ? pres[r].y : i / 2 == 2 ? pres[r].z : pres[r].w;
                float value[2], rise[2];
                gelu_and_slope<bf16>(low_of(w), value[0], rise[0]);
                gelu_and_slope<bf16>(high_of(w), value[1], rise[1]);
                UNROLL for (int e = 0; e < 2; e++) d[at + e] *= rise[e];
                slopes[r][i / 2] = pack_bf16(d[at], d[at + 1]);
                again[r][i / 2] = pack_bf16(value[0], value[1]);
            }
            store_words<WHOLE>(dpre, n, m, n, row, column + 32 * piece, slopes);
            if (AGAIN) store_words<WHOLE>(y, n, m, n, row, column + 32 * piece, again);
        }
    }
    DEVICE_MEMBER bool whole(int64_t first, int64_t column) const
    {
        return first + WARP_ROWS <= m && column + TILE_COLUMNS <= n;
    }
    DEVICE_MEMBER void prepare(int64_t row, int64_t column)
    {
        const int64_t first = warp_row(row), own = first + lane_id() / 4;
        UNROLL for (int piece = 0; piece < AHEAD; piece++)
        {
            if (whole(first, column))
                fetch<true>(own, column, piece);
            else
                fetch<false>(own, column, piece);
        }
    }
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column)
    {
        const int64_t first = warp_row(row), own = first + lane_id() / 4;
        if (first >= m) return;
        if (whole(first, column))
            form<true>(d, own, column);
        else
            form<false>(d, own, column);
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

/* --- layers --- */

void su_cuda_linear(su_device *d, void *y, void *pre, const void *x, const void *w, const void *b,
                    su_activation f, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    if (fuses(c, f, rows, out, in) && aligned(x, w, y) && aligned(pre, b, NULL)) {
        auto go = [&](auto finish) {
            finish.bias = (const bf16 *)b, finish.y = (bf16 *)y, finish.pre = (bf16 *)pre;
            finish.m = rows, finish.n = out;
            return hopper_multiply(c, "linear", x, in, w, in, rows, out, in, false, finish);
        };
        if (pre && pre != y ? go(gelu_finish<true>()) : go(gelu_finish<false>())) return;
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
    if (dx) {
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
    if (fuses(c, f, rows, in, out) && aligned(dpre, dy, pre) && aligned(y, w, NULL)) {
        const size_t turned = su_cuda_room((int64_t)out * in, sizeof(bf16));
        const int64_t shares = su_cuda_parts(rows, WARP_ROWS);
        char *m = (char *)su_cuda_scratch(c, turned + (size_t)(shares * in) * sizeof(float));
        if (!m) return;
        const int across = (int)su_cuda_parts(in, TURNED);
        launch(c, "linear", su_cuda_parts(out, TURNED) * across, TURNED * 8, 0, turn_matrix)((bf16 *)(void *)m, (const bf16 *)w, out, in, across);
        float *parts = (float *)(void *)(m + turned);
        auto go = [&](auto finish) {
            finish.dpre = (bf16 *)dpre, finish.y = (bf16 *)y, finish.pre = (const bf16 *)pre;
            finish.parts = db ? parts : NULL, finish.m = rows, finish.n = in;
            return hopper_multiply(c, "linear", dy, out, m, out, rows, in, out, false, finish);
        };
        if (y ? go(slope_finish<true>()) : go(slope_finish<false>())) {
            if (db) su_cuda_join(c, (float *)db, parts, shares, in);
            return;
        }
    }
    su_cuda_linear_backward(d, dpre, false, NULL, NULL, dy, NULL, w, rows, out, in);
    su_cuda_act_backward(d, dpre, y, db, dpre, pre, f, rows, in);
}
