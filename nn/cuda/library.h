/* The libraries that do a part of the work better than our own kernels, where they are there: cuBLASLt for
 * matrix products, cuDNN for attention. */
#ifndef SU_NN_CUDA_LIBRARY_H
#define SU_NN_CUDA_LIBRARY_H

#include "nn/cuda/internal.h"
#include "nn/cuda/product.h"

struct su_cuda_library {
    /* Fills c->products and c->attentions. On failure nothing is left to close. */
    su_status (*open)(su_cuda *c, su_error *err);
    void (*close)(su_cuda *c);
    /* Each returns whether the work was done (or failed, and that is recorded); false: not for this library. The
     * last two may be NULL. */
    bool (*multiply)(su_cuda *c, const su_cuda_product *p);
    bool (*attention)(su_cuda *c, const su_attention *a, void *o, void *lse, const void *q, const void *k,
                      const void *v);
    bool (*attention_backward)(su_cuda *c, const su_attention *a, void *dq, void *dk, void *dv, const void *d_o,
                               const void *o, const void *lse, const void *q, const void *k, const void *v);
};

#endif
