/* The door of the emulated device, and the library that stands in for cuBLASLt there: plain loops; with
 * SUTURE_EMULATE_LT the real lt.c on fake_lt.c. */
#include "nn/cuda/emulate/host.h"
#include "nn/cuda/entry.h"
#include "nn/cuda/library.h"
#include "nn/cuda/lt.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 128 }; /* of a sum that is formed before it is added to the rest */

static float element(const void *x, su_dtype type, int64_t i)
{
    if (type == SU_DTYPE_F32) return ((const float *)x)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void set_element(void *x, su_dtype type, int64_t i, float value)
{
    if (type == SU_DTYPE_F32) {
        ((float *)x)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    ((uint16_t *)x)[i] = value != value ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* total += a [k] B [k][n], the sums of CHUNK terms first. part: room for n. */
static void add_row(float *total, float *part, const float *a, const float *b, int64_t k, int64_t n)
{
    memset(total, 0, (size_t)n * sizeof *total);
    for (int64_t l0 = 0; l0 < k; l0 += CHUNK) {
        memset(part, 0, (size_t)n * sizeof *part);
        for (int64_t l = l0; l < k && l < l0 + CHUNK; l++)
            for (int64_t j = 0; j < n; j++) part[j] += a[l] * b[l * n + j];
        for (int64_t j = 0; j < n; j++) total[j] += part[j];
    }
}

static int multiply_now(const void *what)
{
    const su_cuda_product *p = what;
    float *a = su_alloc((size_t)p->k, sizeof *a), *b = su_alloc((size_t)(p->k * p->n), sizeof *b);
    float *total = su_alloc((size_t)p->n, sizeof *total), *part = su_alloc((size_t)p->n, sizeof *part);
    bool memory = a && b && total && part;
    const void *const operands[] = {p->a, p->b, p->c, p->bias ? p->bias : p->c, p->addend ? p->addend : p->c};
    for (int i = 0; i < 5; i++) su_emulate_need_device("matrix product", operands[i], 0);
    su_emulate_open();
    for (int64_t l = 0; l < p->k && memory; l++)
        for (int64_t j = 0; j < p->n; j++)
            b[l * p->n + j] = element(p->b, p->in, p->tb ? j * p->ldb + l : l * p->ldb + j);
    for (int64_t i = 0; i < p->m && memory; i++) {
        for (int64_t l = 0; l < p->k; l++)
            a[l] = element(p->a, p->in, p->ta ? l * p->lda + i : i * p->lda + l);
        add_row(total, part, a, b, p->k, p->n);
        for (int64_t j = 0; j < p->n; j++) {
            float x = total[j] * p->alpha + (p->bias ? element(p->bias, p->in, j) : 0);
            if (p->addend) x += element(p->addend, p->out, i * p->ldc + j);
            set_element(p->c, p->out, i * p->ldc + j, x);
        }
    }
    su_emulate_close();
    su_free(a);
    su_free(b);
    su_free(total);
    su_free(part);
    return memory ? SU_CUDA_OK : SU_CUDA_EMEMORY;
}

static bool multiply(su_cuda *c, const su_cuda_product *p)
{
    const char *how = getenv("SUTURE_EMULATE_PRODUCT");
    if (how && !strcmp(how, "own")) return false;
    if (c->failed || !su_cuda_check(c, su_emulate_call(), "matrix product")) return true;
    if (!su_emulate_keep(multiply_now, p, sizeof *p)) su_cuda_check(c, multiply_now(p), "matrix product");
    return true;
}

static su_status library_open(su_cuda *c, su_error *err)
{
    (void)c, (void)err;
    return SU_OK;
}

static void library_close(su_cuda *c)
{
    (void)c;
}

static const su_cuda_library library = {.open = library_open, .close = library_close, .multiply = multiply};
#ifdef SUTURE_EMULATE_LT /* lt.c, on fake_lt.c */
static const su_cuda_library lt_library = {
    .open = su_cuda_lt_open, .close = su_cuda_lt_close, .multiply = su_cuda_lt_multiply};
#endif

__attribute__((visibility("default"))) su_cuda_entry su_cuda_open;

su_status su_cuda_open(const char *version, size_t table, int number, su_dtype type, int threads,
                       su_device **device, su_error *err)
{
    *device = NULL;
    if (strcmp(version, SUTURE_VERSION) != 0 || table != sizeof(su_device_ops))
        return su_fail(err, SU_EMISMATCH,
                       "the emulated CUDA device is of version " SUTURE_VERSION ", the program of %s",
                       version);
    const su_cuda_library *use = &library;
#ifdef SUTURE_EMULATE_LT
    use = &lt_library;
#endif
    return su_cuda_new(&su_emulate_runtime, use, number, type, threads, device, err);
}
