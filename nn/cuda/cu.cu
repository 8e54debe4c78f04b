/* L_CU over all pairs of a batch.
 *
 * With e_ij = exp(-2 |u_i - u_j|^2) and Z = sum_{i<j} e_ij, both forms have the same gradient at u. A pass over
 * the tiles collects r_i = sum_j e_ij and a_i = sum_j e_ij u_j for every row; Z = sum_i r_i / 2 follows, and then
 *
 *     du_i  = -4/Z sum_{j != i} e_ij (u_i - u_j) = -4/Z (r_i u_i - a_i)
 *     dmu_i = (du_i - u_i <u_i, du_i>) / |mu_i|         when normalised, 0 for a centroid at 0; else du_i
 *     dz_i^m = dmu_i / M
 *
 * Raw centroids may lie so far apart that every e_ij is 0 in floating point: then a first pass finds the
 * largest exponent of all pairs, and e is kept in units of its exponential. (Normalised ones have exponents of
 * -8 and more.)
 *
 * e is symmetric: tiles on and above the diagonal are formed, and those above it count for their rows and for their
 * columns.
 *
 * u is used as the products see it, e as it is stored for them: so a pair of equal centroids pushes with
 * exactly nothing. 3 N^2 D operations and the diagonal tiles' lower halves, 4 with the first pass. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/pairs_hopper.h"

enum { ROW_THREADS = 256, ROW_WARPS = 4, SUM_THREADS = 1024, V = PACKED_COLUMNS };

static constexpr float NEVER = -1e30f; /* the exponent of what is no pair */

struct streams {
    const float *z[SU_MAX_STREAMS];
    float *dz[SU_MAX_STREAMS];
    int count;
};

struct centroids {
    void *u;        /* act [n][stride] */
    float *square;  /* [n]: |u_i|^2 */
    float *length;  /* [n]: |mu_i| */
    int64_t stride; /* of u */
};

/* A warp has a row. */
template <class T>
__global__ void cu_centroids(centroids m, streams s, bool normalised, int64_t n, int width)
{
    const int64_t i = (int64_t)blockIdx.x * ROW_WARPS + warp_id();
    if (i >= n) return;
    T *u = static_cast<T *>(m.u) + i * m.stride;
    auto mean = [&](int k) {
        float sum = s.z[0][i * width + k];
        for (int v = 1; v < s.count; v++) sum += s.z[v][i * width + k];
        return sum * (1.0f / (float)s.count);
    };
    float length = 0, square = 0;
    for (int k = lane_id(); k < width; k += WARP) length += mean(k) * mean(k);
    length = sqrtf(warp_sum(length));
    const float scale = normalised ? 1.0f / fmaxf(length, 1e-12f) : 1.0f;
    for (int k = lane_id(); k < m.stride; k += WARP) {
        const float x = k < width ? rounded<T>(mean(k) * scale) : 0.0f;
        put(u[k], x);
        square += x * x;
    }
    square = warp_sum(square);
    if (lane_id() > 0) return;
    m.square[i] = square;
    m.length[i] = length;
}

/* -2 |u_i - u_j|^2 of tile element x = <u_i, u_j>; the diagonal is no pair, and rounding gives no distance
 * below 0. */
DEVICE float exponent(float x, float own, float other, bool pair)
{
    const float e = 4.0f * x - 2.0f * (own + other);
    return pair ? (e > 0 ? 0.0f : e) : NEVER;
}

/* mosts[i] takes in the largest exponent of the tile's row. */
__global__ void __launch_bounds__(ROW_THREADS)
    cu_row_most(float *mosts, centroids m, const float *tile, pair_tile t)
{
    SHARED(float, room, ROOM);
    const int64_t r = blockIdx.x, i = t.row + r;
    float most = NEVER;
    for (int j = (int)threadIdx.x; j < t.columns; j += ROW_THREADS)
        most = fmaxf(most, exponent(tile[r * t.stride + j], m.square[i], m.square[t.column + j], t.column + j != i));
    most = block_max(most, room);
    if (threadIdx.x == 0) mosts[i] = t.column > t.row ? fmaxf(mosts[i], most) : most;
}

__global__ void __launch_bounds__(SUM_THREADS) cu_most(float *most_of_all, const float *mosts, int64_t n)
{
    SHARED(float, room, ROOM);
    float most = NEVER;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) most = fmaxf(most, mosts[i]);
    most = block_max(most, room);
    if (threadIdx.x == 0) *most_of_all = most;
}

/* A block has a piece of the tile: a warp every eighth row, then a thread half a column. e as it is stored, and sums as computed (for
 * Z) of each row, as stored (for r) of each row and column. */
template <class T>
__global__ void __launch_bounds__(PIECE_THREADS)
    cu_kernels(T *e, pair_parts to, centroids m, const float *tile, const float *shift, pair_tile t)
{
    SHARED(float, piece, PIECE_ROWS *PIECE_COLUMNS);
    SHARED(float, sums, PIECE_THREADS);
    const int across = (int)(blockIdx.x % to.across), down = (int)(blockIdx.x / to.across);
    const int64_t row = (int64_t)down * PIECE_ROWS, column = (int64_t)across * PIECE_COLUMNS, j = column + lane_id() * V;
    const float most = shift ? *shift : 0.0f;
    const bool whole = j + V <= t.columns;
    float other[V];
    UNROLL for (int k = 0; k < V; k++) other[k] = j + k < t.columns ? m.square[t.column + j + k] : 0.0f;
    UNROLL for (int i = 0; i < PIECE_EACH; i++)
    {
        const int own_row = warp_id() + i * PIECE_WARPS;
        const int64_t r = row + own_row;
        float x[V] = {}, sum = 0, stored = 0;
        if (r < t.rows) {
            const float *from = tile + r * t.stride, own = m.square[t.row + r];
            T *at = e + r * t.stride + j;
            if (whole) load(x, from + j);
            UNROLL for (int k = 0; k < V; k++)
            {
                if (!whole && j + k < t.columns) x[k] = from[j + k];
                x[k] = exp_of<T>(exponent(x[k], own, other[k], t.column + j + k != t.row + r && j + k < t.columns) - most);
                sum += x[k];
                stored += rounded<T>(x[k]);
            }
            if (whole)
                store(at, x);
            else
                for (int k = 0; j + k < t.columns; k++) put(at[k], x[k]);
        }
        store(piece + own_row * PIECE_COLUMNS + lane_id() * V, x);
        sum = warp_sum(sum);
        stored = warp_sum(stored);
        if (lane_id() > 0 || r >= t.rows) continue;
        to.rows[across * t.rows + r] = sum;
        to.rows[(to.across + across) * t.rows + r] = stored;
    }
    __syncthreads();
    const int c = (int)threadIdx.x % PIECE_COLUMNS, first = (int)threadIdx.x / PIECE_COLUMNS * (PIECE_ROWS / PIECE_HALVES);
    float sum = 0;
    for (int r = first; r < first + PIECE_ROWS / PIECE_HALVES; r++) sum += rounded<T>(piece[r * PIECE_COLUMNS + c]);
    sums[threadIdx.x] = sum;
    __syncthreads();
    if ((int)threadIdx.x >= PIECE_COLUMNS || column + c >= t.columns) return;
    for (int h = 1; h < PIECE_HALVES; h++) sum += sums[h * PIECE_COLUMNS + c];
    to.columns[down * t.columns + column + c] = sum;
}

/* The same from a product's registers; E is the output. */
struct kernels_finish {
    static constexpr bool STAGED = false;
    pair_parts to;
    const float *squares, *shift;
    pair_tile t;

    DEVICE_MEMBER void prepare(int64_t, int64_t) {}
    DEVICE_MEMBER void end() {}
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &out) const
    {
        const piece_place p(t, row, column);
        if (!p.there) return;
        if (!p.plain)
            UNROLL for (int i = 0; i < GROUP_NUMBERS; i++) d[i] = p.pair(i) ? d[i] : NEVER;
        /* exponent() less the shift, in powers of two */
        const float most = shift ? *shift * LOG2_E : 0.0f;
        float own[2], sums[2] = {}, stored_sums[2] = {}, of_columns[PART_COLUMNS];
        UNROLL for (int r = 0; r < 2; r++)
            own[r] = p.row + 8 * r < t.rows ? fmaf(squares[t.row + p.row + 8 * r], -2 * LOG2_E, -most) : 0.0f;
        UNROLL for (int j0 = 0; j0 < TILE_COLUMNS / 8; j0 += BOX_PACKS)
        {
            uint32_t words[2][BOX_PACKS];
            UNROLL for (int j = j0; j < j0 + BOX_PACKS; j++)
            {
                float other[2], x[2][2];
                UNROLL for (int k = 0; k < 2; k++)
                {
                    const int64_t at = p.column + 8 * j + k;
                    other[k] = squares[t.column + (at < t.columns ? at : 0)] * (-2 * LOG2_E);
                }
                UNROLL for (int i = 0; i < 4; i++)
                {
                    x[i / 2][i % 2] = power_of_two(fminf(fmaf(d[4 * j + i], 4 * LOG2_E, own[i / 2] + other[i % 2]), -most));
                }
                UNROLL for (int r = 0; r < 2; r++)
                {
                    words[r][j - j0] = pack_bf16(x[r][0], x[r][1]);
                    sums[r] += x[r][0] + x[r][1];
                    UNROLL for (int k = 0; k < 2; k++) /* as it is stored, from here on */
                        x[r][k] = bits_float(k ? words[r][j - j0] & 0xffff0000u : words[r][j - j0] << 16);
                    stored_sums[r] += x[r][0] + x[r][1];
                }
                UNROLL for (int k = 0; k < 2; k++) of_columns[2 * (j % PART_PACKS) + k] = x[0][k] + x[1][k];
            }
            out.write(j0 / BOX_PACKS % BOXES, p.first, p.left + 8 * j0, words);
            if ((j0 + BOX_PACKS) % PART_PACKS > 0) continue;
            fold_columns(of_columns);
            UNROLL for (int k = 0; k < FOLDED; k++)
            {
                const int64_t at = p.left + folded_column(j0 / PART_PACKS, k);
                if (at < t.columns) to.columns[p.first / WARP_ROWS * t.columns + at] = of_columns[k];
            }
        }
        UNROLL for (int r = 0; r < 2; r++)
        {
            const int64_t across = p.left / TILE_COLUMNS, at = p.row + 8 * r;
            const float sum = row_sum(sums[r]), stored = row_sum(stored_sums[r]);
            if (lane_id() % 4 > 0 || at >= t.rows) continue;
            to.rows[across * t.rows + at] = sum;
            to.rows[(to.across + across) * t.rows + at] = stored;
        }
    }
};

/* A warp has every eighth piece of 32 rows of the tile, or behind these columns: their sums take in those of the pieces. Above the
 * diagonal a pair counts twice, and with its row alone for Z. */
__global__ void __launch_bounds__(JOIN_WARPS *WARP) cu_join(double *pairs, float *r_sums, pair_parts p, pair_tile t, int64_t count)
{
    SHARED(double, others, JOIN_WARPS *WARP);
    SHARED(float, other_stored, JOIN_WARPS *WARP);
    const int64_t i = (int64_t)blockIdx.x * WARP + lane_id();
    const bool rows = i < t.rows;
    const int64_t at = rows ? i : i - t.rows, n = rows ? t.rows : t.columns, to = at + (rows ? t.row : t.column);
    const int parts = i < count ? rows ? p.across : p.down : 0;
    const float *stored_parts = rows ? p.rows + parts * n : p.columns;
    double sum = 0;
    float stored = 0;
    UNROLL_BY(4) for (int k = warp_id(); k < parts; k += JOIN_WARPS)
    {
        if (rows) sum += (double)p.rows[k * n + at];
        stored += stored_parts[k * n + at];
    }
    others[threadIdx.x] = sum;
    other_stored[threadIdx.x] = stored;
    __syncthreads();
    if (warp_id() > 0 || i >= count) return;
    for (int w = 1; w < JOIN_WARPS; w++) sum += others[w * WARP + lane_id()], stored += other_stored[w * WARP + lane_id()];
    if (rows) pairs[to] += t.row == t.column ? sum : 2 * sum;
    r_sums[to] += stored;
}

/* loss += weight (most + log(Z mean)); share = exp(most)/Z in units of the kept e. One block. */
__global__ void __launch_bounds__(SUM_THREADS)
    cu_loss(float *loss, float *share, const double *pairs, const float *shift, double weight, double mean, int64_t n)
{
    SHARED(double, room, ROOM);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += pairs[i];
    sum = block_sum(sum, room) / 2;
    if (threadIdx.x > 0) return;
    *loss += (float)(weight * ((shift ? (double)*shift : 0.0) + log(sum * mean)));
    *share = (float)(1.0 / sum);
}

/* A warp has a row. */
template <class T>
__global__ void cu_gradient(streams s, centroids m, const float *a, const float *r_sums, const float *share, double weight,
                            bool normalised, int64_t n, int width)
{
    const int64_t i = (int64_t)blockIdx.x * ROW_WARPS + warp_id();
    if (i >= n) return;
    const T *u = static_cast<const T *>(m.u) + i * m.stride;
    const float factor = (float)(-4.0 * (double)*share * weight / s.count), r = r_sums[i];
    auto du = [&](int k) { return factor * (r * get(u[k]) - a[i * width + k]); };
    float along = 0, scale = 1;
    if (normalised) {
        for (int k = lane_id(); k < width; k += WARP) along += get(u[k]) * du(k);
        along = warp_sum(along);
        scale = m.length[i] > 1e-12f ? 1.0f / m.length[i] : 0.0f;
    }
    for (int k = lane_id(); k < width; k += WARP) {
        const float g = (du(k) - get(u[k]) * along) * scale;
        for (int v = 0; v < s.count; v++) s.dz[v][i * width + k] += g;
    }
}

static streams streams_of(void *const *dz, const void *const *z, int count)
{
    streams s = {};
    s.count = count;
    for (int m = 0; m < count; m++) {
        s.z[m] = (const float *)z[m];
        s.dz[m] = dz ? (float *)dz[m] : NULL;
    }
    return s;
}

typedef struct {
    su_cuda *c;
    int64_t n, width;
    centroids m;
    pair_rows u;
    bool registers; /* products stay in their registers, but for the first pass */
    float *tile, *mosts, *r_sums, *a, *shift, *share; /* a NULL: value only; shift NULL: 0 */
    void *e;
    double *pairs;
    pair_parts p;
} cu_work;

static void find_shift(const cu_work *w)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    do {
        pair_product(c, w->tile, &t, w->u, w->u, w->width);
        launch(c, "cu", t.rows, ROW_THREADS, 0, cu_row_most)(w->mosts, w->m, w->tile, t);
    } while (pair_next_upper(&t));
    launch(c, "cu", 1, SUM_THREADS, 0, cu_most)(w->shift, w->mosts, w->n);
}

static void collect(const cu_work *w)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    c->ops.zero(&c->device, w->pairs, (size_t)w->n * sizeof *w->pairs);
    c->ops.zero(&c->device, w->r_sums, (size_t)w->n * sizeof *w->r_sums);
    if (w->a) c->ops.zero(&c->device, w->a, (size_t)(w->n * w->width) * sizeof *w->a);
    do {
        const pair_parts p = w->registers ? pair_parts_of(w->p, &t, WARP_ROWS, TILE_COLUMNS)
                                          : pair_parts_of(w->p, &t, PIECE_ROWS, PIECE_COLUMNS);
        const bool diagonal = t.row == t.column;
        const int64_t lines = t.rows + (diagonal ? 0 : t.columns);
        if (w->registers) {
            pair_product_for(c, &t, w->u, w->u, w->width, kernels_finish{p, w->m.square, w->shift, t}, {w->e, t.stride});
        } else {
            pair_product(c, w->tile, &t, w->u, w->u, w->width);
            by_type(c, [&](auto zero) {
                using T = decltype(zero);
                launch(c, "cu", (int64_t)p.across * p.down, PIECE_THREADS, 0, cu_kernels<T>)((T *)w->e, p, w->m, w->tile, w->shift, t);
            });
        }
        launch(c, "cu", su_cuda_parts(lines, WARP), JOIN_WARPS * WARP, 0, cu_join)(w->pairs, w->r_sums, p, t, lines);
        if (w->a) pair_collect(c, w->a, w->e, &t, false, w->u, w->width, 1);
        if (w->a && !diagonal) pair_collect(c, w->a, w->e, &t, true, w->u, w->width, 1);
    } while (pair_next_upper(&t));
}

su_status su_cuda_cu(su_device *d, void *loss, void *const *dz, const void *const *z, int count,
                     su_centroids form, double weight, int64_t n, int32_t width, su_error *err)
{
    su_cuda *c = su_cuda_of(d);
    if (n < 2 || width < 1)
        return su_fail(err, SU_EINVAL, "L_CU needs at least two samples and one dimension, not %lld x %d",
                       (long long)n, (int)width);
    if (count < 1 || count > SU_MAX_STREAMS)
        return su_fail(err, SU_EINVAL, "L_CU takes 1 to %d streams, not %d", (int)SU_MAX_STREAMS, count);
    const bool normalised = form == SU_CENTROIDS_NORMALISED;
    const size_t act = su_dtype_size(d->act);
    const int64_t area = pair_tile_rows(n) * pair_tile_stride(n), stride = pair_stride(width);
    const bool registers = pairs_in_registers(c);
    const size_t u = su_cuda_room(n * stride, act), tile = registers && normalised ? 0 : su_cuda_room(area, sizeof(float)), e = su_cuda_room(area, act);
    const size_t a = dz ? su_cuda_room(n * width, sizeof(float)) : 0, numbers = su_cuda_room(n, sizeof(float));
    const size_t row_parts = su_cuda_room(pair_row_parts(n), sizeof(float));
    const size_t column_parts = su_cuda_room(pair_column_parts(n), sizeof(float));
    char *m = (char *)su_cuda_scratch(c, u + tile + e + a + row_parts + column_parts + su_cuda_room(n, sizeof(double)) +
                                             4 * numbers + 2 * su_cuda_room(1, sizeof(float)));
    if (!m) return su_cuda_take(c, err, "L_CU", n);
    cu_work w = {};
    w.c = c, w.n = n, w.width = width, w.registers = registers;
    w.m.u = m, m += u;
    w.m.stride = stride;
    w.u = pair_rows{w.m.u, stride};
    w.tile = (float *)(void *)m, m += tile;
    w.e = m, m += e;
    w.p.rows = (float *)(void *)m, m += row_parts;
    w.p.columns = (float *)(void *)m, m += column_parts;
    w.a = dz ? (float *)(void *)m : NULL, m += a;
    w.pairs = (double *)(void *)m, m += su_cuda_room(n, sizeof(double));
    float **arrays[] = {&w.m.square, &w.m.length, &w.mosts, &w.r_sums};
    for (float **p : arrays) *p = (float *)(void *)m, m += numbers;
    w.shift = normalised ? NULL : (float *)(void *)m, m += su_cuda_room(1, sizeof(float));
    w.share = (float *)(void *)m;

    const streams s = streams_of(dz, z, count);
    const int64_t blocks = su_cuda_parts(n, ROW_WARPS);
    by_type(c, [&](auto zero) {
        launch(c, "cu", blocks, ROW_WARPS * WARP, 0, cu_centroids<decltype(zero)>)(w.m, s, normalised, n, width);
    });
    if (w.shift) find_shift(&w);
    collect(&w);
    const double mean = normalised ? 2 / ((double)n * (double)(n - 1)) : 2 / (double)n;
    launch(c, "cu", 1, SUM_THREADS, 0, cu_loss)((float *)loss, w.share, w.pairs, w.shift, weight, mean, n);
    if (dz)
        by_type(c, [&](auto zero) {
            launch(c, "cu", blocks, ROW_WARPS * WARP, 0, cu_gradient<decltype(zero)>)(s, w.m, w.a, w.r_sums, w.share, weight,
                                                                                      normalised, n, width);
        });
    return SU_OK;
}
