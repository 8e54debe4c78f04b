/* Another library's matrix products in place of product.c's: any BLAS with the C interface (cblas_sgemm,
 * cblas_dgemm, 32-bit integers), named by the environment variable SUTURE_BLAS or, at configure time, by the
 * CMake variable of that name. Without either nothing is opened. Opened once a process, at the first device;
 * never closed.
 *
 * The device's own pool cuts the work, so the library must use one thread: OpenBLAS is told so here, another
 * must be told by its own means. OpenBLAS chooses its kernels while it loads, and OPENBLAS_CORETYPE overrides
 * its choice. */
#ifndef SU_NN_CPU_BLAS_H
#define SU_NN_CPU_BLAS_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>

/* SU_ENOTFOUND (the library does not load), SU_EUNSUPPORTED (it has no C interface). */
su_status su_blas_open(su_error *err);
/* "OpenBLAS SkylakeX", or the library's path when it is another one; NULL when none is in use. */
const char *su_blas_name(void);
/* F(gemm) of nn/cpu/ops.inc for elements of `size` bytes; alpha and beta point to one. False: no library,
 * nothing done. */
bool su_blas_gemm(size_t size, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const void *alpha,
                  const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c,
                  int64_t ldc);

#endif
