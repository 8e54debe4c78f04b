/* Attention in bf16 with tensor cores, for heads of up to 128.
 *
 * A block of four warps has 64 rows: queries (forward, dq) or keys (dk and dv); a warp 16 of them. It walks over
 * the other side in tiles that it puts into shared memory:
 *
 *     own   [64][DIM + 8]          DIM: 64, 96 or 128, zeros behind the head's width; rows 16 bytes apart modulo
 *     other [64 or 32][DIM + 8]    128, so that load_matrices meets no bank twice
 *
 * Scores, their exponentials and the sums live in registers (see tensor.h for where); nothing of size T x T goes
 * to memory. The backward pass forms p again from the kept log-sum-exp, twice: once for dq, once for dk and dv,
 * so that no two blocks add to the same place. */
#include "nn/cuda/attention.h"
#include "nn/cuda/tensor.h"

enum { WARPS = 4, THREADS = WARPS * WARP, ROWS = 64, OWN = 16 /* rows of a warp */, PAD = 8, BACK = 32 };

/* Rows first .. first + TILE_ROWS - 1 of x, which has `count`, to tile [TILE_ROWS][DIM + PAD]. Zeros elsewhere:
 * what lies behind a sequence's length may be anything, and 0 times NaN is not 0. */
template <int DIM, int TILE_ROWS>
DEVICE void load_tile(bf16 *tile, const bf16 *x, int64_t stride, int first, int count, int dim, bool packs)
{
    constexpr int ACROSS = DIM / 8;
    for (int e = (int)threadIdx.x; e < TILE_ROWS * ACROSS; e += THREADS) {
        const int r = e / ACROSS, column = e % ACROSS * 8;
        const bf16 *from = x + (int64_t)(first + r) * stride + column;
        uint4 v;
        v.x = v.y = v.z = v.w = 0;
        if (first + r < count && column < dim) {
            if (packs) {
                v = *reinterpret_cast<const uint4 *>(from);
            } else {
                uint32_t halves[8];
                UNROLL for (int k = 0; k < 8; k++) halves[k] = column + k < dim ? from[k].bits : 0;
                v.x = halves[1] << 16 | halves[0], v.y = halves[3] << 16 | halves[2];
                v.z = halves[5] << 16 | halves[4], v.w = halves[7] << 16 | halves[6];
            }
        }
        *reinterpret_cast<uint4 *>(tile + r * (DIM + PAD) + column) = v;
    }
}

/* Rows of a warp's D pieces [DIM/8], times `factor` of each of the lane's two rows, to x. */
template <int DIM>
DEVICE void store_rows(bf16 *x, int64_t stride, int first, int count, int dim, bool packs, const float (&d)[DIM / 8][4],
                       float upper, float lower)
{
    const int g = lane_id() / 4, t = lane_id() % 4;
    UNROLL for (int half = 0; half < 2; half++)
    {
        const int r = first + g + 8 * half;
        if (r >= count) continue;
        const float factor = half ? lower : upper;
        UNROLL for (int n = 0; n < DIM / 8; n++)
        {
            const int column = n * 8 + 2 * t;
            bf16 *to = x + (int64_t)r * stride + column;
            const float left = d[n][2 * half] * factor, right = d[n][2 * half + 1] * factor;
            if (packs && column < dim) {
                *reinterpret_cast<uint32_t *>(to) = pack_bf16(left, right);
            } else {
                if (column < dim) put(to[0], left);
                if (column + 1 < dim) put(to[1], right);
            }
        }
    }
}

/* Dropout factors of elements e and e + 1. */
DEVICE void drop_pair(const dropping &d, uint64_t e, float &first, float &second)
{
    const philox_words words = philox(d.key, e / 4);
    const int at = (int)(e % 4);
    const uint32_t a = at == 0 ? words.w[0] : at == 1 ? words.w[1] : at == 2 ? words.w[2] : words.w[3];
    const uint32_t b = at == 0   ? words.w[1]
                       : at == 1 ? words.w[2]
                       : at == 2 ? words.w[3]
                                 : philox(d.key, e / 4 + 1).w[0];
    first = a < d.below ? 0.0f : d.scale;
    second = b < d.below ? 0.0f : d.scale;
}

struct place {
    int b, h, first; /* sequence, head, the block's first row */
};

DEVICE place place_of(const attention_shape &a, int rows)
{
    const int tiles = (rows + ROWS - 1) / ROWS, at = (int)(blockIdx.x / tiles);
    return place{at / a.heads, at % a.heads, (int)(blockIdx.x % tiles) * ROWS};
}

/* --- forward --- */

template <int DIM>
__global__ void __launch_bounds__(THREADS)
    attention_forward(attention_shape a, bf16 *o, float *lse, const bf16 *q, const bf16 *k, const bf16 *v)
{
    constexpr int STRIDE = DIM + PAD;
    DYNAMIC_SHARED(bf16, qs);
    bf16 *ks = qs + ROWS * STRIDE, *vs = ks + ROWS * STRIDE;
    const place at = place_of(a, a.tq);
    const int g = lane_id() / 4, t = lane_id() % 4, own = warp_id() * OWN, last = at.first + ROWS - 1;
    const bf16 *qb = q + (int64_t)at.b * a.tq * a.q_stride + at.h * a.dim;
    const bf16 *kb = k + (int64_t)at.b * a.tk * a.kv_stride + at.h * a.dim;
    const bf16 *vb = v + (int64_t)at.b * a.tk * a.kv_stride + at.h * a.dim;
    const int row[2] = {at.first + own + g, at.first + own + g + 8};
    int limit[2];
    UNROLL for (int r = 0; r < 2; r++) limit[r] = row[r] < a.tq ? visible_keys(a, at.b, row[r]) : 0;
    const int keys = visible_keys(a, at.b, last < a.tq ? last : a.tq - 1);
    const float scale = a.scale * LOG2_E;
    float out[DIM / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {};

    load_tile<DIM, ROWS>(qs, qb, a.q_stride, at.first, a.tq, a.dim, a.packs);
    for (int j0 = 0; j0 < keys; j0 += ROWS) {
        __syncthreads(); /* the tiles before have been read */
        load_tile<DIM, ROWS>(ks, kb, a.kv_stride, j0, keys, a.dim, a.packs);
        load_tile<DIM, ROWS>(vs, vb, a.kv_stride, j0, keys, a.dim, a.packs);
        __syncthreads();
        float s[ROWS / 8][4] = {};
        UNROLL for (int d = 0; d < DIM; d += 16)
        {
            const words4 x = piece_a(qs, STRIDE, own, d);
            UNROLL for (int n = 0; n < ROWS / 16; n++)
            {
                const words4 y = piece_b(ks, STRIDE, n * 16, d);
                multiply_add(s[2 * n], x, y.w[0], y.w[1]);
                multiply_add(s[2 * n + 1], x, y.w[2], y.w[3]);
            }
        }
        UNROLL for (int r = 0; r < 2; r++)
        {
            float now = most[r];
            UNROLL for (int n = 0; n < ROWS / 8; n++)
            {
                UNROLL for (int e = 2 * r; e < 2 * r + 2; e++)
                {
                    const int j = j0 + n * 8 + 2 * t + e % 2;
                    s[n][e] = j < limit[r] ? s[n][e] * scale : -INFINITY;
                    now = fmaxf(now, s[n][e]);
                }
            }
            now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, 1));
            now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, 2));
            const float shift = now == -INFINITY ? 0.0f : now, shrink = exp2f(most[r] - shift);
            float sum = 0;
            UNROLL for (int n = 0; n < ROWS / 8; n++)
            {
                UNROLL for (int e = 2 * r; e < 2 * r + 2; e++)
                {
                    s[n][e] = exp2f(s[n][e] - shift);
                    sum += s[n][e];
                }
                if (a.drop.below) {
                    float left, right;
                    drop_pair(a.drop, element_of(a, at.b, at.h, row[r], j0 + n * 8 + 2 * t), left, right);
                    s[n][2 * r] *= left;
                    s[n][2 * r + 1] *= right;
                }
            }
            total[r] = total[r] * shrink + sum; /* the lane's own; joined at the end */
            most[r] = now;
            UNROLL for (int n = 0; n < DIM / 8; n++)
            {
                out[n][2 * r] *= shrink;
                out[n][2 * r + 1] *= shrink;
            }
        }
        UNROLL for (int j = 0; j < ROWS; j += 16)
        {
            const words4 p = piece_of(s[j / 8], s[j / 8 + 1]);
            UNROLL for (int d = 0; d < DIM; d += 16)
            {
                const words4 y = piece_b_turned(vs, STRIDE, j, d);
                multiply_add(out[d / 8], p, y.w[0], y.w[1]);
                multiply_add(out[d / 8 + 1], p, y.w[2], y.w[3]);
            }
        }
    }
    float inverse[2];
    UNROLL for (int r = 0; r < 2; r++)
    {
        total[r] += __shfl_xor_sync(ALL_LANES, total[r], 1);
        total[r] += __shfl_xor_sync(ALL_LANES, total[r], 2);
        inverse[r] = limit[r] > 0 ? 1.0f / total[r] : 0.0f;
        if (lse && t == 0 && row[r] < a.tq)
            lse[((int64_t)at.b * a.heads + at.h) * a.tq + row[r]] =
                limit[r] > 0 ? most[r] * LN_2 + logf(total[r]) : -INFINITY;
    }
    store_rows<DIM>(o + (int64_t)at.b * a.tq * a.o_stride + at.h * a.dim, a.o_stride, at.first + own, a.tq, a.dim, a.packs,
                    out, inverse[0], inverse[1]);
}

/* --- backward: the formulas stand in attention.cu --- */

template <int DIM>
__global__ void __launch_bounds__(THREADS)
    attention_dq(attention_shape a, bf16 *dq, const float *deltas, const bf16 *d_o, const float *lse, const bf16 *q,
                 const bf16 *k, const bf16 *v)
{
    constexpr int STRIDE = DIM + PAD;
    DYNAMIC_SHARED(bf16, qs);
    bf16 *gs = qs + ROWS * STRIDE, *ks = gs + ROWS * STRIDE, *vs = ks + BACK * STRIDE;
    const place at = place_of(a, a.tq);
    const int g = lane_id() / 4, t = lane_id() % 4, own = warp_id() * OWN, last = at.first + ROWS - 1;
    const bf16 *kb = k + (int64_t)at.b * a.tk * a.kv_stride + at.h * a.dim;
    const bf16 *vb = v + (int64_t)at.b * a.tk * a.kv_stride + at.h * a.dim;
    const int row[2] = {at.first + own + g, at.first + own + g + 8};
    int limit[2];
    float shift[2], delta[2];
    UNROLL for (int r = 0; r < 2; r++)
    {
        const int64_t line = ((int64_t)at.b * a.heads + at.h) * a.tq + row[r];
        limit[r] = row[r] < a.tq ? visible_keys(a, at.b, row[r]) : 0;
        shift[r] = limit[r] > 0 ? lse[line] * LOG2_E : 0.0f;
        delta[r] = limit[r] > 0 ? deltas[line] : 0.0f;
    }
    const int keys = visible_keys(a, at.b, last < a.tq ? last : a.tq - 1);
    const float scale = a.scale * LOG2_E;
    float out[DIM / 8][4] = {};

    load_tile<DIM, ROWS>(qs, q + (int64_t)at.b * a.tq * a.q_stride + at.h * a.dim, a.q_stride, at.first, a.tq, a.dim, a.packs);
    load_tile<DIM, ROWS>(gs, d_o + (int64_t)at.b * a.tq * a.o_stride + at.h * a.dim, a.o_stride, at.first, a.tq, a.dim,
                         a.packs);
    for (int j0 = 0; j0 < keys; j0 += BACK) {
        __syncthreads();
        load_tile<DIM, BACK>(ks, kb, a.kv_stride, j0, keys, a.dim, a.packs);
        load_tile<DIM, BACK>(vs, vb, a.kv_stride, j0, keys, a.dim, a.packs);
        __syncthreads();
        float s[BACK / 8][4] = {}, dp[BACK / 8][4] = {};
        UNROLL for (int d = 0; d < DIM; d += 16)
        {
            const words4 x = piece_a(qs, STRIDE, own, d), z = piece_a(gs, STRIDE, own, d);
            UNROLL for (int n = 0; n < BACK / 16; n++)
            {
                const words4 y = piece_b(ks, STRIDE, n * 16, d), w = piece_b(vs, STRIDE, n * 16, d);
                multiply_add(s[2 * n], x, y.w[0], y.w[1]);
                multiply_add(s[2 * n + 1], x, y.w[2], y.w[3]);
                multiply_add(dp[2 * n], z, w.w[0], w.w[1]);
                multiply_add(dp[2 * n + 1], z, w.w[2], w.w[3]);
            }
        }
        UNROLL for (int n = 0; n < BACK / 8; n++)
        {
            UNROLL for (int r = 0; r < 2; r++)
            {
                float keep[2] = {1.0f, 1.0f};
                if (a.drop.below)
                    drop_pair(a.drop, element_of(a, at.b, at.h, row[r], j0 + n * 8 + 2 * t), keep[0], keep[1]);
                UNROLL for (int e = 0; e < 2; e++)
                {
                    const bool seen = j0 + n * 8 + 2 * t + e < limit[r];
                    const float p = exp2f(s[n][2 * r + e] * scale - shift[r]);
                    s[n][2 * r + e] = seen ? p * (dp[n][2 * r + e] * keep[e] - delta[r]) : 0.0f;
                }
            }
        }
        UNROLL for (int j = 0; j < BACK; j += 16)
        {
            const words4 ds = piece_of(s[j / 8], s[j / 8 + 1]);
            UNROLL for (int d = 0; d < DIM; d += 16)
            {
                const words4 y = piece_b_turned(ks, STRIDE, j, d);
                multiply_add(out[d / 8], ds, y.w[0], y.w[1]);
                multiply_add(out[d / 8 + 1], ds, y.w[2], y.w[3]);
            }
        }
    }
    store_rows<DIM>(dq + (int64_t)at.b * a.tq * a.q_stride + at.h * a.dim, a.q_stride, at.first + own, a.tq, a.dim, a.packs,
                    out, a.scale, a.scale);
}

/* Here rows are keys and columns queries: s, p and ds are the transposes of the formulas'. */
template <int DIM>
__global__ void __launch_bounds__(THREADS)
    attention_dkv(attention_shape a, bf16 *dk, bf16 *dv, const float *deltas, const bf16 *d_o, const float *lse,
                  const bf16 *q, const bf16 *k, const bf16 *v)
{
    constexpr int STRIDE = DIM + PAD;
    DYNAMIC_SHARED(bf16, ks);
    bf16 *vs = ks + ROWS * STRIDE, *qs = vs + ROWS * STRIDE, *gs = qs + BACK * STRIDE;
    SHARED(float, shifts, BACK);
    SHARED(float, deltas_now, BACK);
    SHARED(int, limits, BACK);
    const place at = place_of(a, a.tk);
    const int g = lane_id() / 4, t = lane_id() % 4, own = warp_id() * OWN;
    const bf16 *qb = q + (int64_t)at.b * a.tq * a.q_stride + at.h * a.dim;
    const bf16 *gb = d_o + (int64_t)at.b * a.tq * a.o_stride + at.h * a.dim;
    const int64_t line = ((int64_t)at.b * a.heads + at.h) * a.tq;
    const int row[2] = {at.first + own + g, at.first + own + g + 8};
    const float scale = a.scale * LOG2_E;
    float out_k[DIM / 8][4] = {}, out_v[DIM / 8][4] = {};
    /* Queries before this one see none of the block's keys; beyond the length nobody does. */
    const int length = a.lengths ? a.lengths[at.b] : a.tk;
    int from = a.causal ? at.first + a.tq - a.tk : 0;
    from = at.first >= length ? a.tq : from < 0 ? 0 : from / BACK * BACK;

    load_tile<DIM, ROWS>(ks, k + (int64_t)at.b * a.tk * a.kv_stride + at.h * a.dim, a.kv_stride, at.first, length, a.dim,
                         a.packs);
    load_tile<DIM, ROWS>(vs, v + (int64_t)at.b * a.tk * a.kv_stride + at.h * a.dim, a.kv_stride, at.first, length, a.dim,
                         a.packs);
    for (int i0 = from; i0 < a.tq; i0 += BACK) {
        __syncthreads();
        load_tile<DIM, BACK>(qs, qb, a.q_stride, i0, a.tq, a.dim, a.packs);
        load_tile<DIM, BACK>(gs, gb, a.o_stride, i0, a.tq, a.dim, a.packs);
        if (threadIdx.x < BACK) {
            const int i = i0 + (int)threadIdx.x, limit = i < a.tq ? visible_keys(a, at.b, i) : 0;
            limits[threadIdx.x] = limit;
            shifts[threadIdx.x] = limit > 0 ? lse[line + i] * LOG2_E : 0.0f;
            deltas_now[threadIdx.x] = limit > 0 ? deltas[line + i] : 0.0f;
        }
        __syncthreads();
        float s[BACK / 8][4] = {}, dp[BACK / 8][4] = {};
        UNROLL for (int d = 0; d < DIM; d += 16)
        {
            const words4 x = piece_a(ks, STRIDE, own, d), z = piece_a(vs, STRIDE, own, d);
            UNROLL for (int n = 0; n < BACK / 16; n++)
            {
                const words4 y = piece_b(qs, STRIDE, n * 16, d), w = piece_b(gs, STRIDE, n * 16, d);
                multiply_add(s[2 * n], x, y.w[0], y.w[1]);
                multiply_add(s[2 * n + 1], x, y.w[2], y.w[3]);
                multiply_add(dp[2 * n], z, w.w[0], w.w[1]);
                multiply_add(dp[2 * n + 1], z, w.w[2], w.w[3]);
            }
        }
        UNROLL for (int n = 0; n < BACK / 8; n++)
        {
            UNROLL for (int e = 0; e < 4; e++)
            {
                const int column = n * 8 + 2 * t + e % 2, j = row[e / 2];
                const float p = j < limits[column] ? exp2f(s[n][e] * scale - shifts[column]) : 0.0f;
                const float keep =
                    a.drop.below ? drop_factor(a.drop, element_of(a, at.b, at.h, i0 + column, j)) : 1.0f;
                s[n][e] = p * keep;
                dp[n][e] = p * (dp[n][e] * keep - deltas_now[column]);
            }
        }
        UNROLL for (int i = 0; i < BACK; i += 16)
        {
            const words4 p = piece_of(s[i / 8], s[i / 8 + 1]), ds = piece_of(dp[i / 8], dp[i / 8 + 1]);
            UNROLL for (int d = 0; d < DIM; d += 16)
            {
                const words4 y = piece_b_turned(gs, STRIDE, i, d), w = piece_b_turned(qs, STRIDE, i, d);
                multiply_add(out_v[d / 8], p, y.w[0], y.w[1]);
                multiply_add(out_v[d / 8 + 1], p, y.w[2], y.w[3]);
                multiply_add(out_k[d / 8], ds, w.w[0], w.w[1]);
                multiply_add(out_k[d / 8 + 1], ds, w.w[2], w.w[3]);
            }
        }
    }
    const int64_t to = (int64_t)at.b * a.tk * a.kv_stride + at.h * a.dim;
    store_rows<DIM>(dk + to, a.kv_stride, at.first + own, a.tk, a.dim, a.packs, out_k, a.scale, a.scale);
    store_rows<DIM>(dv + to, a.kv_stride, at.first + own, a.tk, a.dim, a.packs, out_v, 1.0f, 1.0f);
}

/* --- the choice of DIM --- */

/* f(number) with the least DIM that holds `dim`. False: none does. */
template <int N> struct number {
    static constexpr int value = N;
};
template <class F> static bool by_width(int dim, F f)
{
    if (dim <= 64)
        f(number<64>());
    else if (dim <= 96)
        f(number<96>());
    else if (dim <= 128)
        f(number<128>());
    else
        return false;
    return true;
}

static int64_t blocks_of(const attention_shape &a, int rows)
{
    return (int64_t)a.batch * a.heads * su_cuda_parts(rows, ROWS);
}

bool su_cuda_attention_tensor(su_cuda *c, const attention_shape &a, bf16 *o, float *lse, const bf16 *q, const bf16 *k,
                              const bf16 *v)
{
    return by_width(a.dim, [&](auto width) {
        constexpr int DIM = decltype(width)::value;
        const size_t shared = 3 * ROWS * (DIM + PAD) * sizeof(bf16);
        launch(c, "attention", blocks_of(a, a.tq), THREADS, shared, attention_forward<DIM>)(a, o, lse, q, k, v);
    });
}

bool su_cuda_attention_tensor_backward(su_cuda *c, const attention_shape &a, bf16 *dq, bf16 *dk, bf16 *dv,
                                       const bf16 *d_o, const float *deltas, const float *lse, const bf16 *q,
                                       const bf16 *k, const bf16 *v)
{
    return by_width(a.dim, [&](auto width) {
        constexpr int DIM = decltype(width)::value;
        const size_t shared = 2 * (ROWS + BACK) * (DIM + PAD) * sizeof(bf16);
        launch(c, "attention_backward", blocks_of(a, a.tq), THREADS, shared, attention_dq<DIM>)(a, dq, deltas, d_o, lse, q, k,
                                                                                               v);
        launch(c, "attention_backward", blocks_of(a, a.tk), THREADS, shared, attention_dkv<DIM>)(a, dk, dv, deltas, d_o, lse, q,
                                                                                                k, v);
    });
}
