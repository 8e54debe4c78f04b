#include "nn/cpu/blas.h"
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
    char name[128]; /* empty: none in use */
} blas = {.once = PTHREAD_ONCE_INIT};

/* dlsym returns an object pointer; POSIX says that it holds a function's address. */
static void find(void *library, const char *symbol, void *function)
{
    void *address = dlsym(library, symbol);
    memcpy(function, &address, sizeof address);
}

static void open_once(void)
{
    const char *path = getenv("SUTURE_BLAS");
    if (!path) path = SUTURE_BLAS;
    if (!*path) return;
    /* Read while OpenBLAS loads, so that it starts no threads; programs that we start must not inherit it. */
    bool set = !getenv("OPENBLAS_NUM_THREADS");
    if (set) setenv("OPENBLAS_NUM_THREADS", "1", 0);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (set) unsetenv("OPENBLAS_NUM_THREADS");
    if (!library) {
        const char *reason = dlerror();
        su_fail(
            &blas.error, SU_ENOTFOUND,
            "SUTURE_BLAS: %s; install it (libopenblas0-pthread has libopenblas.so.0) or unset SUTURE_BLAS",
            reason ? reason : path);
        return;
    }
    find(library, "cblas_sgemm", &blas.sgemm);
    find(library, "cblas_dgemm", &blas.dgemm);
    if (!blas.sgemm || !blas.dgemm) {
        blas.sgemm = NULL;
        su_fail(&blas.error, SU_EUNSUPPORTED,
                "SUTURE_BLAS: %s has no cblas_sgemm and cblas_dgemm; name a BLAS with a C interface or unset "
                "SUTURE_BLAS",
                path);
        return;
    }
    void (*set_threads)(int) = NULL;
    char *(*core)(void) = NULL;
    find(library, "openblas_set_num_threads", &set_threads);
    find(library, "openblas_get_corename", &core);
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
    return *blas.name ? blas.name : NULL;
}

bool su_blas_gemm(size_t size, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const void *alpha,
                  const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c,
                  int64_t ldc)
{
    if (!blas.sgemm) return false;
    assert(m <= INT32_MAX && n <= INT32_MAX && k <= INT32_MAX);
    assert(lda <= INT32_MAX && ldb <= INT32_MAX && ldc <= INT32_MAX);
    int of_a = ta ? TRANS : NO_TRANS, of_b = tb ? TRANS : NO_TRANS;
    if (size == sizeof(float))
        blas.sgemm(ROW_MAJOR, of_a, of_b, (int)m, (int)n, (int)k, *(const float *)alpha, a, (int)lda, b,
                   (int)ldb, *(const float *)beta, c, (int)ldc);
    else
        blas.dgemm(ROW_MAJOR, of_a, of_b, (int)m, (int)n, (int)k, *(const double *)alpha, a, (int)lda, b,
                   (int)ldb, *(const double *)beta, c, (int)ldc);
    return true;
}
