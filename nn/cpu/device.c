/* The CPU device: its memory, its threads, its table.
 *
 * Everything runs to its end before an operation returns, so sync only hands over a failure that an operation
 * (they return nothing) had to leave behind: a scratch buffer that could not grow. Device memory is host
 * memory. */
#include "nn/cpu/blas.h"
#include "nn/comm.h"
#include "nn/cpu/internal.h"
#include "base/memory.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct {
    void *memory; /* owned */
    size_t bytes;
    char apart[SU_ALIGN - sizeof(void *) - sizeof(size_t)]; /* workers write these: a cache line each */
} buffer;

typedef struct {
    su_device device;
    su_device_ops ops; /* a level's table, and memory functions */
    atomic_int failed; /* su_status of the first failure since the last sync */
    char message[160];
    buffer partials;
    buffer scratch[]; /* one a worker */
} cpu;

/* --- running --- */

void su_cpu_run(su_device *d, int64_t tasks, su_task *task, void *context)
{
    if (tasks == 1)
        task(context, 0, 0);
    else if (tasks > 1)
        su_pool_run(d->pool, tasks, task, context);
}

void su_cpu_fail(su_device *d, su_status code, const char *message)
{
    cpu *c = d->state;
    int none = SU_OK;
    if (atomic_compare_exchange_strong(&c->failed, &none, (int)code))
        snprintf(c->message, sizeof c->message, "%s", message);
}

static void *grow(su_device *d, buffer *b, size_t bytes)
{
    if (bytes <= b->bytes && b->memory) return b->memory;
    su_free(b->memory);
    b->bytes = bytes;
    b->memory = su_alloc_aligned(bytes ? bytes : 1, 1);
    if (!b->memory) {
        b->bytes = 0;
        su_cpu_fail(d, SU_ENOMEM, "no memory for the CPU device's working buffers; use a smaller batch");
    }
    return b->memory;
}

void *su_cpu_scratch(su_device *d, int worker, size_t bytes)
{
    cpu *c = d->state;
    return grow(d, &c->scratch[worker], bytes);
}

void *su_cpu_partials(su_device *d, size_t bytes)
{
    cpu *c = d->state;
    return grow(d, &c->partials, bytes);
}

/* --- memory --- */

static su_status cpu_alloc(su_device *d, size_t bytes, void **memory, su_error *err)
{
    (void)d;
    *memory = su_alloc_aligned(bytes ? bytes : 1, 1);
    if (!*memory) return su_fail(err, SU_ENOMEM, "no memory for %zu bytes on the CPU", bytes);
    return SU_OK;
}

static void cpu_release(su_device *d, void *memory)
{
    (void)d;
    su_free(memory);
}

static void cpu_zero(su_device *d, void *memory, size_t bytes)
{
    (void)d;
    if (bytes) memset(memory, 0, bytes);
}

static void cpu_copy(su_device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    if (bytes) memcpy(to, from, bytes);
}

static su_status cpu_sync(su_device *d, su_error *err)
{
    cpu *c = d->state;
    su_status code = (su_status)atomic_load(&c->failed);
    if (code == SU_OK) return SU_OK;
    su_fail(err, code, "%s", c->message);
    atomic_store(&c->failed, SU_OK);
    return code;
}

static size_t cpu_room(su_device *d)
{
    size_t available = su_memory_available();
    if (available == SIZE_MAX) return SIZE_MAX;
    return (available - available / 8) / (size_t)(d->comm ? d->comm->local_ranks : 1);
}

/* --- conversion between floating types --- */

static double bits_to_double(uint16_t bits, su_dtype type)
{
    if (type == SU_DTYPE_BF16) {
        uint32_t wide = (uint32_t)bits << 16;
        float f;
        memcpy(&f, &wide, sizeof f);
        return (double)f;
    }
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent == 31  ? (fraction ? (double)NAN : (double)INFINITY)
                   : exponent == 0 ? ldexp((double)fraction, -24)
                                   : ldexp((double)(1024 + fraction), exponent - 25);
    return bits >> 15 ? -value : value;
}

/* Round to nearest, ties to even, by adding just under half a unit in the last kept place. */
static uint16_t float_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t double_to_f16(double x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double a = fabs(x);
    if (x != x) return sign | 0x7e00;
    if (a >= 65520) return sign | 0x7c00; /* past the middle between 65504 and 2^16 */
    if (a < 0x1p-14) return sign | (uint16_t)nearbyint(ldexp(a, 24));
    int exponent;
    double fraction =
        frexp(a, &exponent); /* [0.5, 1): 11 significant bits; a carry moves into the exponent */
    return (uint16_t)(sign | (((exponent + 13) << 10) + (int)nearbyint(ldexp(fraction, 11))));
}

typedef struct {
    void *to;
    const void *from;
    su_dtype to_type, from_type;
    int64_t n;
} conversion;

enum { CONVERT_BLOCK = 16384 };

static double element(const void *from, su_dtype type, int64_t i)
{
    if (type == SU_DTYPE_F64) return ((const double *)from)[i];
    if (type == SU_DTYPE_F32) return (double)((const float *)from)[i];
    return bits_to_double(((const uint16_t *)from)[i], type);
}

static void convert_block(void *context, int64_t task, int worker)
{
    (void)worker;
    const conversion *c = context;
    int64_t end = su_cpu_min(c->n, (task + 1) * CONVERT_BLOCK);
    for (int64_t i = task * CONVERT_BLOCK; i < end; i++) {
        double x = element(c->from, c->from_type, i);
        if (c->to_type == SU_DTYPE_F64)
            ((double *)c->to)[i] = x;
        else if (c->to_type == SU_DTYPE_F32)
            ((float *)c->to)[i] = (float)x;
        else if (c->to_type == SU_DTYPE_BF16)
            ((uint16_t *)c->to)[i] = float_to_bf16((float)x);
        else
            ((uint16_t *)c->to)[i] = double_to_f16(x);
    }
}

static bool is_float(su_dtype t)
{
    return t == SU_DTYPE_F64 || t == SU_DTYPE_F32 || t == SU_DTYPE_F16 || t == SU_DTYPE_BF16;
}

static void cpu_convert(su_device *d, void *to, su_dtype to_type, const void *from, su_dtype from_type,
                        int64_t n)
{
    if (n <= 0) return;
    if (to_type == from_type) {
        if (to != from) memmove(to, from, (size_t)n * su_dtype_size(to_type));
        return;
    }
    if (!is_float(to_type) || !is_float(from_type)) {
        su_cpu_fail(d, SU_EUNSUPPORTED, "the CPU device converts between F64, F32, F16 and BF16 only");
        return;
    }
    conversion c = {to, from, to_type, from_type, n};
    su_cpu_run(d, su_cpu_tasks(n, CONVERT_BLOCK), convert_block, &c);
}

/* --- the table --- */

static void cpu_close(su_device *d)
{
    cpu *c = d->state;
    int workers = su_pool_workers(d->pool);
    for (int i = 0; i < workers; i++) su_free(c->scratch[i].memory);
    su_free(c->partials.memory);
    su_pool_free(d->pool);
    su_free(c);
}

typedef struct {
    const char *name; /* as SUTURE_CPU takes it */
    const su_device_ops *f32, *f64;
} level;

/* Best first. A build for another architecture has one level. */
#if defined(__x86_64__)
extern const su_device_ops su_cpu_table_f32_v4, su_cpu_table_f64_v4, su_cpu_table_f32_v3, su_cpu_table_f64_v3;
#endif
extern const su_device_ops su_cpu_table_f32_base, su_cpu_table_f64_base;
static const level levels[] = {
#if defined(__x86_64__)
    {"AVX-512", &su_cpu_table_f32_v4, &su_cpu_table_f64_v4},
    {"AVX2", &su_cpu_table_f32_v3, &su_cpu_table_f64_v3},
    {"SSE2", &su_cpu_table_f32_base, &su_cpu_table_f64_base},
#else
    {"plain", &su_cpu_table_f32_base, &su_cpu_table_f64_base},
#endif
};
enum { LEVELS = sizeof levels / sizeof *levels };

/* Whether the processor has what x86-64-v4 or -v3 names and our kernels use. */
static bool runs(int i)
{
#if defined(__x86_64__)
    if (i == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && runs(1);
    if (i == 1)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
#endif
    return i == LEVELS - 1;
}

/* The best level that the processor runs, or a lower one that the environment variable SUTURE_CPU names, so
 * that any machine can test the kernels of an older one. */
static su_status choose(const level **chosen, su_error *err)
{
    const char *wanted = getenv("SUTURE_CPU");
    for (int i = 0; i < LEVELS; i++) {
        if (!runs(i) || (wanted && *wanted && strcasecmp(wanted, levels[i].name) != 0)) continue;
        *chosen = &levels[i];
        return SU_OK;
    }
    return su_fail(err, SU_EUNSUPPORTED,
                   "SUTURE_CPU=%s: this processor or build has no such level; unset SUTURE_CPU", wanted);
}

su_status su_device_cpu(int threads, su_dtype type, su_device **device, su_error *err)
{
    *device = NULL;
    if (type != SU_DTYPE_F32 && type != SU_DTYPE_F64)
        return su_fail(err, SU_EINVAL, "the CPU device computes in F32 or F64, not in %s",
                       su_dtype_name(type));
    const level *best = NULL;
    su_status status = choose(&best, err);
    if (status == SU_OK) status = su_blas_open(err);
    if (status != SU_OK) return status;
    su_pool *pool = NULL;
    status = su_pool_new(threads, &pool, err);
    if (status != SU_OK) return status;
    int workers = su_pool_workers(pool);
    cpu *c = su_calloc(1, sizeof *c + (size_t)workers * sizeof(buffer));
    if (!c) {
        su_pool_free(pool);
        return su_fail(err, SU_ENOMEM, "no memory for the CPU device");
    }
    c->ops = type == SU_DTYPE_F32 ? *best->f32 : *best->f64;
    c->ops.name = "cpu";
    c->ops.alloc = cpu_alloc;
    c->ops.release = cpu_release;
    c->ops.zero = cpu_zero;
    c->ops.upload = cpu_copy;
    c->ops.download = cpu_copy;
    c->ops.copy = cpu_copy;
    c->ops.convert = cpu_convert;
    c->ops.sync = cpu_sync;
    c->ops.room = cpu_room;
    c->ops.close = cpu_close;
    c->device = (su_device){.ops = &c->ops, .act = type, .acc = type, .pool = pool, .state = c};
    const char *blas = su_blas_name();
    snprintf(c->device.description, sizeof c->device.description, "CPU, %d thread%s, %s%s%.60s", workers,
             workers == 1 ? "" : "s", best->name, blas ? ", " : "", blas ? blas : "");
    *device = &c->device;
    return SU_OK;
}
