/* Inside the CPU device: what its kernel files share. Nothing outside nn/cpu/ includes this.
 *
 * One source, two types. A noun's kernels live in noun.inc, written for `real`, and noun.c compiles them
 * twice:
 *
 *     #include "nn/cpu/internal.h"          helpers, prototypes, <tgmath.h>: exp(x) is expf(x) for a float
 *     #include "nn/cpu/f32.h"               real = float,  F(name) = su_cpu_name_f32
 *     #include "nn/cpu/noun.inc"
 *     #include "nn/cpu/f64.h"               real = double, F(name) = su_cpu_name_f64
 *     #include "nn/cpu/noun.inc"
 *
 * In noun.inc an operation of the table is `void F(gather)(su_device *d, ...)` with the table's own
 * signature, and every static function and struct type is named through F() too, so that the two copies do
 * not meet. `act` and `acc` are both `real` here: the void pointers of the table are cast to real once, at
 * the top of the operation.
 *
 * Work is cut into tasks by the problem's size alone (su_cpu_tasks) and run with su_cpu_run. Sums that cross
 * tasks go into partial buffers (su_cpu_partials) that are added in task order. So the thread count never
 * changes a bit.
 *
 * Kernels that profit from wide registers are marked SU_CPU_CLONES: the compiler makes an AVX-512, an AVX2
 * and a plain copy, and the loader picks one. Static inline helpers are compiled into each copy. The compiler
 * does not reorder sums by itself (no -ffast-math): accumulate in an F(lanes) (512 bits of real) or use
 * F(sum) and F(dot), in lanes.inc. */
#ifndef SU_NN_CPU_INTERNAL_H
#define SU_NN_CPU_INTERNAL_H

#include "nn/device.h"
#include <tgmath.h>

/* x86-64-v4 is AVX-512 F/BW/CD/DQ/VL, v3 is AVX2 + FMA. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SU_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SU_CPU_CLONES
#endif

/* The processor has what x86-64-v4 names. */
static inline bool su_cpu_has_avx512(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

/* --- running --- */

static inline int64_t su_cpu_tasks(int64_t items, int64_t block)
{
    return (items + block - 1) / block;
}
static inline int64_t su_cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* su_pool_run on the device's pool. Put d in the context when a task needs scratch memory. */
void su_cpu_run(su_device *d, int64_t tasks, su_task *task, void *context);

/* Scratch memory of one worker, SU_ALIGN-aligned, at least `bytes`, not initialised; it is the same memory at
 * every call and stays the device's. NULL without memory: the failure is recorded and the task returns at
 * once. */
void *su_cpu_scratch(su_device *d, int worker, size_t bytes);
/* The same for the calling thread's partial sums: one buffer a device, taken before su_cpu_run, not inside a
 * task. */
void *su_cpu_partials(su_device *d, size_t bytes);
/* Records a failure that the next su_device sync returns; the first one is kept. Any thread. */
void su_cpu_fail(su_device *d, su_status code, const char *message);

/* --- matrix product: C = alpha op(A) op(B) + beta C, on the calling thread only ---
 * op(A) [m, k], op(B) [k, n], C [m, n], row-major; ta: A is stored [k, m]; tb: B is stored [n, k]. lda, ldb
 * and ldc: elements from one stored row to the next. With beta 0 C is not read. All are below 2^31. */
void su_cpu_gemm_f32(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void su_cpu_gemm_f64(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                     int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);

/* --- the operations of the table, by file --- */

#define SU_LANES_INLINE static inline __attribute__((always_inline, unused))
#include "nn/cpu/f32.h"
#include "nn/cpu/lanes.inc"
#include "nn/cpu/ops.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/lanes.inc"
#include "nn/cpu/ops.inc"

#endif
