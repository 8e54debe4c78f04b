/* InfoNCE over all pairs of a batch.
 *
 * Pass 1 keeps for every row and every column of S = e^s X Y^T the largest score and the sum of exp(score -
 * largest). Pass 2 forms the tiles again and makes G = P_rows + P_columns - 2 I from them:
 *
 *     dX += weight e^s/(2N) G Y
 *     dY += weight e^s/(2N) G^T X
 *     ds += weight/(2N) sum_ij G_ij S_ij
 *
 * 8 N^2 D operations in all. Memory: one tile of S, one of G, 6 N numbers, and on a bf16 device X and Y once
 * more in bf16. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/pairs.h"

enum {
    ROW_THREADS = 256,
    COLUMN_ROWS = 128, /* rows of a tile over which a block forms statistics of its columns */
    COLUMN_LANES = 8,  /* threads that share a column */
    THREADS = 256,
};

static constexpr float NEVER = -1e30f; /* a score below every real one */

struct statistics {
    float *row_most, *row_sum, *column_most, *column_sum; /* [n] */
    float *own;                                           /* [n]: s_ii */
    const float *scale;                                   /* e^s */
};

__global__ void infonce_start(statistics s, float *scale, const float *log_scale, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0) *scale = (float)exp((double)*log_scale);
    if (i >= n) return;
    s.row_most[i] = s.column_most[i] = NEVER;
    s.row_sum[i] = s.column_sum[i] = 0;
}

/* From floats to rows of bf16, zeros behind the width. */
__global__ void pair_rows_bf16(bf16 *to, const float *from, int64_t n, int width, int stride)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, r = i / stride;
    const int column = (int)(i % stride);
    if (r < n) put(to[i], column < width ? from[r * width + column] : 0.0f);
}

/* (most, sum) takes in (other_most, other_sum). */
DEVICE void join(float &most, float &sum, float other_most, float other_sum)
{
    const float both = fmaxf(most, other_most);
    sum = sum * expf(most - both) + other_sum * expf(other_most - both);
    most = both;
}

/* A block has a row of the tile. */
__global__ void __launch_bounds__(ROW_THREADS) infonce_row_statistics(statistics s, const float *tile, pair_tile t)
{
    SHARED(float, room, ROOM);
    const int64_t r = blockIdx.x, i = t.row + r;
    const float scale = *s.scale, *row = tile + r * t.stride;
    float most = NEVER, sum = 0;
    for (int j = (int)threadIdx.x; j < t.columns; j += ROW_THREADS) {
        const float x = row[j] * scale;
        most = fmaxf(most, x);
        if (t.column + j == i) s.own[i] = x;
    }
    most = block_max(most, room);
    for (int j = (int)threadIdx.x; j < t.columns; j += ROW_THREADS) sum += expf(row[j] * scale - most);
    sum = block_sum(sum, room);
    if (threadIdx.x > 0) return;
    float all = s.row_most[i], total = s.row_sum[i];
    join(all, total, most, sum);
    s.row_most[i] = all;
    s.row_sum[i] = total;
}

/* A block has 32 columns and COLUMN_ROWS rows of the tile. parts [2][blocks down][columns]: most, then sums. */
__global__ void __launch_bounds__(WARP *COLUMN_LANES)
    infonce_column_parts(float *parts, const float *tile, const float *scale_at, pair_tile t, int down)
{
    SHARED(float, mosts, WARP *COLUMN_LANES);
    SHARED(float, sums, WARP *COLUMN_LANES);
    const int64_t part = blockIdx.x % down, j = (int64_t)(blockIdx.x / down) * WARP + lane_id();
    const int64_t from = part * COLUMN_ROWS, to = from + COLUMN_ROWS < t.rows ? from + COLUMN_ROWS : t.rows;
    const float scale = *scale_at;
    float most = NEVER, sum = 0;
    for (int64_t r = from + warp_id(); j < t.columns && r < to; r += COLUMN_LANES)
        most = fmaxf(most, tile[r * t.stride + j] * scale);
    for (int64_t r = from + warp_id(); j < t.columns && r < to; r += COLUMN_LANES)
        sum += expf(tile[r * t.stride + j] * scale - most);
    mosts[threadIdx.x] = most;
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp_id() > 0 || j >= t.columns) return;
    for (int w = 1; w < COLUMN_LANES; w++) join(most, sum, mosts[w * WARP + lane_id()], sums[w * WARP + lane_id()]);
    parts[part * t.columns + j] = most;
    parts[(down + part) * t.columns + j] = sum;
}

__global__ void infonce_column_join(statistics s, const float *parts, pair_tile t, int down)
{
    const int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= t.columns) return;
    float most = s.column_most[t.column + j], sum = s.column_sum[t.column + j];
    for (int p = 0; p < down; p++) join(most, sum, parts[p * t.columns + j], parts[(down + p) * t.columns + j]);
    s.column_most[t.column + j] = most;
    s.column_sum[t.column + j] = sum;
}

/* list[i] = (lse of row i - s_ii) + (lse of column i - s_ii), put together around the largest scores; then the
 * sums become their inverses. */
__global__ void infonce_losses(double *list, statistics s, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    list[i] = ((double)s.row_most[i] - (double)s.own[i]) + log((double)s.row_sum[i]) +
              ((double)s.column_most[i] - (double)s.own[i]) + log((double)s.column_sum[i]);
    s.row_sum[i] = 1.0f / s.row_sum[i];
    s.column_sum[i] = 1.0f / s.column_sum[i];
}

/* A block has a row of the tile: g = e^s G, list[i] += sum of the row of G S. */
template <class T>
__global__ void __launch_bounds__(ROW_THREADS)
    infonce_gradients(T *g, double *list, statistics s, const float *tile, pair_tile t)
{
    SHARED(double, room, ROOM);
    const int64_t r = blockIdx.x, i = t.row + r;
    const float scale = *s.scale, *row = tile + r * t.stride, most = s.row_most[i], inverse = s.row_sum[i];
    double sum = 0;
    for (int j = (int)threadIdx.x; j < t.columns; j += ROW_THREADS) {
        const float x = row[j] * scale;
        float p = expf(x - most) * inverse + expf(x - s.column_most[t.column + j]) * s.column_sum[t.column + j];
        if (t.column + j == i) p -= 2.0f;
        sum += (double)(p * x);
        put(g[r * t.stride + j], p * scale);
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) list[i] = (t.column > 0 ? list[i] : 0.0) + sum;
}

/* Everything of one call. */
typedef struct {
    su_cuda *c;
    pair_rows x, y;
    int64_t n, width;
    statistics s;
    float *tile, *parts;
    void *g;
    double *list;
} infonce_work;

static void statistics_pass(const infonce_work *w)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    do {
        const int64_t down = su_cuda_parts(t.rows, COLUMN_ROWS);
        pair_product(c, w->tile, &t, w->x, w->y, w->width);
        launch(c, "infonce", t.rows, ROW_THREADS, 0, infonce_row_statistics)(w->s, w->tile, t);
        launch(c, "infonce", down * su_cuda_parts(t.columns, WARP), WARP * COLUMN_LANES, 0, infonce_column_parts)(
            w->parts, w->tile, w->s.scale, t, (int)down);
        launch(c, "infonce", su_cuda_parts(t.columns, THREADS), THREADS, 0, infonce_column_join)(w->s, w->parts, t, (int)down);
    } while (pair_next(&t));
}

static void gradient_pass(const infonce_work *w, float *dx, float *dy, float alpha)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    do {
        pair_product(c, w->tile, &t, w->x, w->y, w->width);
        by_type(c, [&](auto zero) {
            using T = decltype(zero);
            launch(c, "infonce", t.rows, ROW_THREADS, 0, infonce_gradients<T>)((T *)w->g, w->list, w->s, w->tile, t);
        });
        if (dx) pair_collect(c, dx, w->g, &t, false, w->y, w->width, alpha);
        if (dy) pair_collect(c, dy, w->g, &t, true, w->x, w->width, alpha);
    } while (pair_next(&t));
}

static pair_rows readable(su_cuda *c, void *copy, const void *from, int64_t n, int32_t width)
{
    const int64_t stride = pair_stride(width);
    if (!copy) return pair_rows{from, width};
    launch(c, "infonce", su_cuda_parts(n * stride, THREADS), THREADS, 0, pair_rows_bf16)((bf16 *)copy, (const float *)from, n,
                                                                                         width, (int)stride);
    return pair_rows{copy, stride};
}

su_status su_cuda_infonce(su_device *d, void *loss, void *dx, void *dy, void *d_log_scale, const void *x,
                          const void *y, const void *log_scale, double weight, int64_t n, int32_t width,
                          su_error *err)
{
    su_cuda *c = su_cuda_of(d);
    if (n < 1 || width < 1)
        return su_fail(err, SU_EINVAL, "InfoNCE needs at least one pair and one dimension, not %lld x %d",
                       (long long)n, (int)width);
    if (n == 1) return SU_OK; /* one candidate: its probability is 1 */
    const bool copies = d->act == SU_DTYPE_BF16;
    const int64_t area = pair_tile_rows(n) * pair_tile_stride(n), down = su_cuda_parts(pair_tile_rows(n), COLUMN_ROWS);
    const size_t rows = copies ? su_cuda_room(n * pair_stride(width), su_dtype_size(d->act)) : 0;
    const size_t tile = su_cuda_room(area, sizeof(float)), g = su_cuda_room(area, su_dtype_size(d->act));
    const size_t parts = su_cuda_room(2 * down * pair_tile_stride(n), sizeof(float));
    const size_t list = su_cuda_room(n, sizeof(double)), numbers = su_cuda_room(n, sizeof(float));
    char *m = (char *)su_cuda_scratch(c, 2 * rows + tile + g + parts + list + 5 * numbers + su_cuda_room(1, sizeof(float)));
    if (!m) return su_cuda_take(c, err, "InfoNCE", n);
    infonce_work w = {};
    w.c = c, w.n = n, w.width = width;
    w.x = readable(c, copies ? m : NULL, x, n, width);
    w.y = readable(c, copies ? m + rows : NULL, y, n, width);
    m += 2 * rows;
    w.tile = (float *)(void *)m, m += tile;
    w.g = m, m += g;
    w.parts = (float *)(void *)m, m += parts;
    w.list = (double *)(void *)m, m += list;
    float **arrays[] = {&w.s.row_most, &w.s.row_sum, &w.s.column_most, &w.s.column_sum, &w.s.own};
    for (float **a : arrays) *a = (float *)(void *)m, m += numbers;
    float *scale = (float *)(void *)m;
    w.s.scale = scale;
    launch(c, "infonce", su_cuda_parts(n, THREADS), THREADS, 0, infonce_start)(w.s, scale, (const float *)log_scale, n);
    statistics_pass(&w);
    launch(c, "infonce", su_cuda_parts(n, THREADS), THREADS, 0, infonce_losses)(w.list, w.s, n);
    const double share = weight / (2 * (double)n);
    su_cuda_add_loss(c, loss, share, w.list, n);
    if (!dx && !d_log_scale) return SU_OK;
    gradient_pass(&w, (float *)dx, (float *)dy, (float)share);
    if (d_log_scale) su_cuda_add_loss(c, d_log_scale, share, w.list, n);
    return SU_OK;
}
