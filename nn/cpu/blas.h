/* The BLAS behind the CPU device: a shared library with the C interface (cblas_sgemm, cblas_dgemm), opened at
 * run time.
 *
 * Which one: the environment variable SUTURE_BLAS when set; else the path that CMake found (option
 * SUTURE_BLAS); else "libopenblas.so.0". Opened once a process, at the first device; never closed.
 *
 * Debian 12's OpenBLAS 0.3.21 does not know processors newer than itself and then computes with its Haswell
 * (AVX2) kernels. It reads OPENBLAS_CORETYPE while it is being loaded, so we set SkylakeX there when the
 * processor has AVX-512 F, CD, DQ, BW and VL and the user has not chosen. It is held to one thread: the
 * device's own pool cuts the work. A library other than OpenBLAS must be told by its own means to use one
 * thread. */
#ifndef SU_NN_CPU_BLAS_H
#define SU_NN_CPU_BLAS_H

#include "base/error.h"

/* SU_ENOTFOUND (no library: names the package), SU_EUNSUPPORTED (a library without the C interface). */
su_status su_blas_open(su_error *err);
/* "OpenBLAS SkylakeX", or the library's path when it is another one. Valid after su_blas_open. */
const char *su_blas_name(void);

#endif
