/* Exact search among rows of bf16 on a Hopper GPU: scores are compared where the product has them, in registers, and never
 * written.
 *
 * Rows of x come in spans. In a span each query has a threshold, the least score of its list as it was before, or more: a row
 * that scores less than the k-th best by twice what rounding may do is none of the k best, since k rows lie above it whatever
 * rounding did. That lets few rows join. The key of a row with a score above the threshold is appended to the query's buffer in global memory, at a place that an atomic counter gives. Then
 * the buffers are merged into the lists:
 *
 *   the first span   as many rows as a buffer holds: each is appended
 *   the next         MORE_ROWS times as many as all before it, or so many that a buffer is half filled. Of rows in no order a
 *                    list of `kept` gains `kept` from as many rows again as there were
 *
 * Keys differ and a merge sorts them, so the lists do not tell in which order keys came. Rows rise from span to span: an
 * equal score there belongs to a larger row and never joins. A NaN joins in the first span only; a list that ends with one
 * gains nothing more, its query is not proven and is answered again (search.cu), as is every query where x has NaN or
 * infinity. Where a buffer overflows the query is lost, its threshold is infinite from then on, and its group is searched
 * again through written scores. */
#include "nn/cuda/hopper_product.h"
#include "nn/cuda/search.h"

enum { MORE_ROWS = 3, MOST_ROWS = 1 << 30 /* of a span */ };

/* What to do with scores of queries (rows of C) and rows of a span (its columns). */
struct joining_finish {
    static constexpr bool STAGED = false, BIASED = false;
    uint64_t *joining; /* [queries][room] */
    uint32_t *counts;  /* [queries] */
    const float *least;
    int queries, rows, room;
    uint32_t first; /* the row of x that the span begins with */
    bool all;       /* the first span */

    /* Numbers d[4j + 2 HALF], d[4j + 2 HALF + 1] of a thread belong to one query. */
    template <int HALF> DEVICE_MEMBER void join(const float (&d)[GROUP_NUMBERS], int query, float above, int column) const
    {
        if (*(const volatile uint32_t *)(counts + query) > (uint32_t)room) return; /* lost already */
        const int own = column + lane_id() % 4 * 2, left = rows - own;
        uint32_t found[2] = {0, 0}; /* bits of the numbers that join, of the lower and of the upper columns */
        UNROLL for (int i = 0; i < GROUP_NUMBERS / 2; i++)
        {
            const bool joins = (all || d[i / 2 * 4 + 2 * HALF + i % 2] > above) && i / 2 * 8 + i % 2 < left;
            found[i / 32] |= (uint32_t)joins << i % 32;
        }
        const int count = __popc(found[0]) + __popc(found[1]);
        if (count == 0) return;
        uint32_t at = take_places(counts + query, (uint32_t)count);
        uint64_t *to = joining + (int64_t)query * room;
        UNROLL for (int i = 0; i < GROUP_NUMBERS / 2; i++)
        {
            if (!(found[i / 32] >> i % 32 & 1)) continue;
            const uint32_t x = first + (uint32_t)(own + i / 2 * 8 + i % 2);
            if (at < (uint32_t)room) to[at] = key_of(d[i / 2 * 4 + 2 * HALF + i % 2], (int64_t)x);
            at++;
        }
    }

    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column) const
    {
        const int query = (int)row + (int)threadIdx.x % GROUP / WARP * 16 + lane_id() / 4;
        const float low = query < queries && !all ? least[query] : INFINITY;
        const float high = query + 8 < queries && !all ? least[query + 8] : INFINITY;
        /* Whether any is above is in the signs of differences: cheaper than a comparison a number. Signs of 0 and of NaN may say
         * so too; join compares again. */
        uint32_t signs_low[2] = {0, 0}, signs_high[2] = {0, 0};
        UNROLL for (int i = 0; i < GROUP_NUMBERS; i += 4)
        {
            signs_low[i / 4 % 2] |= float_bits(low - d[i]) | float_bits(low - d[i + 1]);
            signs_high[i / 4 % 2] |= float_bits(high - d[i + 2]) | float_bits(high - d[i + 3]);
        }
        if (query < queries && (all || (signs_low[0] | signs_low[1]) >> 31)) join<0>(d, query, low, (int)column);
        if (query + 8 < queries && (all || (signs_high[0] | signs_high[1]) >> 31)) join<1>(d, query + 8, high, (int)column);
    }
};

/* A block has a query: what was appended joins its list, and the threshold follows. */
__global__ void __launch_bounds__(FILTERS, 8)
    search_merge(uint64_t *lists, int kept, const uint64_t *joining, uint32_t *counts, float *least, int32_t *lost, int room,
                 const double *reach, const double *squares, int parts, int k)
{
    SHARED(uint64_t, keys, JOINING);
    SHARED(double, most, FILTERS);
    const int64_t q = blockIdx.x;
    uint64_t *list = lists + q * kept;
    const uint32_t found = counts[q];
    if (found == 0) return;
    const int used = kept + (int)(found < (uint32_t)room ? found : (uint32_t)room);
    for (int i = (int)threadIdx.x; i < used; i += FILTERS) keys[i] = i < kept ? list[i] : joining[q * room + i - kept];
    double square = 0;
    for (int p = (int)threadIdx.x; p < parts; p += FILTERS) square = squares[p] > square ? squares[p] : square;
    most[threadIdx.x] = square;
    __syncthreads();
    sort_joined(keys, used);
    for (int i = (int)threadIdx.x; i < kept; i += FILTERS) list[i] = keys[i];
    if (threadIdx.x > 0) return;
    for (int i = 1; i < FILTERS; i++) square = most[i] > square ? most[i] : square;
    const double best = (double)score_of(keys[k - 1]), size = best < 0 ? -best : best;
    const float worst = score_of(keys[kept - 1]), enough = (float)(best - 2.001 * reach_of(reach[q], square) - 1e-6 * size - 1e-37);
    const bool over = found > (uint32_t)room;
    counts[q] = 0;
    least[q] = over || worst != worst ? INFINITY : fmaxf(worst, enough);
    if (over) lost[q] = 1;
}

bool su_cuda_searches_hopper(const search_work *w)
{
    return su_cuda_hopper(w->c) && su_cuda_packs(w->width, sizeof(bf16), w->x, w->halves, NULL);
}

void su_cuda_search_hopper(const search_work *w, const double *squares, int parts, int k)
{
    su_cuda *c = w->c;
    const int room = JOINING - w->kept;
    uint64_t *joining = (uint64_t *)w->scores;
    c->ops.zero(&c->device, w->lists, (size_t)(w->group * w->kept) * sizeof *w->lists);
    c->ops.zero(&c->device, w->counts, (size_t)w->group * sizeof *w->counts);
    c->ops.zero(&c->device, w->lost, (size_t)w->group * sizeof *w->lost);
    for (int64_t first = 0, count = room / TILE_COLUMNS * TILE_COLUMNS; first < w->n; first += count) {
        if (first > 0) {
            count = su_cuda_least(first * MORE_ROWS, first * room / (2 * w->kept));
            count = su_cuda_parts(count, TILE_COLUMNS) * TILE_COLUMNS;
        }
        count = su_cuda_least(su_cuda_least(count, MOST_ROWS), w->n - first);
        const joining_finish finish = {joining,    w->counts, w->least,        (int)w->group,
                                       (int)count, room,      (uint32_t)first, first == 0};
        if (!hopper_multiply(c, "top_k", w->halves, w->stride, row_at(w, first), w->width, w->group, count, w->width, true,
                             finish))
            su_cuda_fail(c, SU_EINVAL, "a search that its kernel is not for");
        launch(c, "top_k", w->group, FILTERS, 0, search_merge)(w->lists, w->kept, joining, w->counts, w->least, w->lost, room,
                                                              w->reach, squares, parts, k);
    }
}
