/* What the ways of computing attention share: attention.cu, any shape and type, attention_tensor.cu, bf16 with
 * tensor cores, and attention_short.cu, the same for sequences whose heads fit into shared memory. */
#ifndef SU_NN_CUDA_ATTENTION_H
#define SU_NN_CUDA_ATTENTION_H

#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/random.h"

/* su_attention as kernels take it. */
struct attention_shape {
    int batch, heads, dim, tq, tk;
    int64_t q_stride, kv_stride, o_stride;
    const int32_t *lengths;
    bool causal;
    bool packs; /* rows can be read 16 bytes at a time */
    float scale;
    dropping drop;
};

/* Keys that query i may see in a sequence of `length`. */
DEVICE int visible_of(const attention_shape &a, int length, int i)
{
    const int limit = i + a.tk - a.tq + 1;
    if (!a.causal || limit >= length) return length;
    return limit < 0 ? 0 : limit;
}

/* Keys that query i of sequence b may see. */
DEVICE int visible_keys(const attention_shape &a, int b, int i)
{
    return visible_of(a, a.lengths ? a.lengths[b] : a.tk, i);
}

/* The number of element (b, h, i, j) of p, which keys its dropout. */
DEVICE uint64_t element_of(const attention_shape &a, int b, int h, int i, int j)
{
    return (((uint64_t)b * a.heads + h) * a.tq + i) * a.tk + j;
}

/* Two words of bf16 each. */
DEVICE uint32_t sum_of(uint32_t x, uint32_t y)
{
    return pack_bf16(bits_float(x << 16) + bits_float(y << 16), bits_float(x & 0xffff0000u) + bits_float(y & 0xffff0000u));
}

/* Sixteen rows, D pieces d times `upper` (rows 0 to 7) or `lower`, to rows first .. of x, which has `count`; to what
 * is there when ADD and `add`. */
template <int DIM, bool ADD = false>
DEVICE void store_piece(bf16 *x, int64_t stride, int first, int count, int dim, const float (&d)[DIM / 8][4], float upper,
                        float lower, bool add = false)
{
    const int g = lane_id() / 4, t = lane_id() % 4;
    UNROLL for (int half = 0; half < 2; half++)
    {
        const int r = first + g + 8 * half;
        const float factor = half ? lower : upper;
        UNROLL for (int n = 0; n < DIM / 8; n += 4)
        {
            uint32_t w[4];
            UNROLL for (int i = 0; i < 4; i++)
            {
                w[i] = pack_bf16(d[n + i][2 * half] * factor, d[n + i][2 * half + 1] * factor);
            }
            uint4 v = gathered(w);
            if (r >= count || (n + t) * 8 >= dim) continue;
            uint4 *to = reinterpret_cast<uint4 *>(x + r * stride + (n + t) * 8);
            if (ADD && add) {
                const uint4 old = *to;
                v.x = sum_of(v.x, old.x), v.y = sum_of(v.y, old.y), v.z = sum_of(v.z, old.z), v.w = sum_of(v.w, old.w);
            }
            *to = v;
        }
    }
}

/* attention_tensor.cu; each returns whether the shape is one of theirs. deltas: see attention_deltas. */
bool su_cuda_attention_tensor(su_cuda *c, const attention_shape &a, bf16 *o, float *lse, const bf16 *q, const bf16 *k,
                              const bf16 *v);
bool su_cuda_attention_tensor_backward(su_cuda *c, const attention_shape &a, bf16 *dq, bf16 *dk, bf16 *dv,
                                       const bf16 *d_o, const float *deltas, const float *lse, const bf16 *q,
                                       const bf16 *k, const bf16 *v);

/* dbq, dbv += column sums of dq and of dv, in passes of their own; each may be NULL. */
void su_cuda_attention_sums(su_cuda *c, const attention_shape &a, const void *dq, const void *dv, float *dbq, float *dbv);

/* attention_short.cu; the same. dbq, dbv: as in nn/device.h. */
bool su_cuda_attention_short(su_cuda *c, const attention_shape &a, bf16 *o, float *lse, const bf16 *q, const bf16 *k,
                             const bf16 *v);
bool su_cuda_attention_short_backward(su_cuda *c, const attention_shape &a, bf16 *dq, bf16 *dk, bf16 *dv, float *dbq,
                                      float *dbv, const bf16 *d_o, const bf16 *o, const float *lse, const bf16 *q, const bf16 *k, const bf16 *v);

/* attention_hopper.cu; the same. */
bool su_cuda_attention_hopper(su_cuda *c, const attention_shape &a, bf16 *o, float *lse, const bf16 *q, const bf16 *k,
                              const bf16 *v);
bool su_cuda_attention_hopper_backward(su_cuda *c, const attention_shape &a, bf16 *dq, bf16 *dk, bf16 *dv, float *dbq,
                                       float *dbv, const bf16 *d_o, const bf16 *o, const float *lse, const bf16 *q, const bf16 *k, const bf16 *v);

#endif
