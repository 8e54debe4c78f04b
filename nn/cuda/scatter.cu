/* table[index[r]] += y[r] where destinations repeat, without atomics: the same bits every time.
 *
 * The row numbers are sorted by destination (stable, so rows of one destination keep their order). The sorted
 * list is cut into chunks; a block adds up a chunk's rows, destination after destination:
 *
 *     sorted   a a a b b b b | b b b b b b b | b c c d d d d | ...
 *     chunk 0  table[a] += .   tail[0] = its b's      (begins here, goes on)
 *     chunk 1                  head[1] = its b's      (a whole chunk of one destination)
 *     chunk 2                  head[2] = its b        (ends here), table[c] += ., tail[2] = its d's
 *
 * then whoever holds the beginning of a destination that goes on adds up its parts:
 * table[b] += tail[0] + head[1] + head[2]. So one destination of many rows (a type embedding) is still spread
 * over as many blocks as it has chunks. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"

enum {
    SORT_THREADS = 256,
    SORT_EACH = 4, /* neighbouring entries of a thread */
    SORT_CHUNK = SORT_THREADS * SORT_EACH,
    DIGITS = 16,
    DIGIT_BITS = 4,
    SCAN_THREADS = 1024,
    CHUNK = 64, /* sorted entries of a block that adds up */
    THREADS = 256,
};

struct entry {
    int32_t key, row;
};

/* What stands at place i before the first pass: the list itself. */
DEVICE entry entry_at(const entry *list, const int32_t *index, int64_t i)
{
    return list ? list[i] : entry{index[i], (int32_t)i};
}

/* counts[digit][thread] of the block's chunk */
DEVICE void count_digits(int *counts, const entry *list, const int32_t *index, int64_t n, int shift)
{
    const int t = (int)threadIdx.x;
    for (int digit = 0; digit < DIGITS; digit++) counts[digit * SORT_THREADS + t] = 0;
    for (int e = 0; e < SORT_EACH; e++) {
        const int64_t i = (int64_t)blockIdx.x * SORT_CHUNK + t * SORT_EACH + e;
        if (i < n) counts[(entry_at(list, index, i).key >> shift & (DIGITS - 1)) * SORT_THREADS + t]++;
    }
    __syncthreads();
}

/* totals[digit][block]: entries of each chunk with each digit. A warp sums two digits. */
__global__ void __launch_bounds__(SORT_THREADS)
    sort_count(int32_t *totals, const entry *list, const int32_t *index, int64_t n, int shift)
{
    SHARED(int, counts, DIGITS *SORT_THREADS);
    count_digits(counts, list, index, n, shift);
    for (int digit = warp_id(); digit < DIGITS; digit += SORT_THREADS / WARP) {
        int sum = 0;
        for (int t = lane_id(); t < SORT_THREADS; t += WARP) sum += counts[digit * SORT_THREADS + t];
        sum = warp_sum(sum);
        if (lane_id() == 0) totals[digit * (int64_t)gridDim.x + blockIdx.x] = sum;
    }
}

/* The sum of the lanes below. */
DEVICE int warp_before(int x)
{
    int sum = x;
    UNROLL for (int step = 1; step < WARP; step *= 2)
    {
        const int other = __shfl_up_sync(ALL_LANES, sum, step);
        if (lane_id() >= step) sum += other;
    }
    return sum - x;
}

/* totals[i] = sum of totals[0 .. i - 1]; one block. */
__global__ void __launch_bounds__(SCAN_THREADS) sort_scan(int32_t *totals, int64_t n)
{
    SHARED(int, warps, WARP);
    const int64_t each = (n + SCAN_THREADS - 1) / SCAN_THREADS, from = threadIdx.x * each;
    const int64_t to = from + each < n ? from + each : n;
    int sum = 0;
    for (int64_t i = from; i < to; i++) sum += totals[i];
    int before = warp_before(sum);
    if (lane_id() == WARP - 1) warps[warp_id()] = before + sum;
    __syncthreads();
    for (int w = 0; w < warp_id(); w++) before += warps[w];
    for (int64_t i = from; i < to; i++) {
        const int own = totals[i];
        totals[i] = before;
        before += own;
    }
}

__global__ void __launch_bounds__(SORT_THREADS)
    sort_place(entry *sorted, const int32_t *starts, const entry *list, const int32_t *index, int64_t n, int shift)
{
    SHARED(int, counts, DIGITS *SORT_THREADS);
    enum { EACH = SORT_THREADS / WARP };
    count_digits(counts, list, index, n, shift);
    for (int digit = warp_id(); digit < DIGITS; digit += SORT_THREADS / WARP) {
        int *own = counts + digit * SORT_THREADS + lane_id() * EACH, sum = 0;
        for (int k = 0; k < EACH; k++) sum += own[k];
        int before = starts[digit * (int64_t)gridDim.x + blockIdx.x] + warp_before(sum);
        for (int k = 0; k < EACH; k++) {
            const int count = own[k];
            own[k] = before;
            before += count;
        }
    }
    __syncthreads();
    const int t = (int)threadIdx.x;
    for (int e = 0; e < SORT_EACH; e++) {
        const int64_t i = (int64_t)blockIdx.x * SORT_CHUNK + t * SORT_EACH + e;
        if (i >= n) break;
        const entry it = entry_at(list, index, i);
        sorted[counts[(it.key >> shift & (DIGITS - 1)) * SORT_THREADS + t]++] = it;
    }
}

/* --- adding up --- */

template <class Table, int V> DEVICE void add_to(Table *to, const float (&sum)[V])
{
    float old[V];
    load(old, to);
    UNROLL for (int k = 0; k < V; k++) old[k] += sum[k];
    store(to, old);
}

/* One run of equal keys at [from, to) of a chunk [first, last): where its sum belongs. */
template <class Table, int V>
DEVICE void put_run(Table *table, float *head, float *tail, const entry *list, int64_t n, int64_t from, int64_t to,
                    int64_t first, int64_t last, int width, int at, const float (&sum)[V])
{
    const int key = list[from].key;
    const bool begins = from > first || first == 0 || list[first - 1].key != key;
    const bool ends = to < last || last == n || list[last].key != key;
    if (begins && ends)
        add_to<Table, V>(table + (int64_t)key * width + at, sum);
    else
        store((begins ? tail : head) + (int64_t)blockIdx.x * width + at, sum);
}

/* head, tail: [chunks][width] */
template <class Table, class T, int V>
__global__ void add_chunks(Table *table, float *head, float *tail, const T *y, const entry *list, int64_t n, int width)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK, last = first + CHUNK < n ? first + CHUNK : n;
    for (int at = (int)threadIdx.x * V; at < width; at += (int)blockDim.x * V) {
        float sum[V] = {}, v[V];
        int64_t from = first;
        for (int64_t e = first; e < last; e++) {
            if (e > 0) within((int64_t)list[e].key - list[e - 1].key, INT32_MAX); /* in order: else two blocks would add to one place */
            if (list[e].key != list[from].key) {
                put_run<Table, V>(table, head, tail, list, n, from, e, first, last, width, at, sum);
                UNROLL for (int k = 0; k < V; k++) sum[k] = 0;
                from = e;
            }
            load(v, y + (int64_t)list[e].row * width + at);
            UNROLL for (int k = 0; k < V; k++) sum[k] += v[k];
        }
        put_run<Table, V>(table, head, tail, list, n, from, last, first, last, width, at, sum);
    }
}

/* Chunk blockIdx.x: when its last destination begins here and goes on, its parts are added up. */
template <class Table, int V>
__global__ void join_chunks(Table *table, const float *head, const float *tail, const entry *list, int64_t n, int width)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK, last = first + CHUNK;
    if (last >= n) return;
    const int key = list[last - 1].key;
    if (list[last].key != key) return;
    if (list[first].key == key && first > 0 && list[first - 1].key == key) return; /* began before */
    int64_t low = last, high = n; /* the first place behind the run, by halving */
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (list[middle].key == key)
            low = middle + 1;
        else
            high = middle;
    }
    const int64_t end = (low + CHUNK - 1) / CHUNK; /* chunks blockIdx.x + 1 .. end - 1 hold the rest */
    for (int at = (int)threadIdx.x * V; at < width; at += (int)blockDim.x * V) {
        float sum[V], v[V];
        load(sum, tail + (int64_t)blockIdx.x * width + at);
#ifdef __CUDACC__
#pragma unroll 4
#endif
        for (int64_t c = blockIdx.x + 1; c < end; c++) {
            load(v, head + c * width + at);
            UNROLL for (int k = 0; k < V; k++) sum[k] += v[k];
        }
        add_to<Table, V>(table + (int64_t)key * width + at, sum);
    }
}

template <class Table, class T, int V>
static void add_up(su_cuda *c, Table *table, float *parts, const T *y, const entry *list, int64_t rows, int width)
{
    const int64_t chunks = su_cuda_parts(rows, CHUNK);
    float *head = parts, *tail = parts + chunks * width;
    const int threads = row_threads(width / V, THREADS);
    launch(c, "scatter_add", chunks, threads, 0, add_chunks<Table, T, V>)(table, head, tail, y, list, rows, width);
    launch(c, "scatter_add", chunks - 1, threads, 0, join_chunks<Table, V>)(table, head, tail, list, rows, width);
}

/* The list in `a` or `b`, whichever it ends in. Keys are below `places`: digits beyond are zeros, and not looked at. */
static const entry *sort(su_cuda *c, entry *a, entry *b, int32_t *totals, const int32_t *index, int64_t rows, int64_t places)
{
    const int64_t blocks = su_cuda_parts(rows, SORT_CHUNK);
    const entry *from = NULL;
    for (int shift = 0; shift == 0 || (places - 1) >> shift > 0; shift += DIGIT_BITS) {
        entry *to = from == a ? b : a;
        launch(c, "scatter_add", blocks, SORT_THREADS, 0, sort_count)(totals, from, index, rows, shift);
        launch(c, "scatter_add", 1, SCAN_THREADS, 0, sort_scan)(totals, DIGITS * blocks);
        launch(c, "scatter_add", blocks, SORT_THREADS, 0, sort_place)(to, totals, from, index, rows, shift);
        from = to;
    }
    return from;
}

void su_cuda_scatter_add(su_device *d, void *table, int64_t places, bool to_acc, const void *y, const int32_t *index,
                         int64_t rows, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    if (rows <= 0) return;
    const int64_t blocks = su_cuda_parts(rows, SORT_CHUNK), chunks = su_cuda_parts(rows, CHUNK);
    const size_t lists = su_cuda_room(rows, sizeof(entry)), counts = su_cuda_room(DIGITS * blocks, sizeof(int32_t));
    char *memory = (char *)su_cuda_scratch(c, 2 * lists + counts + (size_t)(2 * chunks * width) * sizeof(float));
    if (!memory) return;
    const entry *list = sort(c, (entry *)(void *)memory, (entry *)(void *)(memory + lists),
                             (int32_t *)(void *)(memory + 2 * lists), index, rows, places);
    float *parts = (float *)(void *)(memory + 2 * lists + counts);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        constexpr int V = PACK<T>;
        const bool packs = su_cuda_packs(width, sizeof(T), table, y, NULL);
        if (to_acc && packs)
            add_up<float, T, V>(c, (float *)table, parts, (const T *)y, list, rows, width);
        else if (to_acc)
            add_up<float, T, 1>(c, (float *)table, parts, (const T *)y, list, rows, width);
        else if (packs)
            add_up<T, T, V>(c, (T *)table, parts, (const T *)y, list, rows, width);
        else
            add_up<T, T, 1>(c, (T *)table, parts, (const T *)y, list, rows, width);
    });
}
