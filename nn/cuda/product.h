/* Matrix products on the GPU: C = op(A) op(B) + bias + D. */
#ifndef SU_NN_CUDA_PRODUCT_H
#define SU_NN_CUDA_PRODUCT_H

#include "nn/cuda/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Row-major, as everywhere. op(A) [m, k], op(B) [k, n], C [m, n]; ta: A is stored [k, m]; tb: B is stored
 * [n, k]. lda, ldb, ldc: elements from one stored row to the next. Sums are formed in float. */
typedef struct {
    const void *a, *b;
    void *c;
    bool ta, tb;
    int64_t m, n, k, lda, ldb, ldc;
    su_dtype in, out; /* of A and B; of C */
    const void *addend; /* D, laid out as C; C itself: C +=; NULL: none */
    float alpha;        /* factor of the product; 1 with bias */
    const void *bias;   /* [n] of type `in`, added to each row; NULL: none */
} su_cuda_product;

/* Through the library where it can, else by our own kernel. */
void su_cuda_multiply(su_cuda *c, const su_cuda_product *p);
/* By our own kernel. */
void su_cuda_multiply_own(su_cuda *c, const su_cuda_product *p);
/* A number of the bits of C, whose rows must be dense (ldc = n), equal for equal bits and as good as never else; waits.
 * parts: device memory of SU_CUDA_BITS numbers. False: it could not be formed. */
enum { SU_CUDA_BITS = 256 };
bool su_cuda_bits(su_cuda *c, uint64_t *bits, const su_cuda_product *p, void *parts);

#ifdef __cplusplus
}
#endif

#endif
