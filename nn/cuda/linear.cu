/* Linear layers: products, with what stands before and behind them.
 *
 * The bias is added by the product. GELU and its slope are part of large products of bf16 on a Hopper GPU
 * (hopper_product.h); elsewhere an activation is a pass of its own over the pre-activation, because the library fuses
 * only the tanh form of GELU and the models want the exact one. A bias gradient behind an activation is formed with its
 * slope, another by a pass of its own: cuBLASLt's epilogue for it is a pass too, at two thirds of the speed
 * (bench/LOG.md). */
#include "nn/cuda/activation.h"
#include "nn/cuda/hopper_product.h"
#include "nn/cuda/library.h"
#include <stdlib.h>
#include <string.h>

/* --- products with an activation in them --- */

enum { FUSED_ROWS = 1024, FUSED_COLUMNS = 256 }; /* the least of C */

bool su_cuda_hopper(const su_cuda *c)
{
    const char *wish = getenv("SUTURE_PRODUCT");
#if defined(SUTURE_SM90A) || !defined(__CUDACC__)
    return c->properties.major == 9 && c->properties.minor == 0 && !(wish && strcmp(wish, "library") == 0);
#else
    (void)wish, (void)c;
    return false;
#endif
}

static bool fuses(const su_cuda *c, su_activation f, int64_t rows, int64_t columns, int64_t inner)
{
    return su_cuda_hopper(c) && c->device.act == SU_DTYPE_BF16 && f == SU_ACT_GELU && rows >= FUSED_ROWS &&
           columns >= FUSED_COLUMNS && columns % 8 == 0 && inner % 8 == 0;
}

static bool aligned(const void *a, const void *b, const void *c)
{
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) & 15) == 0;
}

/* pre (unless NULL) = C + bias, y = GELU of it. */
struct gelu_finish {
    static constexpr bool STAGED = true;
    const bf16 *bias;
    bf16 *y, *pre;
    int64_t width;

    struct fetched {};
    DEVICE_MEMBER fetched fetch(int64_t, int64_t, bool) const
    {
        return fetched{};
    }
    DEVICE_MEMBER void finish(float (&v)[8], const fetched &, int64_t row, int64_t column)
    {
        const int64_t at = row * width + column;
        if (pre) store(pre + at, v);
        UNROLL for (int e = 0; e < 8; e++) v[e] = activated<bf16>(v[e], SU_ACT_GELU);
        store(y + at, v);
    }
    DEVICE_MEMBER void end_rows(int64_t, int64_t, bool)
    {
    }
};

/* dpre = C gelu'(pre), y (unless NULL) = gelu(pre), which may be where pre is; parts [share][width]: sums over rows of dpre. */
struct slope_finish {
    static constexpr bool STAGED = true;
    const bf16 *bias; /* NULL */
    bf16 *dpre, *y;
    const bf16 *pre;
    float *parts;
    int64_t width;
    float sums[8];

    struct fetched {
        uint4 pre;
    };
    DEVICE_MEMBER fetched fetch(int64_t row, int64_t column, bool there) const
    {
        fetched f = {};
        if (there) f.pre = *reinterpret_cast<const uint4 *>(pre + row * width + column);
        return f;
    }
    DEVICE_MEMBER void finish(float (&v)[8], const fetched &f, int64_t row, int64_t column)
    {
        const int64_t at = row * width + column;
        const uint32_t words[4] = {f.pre.x, f.pre.y, f.pre.z, f.pre.w};
        float again[8];
        UNROLL for (int e = 0; e < 8; e++)
        {
            const float x = bits_float(e % 2 ? words[e / 2] & 0xffff0000u : words[e / 2] << 16);
            float integral, density;
            normal<bf16>(x, integral, density);
            v[e] *= integral + x * density;
            again[e] = x * integral;
            sums[e] += v[e];
        }
        store(dpre + at, v);
        if (y) store(y + at, again);
    }
    DEVICE_MEMBER void end_rows(int64_t share, int64_t column, bool there)
    {
        UNROLL for (int e = 0; e < 8; e++)
        {
            sums[e] += __shfl_xor_sync(ALL_LANES, sums[e], 8);
            sums[e] += __shfl_xor_sync(ALL_LANES, sums[e], 16);
        }
        if (parts && there && lane_id() < 8) store(parts + share * width + column, sums);
    }
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
    if (fuses(c, f, rows, out, in) && aligned(x, w, y) && aligned(pre, NULL, NULL)) {
        const gelu_finish finish = {(const bf16 *)b, (bf16 *)y, pre == y ? NULL : (bf16 *)pre, out};
        if (hopper_multiply(c, "linear", x, in, w, in, rows, out, in, false, finish)) return;
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
        const int64_t shares = su_cuda_parts(rows, TILE_ROWS) * SHARES;
        char *m = (char *)su_cuda_scratch(c, turned + (size_t)(shares * in) * sizeof(float));
        if (!m) return;
        const int across = (int)su_cuda_parts(in, TURNED);
        launch(c, "linear", su_cuda_parts(out, TURNED) * across, TURNED * 8, 0, turn_matrix)((bf16 *)(void *)m, (const bf16 *)w, out, in, across);
        float *parts = (float *)(void *)(m + turned);
        const slope_finish finish = {NULL, (bf16 *)dpre, (bf16 *)y, (const bf16 *)pre, db ? parts : NULL, in, {}};
        if (hopper_multiply(c, "linear", dy, out, m, out, rows, in, out, false, finish)) {
            if (db) su_cuda_join(c, (float *)db, parts, shares, in);
            return;
        }
    }
    su_cuda_linear_backward(d, dpre, false, NULL, NULL, dy, NULL, w, rows, out, in);
    su_cuda_act_backward(d, dpre, y, db, dpre, pre, f, rows, in);
}
