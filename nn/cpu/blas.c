#include "nn/cpu/blas.h"
#include "nn/cpu/internal.h"
#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SUTURE_BLAS
#define SUTURE_BLAS ""
#endif

/* cblas.h's values; the header itself need not be installed. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

typedef void sgemm_function(int, int, int, int, int, int, float, const float *, int, const float *, int,
                            float, float *, int);
typedef void dgemm_function(int, int, int, int, int, int, double, const double *, int, const double *, int,
                            double, double *, int);

static struct {
    pthread_once_t once;
    su_error error;
    sgemm_function *sgemm;
    dgemm_function *dgemm;
    char name[128];
} blas = {.once = PTHREAD_ONCE_INIT};

/* dlsym returns an object pointer; POSIX says it holds a function's address. */
#define SYMBOL(pointer, library, symbol)                \
    do {                                                \
        void *address_ = dlsym(library, symbol);        \
        memcpy(&(pointer), &address_, sizeof address_); \
    } while (0)

static void *open_library(const char **path)
{
    const char *chosen = getenv("SUTURE_BLAS");
    const char *candidates[] = {SUTURE_BLAS, "libopenblas.so.0", NULL};
    if (chosen && *chosen) {
        candidates[0] = chosen;
        candidates[1] = NULL;
    }
    bool set = su_cpu_has_avx512() && !getenv("OPENBLAS_CORETYPE");
    if (set) setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
    bool threads = !getenv("OPENBLAS_NUM_THREADS");
    if (threads) setenv("OPENBLAS_NUM_THREADS", "1", 0);
    void *library = NULL;
    for (int i = 0; candidates[i] && !library; i++) {
        *path = candidates[i];
        if (*candidates[i]) library = dlopen(candidates[i], RTLD_NOW | RTLD_LOCAL);
    }
    /* Both are read while the library loads; other programs that this one starts must not inherit them. */
    if (set) unsetenv("OPENBLAS_CORETYPE");
    if (threads) unsetenv("OPENBLAS_NUM_THREADS");
    return library;
}

static void open_once(void)
{
    const char *path = "";
    void *library = open_library(&path);
    if (!library) {
        const char *reason = dlerror();
        su_fail(&blas.error, SU_ENOTFOUND,
                "no BLAS library: %s; install libopenblas0-pthread, or name another library with a C "
                "interface in the "
                "environment variable SUTURE_BLAS",
                reason ? reason : path);
        return;
    }
    SYMBOL(blas.sgemm, library, "cblas_sgemm");
    SYMBOL(blas.dgemm, library, "cblas_dgemm");
    if (!blas.sgemm || !blas.dgemm) {
        su_fail(&blas.error, SU_EUNSUPPORTED,
                "%s has no cblas_sgemm and cblas_dgemm; install libopenblas0-pthread, or name a BLAS library "
                "with a C "
                "interface in the environment variable SUTURE_BLAS",
                path);
        return;
    }
    void (*set_threads)(int) = NULL;
    char *(*core)(void) = NULL;
    SYMBOL(set_threads, library, "openblas_set_num_threads");
    SYMBOL(core, library, "openblas_get_corename");
    if (set_threads) set_threads(1);
    if (core)
        snprintf(blas.name, sizeof blas.name, "OpenBLAS %s", core());
    else
        snprintf(blas.name, sizeof blas.name, "%s", path);
}

su_status su_blas_open(su_error *err)
{
    pthread_once(&blas.once, open_once);
    if (blas.error.code == SU_OK) return SU_OK;
    return su_fail(err, blas.error.code, "%s", blas.error.message);
}

const char *su_blas_name(void)
{
    return blas.name;
}

void su_cpu_gemm_f32(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    if (m <= 0 || n <= 0) return;
    assert(m <= INT32_MAX && n <= INT32_MAX && k <= INT32_MAX && lda <= INT32_MAX && ldb <= INT32_MAX &&
           ldc <= INT32_MAX);
    blas.sgemm(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, (int)m, (int)n, (int)k, alpha, a,
               (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void su_cpu_gemm_f64(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                     int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc)
{
    if (m <= 0 || n <= 0) return;
    assert(m <= INT32_MAX && n <= INT32_MAX && k <= INT32_MAX && lda <= INT32_MAX && ldb <= INT32_MAX &&
           ldc <= INT32_MAX);
    blas.dgemm(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, (int)m, (int)n, (int)k, alpha, a,
               (int)lda, b, (int)ldb, beta, c, (int)ldc);
}
