/* InfoNCE over all pairs of a batch.
 *
 * Pass 1 keeps for every row and every column of S = e^s X Y^T the largest score and the sum of exp(score -
 * largest). Pass 2 forms the tiles again and makes G = P_rows + P_columns - 2 I from them:
 *
 *     dX += weight e^s/(2N) G Y
 *     dY += weight e^s/(2N) G^T X
 *     ds += weight/(2N) sum_ij G_ij S_ij
 *
 * 8 N^2 D operations in all. Memory: one tile of S, unless its scores stay in registers (pairs_hopper.h), one of G, 7 N numbers,
 * statistics of the tile's pieces, and on a bf16 device X and Y once more in bf16. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/pairs_hopper.h"

enum {
    ROW_THREADS = 256,
    V = PACKED_COLUMNS,
    THREADS = 256,
};

static constexpr float NEVER = -1e30f; /* a score below every real one */
static constexpr float NEAR = 40, SMALL = 4e-18f; /* e^-NEAR; a sum of e^-2NEAR still has all its digits */
static constexpr int TIMES = 256;                  /* scores further apart do not meet with temperatures */
static constexpr uint32_t ALL_DONE = (1u << (PARTS * FOLDED + 2)) - 1;

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

/* V scores of a row of the tile, scaled; NEVER behind its end. */
DEVICE void load_scores(float (&x)[V], const float *row, int64_t j, int64_t columns, float scale)
{
    if (j + V <= columns) {
        load(x, row + j);
        UNROLL for (int e = 0; e < V; e++) x[e] *= scale;
    } else {
        UNROLL for (int e = 0; e < V; e++) x[e] = j + e < columns ? row[j + e] * scale : NEVER;
    }
}

/* A block has a piece: a warp every eighth row, then a thread half a column. Of each the largest and the sum. */
template <class T>
__global__ void __launch_bounds__(PIECE_THREADS)
    infonce_statistics(pair_parts to, float *own, const float *tile, const float *scale_at, pair_tile t)
{
    SHARED(float, piece, PIECE_ROWS *PIECE_COLUMNS);
    SHARED(float, mosts, PIECE_THREADS);
    SHARED(float, sums, PIECE_THREADS);
    const int across = (int)(blockIdx.x % to.across), down = (int)(blockIdx.x / to.across);
    const int64_t row = (int64_t)down * PIECE_ROWS, column = (int64_t)across * PIECE_COLUMNS, j = column + lane_id() * V;
    const float scale = *scale_at;
    float x[PIECE_EACH][V];
    UNROLL for (int i = 0; i < PIECE_EACH; i++)
    {
        const int64_t r = row + warp_id() + i * PIECE_WARPS;
        load_scores(x[i], tile + r * t.stride, j, r < t.rows ? t.columns : 0, scale);
        store(piece + (warp_id() + i * PIECE_WARPS) * PIECE_COLUMNS + lane_id() * V, x[i]);
    }
    UNROLL for (int i = 0; i < PIECE_EACH; i++)
    {
        const int64_t r = row + warp_id() + i * PIECE_WARPS;
        float most = x[i][0], sum = 0;
        UNROLL for (int e = 1; e < V; e++) most = fmaxf(most, x[i][e]);
        most = warp_max(most);
        UNROLL for (int e = 0; e < V; e++) sum += exp_of<T>(x[i][e] - most);
        sum = warp_sum(sum);
        UNROLL for (int e = 0; e < V; e++)
            if (r < t.rows && j + e < t.columns && t.row + r == t.column + j + e) own[t.row + r] = x[i][e];
        if (lane_id() > 0 || r >= t.rows) continue;
        to.rows[across * t.rows + r] = most;
        to.rows[(to.across + across) * t.rows + r] = sum;
    }
    __syncthreads();
    const int c = (int)threadIdx.x % PIECE_COLUMNS, first = (int)threadIdx.x / PIECE_COLUMNS * (PIECE_ROWS / PIECE_HALVES);
    float most = NEVER, sum = 0;
    for (int r = first; r < first + PIECE_ROWS / PIECE_HALVES; r++) most = fmaxf(most, piece[r * PIECE_COLUMNS + c]);
    for (int r = first; r < first + PIECE_ROWS / PIECE_HALVES; r++) sum += exp_of<T>(piece[r * PIECE_COLUMNS + c] - most);
    mosts[threadIdx.x] = most;
    sums[threadIdx.x] = sum;
    __syncthreads();
    if ((int)threadIdx.x >= PIECE_COLUMNS || column + c >= t.columns) return;
    for (int h = 1; h < PIECE_HALVES; h++) join(most, sum, mosts[h * PIECE_COLUMNS + c], sums[h * PIECE_COLUMNS + c]);
    to.columns[down * t.columns + column + c] = most;
    to.columns[(to.down + down) * t.columns + column + c] = sum;
}

/* A warp has a sample: its score with itself, which no product has to look for then. */
__global__ void __launch_bounds__(THREADS) infonce_own(statistics s, const bf16 *x, const bf16 *y, int64_t n, int64_t stride)
{
    const int64_t i = (int64_t)blockIdx.x * (THREADS / WARP) + warp_id();
    if (i >= n) return;
    float sum = 0;
    for (int64_t k = lane_id(); k < stride; k += WARP) sum += get(x[i * stride + k]) * get(y[i * stride + k]);
    sum = warp_sum(sum);
    if (lane_id() == 0) s.own[i] = sum * *s.scale;
}

/* The same from a product's registers: exponentials around the piece's largest score, which serve all rows and columns where they are
 * numbers of full precision. For those that have nothing but smaller scores, again around one that is NEAR less, and so on. */
struct statistics_finish {
    static constexpr bool STAGED = false;
    pair_parts to;
    const float *scale_at;
    pair_tile t;

    /* Sums of e^(score - most): of rows and columns without any yet that have something NEAR, or of all that are left. done: a bit for
     * each of a lane's folded columns, then of its rows. */
    DEVICE_MEMBER void around(uint32_t &done, const float (&d)[GROUP_NUMBERS], const piece_place &p, float by, float most, bool last) const
    {
        const float shift = most * LOG2_E;
        const int64_t across = p.left / TILE_COLUMNS, down = p.first / WARP_ROWS;
        float sums[2] = {};
        auto now = [&](int bit, float sum) {
            const bool first = !(done >> bit & 1) && (last || !(sum < SMALL));
            done |= (uint32_t)first << bit;
            return first;
        };
        UNROLL for (int part = 0; part < PARTS; part++)
        {
            float of_columns[PART_COLUMNS];
            UNROLL for (int j = 0; j < PART_PACKS; j++)
            {
                float e[4];
                UNROLL for (int i = 0; i < 4; i++) e[i] = power_of_two(fmaf(d[4 * (part * PART_PACKS + j) + i], by, -shift));
                UNROLL for (int r = 0; r < 2; r++) sums[r] += e[2 * r] + e[2 * r + 1];
                UNROLL for (int i = 0; i < 2; i++) of_columns[2 * j + i] = e[i] + e[2 + i];
            }
            fold_columns(of_columns);
            UNROLL for (int k = 0; k < FOLDED; k++)
            {
                const int64_t column = p.left + folded_column(part, k);
                if (!now(part * FOLDED + k, of_columns[k])) continue;
                to.columns[down * t.columns + column] = most;
                to.columns[(to.down + down) * t.columns + column] = of_columns[k];
            }
        }
        UNROLL for (int r = 0; r < 2; r++)
        {
            const int64_t row = p.row + 8 * r;
            const float sum = row_sum(sums[r]);
            if (!now(PARTS * FOLDED + r, sum) || lane_id() % 4 > 0) continue;
            to.rows[across * t.rows + row] = most;
            to.rows[(to.across + across) * t.rows + row] = sum;
        }
    }

    DEVICE_MEMBER void prepare(int64_t, int64_t) {}
    DEVICE_MEMBER void end() {}
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &) const
    {
        const piece_place p(t, row, column);
        const float scale = *scale_at;
        uint32_t done = 0; /* so are those that are not there */
        if (!p.there) return;
        if (!p.plain) {
            UNROLL for (int i = 0; i < GROUP_NUMBERS; i++) d[i] = p.real(i) ? d[i] : -INFINITY;
            UNROLL for (int r = 0; r < 2; r++) done |= (uint32_t)(p.row + 8 * r >= t.rows) << (PARTS * FOLDED + r);
            UNROLL for (int k = 0; k < PARTS * FOLDED; k++)
                done |= (uint32_t)(p.left + folded_column(k / FOLDED, k % FOLDED) >= t.columns) << k;
        }
        float most = d[0];
        UNROLL for (int i = 1; i < GROUP_NUMBERS; i++) most = fmaxf(most, d[i]);
        most = warp_max(most) * scale;
        for (int k = 1; __ballot_sync(ALL_LANES, done != ALL_DONE); k++, most -= NEAR) around(done, d, p, scale * LOG2_E, most, k == TIMES);
    }
};

/* A warp has every eighth piece of 32 rows of the tile, or behind these columns: their statistics take in those of the pieces. */
__global__ void __launch_bounds__(JOIN_WARPS *WARP) infonce_join(statistics s, pair_parts p, pair_tile t)
{
    SHARED(float, other_mosts, JOIN_WARPS *WARP);
    SHARED(float, other_sums, JOIN_WARPS *WARP);
    const int64_t i = (int64_t)blockIdx.x * WARP + lane_id();
    const bool rows = i < t.rows, there = i < t.rows + t.columns;
    const int64_t at = rows ? i : i - t.rows, n = rows ? t.rows : t.columns, to = at + (rows ? t.row : t.column);
    const int count = there ? rows ? p.across : p.down : 0;
    const float *from = rows ? p.rows : p.columns;
    float most = NEVER, sum = 0;
    UNROLL_BY(4) for (int k = warp_id(); k < count; k += JOIN_WARPS) join(most, sum, from[k * n + at], from[(count + k) * n + at]);
    other_mosts[threadIdx.x] = most;
    other_sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp_id() > 0 || !there) return;
    float *mosts = rows ? s.row_most : s.column_most, *sums = rows ? s.row_sum : s.column_sum;
    join(most, sum, mosts[to], sums[to]);
    for (int w = 1; w < JOIN_WARPS; w++) join(most, sum, other_mosts[w * WARP + lane_id()], other_sums[w * WARP + lane_id()]);
    mosts[to] = most;
    sums[to] = sum;
}

/* list[i] = (lse of row i - s_ii) + (lse of column i - s_ii), put together around the largest scores; then the
 * sums become their inverses, or (logs) log2 of the sum of e^score. */
__global__ void infonce_losses(double *list, statistics s, bool logs, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    list[i] = ((double)s.row_most[i] - (double)s.own[i]) + log((double)s.row_sum[i]) +
              ((double)s.column_most[i] - (double)s.own[i]) + log((double)s.column_sum[i]);
    s.row_sum[i] = logs ? fmaf(s.row_most[i], LOG2_E, log2f(s.row_sum[i])) : 1.0f / s.row_sum[i];
    s.column_sum[i] = logs ? fmaf(s.column_most[i], LOG2_E, log2f(s.column_sum[i])) : 1.0f / s.column_sum[i];
}

/* A block has a row of the tile: g = e^s G, list[i] += sum of the row of G S. */
template <class T>
__global__ void __launch_bounds__(ROW_THREADS)
    infonce_gradients(T *g, double *list, statistics s, const float *tile, pair_tile t)
{
    SHARED(double, room, ROOM);
    const int64_t r = blockIdx.x, i = t.row + r;
    const float scale = *s.scale, *row = tile + r * t.stride, most = s.row_most[i], inverse = s.row_sum[i];
    const float *mosts = s.column_most + t.column, *inverses = s.column_sum + t.column;
    T *to = g + r * t.stride;
    double sum = 0;
    auto one = [&](float x, int64_t j, float column_most, float column_inverse) {
        const float p = exp_of<T>(x - most) * inverse + exp_of<T>(x - column_most) * column_inverse;
        return t.column + j == i ? p - 2.0f : p;
    };
    for (int64_t j = (int64_t)threadIdx.x * V; j < t.columns; j += ROW_THREADS * V) {
        float x[V], m[V], n[V], some = 0;
        load_scores(x, row, j, t.columns, scale);
        if (j + V <= t.columns) {
            load(m, mosts + j);
            load(n, inverses + j);
            UNROLL for (int e = 0; e < V; e++)
            {
                const float p = one(x[e], j + e, m[e], n[e]);
                some += p * x[e];
                x[e] = p * scale;
            }
            store(to + j, x);
        } else {
            for (int e = 0; j + e < t.columns; e++) {
                const float y = row[j + e] * scale, p = one(y, j + e, mosts[j + e], inverses[j + e]);
                some += p * y;
                put(to[j + e], p * scale);
            }
        }
        sum += (double)some;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) list[i] = (t.column > 0 ? list[i] : 0.0) + sum;
}

/* The same from a product's registers, G being the output; parts.rows [across][t.rows] receive the sums of G S. Logarithms are in row_sum and column_sum. */
struct gradients_finish {
    static constexpr bool STAGED = false;
    pair_parts to;
    statistics s;
    pair_tile t;

    template <bool PLAIN> DEVICE_MEMBER void form(const float (&d)[GROUP_NUMBERS], const piece_place &p, const outlet &out) const
    {
        const float scale = *s.scale, by = scale * LOG2_E;
        float sums[2] = {}, of_rows[2];
        UNROLL for (int r = 0; r < 2; r++)
            of_rows[r] = PLAIN || p.row + 8 * r < t.rows ? s.row_sum[t.row + p.row + 8 * r] : INFINITY;
        UNROLL for (int j0 = 0; j0 < TILE_COLUMNS / 8; j0 += BOX_PACKS)
        {
            uint32_t words[2][BOX_PACKS];
            UNROLL for (int j = j0; j < j0 + BOX_PACKS; j++)
            {
                float of_columns[2], g_of[2][2];
                UNROLL for (int e = 0; e < 2; e++)
                {
                    const int64_t at = p.column + 8 * j + e;
                    of_columns[e] = PLAIN || at < t.columns ? s.column_sum[t.column + at] : INFINITY;
                }
                UNROLL for (int i = 0; i < 4; i++)
                {
                    const float x = d[4 * j + i];
                    float both = power_of_two(fmaf(x, by, -of_rows[i / 2])) + power_of_two(fmaf(x, by, -of_columns[i % 2]));
                    if (!PLAIN && 4 * j + i == p.own[i / 2]) both -= 2;
                    if (!PLAIN && !p.real(4 * j + i)) both = 0;
                    sums[i / 2] = fmaf(both, x, sums[i / 2]);
                    g_of[i / 2][i % 2] = both * scale;
                }
                UNROLL for (int r = 0; r < 2; r++) words[r][j - j0] = pack_bf16(g_of[r][0], g_of[r][1]);
            }
            out.write(j0 / BOX_PACKS % BOXES, p.first, p.left + 8 * j0, words);
        }
        UNROLL for (int r = 0; r < 2; r++)
        {
            const float sum = row_sum(sums[r]) * scale;
            if (lane_id() % 4 == 0 && p.row + 8 * r < t.rows) to.rows[p.left / TILE_COLUMNS * t.rows + p.row + 8 * r] = sum;
        }
    }

    DEVICE_MEMBER void prepare(int64_t, int64_t) {}
    DEVICE_MEMBER void end() {}
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &out) const
    {
        const piece_place p(t, row, column);
        if (!p.there) return;
        if (p.plain)
            form<true>(d, p, out);
        else
            form<false>(d, p, out);
    }
};

/* list[i] += those sums. */
__global__ void infonce_rows(double *list, const float *parts, int across, pair_tile t)
{
    const int64_t r = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (r >= t.rows) return;
    double sum = t.column > 0 ? list[t.row + r] : 0.0;
    for (int k = 0; k < across; k++) sum += (double)parts[k * t.rows + r];
    list[t.row + r] = sum;
}

/* Everything of one call. */
typedef struct {
    su_cuda *c;
    pair_rows x, y;
    int64_t n, width;
    bool registers; /* scores stay in those of the products */
    statistics s;
    float *tile;    /* NULL then */
    pair_parts p;
    void *g;
    double *list;
} infonce_work;

static void statistics_pass(const infonce_work *w)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    if (w->registers)
        launch(c, "infonce", su_cuda_parts(w->n, THREADS / WARP), THREADS, 0, infonce_own)(
            w->s, (const bf16 *)w->x.at, (const bf16 *)w->y.at, w->n, w->x.stride);
    do {
        const pair_parts p = w->registers ? pair_parts_of(w->p, &t, WARP_ROWS, TILE_COLUMNS)
                                          : pair_parts_of(w->p, &t, PIECE_ROWS, PIECE_COLUMNS);
        if (w->registers) {
            pair_product_for(c, &t, w->x, w->y, w->width, statistics_finish{p, w->s.scale, t});
        } else {
            pair_product(c, w->tile, &t, w->x, w->y, w->width);
            by_type(c, [&](auto zero) {
                launch(c, "infonce", (int64_t)p.across * p.down, PIECE_THREADS, 0, infonce_statistics<decltype(zero)>)(
                    p, w->s.own, w->tile, w->s.scale, t);
            });
        }
        launch(c, "infonce", su_cuda_parts(t.rows + t.columns, WARP), JOIN_WARPS * WARP, 0, infonce_join)(w->s, p, t);
    } while (pair_next(&t));
}

static void gradient_pass(const infonce_work *w, float *dx, float *dy, float alpha)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    do {
        if (w->registers) {
            const pair_parts p = pair_parts_of(w->p, &t, WARP_ROWS, TILE_COLUMNS);
            pair_product_for(c, &t, w->x, w->y, w->width, gradients_finish{p, w->s, t}, {w->g, t.stride});
            launch(c, "infonce", su_cuda_parts(t.rows, THREADS), THREADS, 0, infonce_rows)(w->list, p.rows, p.across, t);
        } else {
            pair_product(c, w->tile, &t, w->x, w->y, w->width);
            by_type(c, [&](auto zero) {
                using T = decltype(zero);
                launch(c, "infonce", t.rows, ROW_THREADS, 0, infonce_gradients<T>)((T *)w->g, w->list, w->s, w->tile, t);
            });
        }
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
    const bool copies = d->act == SU_DTYPE_BF16, registers = pairs_in_registers(c);
    const int64_t area = pair_tile_rows(n) * pair_tile_stride(n);
    const size_t rows = copies ? su_cuda_room(n * pair_stride(width), su_dtype_size(d->act)) : 0;
    const size_t tile = registers ? 0 : su_cuda_room(area, sizeof(float)), g = su_cuda_room(area, su_dtype_size(d->act));
    const size_t row_parts = su_cuda_room(pair_row_parts(n), sizeof(float));
    const size_t column_parts = su_cuda_room(pair_column_parts(n), sizeof(float));
    const size_t list = su_cuda_room(n, sizeof(double)), numbers = su_cuda_room(n, sizeof(float));
    char *m = (char *)su_cuda_scratch(c, 2 * rows + tile + g + row_parts + column_parts + list + 5 * numbers +
                                             su_cuda_room(1, sizeof(float)));
    if (!m) return su_cuda_take(c, err, "InfoNCE", n);
    infonce_work w = {};
    w.c = c, w.n = n, w.width = width, w.registers = registers;
    w.x = readable(c, copies ? m : NULL, x, n, width);
    w.y = readable(c, copies ? m + rows : NULL, y, n, width);
    m += 2 * rows;
    w.tile = registers ? NULL : (float *)(void *)m, m += tile;
    w.g = m, m += g;
    w.p.rows = (float *)(void *)m, m += row_parts;
    w.p.columns = (float *)(void *)m, m += column_parts;
    w.list = (double *)(void *)m, m += list;
    float **arrays[] = {&w.s.row_most, &w.s.row_sum, &w.s.column_most, &w.s.column_sum, &w.s.own};
    for (float **a : arrays) *a = (float *)(void *)m, m += numbers;
    float *scale = (float *)(void *)m;
    w.s.scale = scale;
    launch(c, "infonce", su_cuda_parts(n, THREADS), THREADS, 0, infonce_start)(w.s, scale, (const float *)log_scale, n);
    statistics_pass(&w);
    launch(c, "infonce", su_cuda_parts(n, THREADS), THREADS, 0, infonce_losses)(w.list, w.s, registers, n);
    const double share = weight / (2 * (double)n);
    su_cuda_add_loss(c, loss, share, w.list, n);
    if (!dx && !d_log_scale) return SU_OK;
    gradient_pass(&w, (float *)dx, (float *)dy, (float)share);
    if (d_log_scale) su_cuda_add_loss(c, d_log_scale, share, w.list, n);
    return SU_OK;
}
