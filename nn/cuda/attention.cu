/* Attention, the plain way: a warp has a query (backward: once a query, once a key), a lane a key. Any shape and
 * type; used in float32, and where nothing faster takes the shape. Nothing of size T x T is stored, and no sum
 * is shared between warps, so the result does not depend on their order. */
#include "nn/cuda/attention.h"
#include "nn/cuda/library.h"
#include <stdlib.h>
#include <string.h>

enum { WARPS = 4, MOST_DIM = 256, EACH = MOST_DIM / WARP /* columns of a lane */ };

template <class T> DEVICE float dot(const float *x, const T *y, int dim)
{
    float sum = 0;
    for (int i = 0; i < dim; i++) sum += x[i] * get(y[i]);
    return sum;
}

/* Where warp `warp` of a block works: sequence b, head h, row i of `rows`. False beyond the last. */
DEVICE bool place_of(const attention_shape &a, int rows, int &b, int &h, int &i)
{
    const int64_t at = (int64_t)blockIdx.x * WARPS + warp_id();
    i = (int)(at % rows);
    h = (int)(at / rows % a.heads);
    b = (int)(at / rows / a.heads);
    return b < a.batch;
}

template <class T> DEVICE void keep_row(float *to, const T *from, int dim)
{
    for (int d = lane_id(); d < dim; d += WARP) to[d] = get(from[d]);
    __syncwarp();
}

template <class T>
__global__ void __launch_bounds__(WARPS *WARP)
    attention_rows(attention_shape a, T *o, float *lse, const T *q, const T *k, const T *v)
{
    SHARED(float, queries, WARPS *MOST_DIM);
    int b, h, i;
    if (!place_of(a, a.tq, b, h, i)) return;
    float *query = queries + warp_id() * MOST_DIM;
    keep_row(query, q + ((int64_t)b * a.tq + i) * a.q_stride + h * a.dim, a.dim);
    const T *kb = k + (int64_t)b * a.tk * a.kv_stride + h * a.dim, *vb = v + (int64_t)b * a.tk * a.kv_stride + h * a.dim;
    const int limit = visible_keys(a, b, i);
    float most = -INFINITY, total = 0, sum[EACH] = {};
    for (int j0 = 0; j0 < limit; j0 += WARP) {
        const int j = j0 + lane_id();
        const float s = j < limit ? a.scale * dot(query, kb + j * a.kv_stride, a.dim) : -INFINITY;
        const float now = fmaxf(most, warp_max(s)), shrink = expf(most - now);
        float p = j < limit ? expf(s - now) : 0.0f;
        total = total * shrink + warp_sum(p);
        if (a.drop.below && j < limit) p *= drop_factor(a.drop, element_of(a, b, h, i, j));
        most = now;
        UNROLL for (int e = 0; e < EACH; e++) sum[e] *= shrink;
        for (int l = 0; l < WARP && j0 + l < limit; l++) {
            const float share = __shfl_sync(ALL_LANES, p, l);
            const T *row = vb + (j0 + l) * a.kv_stride;
            UNROLL for (int e = 0; e < EACH; e++)
            {
                const int d = lane_id() + e * WARP;
                if (d < a.dim) sum[e] += share * get(row[d]);
            }
        }
    }
    T *to = o + ((int64_t)b * a.tq + i) * a.o_stride + h * a.dim;
    const float inverse = limit > 0 ? 1.0f / total : 0.0f;
    UNROLL for (int e = 0; e < EACH; e++)
    {
        const int d = lane_id() + e * WARP;
        if (d < a.dim) put(to[d], sum[e] * inverse);
    }
    if (lse && lane_id() == 0) lse[((int64_t)b * a.heads + h) * a.tq + i] = limit > 0 ? most + logf(total) : -INFINITY;
}

/* --- backward, with p from the kept log-sum-exp ---
 *
 *   m_ij  the dropout factor, 0 or 1/(1 - dropout);   D_i = <do_i, o_i>
 *   dv_j = sum_i m_ij p_ij do_i             ds_ij = p_ij (m_ij <do_i, v_j> - D_i)
 *   dq_i = scale sum_j ds_ij k_j            dk_j = scale sum_i ds_ij q_i */

/* deltas [batch][heads][tq] = D; a warp has a query. */
template <class T>
__global__ void __launch_bounds__(WARPS *WARP) attention_deltas(attention_shape a, float *deltas, const T *d_o, const T *o)
{
    int b, h, i;
    if (!place_of(a, a.tq, b, h, i)) return;
    const int64_t at = ((int64_t)b * a.tq + i) * a.o_stride + h * a.dim;
    float sum = 0;
    for (int d = lane_id(); d < a.dim; d += WARP) sum += get(d_o[at + d]) * get(o[at + d]);
    sum = warp_sum(sum);
    if (lane_id() == 0) deltas[((int64_t)b * a.heads + h) * a.tq + i] = sum;
}

template <class T>
__global__ void __launch_bounds__(WARPS *WARP)
    attention_dq(attention_shape a, T *dq, const float *deltas, const T *d_o, const float *lse, const T *q, const T *k,
                 const T *v)
{
    SHARED(float, rows, WARPS * 2 * MOST_DIM);
    int b, h, i;
    if (!place_of(a, a.tq, b, h, i)) return;
    float *query = rows + warp_id() * 2 * MOST_DIM, *grad = query + MOST_DIM, sum[EACH] = {};
    const int64_t line = ((int64_t)b * a.heads + h) * a.tq + i;
    keep_row(query, q + ((int64_t)b * a.tq + i) * a.q_stride + h * a.dim, a.dim);
    keep_row(grad, d_o + ((int64_t)b * a.tq + i) * a.o_stride + h * a.dim, a.dim);
    const T *kb = k + (int64_t)b * a.tk * a.kv_stride + h * a.dim, *vb = v + (int64_t)b * a.tk * a.kv_stride + h * a.dim;
    const int limit = visible_keys(a, b, i);
    const float delta = deltas[line], shift = lse[line];
    for (int j0 = 0; j0 < limit; j0 += WARP) {
        const int j = j0 + lane_id();
        float ds = 0;
        if (j < limit) {
            const float p = expf(a.scale * dot(query, kb + j * a.kv_stride, a.dim) - shift);
            float dp = dot(grad, vb + j * a.kv_stride, a.dim);
            if (a.drop.below) dp *= drop_factor(a.drop, element_of(a, b, h, i, j));
            ds = p * (dp - delta);
        }
        for (int l = 0; l < WARP && j0 + l < limit; l++) {
            const float share = __shfl_sync(ALL_LANES, ds, l);
            const T *row = kb + (j0 + l) * a.kv_stride;
            UNROLL for (int e = 0; e < EACH; e++)
            {
                const int d = lane_id() + e * WARP;
                if (d < a.dim) sum[e] += share * get(row[d]);
            }
        }
    }
    T *to = dq + ((int64_t)b * a.tq + i) * a.q_stride + h * a.dim;
    UNROLL for (int e = 0; e < EACH; e++)
    {
        const int d = lane_id() + e * WARP;
        if (d < a.dim) put(to[d], sum[e] * a.scale);
    }
}

/* A warp has a key, a lane a query. */
template <class T>
__global__ void __launch_bounds__(WARPS *WARP)
    attention_dkv(attention_shape a, T *dk, T *dv, const float *deltas, const T *d_o, const float *lse, const T *q,
                  const T *k, const T *v)
{
    SHARED(float, rows, WARPS * 2 * MOST_DIM);
    int b, h, j;
    if (!place_of(a, a.tk, b, h, j)) return;
    float *key = rows + warp_id() * 2 * MOST_DIM, *value = key + MOST_DIM, sum_k[EACH] = {}, sum_v[EACH] = {};
    const int64_t at = ((int64_t)b * a.tk + j) * a.kv_stride + h * a.dim;
    keep_row(key, k + at, a.dim);
    keep_row(value, v + at, a.dim);
    const T *qb = q + (int64_t)b * a.tq * a.q_stride + h * a.dim, *gb = d_o + (int64_t)b * a.tq * a.o_stride + h * a.dim;
    const int64_t line = ((int64_t)b * a.heads + h) * a.tq;
    for (int i0 = 0; i0 < a.tq; i0 += WARP) {
        const int i = i0 + lane_id();
        const bool seen = i < a.tq && j < visible_keys(a, b, i);
        float ds = 0, p = 0;
        if (seen) {
            p = expf(a.scale * dot(key, qb + i * a.q_stride, a.dim) - lse[line + i]);
            float dp = dot(value, gb + i * a.o_stride, a.dim);
            const float keep = a.drop.below ? drop_factor(a.drop, element_of(a, b, h, i, j)) : 1.0f;
            ds = p * (dp * keep - deltas[line + i]);
            p *= keep;
        }
        const uint32_t any = __ballot_sync(ALL_LANES, seen);
        for (int l = 0; l < WARP; l++) {
            if (!(any >> l & 1)) continue;
            const float share_k = __shfl_sync(ALL_LANES, ds, l), share_v = __shfl_sync(ALL_LANES, p, l);
            const T *query = qb + (i0 + l) * a.q_stride, *grad = gb + (i0 + l) * a.o_stride;
            UNROLL for (int e = 0; e < EACH; e++)
            {
                const int d = lane_id() + e * WARP;
                if (d >= a.dim) continue;
                sum_k[e] += share_k * get(query[d]);
                sum_v[e] += share_v * get(grad[d]);
            }
        }
    }
    UNROLL for (int e = 0; e < EACH; e++)
    {
        const int d = lane_id() + e * WARP;
        if (d >= a.dim) continue;
        put(dk[at + d], sum_k[e] * a.scale);
        put(dv[at + d], sum_v[e]);
    }
}

/* --- the table's operations: short sequences, the library, tensor cores, or the plain way --- */

/* SUTURE_ATTENTION: own (all but cuDNN), cudnn, short (as own, but not those for Hopper GPUs) or tensor (neither those, nor cuDNN). */
static bool asks(const char *way)
{
    const char *choice = getenv("SUTURE_ATTENTION");
    return choice && strcmp(choice, way) == 0;
}
static bool tries(const char *way)
{
    const char *choice = getenv("SUTURE_ATTENTION");
    return !choice || !*choice || strcmp(choice, way) == 0;
}

/* Without being asked for, kernels get the shapes for which they were the fastest on a GPU (bench/LOG.md). */
static bool tries_hopper(const su_attention *a)
{
    return asks("own") || (tries("own") && a->tq > 128);
}
static bool tries_short(const su_attention *a)
{
    return asks("own") || asks("short") || (tries("own") && a->dim <= 64 && a->tq <= 208 && a->tk <= 208);
}

static bool takes(su_cuda *c, const su_attention *a)
{
    if (a->dim <= MOST_DIM) return true;
    su_cuda_fail(c, SU_EUNSUPPORTED, "attention heads are wider than 256");
    return false;
}

static attention_shape shape_of(const su_cuda *c, const su_attention *a, bool aligned)
{
    attention_shape s = {};
    s.batch = a->batch, s.heads = a->heads, s.dim = a->dim, s.tq = a->tq, s.tk = a->tk;
    s.q_stride = a->q_stride, s.kv_stride = a->kv_stride, s.o_stride = a->o_stride;
    s.lengths = a->lengths;
    s.causal = a->causal;
    const size_t size = su_dtype_size(c->device.act);
    s.packs = aligned && su_cuda_packs(a->dim, size, NULL, NULL, NULL) && su_cuda_packs(a->q_stride, size, NULL, NULL, NULL) &&
              su_cuda_packs(a->kv_stride, size, NULL, NULL, NULL) && su_cuda_packs(a->o_stride, size, NULL, NULL, NULL);
    s.scale = (float)a->scale;
    s.drop = dropping_of(a->dropout, a->key);
    return s;
}

static int64_t blocks_of(const su_attention *a, int rows)
{
    return su_cuda_parts((int64_t)a->batch * a->heads * rows, WARPS);
}

void su_cuda_attention(su_device *d, const su_attention *a, void *o, void *lse, const void *q, const void *k,
                       const void *v)
{
    su_cuda *c = su_cuda_of(d);
    if (!takes(c, a)) return;
    const attention_shape s = shape_of(c, a, (((uintptr_t)o | (uintptr_t)q | (uintptr_t)k | (uintptr_t)v) & 15) == 0);
    const bool half = d->act == SU_DTYPE_BF16;
    if (half && tries_hopper(a) &&
        su_cuda_attention_hopper(c, s, (bf16 *)o, (float *)lse, (const bf16 *)q, (const bf16 *)k, (const bf16 *)v))
        return;
    if (half && tries_short(a) &&
        su_cuda_attention_short(c, s, (bf16 *)o, (float *)lse, (const bf16 *)q, (const bf16 *)k, (const bf16 *)v))
        return;
    if (tries("cudnn") && c->library && c->library->attention && c->library->attention(c, a, o, lse, q, k, v)) return;
    if (half && su_cuda_attention_tensor(c, s, (bf16 *)o, (float *)lse, (const bf16 *)q, (const bf16 *)k,
                                                            (const bf16 *)v))
        return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        launch(c, "attention", blocks_of(a, a->tq), WARPS * WARP, 0, attention_rows<T>)(s, (T *)o, (float *)lse, (const T *)q,
                                                                                        (const T *)k, (const T *)v);
    });
}

void su_cuda_attention_sums(su_cuda *c, const attention_shape &a, const void *dq, const void *dv, float *dbq, float *dbv)
{
    const int32_t width = a.heads * a.dim;
    if (dbq) su_cuda_column_sums(c, dbq, dq, (int64_t)a.batch * a.tq, width, a.q_stride);
    if (dbv) su_cuda_column_sums(c, dbv, dv, (int64_t)a.batch * a.tk, width, a.kv_stride);
}

void su_cuda_attention_backward(su_device *d, const su_attention *a, void *dq, void *dk, void *dv, void *dbq, void *dbv,
                                const void *d_o, const void *o, const void *lse, const void *q, const void *k,
                                const void *v)
{
    su_cuda *c = su_cuda_of(d);
    if (!takes(c, a)) return;
    const uintptr_t addresses = (uintptr_t)dq | (uintptr_t)dk | (uintptr_t)dv | (uintptr_t)d_o | (uintptr_t)o | (uintptr_t)q |
                                (uintptr_t)k | (uintptr_t)v;
    const attention_shape s = shape_of(c, a, (addresses & 15) == 0);
    const bool half = d->act == SU_DTYPE_BF16;
    if (half && tries_hopper(a) &&
        su_cuda_attention_hopper_backward(c, s, (bf16 *)dq, (bf16 *)dk, (bf16 *)dv, (float *)dbq, (float *)dbv,
                                          (const bf16 *)d_o, (const bf16 *)o, (const float *)lse, (const bf16 *)q,
                                          (const bf16 *)k, (const bf16 *)v))
        return;
    if (half && tries_short(a) &&
        su_cuda_attention_short_backward(c, s, (bf16 *)dq, (bf16 *)dk, (bf16 *)dv, (float *)dbq, (float *)dbv,
                                         (const bf16 *)d_o, (const bf16 *)o, (const float *)lse, (const bf16 *)q,
                                         (const bf16 *)k, (const bf16 *)v))
        return;
    auto sums = [&]() { su_cuda_attention_sums(c, s, dq, dv, (float *)dbq, (float *)dbv); };
    if (tries("cudnn") && c->library && c->library->attention_backward &&
        c->library->attention_backward(c, a, dq, dk, dv, d_o, o, lse, q, k, v))
        return sums();
    float *deltas = (float *)su_cuda_scratch(c, (size_t)a->batch * a->heads * a->tq * sizeof(float));
    if (!deltas) return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        launch(c, "attention_backward", blocks_of(a, a->tq), WARPS * WARP, 0, attention_deltas<T>)(s, deltas, (const T *)d_o,
                                                                                                   (const T *)o);
    });
    if (half &&
        su_cuda_attention_tensor_backward(c, s, (bf16 *)dq, (bf16 *)dk, (bf16 *)dv, (const bf16 *)d_o, deltas,
                                          (const float *)lse, (const bf16 *)q, (const bf16 *)k, (const bf16 *)v))
        return sums();
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        launch(c, "attention_backward", blocks_of(a, a->tq), WARPS * WARP, 0, attention_dq<T>)(
            s, (T *)dq, deltas, (const T *)d_o, (const float *)lse, (const T *)q, (const T *)k, (const T *)v);
        launch(c, "attention_backward", blocks_of(a, a->tk), WARPS * WARP, 0, attention_dkv<T>)(
            s, (T *)dk, (T *)dv, deltas, (const T *)d_o, (const float *)lse, (const T *)q, (const T *)k, (const T *)v);
    });
    sums();
}
