/* A span of exact search (search_spans.cu) for many queries on a Hopper GPU: scores are compared where the product has them, in
 * registers.
 *
 * A tile is 8,192 cycles of products, and a group whose threads wait for a counter in global memory, some 2,000 cycles, leaves the
 * tensor cores to the other one, which soon lacks slices. So a warp has a queue of its own in global memory, whose length is
 * in a register: a key's place comes from a vote of the warp, and its write is not waited for. A queue that is nearly full, and each
 * at the end, is emptied into the queries' buffers, a key a lane: 32 waits are one. Who meets whom there changes from run to
 * run; keys differ, and a merge sorts them. */
#include "nn/cuda/hopper_product.h"
#include "nn/cuda/search.h"

/* The first span: every row joins. Queries are rows of C, rows of the span its columns. */
struct first_finish {
    static constexpr bool STAGED = false;
    search_span s;

    DEVICE_MEMBER void prepare(int64_t, int64_t) {}
    DEVICE_MEMBER void end() {}
    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &)
    {
        const int query = (int)row + (int)threadIdx.x % GROUP / WARP * 16 + lane_id() / 4;
        const int own = (int)column + lane_id() % 4 * 2;
        UNROLL for (int i = 0; i < GROUP_NUMBERS; i++)
        {
            const int q = query + i % 4 / 2 * 8, r = own + i / 4 * 8 + i % 2;
            if (q >= s.queries || r >= s.rows) continue;
            join_first(s, key_of(d[i], (int64_t)s.first + r), q, r);
        }
    }
};

/* Any other. What each thread has besides: thresholds of its two queries, eight apart, and the length of its warp's queue. */
struct joining_finish {
    static constexpr bool STAGED = false;
    search_span s;
    float low, high;
    uint32_t queued;

    DEVICE_MEMBER uint4 *queue() const
    {
        return s.queues + ((int64_t)blockIdx.x * QUEUES + warp_id() - GROUP / WARP) * QUEUE;
    }
    DEVICE_MEMBER int query_of(int64_t row) const
    {
        return (int)row + (int)threadIdx.x % GROUP / WARP * 16 + lane_id() / 4;
    }
    DEVICE_MEMBER float least_of(int query) const /* another block may have lost the query */
    {
        return query < s.queries ? *(const volatile float *)(s.least + query) : INFINITY;
    }
    DEVICE_MEMBER void prepare(int64_t row, int64_t)
    {
        low = least_of(query_of(row));
        high = least_of(query_of(row) + 8);
    }

    /* What other lanes queued is seen behind a barrier of the warp, and read before the next is queued. */
    DEVICE_MEMBER void empty_queue()
    {
        __syncwarp();
        const uint4 *from = queue();
        for (uint32_t i = (uint32_t)lane_id(); i < queued; i += WARP) {
            const uint4 entry = from[i];
            join(s, (uint64_t)entry.y << 32 | entry.x, (int)entry.z);
        }
        __syncwarp();
        queued = 0;
    }
    DEVICE_MEMBER void end()
    {
        empty_queue();
    }

    /* By a whole warp: eight numbers of each lane, two of the lower query in columns from `column` on, two of the upper one, and the
     * same 8 columns on. */
    DEVICE_MEMBER void queue_above(const float (&v)[8], int query, int column)
    {
        uint4 *to = queue();
        UNROLL for (int e = 0; e < 8; e++)
        {
            const int q = query + e % 4 / 2 * 8, r = column + e / 4 * 8 + e % 2;
            const bool joins = v[e] > (e % 4 < 2 ? low : high) && r < s.rows;
            const uint32_t votes = __ballot_sync(ALL_LANES, joins);
            if (joins) {
                const uint64_t key = key_of(v[e], (int64_t)s.first + r);
                const uint32_t at = queued + (uint32_t)__popc(votes & ((1u << lane_id()) - 1u));
                within(at, QUEUE);
                to[at] = uint4{(uint32_t)key, (uint32_t)(key >> 32), (uint32_t)q, 0};
            }
            queued += (uint32_t)__popc(votes);
        }
        if (queued > QUEUE - 8 * WARP) empty_queue();
    }

    DEVICE_MEMBER void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &)
    {
        /* Whether any is above is in the signs of differences: cheaper than a comparison a number. Signs of 0 and of NaN may say
         * so too; queue_above compares again. A bit for each eight numbers, those of the first the lowest. */
        uint32_t found = 0;
        UNROLL for (int i = GROUP_NUMBERS - 8; i >= 0; i -= 8)
        {
            uint32_t signs = 0;
            UNROLL for (int e = i; e < i + 8; e += 4)
                signs |= float_bits(low - d[e]) | float_bits(low - d[e + 1]) | float_bits(high - d[e + 2]) | float_bits(high - d[e + 3]);
            found = found << 1 | signs >> 31;
        }
        const int query = query_of(row), own = (int)column + lane_id() % 4 * 2;
        for (found = __reduce_or_sync(ALL_LANES, found); found; found &= found - 1) {
            const int eight = __popc((found & (0u - found)) - 1u);
            float v[8];
            UNROLL for (int i = 0; i < GROUP_NUMBERS; i++)
                if (i / 8 == 0 || i / 8 == eight) v[i % 8] = d[i];
            queue_above(v, query, own + eight * 16);
        }
    }
};

bool su_cuda_search_product(const search_work *w, const search_span *s)
{
    static_assert(QUEUES == 2 * GROUP / WARP, "a queue for each warp that multiplies");
    auto go = [&](const auto &finish) {
        return hopper_multiply(w->c, "top_k", w->halves, w->stride, row_at(w, s->first), w->width, s->queries, s->rows, w->width, true,
                               finish);
    };
    return s->all ? go(first_finish{*s}) : go(joining_finish{*s, 0, 0, 0});
}
