/* The CPU device: its memory, its threads, its table.
 *
 * Everything runs to its end before an operation returns, so sync only hands over a failure that an operation
 * (they return nothing) had to leave behind: a scratch buffer that could not grow. Device memory is host
 * memory. */
#include "nn/cpu/blas.h"
#include "nn/cpu/internal.h"
#include "base/memory.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    void *memory; /* owned */
    size_t bytes;
    char apart[SU_ALIGN - sizeof(void *) - sizeof(size_t)]; /* workers write these: a cache line each */
} buffer;

typedef struct {
    su_device device;
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

#define TABLE(type)                                                                                      \
    {                                                                                                    \
        .name = "cpu", .alloc = cpu_alloc, .release = cpu_release, .zero = cpu_zero, .upload = cpu_copy, \
        .download = cpu_copy, .copy = cpu_copy, .convert = cpu_convert, .sync = cpu_sync,                \
        .linear = su_cpu_linear_##type, .linear_backward = su_cpu_linear_backward_##type,                \
        .act_backward = su_cpu_act_backward_##type, .attention = su_cpu_attention_##type,                \
        .attention_backward = su_cpu_attention_backward_##type, .norm = su_cpu_norm_##type,              \
        .norm_backward = su_cpu_norm_backward_##type, .add = su_cpu_add_##type,                          \
        .dropout = su_cpu_dropout_##type, .drop_path = su_cpu_drop_path_##type,                          \
        .gather = su_cpu_gather_##type, .scatter_add = su_cpu_scatter_add_##type,                        \
        .mean_pool = su_cpu_mean_pool_##type, .mean_pool_backward = su_cpu_mean_pool_backward_##type,    \
        .patches = su_cpu_patches_##type, .normalise = su_cpu_normalise_##type,                          \
        .normalise_backward = su_cpu_normalise_backward_##type, .infonce = su_cpu_infonce_##type,        \
        .atp = su_cpu_atp_##type, .cu = su_cpu_cu_##type, .cross_entropy = su_cpu_cross_entropy_##type,  \
        .sum_squares = su_cpu_sum_squares_##type, .adamw = su_cpu_adamw_##type,                          \
        .top_k = su_cpu_top_k_##type, .close = cpu_close,                                                \
    }

static const su_device_ops table_f32 = TABLE(f32);
static const su_device_ops table_f64 = TABLE(f64);

static const char *instructions(void)
{
    if (su_cpu_has_avx512()) return "AVX-512";
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "AVX2";
#endif
    return "plain C";
}

su_status su_device_cpu(int threads, su_dtype type, su_device **device, su_error *err)
{
    *device = NULL;
    if (type != SU_DTYPE_F32 && type != SU_DTYPE_F64)
        return su_fail(err, SU_EINVAL, "the CPU device computes in F32 or F64, not in %s",
                       su_dtype_name(type));
    su_status status = su_blas_open(err);
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
    c->device = (su_device){.ops = type == SU_DTYPE_F32 ? &table_f32 : &table_f64,
                            .act = type,
                            .acc = type,
                            .pool = pool,
                            .state = c};
    snprintf(c->device.description, sizeof c->device.description, "CPU, %d thread%s, %.60s, %s", workers,
             workers == 1 ? "" : "s", su_blas_name(), instructions());
    *device = &c->device;
    return SU_OK;
}
