/* Attention of single queries over a cache.
 *
 * Where a head's numbers are 4, 8, 16 or 32 packs of 16 bytes, that many lanes share a key: a warp reads whole rows of
 * keys and values, neighbours where they are neighbours in memory. It has one head of one query; a block's warps have
 * the same head of neighbouring queries, which as beams of one image read the same keys. Groups of lanes have every
 * 32 / LANES-th key, and are joined in order at the end.
 *
 * For other heads a block has one head of one query, and its warps take 32 keys at a time in turn, a lane a key. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"

enum {
    WARPS = 4,
    MOST_DIM = 256,
    EACH = MOST_DIM / WARP,
    ROW_WARPS = 12, /* of attend_lanes: a multiple of 2, 3, 4 and 6 beams */
};

struct attend_shape {
    int heads, dim;
    int64_t q_stride, kv_stride, kv_head, o_stride, index_stride;
    const int32_t *index, *first, *lengths;
    float scale;
};

/* exp(s - most); of no score, 0. */
DEVICE float shrinks(float s, float most)
{
    return s == -INFINITY ? 0.0f : expf(s - most);
}

/* A pack as it lies in memory. */
DEVICE void unpack(float (&x)[8], const uint4 &v, bf16)
{
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
    UNROLL for (int i = 0; i < 4; i++)
    {
        x[2 * i] = bits_float(words[i] << 16);
        x[2 * i + 1] = bits_float(words[i] & 0xffff0000u);
    }
}
DEVICE void unpack(float (&x)[4], const uint4 &v, float)
{
    x[0] = bits_float(v.x), x[1] = bits_float(v.y), x[2] = bits_float(v.z), x[3] = bits_float(v.w);
}

/* Keys and values of a step are asked for together, before the first is used. */
template <class T, int LANES>
__global__ void __launch_bounds__(ROW_WARPS *WARP, 2)
    attend_lanes(attend_shape a, int rows, T *o, const T *q, const T *k, const T *v)
{
    constexpr int V = PACK<T>, GROUPS = WARP / LANES, KEYS = 4;
    const int64_t r = (int64_t)(blockIdx.x / a.heads) * ROW_WARPS + warp_id();
    const int h = (int)(blockIdx.x % a.heads), group = lane_id() / LANES, part = lane_id() % LANES * V;
    if (r >= rows) return; /* the whole warp */
    const int keys = a.lengths[r];
    float query[V], sum[V] = {}, most = -INFINITY, total = 0;
    load(query, q + r * a.q_stride + h * a.dim + part);
    for (int j0 = group; j0 - group < keys; j0 += KEYS * GROUPS) {
        uint4 key[KEYS], value[KEYS];
        float s[KEYS], x[V], now = most;
        UNROLL for (int e = 0; e < KEYS; e++)
        {
            const int j = j0 + e * GROUPS < keys ? j0 + e * GROUPS : keys - 1; /* read again, not counted */
            const int64_t row = a.index ? (int64_t)a.index[r * a.index_stride + j] : (int64_t)a.first[r] + j;
            const int64_t at = row * a.kv_stride + h * a.kv_head + part;
            key[e] = *reinterpret_cast<const uint4 *>(k + at);
            value[e] = *reinterpret_cast<const uint4 *>(v + at);
        }
        UNROLL for (int e = 0; e < KEYS; e++)
        {
            s[e] = 0;
            unpack(x, key[e], T());
            UNROLL for (int d = 0; d < V; d++) s[e] += query[d] * x[d];
        }
        UNROLL for (int e = 0; e < KEYS; e++)
        {
            UNROLL for (int step = LANES / 2; step > 0; step /= 2) s[e] += __shfl_xor_sync(ALL_LANES, s[e], step);
            s[e] = j0 + e * GROUPS < keys ? s[e] * a.scale : -INFINITY;
            now = fmaxf(now, s[e]);
        }
        const float shrink = shrinks(most, now);
        most = now;
        total *= shrink;
        UNROLL for (int d = 0; d < V; d++) sum[d] *= shrink;
        UNROLL for (int e = 0; e < KEYS; e++)
        {
            const float p = shrinks(s[e], now);
            unpack(x, value[e], T());
            total += p;
            UNROLL for (int d = 0; d < V; d++) sum[d] += p * x[d];
        }
    }
    UNROLL for (int step = LANES; step < WARP; step *= 2)
    {
        const float other = __shfl_xor_sync(ALL_LANES, most, step), both = fmaxf(most, other);
        const float own = shrinks(most, both), its = shrinks(other, both);
        total = total * own + __shfl_xor_sync(ALL_LANES, total, step) * its;
        UNROLL for (int d = 0; d < V; d++) sum[d] = sum[d] * own + __shfl_xor_sync(ALL_LANES, sum[d], step) * its;
        most = both;
    }
    if (group > 0) return;
    UNROLL for (int d = 0; d < V; d++) sum[d] = keys > 0 ? sum[d] / total : 0.0f;
    store(o + r * a.o_stride + h * a.dim + part, sum);
}

template <class T, int V>
__global__ void __launch_bounds__(WARPS *WARP) attend_head(attend_shape a, T *o, const T *q, const T *k, const T *v)
{
    SHARED(float, query, MOST_DIM);
    SHARED(float, parts, WARPS *MOST_DIM); /* each warp's sum of values */
    SHARED(float, mosts, WARPS);
    SHARED(float, totals, WARPS);
    const int64_t r = blockIdx.x / a.heads;
    const int h = (int)(blockIdx.x % a.heads), keys = a.lengths[r], w = warp_id(), lane = lane_id();
    for (int d = (int)threadIdx.x; d < a.dim; d += WARPS * WARP) query[d] = get(q[r * a.q_stride + h * a.dim + d]);
    __syncthreads();
    auto row_of = [&](int j) { return a.index ? (int64_t)a.index[r * a.index_stride + j] : (int64_t)a.first[r] + j; };
    float most = -INFINITY, total = 0, sum[EACH] = {};
    for (int j0 = w * WARP; j0 < keys; j0 += WARPS * WARP) {
        const int j = j0 + lane;
        const int64_t own = j < keys ? row_of(j) * a.kv_stride + h * a.kv_head : 0;
        float s = -INFINITY;
        if (j < keys) {
            float x[V], dot = 0;
            UNROLL_BY(4) for (int d = 0; d < a.dim; d += V) {
                load(x, k + own + d);
                UNROLL for (int e = 0; e < V; e++) dot += query[d + e] * x[e];
            }
            s = a.scale * dot;
        }
        const float now = fmaxf(most, warp_max(s)), shrink = expf(most - now), p = j < keys ? expf(s - now) : 0.0f;
        total = total * shrink + warp_sum(p);
        most = now;
        UNROLL for (int e = 0; e < EACH; e++) sum[e] *= shrink;
        UNROLL_BY(2) for (int l = 0; l < WARP && j0 + l < keys; l++) {
            const float share = __shfl_sync(ALL_LANES, p, l);
            const T *row = v + __shfl_sync(ALL_LANES, own, l);
            UNROLL for (int e = 0; e < EACH; e++)
            {
                const int d = lane + e * WARP;
                if (d < a.dim) sum[e] += share * get(row[d]);
            }
        }
    }
    UNROLL for (int e = 0; e < EACH; e++)
    {
        const int d = lane + e * WARP;
        if (d < a.dim) parts[w * MOST_DIM + d] = sum[e];
    }
    if (lane == 0) mosts[w] = most, totals[w] = total;
    __syncthreads();
    for (int k1 = 0; k1 < WARPS; k1++) most = fmaxf(most, mosts[k1]);
    total = 0;
    for (int k1 = 0; keys > 0 && k1 < WARPS; k1++) total += totals[k1] * expf(mosts[k1] - most);
    for (int d = (int)threadIdx.x; d < a.dim; d += WARPS * WARP) {
        float x = 0;
        for (int k1 = 0; keys > 0 && k1 < WARPS; k1++) x += parts[k1 * MOST_DIM + d] * expf(mosts[k1] - most);
        put(o[r * a.o_stride + h * a.dim + d], keys > 0 ? x / total : 0.0f);
    }
}

void su_cuda_attend(su_device *d, const su_attend *a, void *o, const void *q, const void *k, const void *v)
{
    su_cuda *c = su_cuda_of(d);
    if (a->dim > MOST_DIM) {
        su_cuda_fail(c, SU_EUNSUPPORTED, "attention heads are wider than 256");
        return;
    }
    const attend_shape s = {a->heads,        a->dim,   a->q_stride, a->kv_stride, a->kv_head,     a->o_stride,
                            a->index_stride, a->index, a->first,    a->lengths,   (float)a->scale};
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel) {
            launch(c, "attend", (int64_t)a->rows * a->heads, WARPS * WARP, 0, kernel)(s, (T *)o, (const T *)q, (const T *)k,
                                                                                      (const T *)v);
        };
        auto lanes = [&](auto kernel) {
            launch(c, "attend", su_cuda_parts(a->rows, ROW_WARPS) * a->heads, ROW_WARPS * WARP, 0, kernel)(
                s, (int)a->rows, (T *)o, (const T *)q, (const T *)k, (const T *)v);
        };
        const bool packs = su_cuda_packs(a->dim, sizeof(T), k, NULL, NULL) &&
                           su_cuda_packs(a->kv_stride, sizeof(T), NULL, NULL, NULL) &&
                           su_cuda_packs(a->kv_head, sizeof(T), NULL, NULL, NULL);
        const bool all = packs && su_cuda_packs(a->q_stride, sizeof(T), q, v, o) &&
                         su_cuda_packs(a->o_stride, sizeof(T), NULL, NULL, NULL);
        const int shared_by = all ? a->dim / PACK<T> : 0;
        if (shared_by == 4)
            lanes(attend_lanes<T, 4>);
        else if (shared_by == 8)
            lanes(attend_lanes<T, 8>);
        else if (shared_by == 16)
            lanes(attend_lanes<T, 16>);
        else if (shared_by == 32)
            lanes(attend_lanes<T, 32>);
        else if (packs)
            go(attend_head<T, PACK<T>>);
        else
            go(attend_head<T, 1>);
    });
}
