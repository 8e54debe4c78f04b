/* LayerNorm over rows, and column sums. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"

enum {
    MOST_THREADS = 512, /* of a row */
    HELD = 2,           /* packs of a row that a thread keeps in registers; longer rows are read again */
    PARTIALS = 2048,    /* most blocks over the rows of a backward pass */
    ROWS_LEAST = 8,     /* of such a block */
};

/* --- forward: a block has a row
 *
 *   s = x + residual,   y = (s - mean) rstd gamma + beta
 *
 * What is normalised is s as it is stored, so that the backward pass sees the same numbers. */

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
        if (packs)
            go(norm_forward<T, PACK<T>>, PACK<T>);
        else
            go(norm_forward<T, 1>, 1);
    });
}

/* --- backward: a block has some rows, one after the other, and the sums over them of its columns
 *
 *   n = (s - mean) rstd,  g = dy gamma
 *   dx = rstd (g - mean(g) - n mean(g n)),   dgamma += sum dy n,   dbeta += sum dy
 *
 * parts [blocks][2][width]: each block's sums, joined by column_totals in the order of the blocks. */

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

/* Column j of `sums` += sum over parts of parts[p][j]; parts are `apart` elements from each other. A warp has
 * 32 columns and a share of the parts; eight warps' shares are joined in order. */
__global__ void column_totals(float *sums, const float *parts, int64_t count, int64_t apart, int width)
{
    SHARED(float, shares, 8 * WARP);
    const int j = (int)blockIdx.x * WARP + lane_id(), w = warp_id();
    const int64_t share = (count + 7) / 8, from = w * share, to = from + share < count ? from + share : count;
    float sum = 0;
    for (int64_t p = from; j < width && p < to; p++) sum += parts[p * apart + j];
    shares[w * WARP + lane_id()] = sum;
    __syncthreads();
    if (w > 0 || j >= width) return;
    for (int k = 1; k < 8; k++) sum += shares[k * WARP + lane_id()];
    sums[j] += sum;
}

/* Rows of a block, from the number of rows alone. */
static int64_t rows_a_block(int64_t rows)
{
    const int64_t n = su_cuda_parts(rows, PARTIALS);
    return n < ROWS_LEAST ? (int64_t)ROWS_LEAST : n;
}

static void join(su_cuda *c, void *sums, const float *parts, int64_t count, int64_t apart, int32_t width)
{
    if (sums)
        launch(c, "column sums", su_cuda_parts(width, WARP), 8 * WARP, 0, column_totals)((float *)sums, parts, count, apart,
                                                                                         width);
}

void su_cuda_norm_backward(su_device *d, void *dx, bool add, void *dgamma, void *dbeta, const void *dy,
                           const void *s, const void *mean, const void *rstd, const void *gamma, int64_t rows,
                           int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    if (rows <= 0) return;
    const int64_t each = rows_a_block(rows), blocks = su_cuda_parts(rows, each);
    float *parts = (float *)su_cuda_scratch(c, (size_t)blocks * 2 * (size_t)width * sizeof(float));
    if (!parts) return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            launch(c, "norm_backward", blocks, row_threads(width / v, MOST_THREADS), 0, kernel)(
                (T *)dx, parts, (const T *)dy, (const T *)s, (const float *)mean, (const float *)rstd, (const T *)gamma, rows,
                each, width, add);
        };
        if (su_cuda_packs(width, sizeof(T), dx, dy, s) && su_cuda_packs(width, sizeof(T), gamma, NULL, NULL))
            go(norm_backward_rows<T, PACK<T>>, PACK<T>);
        else
            go(norm_backward_rows<T, 1>, 1);
    });
    join(c, dgamma, parts, blocks, 2 * (int64_t)width, width);
    join(c, dbeta, parts + width, blocks, 2 * (int64_t)width, width);
}

/* --- column sums: bias gradients. A block has some rows and 32 V columns; its warps take the rows in turn --- */

enum { SUM_WARPS = 8, SUM_ROWS = 256 /* least rows of a block */, SUM_BLOCKS = 256 /* most blocks over the rows */ };

template <class T, int V>
__global__ void column_parts(float *parts, const T *x, int64_t rows, int64_t rows_a_block, int width, int across)
{
    SHARED(float, shares, SUM_WARPS * WARP * V);
    const int64_t block = blockIdx.x / across, from = block * rows_a_block;
    const int64_t to = from + rows_a_block < rows ? from + rows_a_block : rows;
    const int at = (int)((blockIdx.x % across) * WARP + lane_id()) * V;
    float sum[V] = {}, v[V];
    for (int64_t r = from + warp_id(); at < width && r < to; r += SUM_WARPS) {
        load(v, x + r * width + at);
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

void su_cuda_column_sums(su_cuda *c, float *sums, const void *x, int64_t rows, int32_t width)
{
    if (rows <= 0) return;
    const int64_t least = su_cuda_parts(rows, SUM_BLOCKS), each = least < SUM_ROWS ? (int64_t)SUM_ROWS : least;
    const int64_t blocks = su_cuda_parts(rows, each);
    float *parts = (float *)su_cuda_scratch(c, (size_t)blocks * (size_t)width * sizeof(float));
    if (!parts) return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            const int64_t across = su_cuda_parts(width, WARP * v);
            launch(c, "column sums", blocks * across, SUM_WARPS * WARP, 0, kernel)(parts, (const T *)x, rows, each, width,
                                                                                   (int)across);
        };
        if (su_cuda_packs(width, sizeof(T), x, NULL, NULL))
            go(column_parts<T, PACK<T>>, PACK<T>);
        else
            go(column_parts<T, 1>, 1);
    });
    join(c, sums, parts, blocks, width, width);
}
