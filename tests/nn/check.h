/* The harness of the operation tests: random inputs, device memory, comparison, finite differences.
 *
 * A test keeps its inputs as host doubles, uploads them to a float32 or a float64 device (converted), runs
 * the operation, and reads doubles back. References are plain loops over doubles. A gradient is checked on
 * the float64 device:
 *
 *     static double loss(void *context)   // uploads the inputs, runs the forward, returns sum_i weight_i y_i
 *     check_gradient("dx", loss, &context, x, dx, n, su_tolerance("nn.difference"));
 *
 * where dx came from the backward with dy = weight. Everything from check_* is freed by check_free_all(). */
#ifndef SU_TESTS_NN_CHECK_H
#define SU_TESTS_NN_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "base/rng.h"
#include "nn/device.h"
#include "tests/tolerance.h"

#define CHECK_UNUSED __attribute__((unused))

/* --- host memory, released together --- */

static void *check_blocks[4096];
static int check_block_count;

CHECK_UNUSED static void *check_alloc(int64_t count, size_t size)
{
    void *p = calloc(count > 0 ? (size_t)count : 1, size);
    assert_non_null(p);
    assert_true(check_block_count < (int)(sizeof check_blocks / sizeof *check_blocks));
    check_blocks[check_block_count++] = p;
    return p;
}

CHECK_UNUSED static void check_free_all(void)
{
    while (check_block_count) free(check_blocks[--check_block_count]);
}

CHECK_UNUSED static double *check_zeros(int64_t n)
{
    return check_alloc(n, sizeof(double));
}

/* n values, normal with standard deviation `scale`; the same for the same seed. They are floats' values, so
 * that a float32 device and a float64 device see the same inputs. */
CHECK_UNUSED static double *check_normal(uint64_t seed, int64_t n, double scale)
{
    double *x = check_zeros(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (double)(float)(scale * su_rng_normal((su_rng_key){.seed = seed, .layer = 77}, (uint64_t)i));
    return x;
}

CHECK_UNUSED static double *check_copy(const double *x, int64_t n)
{
    double *y = check_zeros(n);
    if (n > 0) memcpy(y, x, (size_t)n * sizeof *x);
    return y;
}

/* --- devices and their memory --- */

/* The name of the device that stands in for the float32 CPU device: the same tests run on a GPU, or on an emulated
 * one (tests/cuda). NULL: none does. */
CHECK_UNUSED static const char *check_other_device(void)
{
    return getenv("SUTURE_TEST_DEVICE");
}

/* Tests of what only the CPU device promises begin with this. */
CHECK_UNUSED static void check_cpu_only(void)
{
    if (check_other_device()) skip();
}

CHECK_UNUSED static su_device *check_device(su_dtype type, int threads)
{
    su_device *d = NULL;
    su_error err = {0};
    const char *other = check_other_device();
    su_status status = other && type == SU_DTYPE_F32 ? su_device_open(other, threads, &d, &err)
                                                     : su_device_cpu(threads, type, &d, &err);
    if (status == SU_EUNSUPPORTED && other && !getenv("SUTURE_CUDA_LIBRARY")) { /* ctest calls 77 skipped */
        printf("skipped: %s\n", err.message);
        exit(77);
    }
    if (status == SU_EUNSUPPORTED && getenv("SUTURE_CPU")) skip(); /* a level above this processor's */
    if (status != SU_OK) fail_msg("%s", err.message);
    return d;
}

/* Device memory for n elements of act (= acc in size on the CPU device), filled from x (NULL: with 0xff
 * bytes, NaN). */
CHECK_UNUSED static void *check_upload(su_device *d, const double *x, int64_t n)
{
    size_t size = su_dtype_size(d->act), bytes = (size_t)(n > 0 ? n : 1) * size;
    void *memory = NULL, *host = malloc(bytes);
    su_error err = {0};
    assert_non_null(host);
    if (d->ops->alloc(d, bytes, &memory, &err) != SU_OK) fail_msg("%s", err.message);
    memset(host, 0xff, bytes);
    for (int64_t i = 0; x && i < n; i++) {
        if (size == sizeof(float))
            ((float *)host)[i] = (float)x[i];
        else
            ((double *)host)[i] = x[i];
    }
    d->ops->upload(d, memory, host, bytes);
    free(host);
    return memory;
}

/* Device memory of `bytes` 0xff bytes, NaN: what is read before it is written shows. */
CHECK_UNUSED static void *check_room(su_device *d, size_t bytes)
{
    void *memory = NULL, *host = malloc(bytes ? bytes : 1);
    su_error err = {0};
    assert_non_null(host);
    if (d->ops->alloc(d, bytes, &memory, &err) != SU_OK) fail_msg("%s", err.message);
    memset(host, 0xff, bytes);
    d->ops->upload(d, memory, host, bytes);
    free(host);
    return memory;
}

CHECK_UNUSED static int32_t *check_upload_int(su_device *d, const int32_t *x, int64_t n)
{
    void *memory = NULL;
    su_error err = {0};
    if (!x) return NULL;
    if (d->ops->alloc(d, (size_t)n * sizeof *x, &memory, &err) != SU_OK) fail_msg("%s", err.message);
    d->ops->upload(d, memory, x, (size_t)n * sizeof *x);
    return memory;
}

/* Reads n elements into doubles (freed by check_free_all). */
CHECK_UNUSED static double *check_read(su_device *d, const void *memory, int64_t n)
{
    size_t size = su_dtype_size(d->act), bytes = (size_t)n * size;
    double *x = check_zeros(n);
    void *host = malloc(bytes ? bytes : 1);
    su_error err = {0};
    assert_non_null(host);
    d->ops->download(d, host, memory, bytes);
    if (d->ops->sync(d, &err) != SU_OK) fail_msg("%s", err.message);
    for (int64_t i = 0; i < n; i++)
        x[i] = size == sizeof(float) ? (double)((float *)host)[i] : ((double *)host)[i];
    free(host);
    return x;
}

/* The same, and releases the device memory. */
CHECK_UNUSED static double *check_take(su_device *d, void *memory, int64_t n)
{
    double *x = check_read(d, memory, n);
    d->ops->release(d, memory);
    return x;
}

/* --- references shared by tests --- */

static const su_activation check_activations[] = {SU_ACT_NONE, SU_ACT_GELU, SU_ACT_GELU_TANH,
                                                  SU_ACT_QUICK_GELU, SU_ACT_TANH};
enum { CHECK_ACTIVATIONS = sizeof check_activations / sizeof *check_activations };

CHECK_UNUSED static double check_activation(su_activation f, double x)
{
    switch (f) {
    case SU_ACT_NONE:
        return x;
    case SU_ACT_GELU:
        return x * 0.5 * erfc(-x / sqrt(2));
    case SU_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case SU_ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case SU_ACT_TANH:
        return tanh(x);
    }
    return 0;
}

/* --- comparisons --- */

/* max |got - want| <= tolerance * max(max |want|, 1e-9): what is all below 1e-9 is the rounding of a zero. A
 * NaN on either side fails. */
CHECK_UNUSED static void check_close(const char *what, const double *got, const double *want, int64_t n,
                                     double tolerance)
{
    double scale = 1e-9, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(want[i]));
    for (int64_t i = 0; i < n; i++) {
        double e = fabs(got[i] - want[i]);
        if (!(e <= worst)) worst = e, at = i;
        if (isnan(e)) break;
    }
    if (!(worst <= tolerance * scale))
        fail_msg("%s[%lld of %lld]: got %.9g, want %.9g; off by %.3g of %.3g, tolerance %.3g", what,
                 (long long)at, (long long)n, n ? got[at] : 0, n ? want[at] : 0, worst / scale, scale,
                 tolerance);
}

CHECK_UNUSED static void check_same_bits(const char *what, const double *got, const double *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) != 0)
            fail_msg("%s[%lld of %lld]: %.17g is not the same bits as %.17g", what, (long long)i,
                     (long long)n, got[i], want[i]);
}

/* --- finite differences --- */

typedef double check_function(void *context);

/* Compares gradient[i] with (f(x_i + h) - f(x_i - h)) / 2h for at most 40 coordinates spread over x, relative
 * to the largest |gradient| (at least 1e-3). x is restored. */
CHECK_UNUSED static void check_gradient(const char *what, check_function *f, void *context, double *x,
                                        const double *gradient, int64_t n, double tolerance)
{
    double scale = 1e-3;
    for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(gradient[i]));
    int64_t stride =
        n <= 40 ? 1 : n / 40 + (n / 40 % 2 == 0); /* odd, so that it walks through rows and columns */
    for (int64_t i = 0; i < n; i += stride) {
        double keep = x[i], h = 1e-5 * fmax(1, fabs(keep));
        x[i] = keep + h;
        double up = f(context);
        x[i] = keep - h;
        double down = f(context);
        x[i] = keep;
        double numeric = (up - down) / (2 * h);
        if (!(fabs(gradient[i] - numeric) <= tolerance * scale))
            fail_msg("%s[%lld of %lld]: backward says %.9g, differences say %.9g (tolerance %.3g of %.3g)",
                     what, (long long)i, (long long)n, gradient[i], numeric, tolerance, scale);
    }
}

#endif
