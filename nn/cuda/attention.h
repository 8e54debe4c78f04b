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

#endif
