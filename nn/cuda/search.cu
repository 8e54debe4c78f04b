/* Exact search: the k best inner products of every query.
 *
 * Rows of x are scored in tiles, many queries together, by one matrix product in float. A block then goes over
 * one query's row of the tile: what beats the worst of the query's list is gathered in shared memory, and sorted
 * into the list whenever that is full. Candidates are 64-bit keys, so that a comparison is one of integers:
 *
 *     | score, mapped so that larger is larger, 32 bits | 2^32 - 1 - row |        equal scores: smaller row first
 *
 * A product may round equal rows differently at different places. So k + SPARE candidates are kept, scored again
 * in double, one product after the other, and ordered by that: a query has the same answer alone and in a group,
 * and the same as on the CPU. (Only where more than SPARE rows lie within the rounding of the k-th score may the
 * choice among them differ.) */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/product.h"
#include <math.h>
#include <stdlib.h>

enum {
    QUERIES = 512,       /* answered together */
    COLUMNS = 16384,     /* rows of x scored together */
    THREADS = 256,
    EACH = 4,            /* scores of a thread before the block looks how many were gathered */
    STEP = THREADS * EACH,
    GATHERED = 2048,     /* keys in shared memory: a list, and what may join it */
    KEPT_MOST = GATHERED - STEP,
    SPARE = 16,
};

DEVICE uint64_t key_of(float score, int64_t row)
{
    const uint32_t bits = float_bits(score + 0.0f); /* -0 becomes 0 */
    const uint32_t order = score != score ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u; /* NaN behind every number */
    return (uint64_t)order << 32 | (0xffffffffu - (uint32_t)row);
}

DEVICE float score_of(uint64_t key)
{
    const uint32_t order = (uint32_t)(key >> 32);
    return bits_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

/* keys [GATHERED], largest first: a bitonic network. */
DEVICE void sort_keys(uint64_t *keys)
{
    for (int size = 2; size <= GATHERED; size *= 2) {
        for (int apart = size / 2; apart > 0; apart /= 2) {
            for (int e = (int)threadIdx.x; e < GATHERED / 2; e += THREADS) {
                const int i = e / apart * apart * 2 + e % apart, j = i + apart;
                const bool falling = (i & size) == 0;
                const uint64_t a = keys[i], b = keys[j];
                if ((a < b) == falling) keys[i] = b, keys[j] = a;
            }
            __syncthreads();
        }
    }
}

/* lists [queries][kept], largest first; 0 where there is none yet. Scores [queries][COLUMNS] of rows from `first`. */
__global__ void __launch_bounds__(THREADS)
    search_select(uint64_t *lists, int kept, const float *scores, int64_t first, int count)
{
    SHARED(uint64_t, keys, GATHERED);
    SHARED(int, totals, THREADS / WARP);
    uint64_t *list = lists + (int64_t)blockIdx.x * kept;
    const float *row = scores + (int64_t)blockIdx.x * COLUMNS;
    for (int i = (int)threadIdx.x; i < GATHERED; i += THREADS) keys[i] = i < kept ? list[i] : 0;
    __syncthreads();
    int used = kept; /* the same in every thread */
    uint64_t worst = keys[kept - 1];
    for (int j0 = 0; j0 < count; j0 += STEP) {
        for (int e = 0; e < EACH; e++) {
            const int j = j0 + e * THREADS + (int)threadIdx.x;
            const uint64_t key = j < count ? key_of(row[j], first + j) : 0;
            const bool better = key > worst;
            const uint32_t votes = __ballot_sync(ALL_LANES, better);
            __syncthreads(); /* totals have been read */
            if (lane_id() == 0) totals[warp_id()] = __popc(votes);
            __syncthreads();
            int at = used + __popc(votes & ((1u << lane_id()) - 1u));
            for (int w = 0; w < THREADS / WARP; w++) {
                if (w < warp_id()) at += totals[w];
                used += totals[w];
            }
            if (better) keys[at] = key;
        }
        if (used <= KEPT_MOST && j0 + STEP < count) continue;
        if (used == kept) continue; /* nothing new, and the last step */
        __syncthreads();
        sort_keys(keys);
        for (int i = kept + (int)threadIdx.x; i < GATHERED; i += THREADS) keys[i] = 0;
        __syncthreads();
        worst = keys[kept - 1];
        used = kept;
    }
    for (int i = (int)threadIdx.x; i < kept; i += THREADS) list[i] = keys[i];
}

/* Each candidate's score in double, its products added one after the other. lists NULL: candidate i is row i. */
__global__ void search_rescore(double *exact, const uint64_t *lists, int64_t candidates, int64_t kept, const float *queries,
                               const float *x, int width)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= candidates) return;
    if (lists && lists[i] == 0) {
        exact[i] = 0;
        return;
    }
    const float *query = queries + i / kept * width;
    const float *row = x + (lists ? (int64_t)(0xffffffffu - (uint32_t)lists[i]) : i) * width;
    double score = 0;
    for (int k = 0; k < width; k++) score += (double)query[k] * (double)row[k]; /* each product is exact */
    exact[i] = score;
}

/* --- the host's part --- */

typedef struct {
    float score;
    int64_t row;
} hit;

/* Larger scores first, then smaller rows; NaN after every number. */
static int compare(const void *a, const void *b)
{
    const hit *x = (const hit *)a, *y = (const hit *)b;
    if (isnan(x->score) != isnan(y->score)) return isnan(x->score) ? 1 : -1;
    if (x->score > y->score) return -1;
    if (x->score < y->score) return 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* From hits [n], in any order. */
static void order(int64_t *rows, float *scores, hit *hits, int64_t n, int k)
{
    qsort(hits, (size_t)n, sizeof *hits, compare);
    for (int64_t i = 0; i < k && i < n; i++) {
        rows[i] = hits[i].row;
        scores[i] = hits[i].score;
    }
}

static void order_candidates(int64_t *rows, float *scores, hit *hits, const uint64_t *list, const double *exact, int kept, int k)
{
    int n = 0;
    for (int i = 0; i < kept; i++)
        if (list[i]) hits[n++] = hit{(float)exact[i], (int64_t)(0xffffffffu - (uint32_t)list[i])};
    order(rows, scores, hits, n, k);
}

typedef struct {
    su_cuda *c;
    const float *queries, *x;
    int64_t group, n;
    int width, kept;
    uint64_t *lists; /* device: [group][kept] */
    double *exact;   /* device: the same */
    float *scores;   /* device: [group][COLUMNS] */
} search_work;

static void search_group(const search_work *w)
{
    su_cuda *c = w->c;
    c->ops.zero(&c->device, w->lists, (size_t)(w->group * w->kept) * sizeof *w->lists);
    for (int64_t first = 0; first < w->n; first += COLUMNS) {
        const int64_t count = su_cuda_least(w->n - first, COLUMNS);
        su_cuda_product p = {};
        p.a = w->queries, p.b = w->x + first * w->width, p.c = w->scores;
        p.tb = true;
        p.m = w->group, p.n = count, p.k = w->width;
        p.lda = p.ldb = w->width, p.ldc = COLUMNS;
        p.in = p.out = SU_DTYPE_F32;
        p.alpha = 1;
        su_cuda_multiply(c, &p);
        launch(c, "top_k", w->group, THREADS, 0, search_select)(w->lists, w->kept, w->scores, first, (int)count);
    }
    const int64_t candidates = w->group * w->kept;
    launch(c, "top_k", su_cuda_parts(candidates, THREADS), THREADS, 0, search_rescore)(w->exact, w->lists, candidates, w->kept,
                                                                                       w->queries, w->x, w->width);
}

/* More than a list holds are asked for: every row is scored in double, and the host sorts them. */
static su_status search_all(su_cuda *c, int64_t *rows, float *scores, const float *queries, const float *x, int64_t nq,
                            int64_t n, int32_t width, int32_t k, su_error *err)
{
    su_device *d = &c->device;
    double *exact = (double *)su_cuda_scratch(c, (size_t)n * sizeof *exact);
    if (!exact) return su_cuda_take(c, err, "a search", n);
    double *host = (double *)su_alloc((size_t)n, sizeof *host);
    hit *hits = (hit *)su_alloc((size_t)n, sizeof *hits);
    su_status status = SU_OK;
    if (!host || !hits) status = su_fail(err, SU_ENOMEM, "no memory for the %d best of %lld rows", (int)k, (long long)n);
    for (int64_t q = 0; q < nq && !status; q++) {
        launch(c, "top_k", su_cuda_parts(n, THREADS), THREADS, 0, search_rescore)(exact, NULL, n, n, queries + q * width, x,
                                                                                  width);
        d->ops->download(d, host, exact, (size_t)n * sizeof *host);
        status = d->ops->sync(d, err);
        for (int64_t i = 0; i < n; i++) hits[i] = hit{(float)host[i], i};
        if (!status) order(rows + q * k, scores + q * k, hits, n, k);
    }
    su_free(host);
    su_free(hits);
    return status;
}

su_status su_cuda_top_k(su_device *d, int64_t *rows, float *scores, const void *queries, const void *x,
                        int64_t nq, int64_t n, int32_t width, int32_t k, su_error *err)
{
    su_cuda *c = su_cuda_of(d);
    if (nq < 0 || width < 1 || k < 1 || k > n)
        return su_fail(err, SU_EINVAL, "cannot take the %d best of %lld rows of width %d", (int)k,
                       (long long)n, (int)width);
    if (n > UINT32_MAX) return su_fail(err, SU_ELIMIT, "the GPU searches 2^32 - 1 rows at most, not %lld", (long long)n);
    if (nq == 0) return SU_OK;
    if (k > KEPT_MOST - SPARE)
        return search_all(c, rows, scores, (const float *)queries, (const float *)x, nq, n, width, k, err);
    search_work w = {};
    w.c = c, w.x = (const float *)x, w.n = n, w.width = width;
    const int64_t most = su_cuda_least(nq, QUERIES);
    w.kept = (int)su_cuda_least(n, k + SPARE);
    const size_t lists = su_cuda_room(most * w.kept, sizeof(uint64_t)), exact = su_cuda_room(most * w.kept, sizeof(double));
    char *m = (char *)su_cuda_scratch(c, lists + exact + (size_t)(most * COLUMNS) * sizeof(float));
    if (!m) return su_cuda_take(c, err, "a search", n);
    w.lists = (uint64_t *)(void *)m;
    w.exact = (double *)(void *)(m + lists);
    w.scores = (float *)(void *)(m + lists + exact);
    uint64_t *host_lists = (uint64_t *)su_alloc((size_t)(most * w.kept), sizeof *host_lists);
    double *host_exact = (double *)su_alloc((size_t)(most * w.kept), sizeof *host_exact);
    hit *hits = (hit *)su_alloc((size_t)w.kept, sizeof *hits);
    su_status status = SU_OK;
    if (!host_lists || !host_exact || !hits)
        status = su_fail(err, SU_ENOMEM, "no memory for the %d best of %lld queries", (int)k, (long long)most);
    for (int64_t first = 0; first < nq && !status; first += QUERIES) {
        w.group = su_cuda_least(nq - first, QUERIES);
        w.queries = (const float *)queries + first * width;
        search_group(&w);
        d->ops->download(d, host_lists, w.lists, (size_t)(w.group * w.kept) * sizeof *host_lists);
        d->ops->download(d, host_exact, w.exact, (size_t)(w.group * w.kept) * sizeof *host_exact);
        status = d->ops->sync(d, err);
        for (int64_t q = 0; q < w.group && !status; q++)
            order_candidates(rows + (first + q) * k, scores + (first + q) * k, hits, host_lists + q * w.kept, host_exact + q * w.kept,
                  w.kept, k);
    }
    su_free(host_lists);
    su_free(host_exact);
    su_free(hits);
    return status;
}

/* --- the largest numbers of a row: a thread knows the best of its own; whose was taken looks for its next --- */

/* A block has a row. which, values [rows][k], log_sums [rows]. */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    largest_of_row(int32_t *which, float *values, float *log_sums, const T *x, int classes, int k)
{
    SHARED(uint64_t, best, THREADS / WARP);
    SHARED(float, room, ROOM);
    const int64_t r = blockIdx.x;
    const T *row = x + r * classes;
    float v[V], sum = 0;
    auto below = [&](uint64_t limit) {
        uint64_t most = 0;
        for (int i = (int)threadIdx.x * V; i < classes; i += THREADS * V) {
            load(v, row + i);
            UNROLL for (int e = 0; e < V; e++)
            {
                const uint64_t key = key_of(v[e], i + e);
                if (key < limit && key > most) most = key;
            }
        }
        return most;
    };
    uint64_t own = below(~(uint64_t)0);
    for (int n = 0; n < k; n++) {
        uint64_t most = own;
        UNROLL for (int step = WARP / 2; step > 0; step /= 2)
        {
            const uint64_t other = __shfl_xor_sync(ALL_LANES, most, step);
            if (other > most) most = other;
        }
        __syncthreads(); /* the last round's have been read */
        if (lane_id() == 0) best[warp_id()] = most;
        __syncthreads();
        for (int w = 0; w < THREADS / WARP; w++)
            if (best[w] > most) most = best[w];
        if (n == 0) { /* the row's largest is known now */
            const float largest = score_of(most);
            for (int i = (int)threadIdx.x * V; i < classes; i += THREADS * V) {
                load(v, row + i);
                UNROLL for (int e = 0; e < V; e++) sum += expf(v[e] - largest);
            }
            sum = block_sum(sum, room);
            if (threadIdx.x == 0) log_sums[r] = (float)((double)largest + log((double)sum));
        }
        if (threadIdx.x == 0) {
            which[r * k + n] = (int32_t)(0xffffffffu - (uint32_t)most);
            values[r * k + n] = score_of(most);
        }
        if (own == most) own = below(most);
    }
}

su_status su_cuda_largest(su_device *d, int32_t *which, float *values, float *log_sums, const void *x, int64_t rows,
                          int32_t classes, int32_t k, su_error *err)
{
    su_cuda *c = su_cuda_of(d);
    if (k < 1 || k > classes) return su_fail(err, SU_EINVAL, "cannot take the %d largest of %d numbers", (int)k, (int)classes);
    if (rows <= 0) return SU_OK;
    const size_t numbers = su_cuda_room(rows * k, sizeof(float)), sums = su_cuda_room(rows, sizeof(float));
    char *m = (char *)su_cuda_scratch(c, 2 * numbers + sums);
    if (!m) return su_cuda_take(c, err, "the largest of rows", rows);
    int32_t *own_which = (int32_t *)(void *)m;
    float *own_values = (float *)(void *)(m + numbers), *own_sums = (float *)(void *)(m + 2 * numbers);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel) {
            launch(c, "largest", rows, THREADS, 0, kernel)(own_which, own_values, own_sums, (const T *)x, (int)classes, (int)k);
        };
        if (su_cuda_packs(classes, sizeof(T), x, NULL, NULL))
            go(largest_of_row<T, PACK<T>>);
        else if (classes % 2 == 0 && ((uintptr_t)x & 7) == 0)
            go(largest_of_row<T, 2>);
        else
            go(largest_of_row<T, 1>);
    });
    d->ops->download(d, which, own_which, (size_t)(rows * k) * sizeof *which);
    d->ops->download(d, values, own_values, (size_t)(rows * k) * sizeof *values);
    d->ops->download(d, log_sums, own_sums, (size_t)rows * sizeof *log_sums);
    return d->ops->sync(d, err);
}
