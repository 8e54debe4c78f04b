/* One operation on two devices: the device under test, in bf16 or float32, and the CPU device in float64, on
 * the same numbers.
 *
 *     array a[] = {{"y", ACT, NULL, n, OUT}, {"x", ACT, x, n}};
 *     compare("add", a, 2, run_add, &arguments);
 *
 * run is called with each device and its copies of the arrays, in order. Arrays without values are filled
 * with NaN before; after it the OUT ones are read back and compared, and those of a second run on the device
 * under test must have the same bits. What check_* gave stays until check_free_all(). Activations are rounded
 * to what the device under test holds before either device sees them. */
#ifndef SU_TESTS_CUDA_COMPARE_H
#define SU_TESTS_CUDA_COMPARE_H

#include "tests/nn/check.h"

enum { ACT, ACC, INT, EXACT /* acc, but rounded to bf16 as activations are */ };
enum { IN, OUT };
enum { MOST_ARRAYS = 16 };

typedef struct {
    const char *name;
    int kind;
    const void *values; /* double [n], or int32_t [n]; NULL: NaN, or, where n is 0, no array at all */
    int64_t n;
    int out;
} array;

typedef void operation(su_device *d, void **m, const void *arguments);

static su_device *tested, *cpu;

static double bf16_of(double x)
{
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (f != f) return NAN;
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static su_dtype type_of(const su_device *d, int kind)
{
    return kind == INT ? SU_DTYPE_I32 : kind == ACT ? d->act : d->acc;
}

static bool is_bf16(void)
{
    return tested->act == SU_DTYPE_BF16;
}

static void *send(su_device *d, const array *a)
{
    const su_dtype type = type_of(d, a->kind);
    const size_t size = su_dtype_size(type), bytes = (size_t)a->n * size;
    void *memory = NULL;
    su_error err = {0};
    if (!a->n) return NULL;
    unsigned char *host = malloc(bytes);
    assert_non_null(host);
    memset(host, 0xff, bytes);
    for (int64_t i = 0; a->values && i < a->n; i++) {
        if (a->kind == INT) {
            memcpy(host + (size_t)i * size, (const int32_t *)a->values + i, size);
            continue;
        }
        double x = ((const double *)a->values)[i];
        const bool rounds = is_bf16() && (a->kind == ACT || a->kind == EXACT);
        x = rounds ? bf16_of(x) : (double)(float)x;
        float f = (float)x;
        if (type == SU_DTYPE_F64) memcpy(host + (size_t)i * size, &x, size);
        if (type == SU_DTYPE_F32) memcpy(host + (size_t)i * size, &f, size);
        if (type == SU_DTYPE_BF16) memcpy(host + (size_t)i * size, (char *)&f + 2, size);
    }
    if (d->ops->alloc(d, bytes, &memory, &err)) fail_msg("%s", err.message);
    d->ops->upload(d, memory, host, bytes);
    free(host);
    return memory;
}

static double *receive(su_device *d, const array *a, void *memory)
{
    const su_dtype type = type_of(d, a->kind);
    const size_t size = su_dtype_size(type);
    double *x = check_zeros(a->n);
    unsigned char *host = malloc((size_t)a->n * size);
    assert_non_null(host);
    d->ops->download(d, host, memory, (size_t)a->n * size);
    for (int64_t i = 0; i < a->n; i++) {
        float f = 0;
        if (type == SU_DTYPE_BF16) memcpy((char *)&f + 2, host + (size_t)i * size, size);
        if (type == SU_DTYPE_F32) memcpy(&f, host + (size_t)i * size, size);
        x[i] = (double)f;
        if (type == SU_DTYPE_F64) memcpy(&x[i], host + (size_t)i * size, size);
    }
    free(host);
    return x;
}

static void run_on(su_device *d, const array *a, int count, operation *run, const void *arguments,
                   double **results)
{
    void *m[MOST_ARRAYS];
    su_error err = {0};
    assert_true(count <= MOST_ARRAYS);
    for (int i = 0; i < count; i++) m[i] = send(d, &a[i]);
    run(d, m, arguments);
    for (int i = 0; i < count; i++) results[i] = a[i].out ? receive(d, &a[i], m[i]) : NULL;
    if (d->ops->sync(d, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < count; i++) d->ops->release(d, m[i]);
}

/* |got - want| / |want|, over the whole array: rounding of single elements averages out, a wrong one does
 * not. Non-finite elements must be the same in both. */
static void check_norm(const char *what, const char *name, const double *got, const double *want, int64_t n,
                       double limit)
{
    double off = 0, all = 1e-18;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(want[i]) || !isfinite(got[i])) {
            if (!(isnan(want[i]) ? isnan(got[i]) : want[i] == got[i]))
                fail_msg("%s: %s[%lld of %lld] is %g, not %g", what, name, (long long)i, (long long)n, got[i],
                         want[i]);
            continue;
        }
        off += (got[i] - want[i]) * (got[i] - want[i]);
        all += want[i] * want[i];
    }
    if (!(sqrt(off / all) <= limit))
        fail_msg("%s: %s is off by %.3g, limit %.3g", what, name, sqrt(off / all), limit);
}

static void compare_within(const char *what, const array *a, int count, operation *run, const void *arguments,
                           double limit)
{
    double *want[MOST_ARRAYS], *got[MOST_ARRAYS], *again[MOST_ARRAYS];
    run_on(cpu, a, count, run, arguments, want);
    run_on(tested, a, count, run, arguments, got);
    run_on(tested, a, count, run, arguments, again);
    for (int i = 0; i < count; i++) {
        if (!a[i].out) continue;
        check_norm(what, a[i].name, got[i], want[i], a[i].n, limit);
        check_same_bits(a[i].name, again[i], got[i], a[i].n);
    }
}

static void compare(const char *what, const array *a, int count, operation *run, const void *arguments)
{
    compare_within(what, a, count, run, arguments, su_tolerance(is_bf16() ? "cuda.bf16" : "cuda.f32"));
}

#endif
