/* Matrix products by cuBLASLt: one part of the real device's library (see library.h). */
#ifndef SU_NN_CUDA_LT_H
#define SU_NN_CUDA_LT_H

#include "nn/cuda/internal.h"
#include "nn/cuda/product.h"

su_status su_cuda_lt_open(su_cuda *c, su_error *err);
void su_cuda_lt_close(su_cuda *c);
bool su_cuda_lt_multiply(su_cuda *c, const su_cuda_product *p);

#endif
