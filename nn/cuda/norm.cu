/* LayerNorm over rows, and column sums. */
#include "nn/cuda/activation.h"
#include "nn/cuda/launch.h"

enum {
    MOST_THREADS = 512, /* of a row */
    HELD = 2,           /* packs of a row that a thread keeps in registers; longer rows are read again */
    NORM_WARPS = 4,     /* of a block that gives a warp a row */
    SUMMED = 3,         /* most packs of a lane where it sums dx as well */
    TOTAL_WARPS = 32,
    TOTAL_AHEAD = 16,   /* parts that a warp asks for at once */
    PARTIALS = 792,     /* most blocks over the rows of a backward pass: whole waves on 132 multiprocessors */
    ROWS_LEAST = 8,     /* of such a block */
};

/* f with the number of packs of a row that each lane of a warp holds. False: more than a warp can hold. */
template <class F> static bool by_held(int64_t packs, F f)
{
    if (packs <= 1)
        f(std::integral_constant<int, 1>());
    else if (packs <= 2)
        f(std::integral_constant<int, 2>());
    else if (packs <= 3)
        f(std::integral_constant<int, 3>());
    else if (packs <= 4)
        f(std::integral_constant<int, 4>());
    else if (packs <= 6)
        f(std::integral_constant<int, 6>());
    return packs <= 6;
}

/* --- forward
 *
 *   s = x + residual,   y = (s - mean) rstd gamma + beta
 *
 * What is normalised is s as it is stored, so that the backward pass sees the same numbers. */

/* Where a lane's packs of a row stand. One that lies behind the row's end is not `inside`: the lane reads the last pack and
 * counts it as zeros. With a branch around each load the packs would be waited for one by one. */
template <int V, int N> DEVICE void places_of(int (&place)[N], bool (&inside)[N], int width)
{
    UNROLL for (int h = 0; h < N; h++)
    {
        const int i = (h * WARP + lane_id()) * V;
        inside[h] = i < width;
        place[h] = inside[h] ? i : width - V;
    }
}

/* A warp has a row: no barriers. */
template <class T, int V, int N>
__global__ void __launch_bounds__(NORM_WARPS *WARP)
    norm_forward_warps(T *y, T *sum, float *mean_out, float *rstd_out, const T *x, const T *residual, const T *gamma,
                       const T *beta, float eps, int64_t rows, int width)
{
    const int64_t row = (int64_t)blockIdx.x * NORM_WARPS + warp_id(), at = row * width;
    if (row >= rows) return;
    float s[N][V], other[N][V], total = 0, squares = 0;
    int place[N];
    bool inside[N];
    places_of<V>(place, inside, width);
    UNROLL for (int h = 0; h < N; h++) load(s[h], x + at + place[h]);
    if (residual) {
        UNROLL for (int h = 0; h < N; h++) load(other[h], residual + at + place[h]);
        UNROLL for (int h = 0; h < N; h++)
        {
            UNROLL for (int k = 0; k < V; k++) s[h][k] = rounded<T>(s[h][k] + other[h][k]);
            if (inside[h]) store(sum + at + place[h], s[h]);
        }
    }
    UNROLL for (int h = 0; h < N; h++)
    {
        UNROLL for (int k = 0; k < V; k++) total += inside[h] ? s[h][k] : 0.0f;
    }
    const float mean = warp_sum(total) / (float)width;
    UNROLL for (int h = 0; h < N; h++)
    {
        UNROLL for (int k = 0; k < V; k++) squares += inside[h] ? (s[h][k] - mean) * (s[h][k] - mean) : 0.0f;
    }
    const float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)width + eps);
    UNROLL for (int h = 0; h < N; h++)
    {
        float g[V], b[V];
        load(g, gamma + place[h]);
        load(b, beta + place[h]);
        UNROLL for (int k = 0; k < V; k++) g[k] = (s[h][k] - mean) * rstd * g[k] + b[k];
        if (inside[h]) store(y + at + place[h], g);
    }
    if (lane_id() > 0) return;
    if (mean_out) mean_out[row] = mean;
    if (rstd_out) rstd_out[row] = rstd;
}

/* The same for any row: a block has one. */
template <class T, int V>
__global__ void norm_forward(T *y, T *sum, float *mean_out, float *rstd_out, const T *x, const T *residual,
                             const T *gamma, const T *beta, float eps, int width)
{
    SHARED(float, room, ROOM);
    const int64_t at = (int64_t)blockIdx.x * width;
    const int step = (int)blockDim.x * V, first = (int)threadIdx.x * V;
    float s[HELD][V], total = 0;
    UNROLL for (int h = 0; h < HELD; h++)
    {
        const int i = first + h * step;
        if (i >= width) break;
        load(s[h], x + at + i);
        if (residual) {
            float other[V];
            load(other, residual + at + i);
            UNROLL for (int k = 0; k < V; k++) s[h][k] = rounded<T>(s[h][k] + other[k]);
            store(sum + at + i, s[h]);
        }
        UNROLL for (int k = 0; k < V; k++) total += s[h][k];
    }
    const T *kept = residual ? sum : x;
    for (int i = first + HELD * step; i < width; i += step) {
        float v[V];
        load(v, x + at + i);
        if (residual) {
            float other[V];
            load(other, residual + at + i);
            UNROLL for (int k = 0; k < V; k++) v[k] = rounded<T>(v[k] + other[k]);
            store(sum + at + i, v);
        }
        UNROLL for (int k = 0; k < V; k++) total += v[k];
    }
    const float mean = block_sum(total, room) / (float)width;

    float squares = 0;
    UNROLL for (int h = 0; h < HELD; h++)
    {
        if (first + h * step >= width) break;
        UNROLL for (int k = 0; k < V; k++) squares += (s[h][k] - mean) * (s[h][k] - mean);
    }
    for (int i = first + HELD * step; i < width; i += step) {
        float v[V];
        load(v, kept + at + i);
        UNROLL for (int k = 0; k < V; k++) squares += (v[k] - mean) * (v[k] - mean);
    }
    const float rstd = 1.0f / sqrtf(block_sum(squares, room) / (float)width + eps);

    UNROLL for (int h = 0; h < HELD; h++)
    {
        const int i = first + h * step;
        if (i >= width) break;
        float g[V], b[V];
        load(g, gamma + i);
        load(b, beta + i);
        UNROLL for (int k = 0; k < V; k++) g[k] = (s[h][k] - mean) * rstd * g[k] + b[k];
        store(y + at + i, g);
    }
    for (int i = first + HELD * step; i < width; i += step) {
        float v[V], g[V], b[V];
        load(v, kept + at + i);
        load(g, gamma + i);
        load(b, beta + i);
        UNROLL for (int k = 0; k < V; k++) g[k] = (v[k] - mean) * rstd * g[k] + b[k];
        store(y + at + i, g);
    }
    if (threadIdx.x == 0) {
        if (mean_out) mean_out[blockIdx.x] = mean;
        if (rstd_out) rstd_out[blockIdx.x] = rstd;
    }
}

void su_cuda_norm(su_device *d, void *y, void *sum, void *mean, void *rstd, const void *x, const void *residual,
                  const void *gamma, const void *beta, double eps, int64_t rows, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        const bool packs = su_cuda_packs(width, sizeof(T), y, x, residual) &&
                           su_cuda_packs(width, sizeof(T), gamma, beta, residual ? sum : NULL);
        auto go = [&](auto kernel, int v) {
            launch(c, "norm", rows, row_threads(width / v, MOST_THREADS), 0, kernel)(
                (T *)y, (T *)sum, (float *)mean, (float *)rstd, (const T *)x, (const T *)residual, (const T *)gamma,
                (const T *)beta, (float)eps, width);
        };
        auto warps = [&](auto held) {
            launch(c, "norm", su_cuda_parts(rows, NORM_WARPS), NORM_WARPS * WARP, 0,
                   norm_forward_warps<T, PACK<T>, decltype(held)::value>)(
                (T *)y, (T *)sum, (float *)mean, (float *)rstd, (const T *)x, (const T *)residual, (const T *)gamma,
                (const T *)beta, (float)eps, rows, width);
        };
        if (!packs)
            go(norm_forward<T, 1>, 1);
        else if (!by_held(su_cuda_parts(width, WARP * PACK<T>), warps))
            go(norm_forward<T, PACK<T>>, PACK<T>);
    });
}

/* --- backward: a block has some rows, one after the other, and the sums over them of its columns
 *
 *   n = (s - mean) rstd,  g = dy gamma
 *   dx = rstd (g - mean(g) - n mean(g n)),   dgamma += sum dy n,   dbeta += sum dy,   sums += sum dx
 *
 * parts [blocks][2 or 3][width]: each block's sums, joined by column_totals in the order of the blocks. */

template <class T, int V>
__global__ void norm_backward_rows(T *dx, float *parts, const T *dy, const T *s, const float *mean,
                                   const float *rstd, const T *gamma, int64_t rows, int64_t rows_a_block, int width,
                                   bool add)
{
    SHARED(float, room, ROOM);
    const int step = (int)blockDim.x * V, first = (int)threadIdx.x * V;
    const int64_t from = (int64_t)blockIdx.x * rows_a_block, to = from + rows_a_block < rows ? from + rows_a_block : rows;
    float *dgamma = parts + (int64_t)blockIdx.x * 2 * width, *dbeta = dgamma + width;
    float sum_n[HELD][V] = {}, sum_1[HELD][V] = {};
    const bool held = width <= HELD * step;
    for (int i = first; !held && i < width; i += step)
        for (int k = 0; k < V; k++) dgamma[i + k] = dbeta[i + k] = 0;
    for (int64_t r = from; r < to; r++) {
        const int64_t at = r * width;
        const float m = mean[r], scale = rstd[r];
        float g_sum = 0, gn_sum = 0;
        for (int i = first; i < width; i += step) {
            float a[V], b[V], g[V];
            load(a, dy + at + i);
            load(b, s + at + i);
            load(g, gamma + i);
            UNROLL for (int k = 0; k < V; k++)
            {
                g_sum += a[k] * g[k];
                gn_sum += a[k] * g[k] * (b[k] - m);
            }
        }
        g_sum = block_sum(g_sum, room) / (float)width;
        gn_sum = block_sum(gn_sum, room) * scale / (float)width;
        auto column = [&](int i, float *own_n, float *own_1, bool in_memory) {
            float a[V], b[V], g[V], old[V];
            load(a, dy + at + i);
            load(b, s + at + i);
            load(g, gamma + i);
            if (add) load(old, dx + at + i);
            UNROLL for (int k = 0; k < V; k++)
            {
                const float n = (b[k] - m) * scale;
                if (in_memory) {
                    dgamma[i + k] += a[k] * n;
                    dbeta[i + k] += a[k];
                } else {
                    own_n[k] += a[k] * n;
                    own_1[k] += a[k];
                }
                g[k] = scale * (a[k] * g[k] - g_sum - n * gn_sum) + (add ? old[k] : 0.0f);
            }
            store(dx + at + i, g);
        };
        if (held) {
            UNROLL for (int h = 0; h < HELD; h++)
            {
                if (first + h * step < width) column(first + h * step, sum_n[h], sum_1[h], false);
            }
        } else {
            for (int i = first; i < width; i += step) column(i, nullptr, nullptr, true);
        }
    }
    UNROLL for (int h = 0; h < HELD; h++)
    {
        const int i = first + h * step;
        if (!held || i >= width) break;
        UNROLL for (int k = 0; k < V; k++) dgamma[i + k] = sum_n[h][k], dbeta[i + k] = sum_1[h][k];
    }
}

template <class T, int V> DEVICE void unpack_as(float (&x)[V], const uint4 &pack)
{
    const uint32_t words[4] = {pack.x, pack.y, pack.z, pack.w};
    UNROLL for (int i = 0; i < V; i++)
    {
        if constexpr (sizeof(T) == 4)
            x[i] = bits_float(words[i]);
        else
            x[i] = bits_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    }
}

/* The same with a warp a row: no barriers, and each number is read once. A lane holds N packs of the row, and the sums
 * of their columns over the warp's rows; the block's warps add theirs one after the other. */
template <class T, int V, int N, bool SUMS>
__global__ void __launch_bounds__(NORM_WARPS *WARP, N <= 4 ? 3 : 2)
    norm_backward_warps(T *dx, float *parts, const T *dy, const T *s, const float *mean, const float *rstd,
                        const T *gamma, int64_t rows, int64_t rows_a_block, int width, bool add)
{
    constexpr bool EARLY = N <= 3; /* what dx is added to waits in registers, where they are enough */
    constexpr int LISTS = SUMS ? 3 : 2;
    SHARED(float, joined, LISTS *N *WARP *V);
    const int64_t from = (int64_t)blockIdx.x * rows_a_block, to = from + rows_a_block < rows ? from + rows_a_block : rows;
    float sum_n[N][V] = {}, sum_1[N][V] = {}, sum_x[SUMS ? N : 1][V] = {};
    int place[N];
    bool inside[N];
    places_of<V>(place, inside, width);
    for (int64_t r = from + warp_id(); r < to; r += NORM_WARPS) {
        const int64_t at = r * width;
        const float m = mean[r], scale = rstd[r];
        uint4 a[N] = {}, b[N] = {}, old[EARLY ? N : 1] = {}; /* as they are stored: half the registers, for bf16 */
        float g_sum = 0, gn_sum = 0;
        UNROLL for (int h = 0; h < N; h++)
        {
            a[h] = *reinterpret_cast<const uint4 *>(dy + at + place[h]);
            b[h] = *reinterpret_cast<const uint4 *>(s + at + place[h]);
            if (EARLY && add) old[EARLY ? h : 0] = *reinterpret_cast<const uint4 *>(dx + at + place[h]);
            if (!EARLY && add) prefetch(dx + at + place[h]);
        }
        UNROLL for (int h = 0; h < N; h++)
        {
            float d[V], n[V], g[V];
            unpack_as<T>(d, a[h]);
            unpack_as<T>(n, b[h]);
            load(g, gamma + place[h]);
            UNROLL for (int k = 0; k < V; k++)
            {
                d[k] = inside[h] ? d[k] : 0.0f;
                n[k] = (n[k] - m) * scale;
                sum_n[h][k] += d[k] * n[k];
                sum_1[h][k] += d[k];
                g_sum += d[k] * g[k];
                gn_sum += d[k] * g[k] * n[k];
            }
        }
        g_sum = warp_sum(g_sum) / (float)width;
        gn_sum = warp_sum(gn_sum) / (float)width;
        UNROLL for (int h = 0; h < N; h++)
        {
            float d[V], n[V], g[V], before[V] = {};
            unpack_as<T>(d, a[h]);
            unpack_as<T>(n, b[h]);
            load(g, gamma + place[h]);
            if (add && EARLY)
                unpack_as<T>(before, old[EARLY ? h : 0]);
            else if (add)
                load(before, dx + at + place[h]);
            UNROLL for (int k = 0; k < V; k++)
            {
                d[k] = scale * (d[k] * g[k] - g_sum - (n[k] - m) * scale * gn_sum) + before[k];
                if (SUMS) sum_x[SUMS ? h : 0][k] += d[k];
            }
            if (inside[h]) store(dx + at + place[h], d);
        }
    }
    for (int w = 0; w < NORM_WARPS; w++) {
        __syncthreads();
        if (warp_id() != w) continue;
        UNROLL for (int h = 0; h < N; h++)
        {
            UNROLL for (int k = 0; k < V; k++)
            {
                float *n = joined + (h * WARP + lane_id()) * V + k, *one = n + N * WARP * V;
                *n = sum_n[h][k] + (w ? *n : 0.0f);
                *one = sum_1[h][k] + (w ? *one : 0.0f);
                if (SUMS) one[N * WARP * V] = sum_x[SUMS ? h : 0][k] + (w ? one[N * WARP * V] : 0.0f);
            }
        }
    }
    __syncthreads();
    float *own = parts + (int64_t)blockIdx.x * LISTS * width;
    for (int i = (int)threadIdx.x; i < width; i += NORM_WARPS * WARP)
        for (int list = 0; list < LISTS; list++) own[list * width + i] = joined[list * N * WARP * V + i];
}

struct column_lists {
    float *at[3];
};

/* lists.at[k][j] += sum over parts of parts[p][k][j]. A warp has 32 columns and a share of the parts; the warps' shares
 * are joined in order. */
__global__ void __launch_bounds__(TOTAL_WARPS *WARP)
    column_totals(column_lists lists, const float *parts, int64_t count, int columns, int width)
{
    SHARED(float, shares, TOTAL_WARPS *WARP);
    const int j = (int)blockIdx.x * WARP + lane_id(), w = warp_id();
    const int64_t share = (count + TOTAL_WARPS - 1) / TOTAL_WARPS, from = w * share,
                  to = from + share < count ? from + share : count;
    float sum = 0;
    for (int64_t p = from; p < to; p += TOTAL_AHEAD) {
        float x[TOTAL_AHEAD];
        UNROLL for (int k = 0; k < TOTAL_AHEAD; k++) x[k] = j < columns && p + k < to ? parts[(p + k) * columns + j] : 0.0f;
        UNROLL for (int k = 0; k < TOTAL_AHEAD; k++) sum += x[k];
    }
    shares[w * WARP + lane_id()] = sum;
    __syncthreads();
    if (w > 0 || j >= columns) return;
    for (int k = 1; k < TOTAL_WARPS; k++) sum += shares[k * WARP + lane_id()];
    float *totals = j < width ? lists.at[0] : j < 2 * width ? lists.at[1] : lists.at[2];
    if (totals) totals[j % width] += sum;
}

/* Rows of a block, from the number of rows alone. */
static int64_t rows_a_block(int64_t rows)
{
    const int64_t n = su_cuda_parts(rows, PARTIALS);
    return n < ROWS_LEAST ? (int64_t)ROWS_LEAST : n;
}

void su_cuda_join(su_cuda *c, float *const *sums, int lists, const float *parts, int64_t count, int32_t width)
{
    column_lists to = {};
    bool any = false;
    for (int i = 0; i < lists; i++) any |= (to.at[i] = sums[i]) != NULL;
    if (any)
        launch(c, "column sums", su_cuda_parts((int64_t)lists * width, WARP), TOTAL_WARPS * WARP, 0, column_totals)(
            to, parts, count, lists * width, width);
}

void su_cuda_norm_backward(su_device *d, void *dx, bool add, void *sums, void *dgamma, void *dbeta, const void *dy,
                           const void *s, const void *mean, const void *rstd, const void *gamma, int64_t rows,
                           int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    if (rows <= 0) return;
    const int64_t each = rows_a_block(rows), blocks = su_cuda_parts(rows, each);
    const size_t size = su_dtype_size(d->act);
    const bool packs = su_cuda_packs(width, size, dx, dy, s) && su_cuda_packs(width, size, gamma, NULL, NULL);
    const int64_t held = su_cuda_parts(width, WARP * 16 / (int64_t)size); /* packs of a lane */
    const bool on_the_way = sums && packs && held <= SUMMED; /* else registers would not suffice */
    const int lists = on_the_way ? 3 : 2;
    float *parts = (float *)su_cuda_scratch(c, (size_t)blocks * (size_t)lists * (size_t)width * sizeof(float));
    if (!parts) return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        constexpr int V = PACK<T>;
        auto go = [&](auto kernel, int threads) {
            launch(c, "norm_backward", blocks, threads, 0, kernel)(
                (T *)dx, parts, (const T *)dy, (const T *)s, (const float *)mean, (const float *)rstd, (const T *)gamma, rows,
                each, width, add);
        };
        auto warps = [&](auto held) {
            constexpr int N = decltype(held)::value;
            if constexpr (N <= SUMMED) {
                if (on_the_way) return go(norm_backward_warps<T, V, N, true>, NORM_WARPS * WARP);
            }
            go(norm_backward_warps<T, V, N, false>, NORM_WARPS * WARP);
        };
        if (!packs)
            go(norm_backward_rows<T, 1>, row_threads(width, MOST_THREADS));
        else if (!by_held(held, warps))
            go(norm_backward_rows<T, V>, row_threads(width / V, MOST_THREADS));
    });
    float *const to[3] = {(float *)dgamma, (float *)dbeta, (float *)sums};
    su_cuda_join(c, to, lists, parts, blocks, width);
    if (sums && !on_the_way) su_cuda_column_sums(c, (float *)sums, dx, rows, width, width);
}

/* --- column sums: bias gradients. A block has some rows and 32 V columns; its warps take the rows in turn, AHEAD
 * of them at once --- */

enum { SUM_WARPS = 8, SUM_ROWS = 256 /* least rows of a block */, SUM_BLOCKS = 256 /* most blocks over the rows */ };

/* Rows as they are, or those of dy f'(pre), which are stored as dpre on the way, and f(pre) as y where it is
 * wanted. */
template <class T> struct plain_rows {
    const T *x;
    enum { AHEAD = 4 };
    template <int V> DEVICE_MEMBER void fetch(float (&v)[V], int64_t at) const
    {
        load(v, x + at);
    }
};
template <class T> struct slope_rows {
    T *dpre, *y;
    const T *dy, *pre;
    int f;
    enum { AHEAD = 2 };
    template <int V> DEVICE_MEMBER void fetch(float (&v)[V], int64_t at) const
    {
        float x[V];
        load(v, dy + at);
        load(x, pre + at);
        UNROLL for (int k = 0; k < V; k++) v[k] *= slope<T>(x[k], f);
        store(dpre + at, v);
        if (!y) return;
        UNROLL for (int k = 0; k < V; k++) x[k] = activated<T>(x[k], f);
        store(y + at, x);
    }
};

template <int V, class Rows>
__global__ void __launch_bounds__(SUM_WARPS *WARP)
    column_parts(float *parts, Rows x, int64_t rows, int64_t rows_a_block, int width, int64_t stride, int across)
{
    SHARED(float, shares, SUM_WARPS * WARP * V);
    const int64_t block = blockIdx.x / across, from = block * rows_a_block;
    const int64_t to = from + rows_a_block < rows ? from + rows_a_block : rows;
    const int at = (int)((blockIdx.x % across) * WARP + lane_id()) * V;
    float sum[V] = {};
    int64_t r = at < width ? from + warp_id() : to;
    for (; r + (Rows::AHEAD - 1) * SUM_WARPS < to; r += SUM_WARPS * Rows::AHEAD) {
        float v[Rows::AHEAD][V];
        UNROLL for (int n = 0; n < Rows::AHEAD; n++) x.fetch(v[n], (r + n * SUM_WARPS) * stride + at);
        UNROLL for (int n = 0; n < Rows::AHEAD; n++)
        {
            UNROLL for (int k = 0; k < V; k++) sum[k] += v[n][k];
        }
    }
    for (; r < to; r += SUM_WARPS) {
        float v[V];
        x.fetch(v, r * stride + at);
        UNROLL for (int k = 0; k < V; k++) sum[k] += v[k];
    }
    UNROLL for (int k = 0; k < V; k++) shares[(warp_id() * V + k) * WARP + lane_id()] = sum[k];
    __syncthreads();
    if (warp_id() > 0 || at >= width) return;
    UNROLL for (int k = 0; k < V; k++)
    {
        for (int w = 1; w < SUM_WARPS; w++) sum[k] += shares[(w * V + k) * WARP + lane_id()];
        parts[block * width + at + k] = sum[k];
    }
}

template <class Rows>
static void sum_columns(su_cuda *c, const char *what, float *sums, Rows x, int64_t rows, int32_t width, int64_t stride,
                        int packed)
{
    const int64_t least = su_cuda_parts(rows, SUM_BLOCKS), each = least < SUM_ROWS ? (int64_t)SUM_ROWS : least;
    const int64_t blocks = su_cuda_parts(rows, each), across = su_cuda_parts(width, WARP * packed);
    float *parts = (float *)su_cuda_scratch(c, (size_t)blocks * (size_t)width * sizeof(float));
    if (!parts) return;
    auto go = [&](auto kernel) {
        launch(c, what, blocks * across, SUM_WARPS * WARP, 0, kernel)(parts, x, rows, each, width, stride, (int)across);
    };
    if (packed == 8)
        go(column_parts<8, Rows>);
    else if (packed == 4)
        go(column_parts<4, Rows>);
    else
        go(column_parts<1, Rows>);
    su_cuda_join(c, &sums, 1, parts, blocks, width);
}

void su_cuda_column_sums(su_cuda *c, float *sums, const void *x, int64_t rows, int32_t width, int64_t stride)
{
    if (rows <= 0) return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        const bool packs = su_cuda_packs(width, sizeof(T), x, NULL, NULL) && su_cuda_packs(stride, sizeof(T), NULL, NULL, NULL);
        sum_columns(c, "column sums", sums, plain_rows<T>{(const T *)x}, rows, width, stride, packs ? PACK<T> : 1);
    });
}

void su_cuda_slopes_and_sums(su_cuda *c, void *dpre, void *y, float *sums, const void *dy, const void *pre,
                             su_activation f, int64_t rows, int32_t width)
{
    if (rows <= 0) return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        const bool packs = su_cuda_packs(width, sizeof(T), dpre, dy, pre) && su_cuda_packs(width, sizeof(T), y, NULL, NULL);
        sum_columns(c, "act_backward", sums, slope_rows<T>{(T *)dpre, (T *)y, (const T *)dy, (const T *)pre, f}, rows,
                    width, width, packs ? PACK<T> : 1);
    });
}
