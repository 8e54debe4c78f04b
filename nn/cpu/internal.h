/* Inside the CPU device: what its kernel files share. Nothing outside nn/cpu/ includes this but its own
 * tests.
 *
 * One source, two types. A noun's kernels live in noun.inc, written for `real`, and noun.c compiles them
 * twice:
 *
 *     #include "nn/cpu/internal.h"      helpers, prototypes, <tgmath.h>: exp(x) is expf(x) for a float
 *     #include "nn/cpu/f32.h"           real = float,  F(name) = su_cpu_name_f32_LEVEL
 *     #include "nn/cpu/noun.inc"
 *     #include "nn/cpu/f64.h"           real = double, F(name) = su_cpu_name_f64_LEVEL
 *     #include "nn/cpu/noun.inc"
 *
 * In noun.inc an operation of the table is `void F(gather)(su_device *d, ...)` with the table's own
 * signature, and every static function and struct type is named through F() too, so that the two copies do
 * not meet. `act` and `acc` are both `real` here: the void pointers of the table are cast to real once, at
 * the top of the operation.
 *
 * One source, several processors. CMake compiles every kernel file once for each level of x86-64 that matters
 * (v4: AVX-512, v3: AVX2 with FMA, base), and device.c takes the best table that the processor runs. A level
 * is known by the compiler's own macros, so a kernel needs no attribute: its registers are SU_CPU_LANE_BYTES
 * wide. The compiler does not reorder sums by itself (no -ffast-math): accumulate in an F(lanes) (one
 * register of real) or use F(sum) and F(dot).
 *
 * Work is cut into tasks by the problem's size alone (su_cpu_tasks) and run with su_cpu_run. Sums that cross
 * tasks go into partial buffers (su_cpu_partials) that are added in task order. So the thread count never
 * changes a bit. */
#ifndef SU_NN_CPU_INTERNAL_H
#define SU_NN_CPU_INTERNAL_H

#include "nn/device.h"
#include <tgmath.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)
#define SU_CPU_LEVEL v4
enum { SU_CPU_LANE_BYTES = 64, SU_CPU_REGISTERS = 32 };
#elif defined(__AVX2__) && defined(__FMA__)
#define SU_CPU_LEVEL v3
enum { SU_CPU_LANE_BYTES = 32, SU_CPU_REGISTERS = 16 };
#else
#define SU_CPU_LEVEL base
#if defined(__aarch64__)
enum { SU_CPU_LANE_BYTES = 16, SU_CPU_REGISTERS = 32 };
#else
enum { SU_CPU_LANE_BYTES = 16, SU_CPU_REGISTERS = 16 };
#endif
#endif

#define SU_CPU_NAME_(name, type, level) su_cpu_##name##_##type##_##level
#define SU_CPU_NAME(name, type, level) SU_CPU_NAME_(name, type, level)

/* How much of a product's sum is formed before it goes to memory; every way of forming one keeps to it. */
enum { SUM_LENGTH = 256 };

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

/* --- both types: lanes, products, the operations of the table --- */

#define SU_LANES_INLINE static inline __attribute__((always_inline, unused))
#include "nn/cpu/f32.h"
#include "nn/cpu/lanes.inc"
#include "nn/cpu/ops.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/lanes.inc"
#include "nn/cpu/ops.inc"

#endif
