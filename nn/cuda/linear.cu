/* Linear layers: products, with what stands before and behind them.
 *
 * The bias is added by the product. An activation is a pass of its own over the pre-activation, because the library fuses
 * only the tanh form of GELU and the models want the exact one; on a Hopper GPU GELU and its slope are part of large products of
 * bf16 (hopper_product.h). A bias gradient behind an activation is formed with its slope, one behind attention or a norm
 * with theirs, any other by a pass of its own: cuBLASLt's epilogue for it is a pass too, at two thirds of the speed
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

/* y = GELU of C + bias; KEEPS: pre = C + bias. */
template <bool KEEPS> struct gelu_finish {
    static constexpr bool STAGED = true, BIASED = true;
    const bf16 *bias;
    bf16 *y, *pre;

    struct fetched {};
    DEVICE_MEMBER void begin()
    {
    }
    DEVICE_MEMBER fetched fetch(int64_t, bool) const
    {
        return fetched{};
    }
    DEVICE_MEMBER void finish(uint4 c, const fetched &, int64_t at, bool there, int)
    {
        float v[8];
        unpack(v, c);
        UNROLL for (int e = 0; e < 8; e++) v[e] = activated<bf16>(v[e], SU_ACT_GELU);
        if (!there) return;
        if (KEEPS) *reinterpret_cast<uint4 *>(pre + at) = c;
        store(y + at, v);
    }
    DEVICE_MEMBER void end(int64_t, int64_t, int)
    {
    }
};

/* dpre = C gelu'(pre); AGAIN: y = gelu(pre), which may be where pre is; parts [share][width]: sums over rows of dpre. */
template <bool AGAIN> struct slope_finish {
    static constexpr bool STAGED = true, BIASED = false;
    bf16 *dpre, *y;
    const bf16 *pre;
    float *parts;
    int64_t width;
    float sums[THREAD_PACKS][8];

    struct fetched {
        uint4 pre;
    };
    DEVICE_MEMBER void begin()
    {
        UNROLL for (int e = 0; e < THREAD_PACKS * 8; e++) sums[e / 8][e % 8] = 0;
    }
    DEVICE_MEMBER fetched fetch(int64_t at, bool there) const
    {
        fetched f = {};
        if (there) f.pre = *reinterpret_cast<const uint4 *>(pre + at);
        return f;
    }
    DEVICE_MEMBER void finish(uint4 c, const fetched &f, int64_t at, bool there, int e)
    {
        float v[8], x[8];
        unpack(v, c);
        unpack(x, f.pre);
        UNROLL for (int k = 0; k < 8; k++)
        {
            float value, rise;
            gelu_and_slope<bf16>(x[k], value, rise);
            v[k] *= rise;
            x[k] = value;
            sums[e][k] += v[k];
        }
        if (!there) return;
        store(dpre + at, v);
        if (AGAIN) store(y + at, x);
    }
    DEVICE_MEMBER void end(int64_t share, int64_t column, int columns)
    {
        UNROLL for (int e = 0; e < THREAD_PACKS; e++)
        {
            UNROLL for (int k = 0; k < 8; k++)
            {
                sums[e][k] += __shfl_xor_sync(ALL_LANES, sums[e][k], 8);
                sums[e][k] += __shfl_xor_sync(ALL_LANES, sums[e][k], 16);
            }
            if (parts && lane_id() < 8 && e * 64 < columns) store(parts + share * width + column + e * 64, sums[e]);
        }
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

/* w [rows][columns], turned, to scratch of this size and more behind it. NULL: a failure, recorded. */
static char *turned(su_cuda *c, const void *w, int rows, int columns, size_t *size, size_t more)
{
    *size = su_cuda_room((int64_t)rows * columns, sizeof(bf16));
    char *to = (char *)su_cuda_scratch(c, *size + more);
    const int across = (int)su_cuda_parts(columns, TURNED);
    if (to)
        launch(c, "linear", su_cuda_parts(rows, TURNED) * across, TURNED * 8, 0, turn_matrix)((bf16 *)(void *)to, (const bf16 *)w,
                                                                                             rows, columns, across);
    return to;
}

/* --- products of rows that are not 16-byte aligned: a vocabulary of 30,522, patches of 588 numbers. For these the library has kernels
 * of an older kind alone, which take three times as long; a copy whose rows are aligned costs a fraction of that --- */

enum { EVEN = 8 /* elements */, EVEN_THREADS = 256, EVEN_EACH = 4 /* packs of a thread */ };
#ifdef __CUDACC__
static const double EVEN_WORK = 4e9; /* multiplications from which on it pays */
#else
static const double EVEN_WORK = 2e3;
#endif
static const size_t EVEN_MOST = (size_t)512 << 20; /* bytes of copies */

static int64_t evened(int64_t columns)
{
    return (columns + EVEN - 1) / EVEN * EVEN;
}

/* to [rows][to_width] = the first columns of from, whose rows have so many, and zeros; V divides both widths. */
template <int V>
__global__ void __launch_bounds__(EVEN_THREADS) copy_rows(bf16 *to, int to_width, const bf16 *from, int from_width, int64_t rows)
{
    const int across = to_width / V;
    const int64_t all = rows * across;
    UNROLL for (int n = 0; n < EVEN_EACH; n++)
    {
        const int64_t i = ((int64_t)blockIdx.x * EVEN_EACH + n) * EVEN_THREADS + threadIdx.x;
        if (i >= all) return;
        const int64_t r = i / across;
        const int column = (int)(i - r * across) * V;
        float v[V] = {};
        if (column < from_width) load(v, from + r * from_width + column);
        store(to + r * to_width + column, v);
    }
}
static void copy_to(su_cuda *c, bf16 *to, int64_t to_width, const bf16 *from, int64_t from_width, int64_t rows)
{
    auto go = [&](auto pack) {
        constexpr int V = decltype(pack)::value;
        launch(c, "linear", su_cuda_parts(rows * (to_width / V), EVEN_THREADS * EVEN_EACH), EVEN_THREADS, 0, copy_rows<V>)(
            to, (int)to_width, from, (int)from_width, rows);
    };
    if (to_width % 4 == 0 && from_width % 4 == 0 && (((uintptr_t)to | (uintptr_t)from) & 7) == 0)
        go(std::integral_constant<int, 4>());
    else if (to_width % 2 == 0 && from_width % 2 == 0 && (((uintptr_t)to | (uintptr_t)from) & 3) == 0)
        go(std::integral_constant<int, 2>());
    else
        go(std::integral_constant<int, 1>());
}

/* The product, whose matrices are dense, and which is of nothing in scratch memory. */
static void multiply(su_cuda *c, su_cuda_product p)
{
    const bool half = p.out == SU_DTYPE_BF16, a = p.lda % EVEN != 0, b = p.ldb % EVEN != 0, y = half && p.ldc % EVEN != 0 && !p.addend;
    const int64_t rows_a = p.ta ? p.k : p.m, rows_b = p.tb ? p.n : p.k;
    const size_t size[3] = {a ? su_cuda_room(rows_a * evened(p.lda), sizeof(bf16)) : 0, b ? su_cuda_room(rows_b * evened(p.ldb), sizeof(bf16)) : 0,
                            y ? su_cuda_room(p.m * evened(p.ldc), sizeof(bf16)) : 0};
    const size_t all = size[0] + size[1] + size[2];
    if (p.in != SU_DTYPE_BF16 || !(a || b || y) || all > EVEN_MOST || (double)p.m * (double)p.n * (double)p.k < EVEN_WORK)
        return su_cuda_multiply(c, &p);
    char *room = (char *)su_cuda_scratch(c, all);
    if (!room) return;
    bf16 *const copies[3] = {(bf16 *)(void *)room, (bf16 *)(void *)(room + size[0]), (bf16 *)(void *)(room + size[0] + size[1])};
    void *const to = p.c;
    const int64_t width = p.ldc;
    if (a) copy_to(c, copies[0], evened(p.lda), (const bf16 *)p.a, p.lda, rows_a), p.a = copies[0], p.lda = evened(p.lda);
    if (b) copy_to(c, copies[1], evened(p.ldb), (const bf16 *)p.b, p.ldb, rows_b), p.b = copies[1], p.ldb = evened(p.ldb);
    if (a && b && !p.ta && p.tb) p.k = evened(p.k); /* of zeros */
    if (y) p.c = copies[2], p.ldc = evened(p.ldc);
    su_cuda_multiply(c, &p);
    if (y) copy_to(c, (bf16 *)to, width, copies[2], evened(width), p.m);
}

/* --- layers --- */

void su_cuda_linear(su_device *d, void *y, void *pre, const void *x, const void *w, const void *b,
                    su_activation f, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    if (f == SU_ACT_GELU && fuses(c, rows, out, in) && aligned(x, w, y) && aligned(pre, b, NULL)) {
        auto go = [&](auto finish) {
            finish.bias = (const bf16 *)b, finish.y = (bf16 *)y, finish.pre = (bf16 *)pre;
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
    multiply(c, p);
    if (f != SU_ACT_NONE || (pre && pre != y)) su_cuda_activate(c, y, NULL, p.c, NULL, f, rows, out);
}

void su_cuda_linear_add(su_device *d, void *y, const void *residual, const void *x, const void *w, const void *b,
                        int64_t rows, int32_t out, int32_t in)
{
    su_cuda_product p = {};
    p.a = x, p.b = w, p.c = y, p.addend = residual, p.bias = b;
    p.tb = true;
    p.m = rows, p.n = out, p.k = in;
    p.lda = in, p.ldb = in, p.ldc = out;
    p.in = p.out = d->act;
    p.alpha = 1;
    multiply(su_cuda_of(d), p);
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
        p.addend = add ? dx : NULL;
        p.alpha = 1;
        multiply(c, p);
    }
    if (dw) {
        su_cuda_product p = {};
        p.a = dy, p.b = x, p.c = dw;
        p.ta = true;
        p.m = out, p.n = in, p.k = rows;
        p.lda = out, p.ldb = in, p.ldc = in;
        p.in = d->act, p.out = d->acc;
        p.addend = dw;
        p.alpha = 1;
        multiply(c, p);
    }
    if (db) su_cuda_column_sums(c, (float *)db, dy, rows, out, out);
}

void su_cuda_linear_act_backward(su_device *d, void *dpre, void *y, void *db, const void *dy, const void *w, const void *pre,
                                 su_activation f, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    if (f == SU_ACT_GELU && fuses(c, rows, in, out) && aligned(dpre, dy, pre) && aligned(y, w, NULL)) {
        const int64_t shares = su_cuda_parts(rows, TILE_ROWS) * SHARES;
        size_t size;
        char *m = turned(c, w, out, in, &size, (size_t)(shares * in) * sizeof(float));
        if (!m) return;
        float *parts = (float *)(void *)(m + size);
        auto go = [&](auto finish) {
            finish.dpre = (bf16 *)dpre, finish.y = (bf16 *)y, finish.pre = (const bf16 *)pre;
            finish.parts = db ? parts : NULL, finish.width = in;
            return hopper_multiply(c, "linear", dy, out, m, out, rows, in, out, false, finish);
        };
        if (y ? go(slope_finish<true>()) : go(slope_finish<false>())) {
            float *const sums = (float *)db;
            if (db) su_cuda_join(c, &sums, 1, parts, shares, in);
            return;
        }
    }
    su_cuda_linear_backward(d, dpre, false, NULL, NULL, dy, NULL, w, rows, out, in);
    su_cuda_act_backward(d, dpre, y, db, dpre, pre, f, rows, in);
}
