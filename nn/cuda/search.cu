/* Exact search: the k best inner products of every query.
 *
 * Rows of x are scored in tiles, many queries together, by one matrix product. A block then goes over one query's row
 * of the tile; what beats the worst of the query's list joins it. Candidates are 64-bit keys, so that a comparison is
 * one of integers:
 *
 *     | score, mapped so that larger is larger, 32 bits | 2^32 - 1 - row |        equal scores: smaller row first
 *
 * More candidates than k are kept, scored again in double, one product after the other, and ordered by that: a query
 * has the same answer alone and in a group, and the same as on the CPU.
 *
 * Rows of floats. The product is one of floats, and SPARE candidates are kept besides. Only where more than SPARE rows
 * lie within the rounding of the k-th score may the choice among them differ, as on the CPU.
 *
 * Rows of bf16. The product is one of bf16 on tensor cores, written as bf16, and MORE candidates are kept. On a Hopper GPU,
 * and for few queries, scores are floats and not written at all (search_spans.cu). With q' the query rounded to bf16, t the sum
 * as it is formed in float, o as it is written, and X no less than any row's length:
 *
 *     |<q,x> - <q',x>| <= |q - q'| X                                                    [Cauchy-Schwarz]
 *     |<q',x> - t|     <= (width + 64) 2^-22 |q'| X      products are exact; every addition loses at most 2^-22 of the
 *                                                        sum of magnitudes, four times what rounding to float does
 *     |t - o|          <= 2^-8.99 |o|                    rounding to bf16, seen from the rounded side; 0 where nothing
 *                                                    is written
 *
 * So no row that was not kept scores above o + 2^-8.99 |o| + (|q - q'| + (width + 64) 2^-22 |q'|) X with o the least
 * kept. Where that lies below the k-th exact score the answer is proven; a query for which it does not is answered
 * again with products of floats. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/product.h"
#include "nn/cuda/search.h"
#include <math.h>
#include <stdlib.h>

enum {
    QUERIES = 512,       /* answered together; HALF_QUERIES among rows of bf16: their scores are half as large */
    HALF_QUERIES = 1024,
    COLUMNS = 16896,     /* rows of x scored together: 66 tiles of 256, which 132 multiprocessors share evenly */
    THREADS = 256,
    EACH = 4,            /* scores of a thread before the block looks how many were gathered */
    STEP = THREADS * EACH,
    GATHERED = 2048,     /* keys in shared memory: a list, and what may join it */
    KEPT_MOST = GATHERED - STEP,
    SPARE = 16,
    MORE = 54,
    PACKED = 8,          /* scores of bf16 that a thread reads together */
    OWN_PACKS = (COLUMNS + PACKED * FILTERS - 1) / (PACKED * FILTERS), /* of a thread: a bit of a word each */
};

static constexpr float PART = 0x1.03p-9f; /* of a number of bf16: how far from it what was rounded may lie */

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
        sort_keys(keys, GATHERED);
        for (int i = kept + (int)threadIdx.x; i < GATHERED; i += THREADS) keys[i] = 0;
        __syncthreads();
        worst = keys[kept - 1];
        used = kept;
    }
    for (int i = (int)threadIdx.x; i < kept; i += THREADS) list[i] = keys[i];
}

/* Each candidate's score in double, its products added one after the other. lists NULL: candidate i is row i. */
template <class X>
__global__ void search_rescore(double *exact, const uint64_t *lists, int64_t candidates, int64_t kept, const float *queries,
                               const X *x, int width)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= candidates) return;
    if (lists && lists[i] == 0) {
        exact[i] = 0;
        return;
    }
    const float *query = queries + i / kept * width;
    const X *row = x + (lists ? row_of(lists[i]) : i) * width;
    double score = 0;
    for (int k = 0; k < width; k++) score += (double)query[k] * (double)get(row[k]); /* each product is exact */
    exact[i] = score;
}

/* --- among rows of bf16 --- */

/* A warp has a query: as the product reads it, and how far its scores may lie from their true values, in lengths of a
 * row. */
__global__ void search_queries(bf16 *to, double *reach, const float *queries, int64_t count, int width, int stride)
{
    const int64_t q = (int64_t)blockIdx.x * (THREADS / WARP) + warp_id();
    if (q >= count) return;
    double lost = 0, length = 0;
    for (int k = lane_id(); k < stride; k += WARP) {
        const float x = k < width ? queries[q * width + k] : 0.0f, kept = rounded<bf16>(x);
        put(to[q * stride + k], x);
        lost += ((double)x - (double)kept) * ((double)x - (double)kept);
        length += (double)kept * (double)kept;
    }
    lost = sqrt(warp_sum(lost)), length = sqrt(warp_sum(length));
    if (lane_id() == 0) reach[q] = lost * (1 + 1e-9) + (width + 64) * 0x1p-22 * length;
}

/* squares[block]: of the longest of the block's rows, NaN and infinity as 1e300. A warp has a row at a time. */
template <int V>
__global__ void __launch_bounds__(THREADS) search_longest(double *squares, const bf16 *x, int64_t n, int width)
{
    SHARED(double, room, THREADS / WARP);
    double most = 0;
    for (int64_t r = (int64_t)blockIdx.x * (THREADS / WARP) + warp_id(); r < n; r += (int64_t)gridDim.x * (THREADS / WARP)) {
        float square = 0, v[V];
        for (int k = lane_id() * V; k < width; k += WARP * V) {
            load(v, x + r * width + k);
            UNROLL for (int e = 0; e < V; e++) square += v[e] * v[e];
        }
        square = warp_sum(square);
        if (!((double)square <= most)) most = square < 1e37f ? (double)square : 1e300;
    }
    if (lane_id() == 0) room[warp_id()] = most;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int w = 0; w < THREADS / WARP; w++) most = room[w] > most ? room[w] : most;
    squares[blockIdx.x] = most;
}

/* Scores j .. j + PACKED - 1 of a row; what lies behind its end is below all others. */
DEVICE void load_scores(float (&v)[PACKED], const bf16 *row, int j, int count)
{
    if (j + PACKED <= count)
        load(v, row + j);
    else
        UNROLL for (int e = 0; e < PACKED; e++) v[e] = j + e < count ? get(row[j + e]) : -INFINITY;
}

/* The larger of two pairs of bf16; a NaN is passed over. */
DEVICE uint32_t larger_pair(uint32_t a, uint32_t b)
{
#ifdef __CUDACC__
    uint32_t most;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(most) : "r"(a), "r"(b));
    return most;
#else
    return pack_bf16(fmaxf(bits_float(a << 16), bits_float(b << 16)),
                     fmaxf(bits_float(a & 0xffff0000u), bits_float(b & 0xffff0000u)));
#endif
}

/* Which packs of a thread hold a score that may join the list: a bit each, the thread's first the lowest. */
DEVICE uint32_t joining_packs(const bf16 *row, int count, float least)
{
    uint32_t packs = 0;
    UNROLL for (int i = 0; i < OWN_PACKS; i++)
    {
        const int j = (i * FILTERS + (int)threadIdx.x) * PACKED;
        if (j + PACKED <= count) {
            const uint4 v = *reinterpret_cast<const uint4 *>(row + j);
            const uint32_t most = larger_pair(larger_pair(v.x, v.y), larger_pair(v.z, v.w));
            packs |= (uint32_t)(fmaxf(bits_float(most << 16), bits_float(most & 0xffff0000u)) >= least) << i;
        } else if (j < count) {
            packs |= 1u << i;
        }
    }
    return packs;
}

/* Every thread's number of keys becomes its place among all; the sum is returned. totals [FILTERS / WARP]. */
DEVICE int place(int &own, int *totals)
{
    int at = own, all = 0; /* at: of this lane and those before it */
    UNROLL for (int step = 1; step < WARP; step *= 2)
    {
        const int before = __shfl_up_sync(ALL_LANES, at, step);
        if (lane_id() >= step) at += before;
    }
    __syncthreads(); /* totals have been read, and keys written */
    if (lane_id() == WARP - 1) totals[warp_id()] = at;
    __syncthreads();
    at -= own;
    for (int w = 0; w < FILTERS / WARP; w++) {
        if (w < warp_id()) at += totals[w];
        all += totals[w];
    }
    own = at;
    return all;
}

/* As search_select, of bf16: most blocks find nothing that joins and have only read their scores. The others look at
 * the packs again in which they found it, `together` packs of a thread at a time: all, unless more may join than there
 * is room for. */
__global__ void __launch_bounds__(FILTERS, 8)
    search_filter(uint64_t *lists, int kept, const bf16 *scores, int64_t first, int count)
{
    SHARED(uint64_t, keys, JOINING);
    SHARED(int, totals, FILTERS / WARP);
    SHARED(int, room, ROOM);
    uint64_t *list = lists + (int64_t)blockIdx.x * kept;
    const bf16 *row = scores + (int64_t)blockIdx.x * COLUMNS;
    uint64_t worst = list[kept - 1];
    const uint32_t packs = joining_packs(row, count, worst ? score_of(worst) : -INFINITY);
    const int found = block_sum(__popc(packs), room);
    if (found == 0) return;
    for (int i = (int)threadIdx.x; i < kept; i += FILTERS) keys[i] = list[i];
    const int together = kept + found * PACKED <= JOINING ? OWN_PACKS : 1;
    for (int i0 = 0; i0 < OWN_PACKS; i0 += together) {
        int own = 0;
        for (int i = i0; i < i0 + together; i++) {
            if (!(packs >> i & 1)) continue;
            const int j = (i * FILTERS + (int)threadIdx.x) * PACKED;
            float v[PACKED];
            load_scores(v, row, j, count);
            UNROLL for (int e = 0; e < PACKED; e++) own += j + e < count && key_of(v[e], first + j + e) > worst;
        }
        const int joining = place(own, totals);
        if (joining == 0) continue;
        for (int i = i0; i < i0 + together; i++) {
            if (!(packs >> i & 1)) continue;
            const int j = (i * FILTERS + (int)threadIdx.x) * PACKED;
            float v[PACKED];
            load_scores(v, row, j, count);
            UNROLL for (int e = 0; e < PACKED; e++)
            {
                const uint64_t key = key_of(v[e], first + j + e);
                if (j + e < count && key > worst) keys[kept + own++] = key;
            }
        }
        __syncthreads();
        sort_joined(keys, kept + joining);
        worst = keys[kept - 1];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < kept; i += FILTERS) list[i] = keys[i];
}

/* A block has a query: its candidates in the order of their exact scores, and whether that is proven (see above).
 * whole: every row of x is among the candidates. lost: NULL where scores were rounded to bf16; else proven is -1 for those whose
 * list may lack a row. */
__global__ void __launch_bounds__(THREADS)
    search_order(int64_t *rows, float *scores, int32_t *proven, const uint64_t *lists, const double *exact, const double *reach,
                 const double *squares, int parts, const int32_t *lost, const float *above, int kept, int k, bool whole)
{
    SHARED(uint64_t, keys, KEPT_MOST);
    const int64_t q = blockIdx.x;
    const uint64_t *list = lists + q * kept;
    for (int i = (int)threadIdx.x; i < kept; i += THREADS)
        keys[i] = list[i] ? key_of((float)exact[q * kept + i], row_of(list[i])) : 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < kept; i += THREADS) {
        const uint64_t key = keys[i];
        int rank = 0;
        for (int j = 0; j < kept; j++) rank += keys[j] > key || (keys[j] == key && j < i);
        if (rank >= k) continue;
        rows[q * k + rank] = row_of(key);
        scores[q * k + rank] = score_of(key);
        if (rank < k - 1) continue;
        double longest = 0;
        for (int p = 0; p < parts; p++) longest = squares[p] > longest ? squares[p] : longest;
        const double off = reach_of(reach[q], longest);
        const double kept_least = (double)score_of(list[kept - 1]), least = lost && above[q] > kept_least ? above[q] : kept_least;
        const double size = least < 0 ? -least : least;
        const double limit = least + (lost ? 0.0 : (double)PART) * size + off + 1e-37;
        /* off < 1e25: no sum has left float's range. A list with room left has met NaN. */
        proven[q] = key != 0 && (whole || (list[kept - 1] != 0 && off < 1e25 && (float)limit < score_of(key)));
        if (lost && lost[q]) proven[q] = -1;
    }
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

static void multiply(const search_work *w, const void *queries, int64_t stride, const void *rows, int64_t count, su_dtype type)
{
    su_cuda_product p = {};
    p.a = queries, p.b = rows, p.c = w->scores;
    p.tb = true;
    p.m = w->group, p.n = count, p.k = w->width;
    p.lda = stride, p.ldb = w->width, p.ldc = COLUMNS;
    p.in = p.out = type;
    p.alpha = 1;
    su_cuda_multiply(w->c, &p);
}

static void rescore(const search_work *w, double *exact, const uint64_t *lists, int64_t candidates, int64_t kept)
{
    auto go = [&](auto zero) {
        using X = decltype(zero);
        launch(w->c, "top_k", su_cuda_parts(candidates, THREADS), THREADS, 0, search_rescore<X>)(
            exact, lists, candidates, kept, w->queries, (const X *)w->x, w->width);
    };
    if (w->half)
        go(bf16());
    else
        go(float());
}

/* --- products of floats --- */

static void search_group(const search_work *w)
{
    su_cuda *c = w->c;
    c->ops.zero(&c->device, w->lists, (size_t)(w->group * w->kept) * sizeof *w->lists);
    for (int64_t first = 0; first < w->n; first += COLUMNS) {
        const int64_t count = su_cuda_least(w->n - first, COLUMNS);
        if (w->half) su_cuda_convert(&c->device, w->tile, SU_DTYPE_F32, row_at(w, first), SU_DTYPE_BF16, count * w->width);
        multiply(w, w->queries, w->width, w->half ? w->tile : row_at(w, first), count, SU_DTYPE_F32);
        launch(c, "top_k", w->group, THREADS, 0, search_select)(w->lists, w->kept, (const float *)w->scores, first, (int)count);
    }
    rescore(w, w->exact, w->lists, w->group * w->kept, w->kept);
}

/* More than a list holds are asked for: every row is scored in double, and the host sorts them. */
static su_status search_all(search_work *w, int64_t *rows, float *scores, int64_t nq, int32_t k, su_error *err)
{
    su_device *d = &w->c->device;
    const int64_t n = w->n;
    double *exact = (double *)su_cuda_scratch(w->c, (size_t)n * sizeof *exact);
    if (!exact) return su_cuda_take(w->c, err, "a search", n);
    double *host = (double *)su_alloc((size_t)n, sizeof *host);
    hit *hits = (hit *)su_alloc((size_t)n, sizeof *hits);
    su_status status = SU_OK;
    if (!host || !hits) status = su_fail(err, SU_ENOMEM, "no memory for the %d best of %lld rows", (int)k, (long long)n);
    for (int64_t q = 0; q < nq && !status; q++, w->queries += w->width) {
        rescore(w, exact, NULL, n, n);
        d->ops->download(d, host, exact, (size_t)n * sizeof *host);
        status = d->ops->sync(d, err);
        for (int64_t i = 0; i < n; i++) hits[i] = hit{(float)host[i], i};
        if (!status) order(rows + q * k, scores + q * k, hits, n, k);
    }
    su_free(host);
    su_free(hits);
    return status;
}

static su_status search_floats(search_work *w, int64_t *rows, float *scores, int64_t nq, int32_t k, su_error *err)
{
    su_cuda *c = w->c;
    su_device *d = &c->device;
    if (k > KEPT_MOST - SPARE) return search_all(w, rows, scores, nq, k, err);
    const int64_t most = su_cuda_least(nq, QUERIES);
    w->kept = (int)su_cuda_least(w->n, k + SPARE);
    const size_t lists = su_cuda_room(most * w->kept, sizeof(uint64_t)), exact = su_cuda_room(most * w->kept, sizeof(double));
    const size_t tiles = su_cuda_room(most * COLUMNS, sizeof(float));
    const size_t tile = w->half ? su_cuda_room((int64_t)COLUMNS * w->width, sizeof(float)) : 0;
    char *m = (char *)su_cuda_scratch(c, lists + exact + tiles + tile);
    if (!m) return su_cuda_take(c, err, "a search", w->n);
    w->lists = (uint64_t *)(void *)m;
    w->exact = (double *)(void *)(m + lists);
    w->scores = m + lists + exact;
    w->tile = (float *)(void *)(m + lists + exact + tiles);
    uint64_t *host_lists = (uint64_t *)su_alloc((size_t)(most * w->kept), sizeof *host_lists);
    double *host_exact = (double *)su_alloc((size_t)(most * w->kept), sizeof *host_exact);
    hit *hits = (hit *)su_alloc((size_t)w->kept, sizeof *hits);
    su_status status = SU_OK;
    if (!host_lists || !host_exact || !hits)
        status = su_fail(err, SU_ENOMEM, "no memory for the %d best of %lld queries", (int)k, (long long)most);
    for (int64_t first = 0; first < nq && !status; first += QUERIES, w->queries += (int64_t)QUERIES * w->width) {
        w->group = su_cuda_least(nq - first, QUERIES);
        search_group(w);
        d->ops->download(d, host_lists, w->lists, (size_t)(w->group * w->kept) * sizeof *host_lists);
        d->ops->download(d, host_exact, w->exact, (size_t)(w->group * w->kept) * sizeof *host_exact);
        status = d->ops->sync(d, err);
        for (int64_t q = 0; q < w->group && !status; q++)
            order_candidates(rows + (first + q) * k, scores + (first + q) * k, hits, host_lists + q * w->kept,
                             host_exact + q * w->kept, w->kept, k);
    }
    su_free(host_lists);
    su_free(host_exact);
    su_free(hits);
    return status;
}

/* --- products of bf16 --- */

enum { LONGEST_BLOCKS = 1024 };

/* squares: device, [LONGEST_BLOCKS]. Returns how many. */
static int find_longest(const search_work *w, double *squares, double longest)
{
    su_cuda *c = w->c;
    if (longest > 0) {
        const double square = longest * longest;
        c->ops.upload(&c->device, squares, &square, sizeof square);
        return 1;
    }
    const int blocks = (int)su_cuda_least(su_cuda_parts(w->n, THREADS / WARP), LONGEST_BLOCKS);
    const bool packs = su_cuda_packs(w->width, sizeof(bf16), w->x, NULL, NULL);
    launch(c, "top_k", blocks, THREADS, 0, packs ? search_longest<PACKED> : search_longest<1>)(squares, (const bf16 *)w->x, w->n,
                                                                                              w->width);
    return blocks;
}

static void filter_group(const search_work *w)
{
    su_cuda *c = w->c;
    c->ops.zero(&c->device, w->lists, (size_t)(w->group * w->kept) * sizeof *w->lists);
    for (int64_t first = 0; first < w->n; first += COLUMNS) {
        const int64_t count = su_cuda_least(w->n - first, COLUMNS);
        multiply(w, w->halves, w->stride, row_at(w, first), count, SU_DTYPE_BF16);
        launch(c, "top_k", w->group, FILTERS, 0, search_filter)(w->lists, w->kept, (const bf16 *)w->scores, first, (int)count);
    }
}

/* proven: host, [nq]. */
static su_status search_halves(search_work *w, int64_t *rows, float *scores, int32_t *proven, double longest, int64_t nq,
                               int32_t k, su_error *err)
{
    su_cuda *c = w->c;
    su_device *d = &c->device;
    const int64_t most = su_cuda_least(nq, HALF_QUERIES);
    w->kept = (int)su_cuda_least(w->n, k + MORE);
    w->stride = (w->width + 7) / 8 * 8;
    const size_t written = su_cuda_room(most * COLUMNS, sizeof(bf16)), unwritten = su_cuda_search_room(w, most);
    const size_t sizes[] = {su_cuda_room(most * w->kept, sizeof(uint64_t)), su_cuda_room(most * w->kept, sizeof(double)),
                            unwritten > written ? unwritten : written,      su_cuda_room(most * w->stride, sizeof(bf16)),
                            su_cuda_room(most, sizeof(double)),             su_cuda_room(LONGEST_BLOCKS, sizeof(double)),
                            su_cuda_room(most * k, sizeof(int64_t)),        su_cuda_room(most * k, sizeof(float)),
                            su_cuda_room(most, sizeof(int32_t)),            su_cuda_room(most, sizeof(uint32_t)),
                            su_cuda_room(most, sizeof(float)),              su_cuda_room(most, sizeof(int32_t))};
    enum { PARTS = sizeof sizes / sizeof *sizes };
    size_t bytes = 0;
    for (size_t size : sizes) bytes += size;
    char *m = (char *)su_cuda_scratch(c, bytes), *at[PARTS];
    if (!m) return su_cuda_take(c, err, "a search", w->n);
    for (int i = 0; i < PARTS; i++) at[i] = m, m += sizes[i];
    w->lists = (uint64_t *)(void *)at[0];
    w->exact = (double *)(void *)at[1];
    w->scores = at[2];
    w->halves = (bf16 *)(void *)at[3];
    w->reach = (double *)(void *)at[4];
    double *squares = (double *)(void *)at[5];
    w->counts = (uint32_t *)(void *)at[9];
    w->least = (float *)(void *)at[10];
    w->lost = (int32_t *)(void *)at[11];
    const int blocks = find_longest(w, squares, longest);
    su_status status = SU_OK;
    bool lost = false;
    for (int64_t first = 0; first < nq && !status;) {
        w->group = su_cuda_least(nq - first, HALF_QUERIES);
        launch(c, "top_k", su_cuda_parts(w->group, THREADS / WARP), THREADS, 0, search_queries)(w->halves, w->reach, w->queries,
                                                                                               w->group, w->width, w->stride);
        const bool spans = !lost && su_cuda_searches_spans(w);
        if (spans)
            su_cuda_search_spans(w, squares, blocks, (int)k);
        else
            filter_group(w);
        rescore(w, w->exact, w->lists, w->group * w->kept, w->kept);
        launch(c, "top_k", w->group, THREADS, 0, search_order)((int64_t *)(void *)at[6], (float *)(void *)at[7],
                                                              (int32_t *)(void *)at[8], w->lists, w->exact, w->reach, squares,
                                                              blocks, spans ? w->lost : NULL, w->least, w->kept, (int)k,
                                                              w->kept == w->n);
        d->ops->download(d, rows + first * k, at[6], (size_t)(w->group * k) * sizeof *rows);
        d->ops->download(d, scores + first * k, at[7], (size_t)(w->group * k) * sizeof *scores);
        d->ops->download(d, proven + first, at[8], (size_t)w->group * sizeof *proven);
        status = d->ops->sync(d, err);
        for (int64_t q = 0; q < w->group && !status; q++) lost |= proven[first + q] < 0;
        if (spans && lost) continue; /* an order of rows that is none of chance: this group again, and those behind it, written */
        first += HALF_QUERIES, w->queries += (int64_t)HALF_QUERIES * w->width;
    }
    return status;
}

su_status su_cuda_top_k(su_device *d, int64_t *rows, float *scores, const void *queries, const void *x, su_dtype type,
                        double longest, int64_t nq, int64_t n, int32_t width, int32_t k, su_error *err)
{
    if (nq < 0 || width < 1 || k < 1 || k > n)
        return su_fail(err, SU_EINVAL, "cannot take the %d best of %lld rows of width %d", (int)k,
                       (long long)n, (int)width);
    if (n > UINT32_MAX) return su_fail(err, SU_ELIMIT, "the GPU searches 2^32 - 1 rows at most, not %lld", (long long)n);
    if (type != SU_DTYPE_F32 && type != SU_DTYPE_BF16)
        return su_fail(err, SU_EUNSUPPORTED, "search takes rows of F32 or BF16, not of %s", su_dtype_name(type));
    if (nq == 0) return SU_OK;
    search_work w = {};
    w.c = su_cuda_of(d), w.x = x, w.half = type == SU_DTYPE_BF16, w.n = n, w.width = width;
    w.queries = (const float *)queries;
    if (!w.half || k > KEPT_MOST - MORE) return search_floats(&w, rows, scores, nq, k, err);
    int32_t *proven = (int32_t *)su_calloc((size_t)nq, sizeof *proven);
    if (!proven) return su_fail(err, SU_ENOMEM, "no memory for the %d best of %lld queries", (int)k, (long long)nq);
    su_status status = search_halves(&w, rows, scores, proven, longest, nq, k, err);
    for (int64_t q = 0, end; q < nq && !status; q = end) { /* runs of those that are not proven */
        for (end = q; end < nq && !proven[end]; end++) {}
        w.queries = (const float *)queries + q * width;
        if (end > q) status = search_floats(&w, rows + q * k, scores + q * k, end - q, k, err);
        end += end == q;
    }
    su_free(proven);
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
        UNROLL_BY(8) for (int i = (int)threadIdx.x * V; i < classes; i += THREADS * V)
        {
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
            UNROLL_BY(8) for (int i = (int)threadIdx.x * V; i < classes; i += THREADS * V)
            {
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

void su_cuda_largest(su_device *d, int32_t *which, float *values, float *log_sums, const void *x, int64_t rows,
                     int32_t classes, int32_t k)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel) {
            launch(c, "largest", rows, THREADS, 0, kernel)(which, values, log_sums, (const T *)x, (int)classes, (int)k);
        };
        if (su_cuda_packs(classes, sizeof(T), x, NULL, NULL))
            go(largest_of_row<T, PACK<T>>);
        else if (classes % 2 == 0 && ((uintptr_t)x & 7) == 0)
            go(largest_of_row<T, 2>);
        else
            go(largest_of_row<T, 1>);
    });
}
