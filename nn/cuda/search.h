/* Inside search: what search.cu, search_spans.cu and search_hopper.cu share. */
#ifndef SU_NN_CUDA_SEARCH_H
#define SU_NN_CUDA_SEARCH_H

#include "nn/cuda/internal.h"
#include "nn/cuda/kernel.h"

enum {
    FILTERS = 128,  /* threads: every block of 1,024 queries runs at once */
    JOINING = 2048, /* keys in shared memory: a list, and what may join it */
    SOME = FILTERS, /* so few are sorted by counting */
};

/* Keys of candidates: see search.cu. */
DEVICE uint64_t key_of(float score, int64_t row)
{
    const uint32_t bits = float_bits(score + 0.0f);                                      /* -0 becomes 0 */
    const uint32_t order = score != score ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u; /* NaN behind every number */
    return (uint64_t)order << 32 | (0xffffffffu - (uint32_t)row);
}

DEVICE float score_of(uint64_t key)
{
    const uint32_t order = (uint32_t)(key >> 32);
    return bits_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

DEVICE int64_t row_of(uint64_t key)
{
    return (int64_t)(0xffffffffu - (uint32_t)key);
}

/* keys [count], a power of two, largest first: a bitonic network. */
DEVICE void sort_keys(uint64_t *keys, int count)
{
    for (int size = 2; size <= count; size *= 2) {
        for (int apart = size / 2; apart > 0; apart /= 2) {
            for (int e = (int)threadIdx.x; e < count / 2; e += (int)blockDim.x) {
                const int i = e / apart * apart * 2 + e % apart, j = i + apart;
                const bool falling = (i & size) == 0;
                const uint64_t a = keys[i], b = keys[j];
                if ((a < b) == falling) keys[i] = b, keys[j] = a;
            }
            __syncthreads();
        }
    }
}

/* The keys [used] of the list and of what joined it, sorted; zeros behind them. */
DEVICE void sort_joined(uint64_t *keys, int used)
{
    if (used <= SOME) {
        const int i = (int)threadIdx.x;
        const uint64_t key = i < used ? keys[i] : 0;
        int rank = 0;
        for (int j = 0; j < used; j++) rank += keys[j] > key || (keys[j] == key && j < i);
        __syncthreads();
        if (i < used) keys[rank] = key;
        __syncthreads();
        return;
    }
    int size = 2 * SOME;
    while (size < used) size *= 2;
    for (int i = used + (int)threadIdx.x; i < size; i += FILTERS) keys[i] = 0;
    __syncthreads();
    sort_keys(keys, size);
}

/* How far a score may lie from its true value: of a query's reach, in lengths, and the longest row's square, which was summed in
 * float. */
DEVICE double reach_of(double reach, double square)
{
    return reach * sqrt(square) * (1 + 1e-4);
}

typedef struct {
    su_cuda *c;
    const float *queries; /* the group's first */
    const void *x;
    bool half; /* x is of bf16 */
    int64_t group, n;
    int width, kept;
    uint64_t *lists; /* device: [group][kept] */
    double *exact;   /* device: the same */
    void *scores;    /* device: [group][COLUMNS], float or bf16; or what search_spans.cu needs */
    float *tile;     /* device: [COLUMNS][width], rows of bf16 as floats */
    bf16 *halves;    /* device: [group][stride], queries as the product of bf16 reads them */
    double *reach;   /* device: [group] */
    int stride;
    uint32_t *counts; /* device: [group], of keys that may join */
    float *least;     /* device: [group], what scores must be above */
    int32_t *lost;    /* device: [group], more may have joined than there was room for */
} search_work;

static inline const void *row_at(const search_work *w, int64_t row)
{
    return (const char *)w->x + (size_t)(row * w->width) * (w->half ? sizeof(bf16) : sizeof(float));
}

/* --- search without written scores: search_spans.cu --- */

/* A span of rows of x, and the keys of those of its rows that may join the lists. As a kernel has it. */
struct search_span {
    uint64_t *joining; /* [queries][room] */
    uint32_t *counts;  /* [queries], keys that came; more than room: some found none, and the query is lost */
    float *least;      /* [queries], what a score must be above; infinite once the query is lost */
    uint4 *queues;     /* [multiprocessors][QUEUES][QUEUE], of the warps of search_hopper.cu */
    int queries, rows, room;
    uint32_t first; /* the row of x that the span begins with */
    bool all;       /* the first span: row r of it is at place r, and counts are not looked at */
};
enum { QUEUES = 8, QUEUE = 512 };

/* A row of the first span comes to a query's buffer. */
DEVICE void join_first(const search_span &s, uint64_t key, int query, int row)
{
    within(query, s.queries), within(row, s.rows);
    s.joining[(int64_t)query * s.room + row] = key;
}
/* One of another span. The counter's answer is waited for: some 2,000 cycles. */
DEVICE void join(const search_span &s, uint64_t key, int query)
{
    within(query, s.queries);
    const uint32_t at = take_places(s.counts + query, 1);
    if (at < (uint32_t)s.room)
        s.joining[(int64_t)query * s.room + at] = key;
    else
        s.least[query] = INFINITY;
}

/* Whether the group is searched in spans: where tensor cores have its scores in registers. */
bool su_cuda_searches_spans(const search_work *w);
/* Bytes of scores that groups of `most` queries need then. */
size_t su_cuda_search_room(const search_work *w, int64_t most);
/* Fills the lists of the group, whose queries are in halves, for their k best. least: no row that is in no list scores more.
 * lost: those whose list may lack a row. squares: device, [parts], see find_longest. */
void su_cuda_search_spans(const search_work *w, const double *squares, int parts, int k);

/* Those rows of the span whose scores are above least, by hopper_product.h. False: not for this shape. */
bool su_cuda_search_product(const search_work *w, const search_span *s);

#endif
