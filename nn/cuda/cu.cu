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
 * u is used as the products see it, e as it is stored for them: so a pair of equal centroids pushes with
 * exactly nothing. 4 N^2 D operations, 6 with the first pass. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/pairs.h"

enum { ROW_THREADS = 256, ROW_WARPS = 4, SUM_THREADS = 1024, V = 4 };

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
    if (threadIdx.x == 0) mosts[i] = t.column > 0 ? fmaxf(mosts[i], most) : most;
}

__global__ void __launch_bounds__(SUM_THREADS) cu_most(float *most_of_all, const float *mosts, int64_t n)
{
    SHARED(float, room, ROOM);
    float most = NEVER;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) most = fmaxf(most, mosts[i]);
    most = block_max(most, room);
    if (threadIdx.x == 0) *most_of_all = most;
}

/* A block has a row of the tile: e as it is stored, its sums as computed (for Z) and as stored (for r). */
template <class T>
__global__ void __launch_bounds__(ROW_THREADS)
    cu_kernels(T *e, double *pairs, float *r_sums, centroids m, const float *tile, const float *shift, pair_tile t)
{
    SHARED(double, room, ROOM);
    SHARED(float, room_r, ROOM);
    const int64_t r = blockIdx.x, i = t.row + r;
    const float most = shift ? *shift : 0.0f, own = m.square[i];
    const float *row = tile + r * t.stride, *squares = m.square + t.column;
    T *to = e + r * t.stride;
    float stored = 0;
    double sum = 0;
    for (int64_t j = (int64_t)threadIdx.x * V; j < t.columns; j += ROW_THREADS * V) {
        float x[V], other[V], some = 0;
        const bool whole = j + V <= t.columns;
        if (whole) {
            load(x, row + j);
            load(other, squares + j);
        }
        UNROLL for (int k = 0; k < V; k++)
        {
            if (!whole) x[k] = j + k < t.columns ? row[j + k] : 0.0f, other[k] = j + k < t.columns ? squares[j + k] : 0.0f;
            x[k] = exp_of<T>(exponent(x[k], own, other[k], t.column + j + k != i && j + k < t.columns) - most);
            some += x[k];
            stored += rounded<T>(x[k]);
        }
        sum += (double)some;
        if (whole)
            store(to + j, x);
        else
            for (int k = 0; j + k < t.columns; k++) put(to[j + k], x[k]);
    }
    sum = block_sum(sum, room);
    stored = block_sum(stored, room_r);
    if (threadIdx.x > 0) return;
    pairs[i] = (t.column > 0 ? pairs[i] : 0.0) + sum;
    r_sums[i] = (t.column > 0 ? r_sums[i] : 0.0f) + stored;
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
    float *tile, *mosts, *r_sums, *a, *shift, *share; /* a NULL: value only; shift NULL: 0 */
    void *e;
    double *pairs;
} cu_work;

static void find_shift(const cu_work *w)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    do {
        pair_product(c, w->tile, &t, w->u, w->u, w->width);
        launch(c, "cu", t.rows, ROW_THREADS, 0, cu_row_most)(w->mosts, w->m, w->tile, t);
    } while (pair_next(&t));
    launch(c, "cu", 1, SUM_THREADS, 0, cu_most)(w->shift, w->mosts, w->n);
}

static void collect(const cu_work *w)
{
    su_cuda *c = w->c;
    pair_tile t = pair_first(w->n);
    do {
        pair_product(c, w->tile, &t, w->u, w->u, w->width);
        by_type(c, [&](auto zero) {
            using T = decltype(zero);
            launch(c, "cu", t.rows, ROW_THREADS, 0, cu_kernels<T>)((T *)w->e, w->pairs, w->r_sums, w->m, w->tile, w->shift, t);
        });
        if (w->a) pair_collect(c, w->a, w->e, &t, false, w->u, w->width, 1);
    } while (pair_next(&t));
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
    const size_t u = su_cuda_room(n * stride, act), tile = su_cuda_room(area, sizeof(float)), e = su_cuda_room(area, act);
    const size_t a = dz ? su_cuda_room(n * width, sizeof(float)) : 0, numbers = su_cuda_room(n, sizeof(float));
    char *m = (char *)su_cuda_scratch(c, u + tile + e + a + su_cuda_room(n, sizeof(double)) + 4 * numbers +
                                             2 * su_cuda_room(1, sizeof(float)));
    if (!m) return su_cuda_take(c, err, "L_CU", n);
    cu_work w = {};
    w.c = c, w.n = n, w.width = width;
    w.m.u = m, m += u;
    w.m.stride = stride;
    w.u = pair_rows{w.m.u, stride};
    w.tile = (float *)(void *)m, m += tile;
    w.e = m, m += e;
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
    if (w.a) d->ops->zero(d, w.a, (size_t)(n * width) * sizeof(float));
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
