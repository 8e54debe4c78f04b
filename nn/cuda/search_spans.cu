/* Exact search among rows of bf16 without written scores: they are compared in registers, by search_hopper.cu for many queries, by
 * search_few for up to FEW.
 *
 * Rows of x come in spans. In a span each query has a threshold, the least score of its list as it was before, or more: a row
 * that scores less than the k-th best by twice what rounding may do is none of the k best, since k rows lie above it whatever
 * rounding did. That lets few rows join: those of a score above the threshold come to the query's buffer in global memory,
 * which is then merged into the list.
 *
 *   the first span   FIRST_ROWS, or as many as a list is long: each joins, at a place that is known
 *   the next         MORE_ROWS times as many as all before it (few queries: no such limit), or so many that a buffer is half filled.
 *                    Of rows in no order a list of `kept` gains at most `kept` from as many rows again as there were
 *
 * MORE_ROWS. Of unit rows of 512 numbers drawn at random some 14 lie above the threshold of ten answers (counted: 12.5 of 512 rows,
 * 14.2 of 370,000): 10 up to the k-th best, and those within 2 x 0.0018 of rounding below it. A span of m times the rows before it
 * brings 14 m keys a query, of 1,024 queries 54 m to each of the 264 groups that multiply. Once keys are rare each is found alone, by
 * some 600 cycles of a group, 0.35 us, and two groups share a multiprocessor: 38 m us. A span itself costs some 20 us: launches, a
 * merge, a pipeline that fills, a last round of tiles that is not full. For every factor of e in rows that is
 * (38 m + 20) / ln(m + 1): 84 us for m = 1, 87 for 2, 97 for 3 (reckoned, not measured). 2 it is: ten spans, 512 x 3^9 rows, reach
 * beyond 10 million, where 1 takes sixteen, and the 20 are the least certain. With a wait of 2,000 cycles or more for each key
 * less than 1 would be best.
 * Few queries: a span brings so few keys that only their number counts: five spans for 10 million rows.
 *
 * Keys differ and a merge sorts them, so the lists do not tell in which order keys came. Rows rise from span to span: an
 * equal score there belongs to a larger row and never joins. A NaN joins in the first span only; a list that ends with one
 * gains nothing more, its query is not proven and is answered again (search.cu), as is every query where x has NaN or
 * infinity. Where a buffer overflows the query is lost, its threshold is infinite from then on, and its group is searched
 * again through written scores. */
#include "nn/cuda/hopper_product.h"
#include "nn/cuda/search.h"
#include "nn/cuda/tensor.h"

enum {
    FIRST_ROWS = 512,
    MORE_ROWS = 2,
    MOST_ROWS = 1 << 30, /* of a span */
    FEW = 8,             /* queries */
    FEW_THREADS = 256,
    FEW_ROWS = 16,       /* a warp's, at a time */
    FEW_BLOCKS = 3,      /* of a multiprocessor: up to 96 KiB on their way to it; 4.2 TB/s want 32 where memory takes 1 us */
    AHEAD = 4,           /* packs of a row that a lane has asked for before it multiplies the first */
    STEP = 32,           /* columns that four lanes take together */
};

/* Few queries: every row is read once, and a warp has FEW_ROWS of them. Their scores are D = A B^T of tensor.h with rows of x as A
 * and queries as B^T [8], the first again where there are fewer. Which of the sixteen columns of a product is which does not matter as
 * long as A and B agree, so lane 4g + t takes 16-byte packs t, t + 4, ... of rows g and g + 8 and of query g as they lie, and two
 * products use them up: four lanes read 64 bytes together. A score is a sum of its products in an order that the width alone
 * tells, sixteen at a time as any product of bf16 on tensor cores is: width additions, of which each loses what search.cu's bound
 * allows width + 64 of them, and those of zeros, which lose nothing. Few rows join, and other warps read meanwhile, so that the
 * wait for a buffer's counter costs nothing. */
template <bool WHOLE> /* width is a multiple of AHEAD packs of four lanes */
__global__ void __launch_bounds__(FEW_THREADS, FEW_BLOCKS)
    search_few(search_span s, const bf16 *halves, int stride, const bf16 *x, int width)
{
    constexpr int WARPS = FEW_THREADS / WARP;
    const int g = lane_id() / 4, t = lane_id() % 4, tiles = (s.rows + FEW_ROWS - 1) / FEW_ROWS;
    const bf16 *query = halves + (int64_t)(g < s.queries ? g : 0) * stride; /* the first again, too */
    float least[2];
    for (int e = 0; e < 2; e++) least[e] = 2 * t + e < s.queries && !s.all ? s.least[2 * t + e] : INFINITY;
    auto row_at = [&](int r) {
        const int row = r < s.rows ? r : s.rows - 1; /* the last again: its scores are not looked at */
        within(row, s.rows);
        return x + (int64_t)row * width;
    };
    auto pack = [&](const bf16 *row, int column) {
        return WHOLE || column < width ? *reinterpret_cast<const uint4 *>(row + column) : uint4{0, 0, 0, 0};
    };
    for (int tile = (int)blockIdx.x * WARPS + warp_id(); tile < tiles; tile += (int)gridDim.x * WARPS) {
        const int own = tile * FEW_ROWS + g;
        const bf16 *low = row_at(own), *high = row_at(own + 8);
        float d[4] = {0, 0, 0, 0};
        UNROLL_BY(1) for (int k = 8 * t; k < width + 8 * t; k += STEP * AHEAD) /* as often in each lane */
        {
            uint4 a[AHEAD], b[AHEAD], q[AHEAD];
            UNROLL for (int i = 0; i < AHEAD; i++) a[i] = pack(low, k + STEP * i), b[i] = pack(high, k + STEP * i);
            UNROLL for (int i = 0; i < AHEAD; i++) q[i] = pack(query, k + STEP * i);
            UNROLL for (int i = 0; i < AHEAD; i++)
            {
                multiply_add(d, words4{{a[i].x, b[i].x, a[i].y, b[i].y}}, q[i].x, q[i].y);
                multiply_add(d, words4{{a[i].z, b[i].z, a[i].w, b[i].w}}, q[i].z, q[i].w);
            }
        }
        UNROLL for (int e = 0; e < 4; e++)
        {
            const int q = 2 * t + e % 2, row = own + e / 2 * 8;
            if (row >= s.rows || q >= s.queries || !(s.all || d[e] > least[e % 2])) continue;
            const uint64_t key = key_of(d[e], (int64_t)s.first + row);
            if (s.all)
                join_first(s, key, q, row);
            else if (d[e] > *(const volatile float *)(s.least + q)) /* the query may be lost by now */
                join(s, key, q);
        }
    }
}

/* A block has a query: what came to its buffer joins its list, and the threshold follows. */
__global__ void __launch_bounds__(FILTERS, 8)
    search_merge(search_span s, uint64_t *lists, int kept, int32_t *lost, const double *reach, const double *squares, int parts,
                 int k)
{
    SHARED(uint64_t, keys, JOINING);
    SHARED(double, most, FILTERS);
    const int64_t q = blockIdx.x;
    uint64_t *list = lists + q * kept;
    const uint32_t found = s.all ? (uint32_t)s.rows : s.counts[q];
    if (found == 0) return;
    const bool over = found > (uint32_t)s.room;
    const int had = s.all ? 0 : kept, used = had + (over ? s.room : (int)found);
    for (int i = (int)threadIdx.x; i < used; i += FILTERS) keys[i] = i < had ? list[i] : s.joining[q * s.room + i - had];
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
    s.counts[q] = 0;
    s.least[q] = over || worst != worst ? INFINITY : fmaxf(worst, enough);
    if (over) lost[q] = 1;
}

static int room_of(const search_work *w)
{
    return JOINING - w->kept;
}

bool su_cuda_searches_spans(const search_work *w)
{
    return (w->group <= FEW || su_cuda_hopper(w->c)) && su_cuda_packs(w->width, sizeof(bf16), w->x, w->halves, NULL);
}

size_t su_cuda_search_room(const search_work *w, int64_t most)
{
    const int64_t queues = most > FEW ? (int64_t)w->c->properties.processors * QUEUES * QUEUE : 0;
    return su_cuda_room(most * room_of(w), sizeof(uint64_t)) + su_cuda_room(queues, sizeof(uint4));
}

static void search_one_span(const search_work *w, const search_span *s)
{
    const int64_t blocks = su_cuda_parts(s->rows, FEW_THREADS / WARP * FEW_ROWS);
    const int64_t most = (int64_t)w->c->properties.processors * FEW_BLOCKS;
    if (w->group <= FEW)
        launch(w->c, "top_k", su_cuda_least(blocks, most), FEW_THREADS, 0,
               w->width % (STEP * AHEAD) ? search_few<false> : search_few<true>)(*s, w->halves, w->stride,
                                                                                (const bf16 *)row_at(w, s->first), w->width);
    else if (!su_cuda_search_product(w, s))
        su_cuda_fail(w->c, SU_EINVAL, "a search that its kernel is not for");
}

void su_cuda_search_spans(const search_work *w, const double *squares, int parts, int k)
{
    su_cuda *c = w->c;
    search_span s = {};
    s.joining = (uint64_t *)w->scores, s.counts = w->counts, s.least = w->least;
    s.queries = (int)w->group, s.room = room_of(w);
    s.queues = (uint4 *)(void *)((char *)w->scores + su_cuda_room(w->group * s.room, sizeof(uint64_t)));
    c->ops.zero(&c->device, w->counts, (size_t)w->group * sizeof *w->counts);
    c->ops.zero(&c->device, w->lost, (size_t)w->group * sizeof *w->lost);
    int64_t count = w->kept > FIRST_ROWS ? w->kept : FIRST_ROWS; /* never more than room, in whole tiles neither */
    for (int64_t first = 0; first < w->n; first += count) {
        if (first > 0) {
            count = first * s.room / (2 * w->kept);
            if (w->group > FEW) count = su_cuda_least(count, first * MORE_ROWS);
        }
        count = su_cuda_parts(count, TILE_COLUMNS) * TILE_COLUMNS;
        count = su_cuda_least(su_cuda_least(count, MOST_ROWS), w->n - first);
        s.first = (uint32_t)first, s.rows = (int)count, s.all = first == 0;
        search_one_span(w, &s);
        launch(c, "top_k", w->group, FILTERS, 0, search_merge)(s, w->lists, w->kept, w->lost, w->reach, squares, parts, k);
    }
}
