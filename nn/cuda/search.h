/* Inside search: what search.cu and search_hopper.cu share. */
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
    void *scores;    /* device: [group][COLUMNS], float or bf16; or the keys that may join the lists: search_hopper.cu */
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

/* Whether su_cuda_search_hopper is for this GPU and these rows. */
bool su_cuda_searches_hopper(const search_work *w);
/* Fills the lists of the group, whose queries are in halves, for their k best. least: no row that is in no list scores more.
 * lost: those whose list may lack a row. squares: device, [parts], see find_longest. */
void su_cuda_search_hopper(const search_work *w, const double *squares, int parts, int k);

#endif
