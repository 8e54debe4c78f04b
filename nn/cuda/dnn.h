/* Attention by cuDNN: one part of the real device's library (see library.h). Where it is found, unless SUTURE_ATTENTION says otherwise. */
#ifndef SU_NN_CUDA_DNN_H
#define SU_NN_CUDA_DNN_H

#include "nn/cuda/internal.h"

/* Without the choice c->attentions stays NULL, and the other two return false. */
su_status su_cuda_dnn_open(su_cuda *c, su_error *err);
void su_cuda_dnn_close(su_cuda *c);
bool su_cuda_dnn_attention(su_cuda *c, const su_attention *a, void *o, void *lse, const void *q,
                           const void *k, const void *v);
bool su_cuda_dnn_attention_backward(su_cuda *c, const su_attention *a, void *dq, void *dk, void *dv,
                                    const void *d_o, const void *o, const void *lse, const void *q,
                                    const void *k, const void *v);

#endif
