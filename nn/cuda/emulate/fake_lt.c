/* cuBLASLt on the host: the functions of it that lt.c calls, by NVIDIA's own header, in plain loops and in
 * columns. What the library would refuse, or would do silently wrong, ends in a status or in an abort here:
 *
 *   - leading dimensions that are too small, pointers less aligned than was promised: abort;
 *   - it has no algorithm for bf16 at odd addresses, as the library has none for some shapes.
 *
 * It offers up to three algorithms. The second sums in another order, so that its bits are not the first one's; the
 * third has them. The emulated clock calls every later one faster. */
#include "base/memory.h"
#include "nn/cuda/emulate/host.h"
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    cublasOperation_t turn_a, turn_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    int32_t bias_type;
} product;

typedef struct {
    cudaDataType_t type;
    int64_t rows, columns, ld;
} layout;

typedef struct {
    uint32_t align[4]; /* A, B, C, D */
    size_t workspace;
    uint32_t schemes;
} preference;

static void insist(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "cuBLASLt, emulated: %s\n", what);
    abort();
}

static cublasStatus_t turn(cublasStatus_t failure)
{
    return su_emulate_call() ? failure : CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t make(void **to, size_t size)
{
    cublasStatus_t st = turn(CUBLAS_STATUS_ALLOC_FAILED);
    *to = st ? NULL : calloc(1, size);
    return st ? st : *to ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    void *made;
    cublasStatus_t st = make(&made, 1);
    *handle = made;
    return st;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return 0;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_ALLOC_FAILED ? "CUBLAS_STATUS_ALLOC_FAILED"
                                                : "CUBLAS_STATUS_EXECUTION_FAILED";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    void *made;
    insist(compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F, "sums are formed in float");
    cublasStatus_t st = make(&made, sizeof(product));
    *d = made;
    if (!st) *(product *)made = (product){.epilogue = CUBLASLT_EPILOGUE_DEFAULT, .bias_type = -1};
    return st;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    free(d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t size)
{
    product *p = (product *)d;
    void *to = what == CUBLASLT_MATMUL_DESC_TRANSA           ? (void *)&p->turn_a
               : what == CUBLASLT_MATMUL_DESC_TRANSB         ? (void *)&p->turn_b
               : what == CUBLASLT_MATMUL_DESC_EPILOGUE       ? (void *)&p->epilogue
               : what == CUBLASLT_MATMUL_DESC_BIAS_POINTER   ? (void *)&p->bias
               : what == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE ? (void *)&p->bias_type
                                                             : NULL;
    insist(to && size == (what == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? 8 : 4), "an attribute of another size");
    cublasStatus_t st = turn(CUBLAS_STATUS_INTERNAL_ERROR);
    if (!st) memcpy(to, value, size);
    return st;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    void *made;
    insist(ld >= (int64_t)rows && rows > 0 && columns > 0, "a leading dimension below the rows");
    cublasStatus_t st = make(&made, sizeof(layout));
    *l = made;
    if (!st) *(layout *)made = (layout){type, (int64_t)rows, (int64_t)columns, ld};
    return st;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    void *made;
    cublasStatus_t st = make(&made, sizeof(preference));
    *p = made;
    return st;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t at,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t size)
{
    preference *p = (preference *)at;
    void *to = what == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES   ? (void *)&p->align[0]
               : what == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES ? (void *)&p->align[1]
               : what == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES ? (void *)&p->align[2]
               : what == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES ? (void *)&p->align[3]
               : what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES   ? (void *)&p->workspace
               : what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK ? (void *)&p->schemes
                                                                    : NULL;
    insist(to && size == (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4),
           "a preference of another size");
    cublasStatus_t st = turn(CUBLAS_STATUS_INTERNAL_ERROR);
    if (!st) memcpy(to, value, size);
    return st;
}

/* An algorithm: the alignments that it was chosen for, and the terms it sums at a time. */
typedef struct {
    uint32_t align[4];
    int32_t terms;
} choice;
_Static_assert(sizeof(choice) <= sizeof(cublasLtMatmulAlgo_t), "it travels as the library's does");

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t result,
                                              cublasLtMatmulPreference_t at, int wanted,
                                              cublasLtMatmulHeuristicResult_t *found, int *count)
{
    static const int32_t terms[] = {64, 3, 64};
    const preference *want = (const preference *)at;
    const layout *first = (const layout *)a;
    (void)handle, (void)b, (void)d;
    *count = 0;
    insist(wanted >= 1 && c == result, "in place");
    cublasStatus_t st = turn(CUBLAS_STATUS_INTERNAL_ERROR);
    if (st) return st;
    if (first->type == CUDA_R_16BF && (want->align[0] < 4 || want->align[1] < 4))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < wanted && i < 3; i++) {
        choice chosen = {.terms = terms[i]};
        memcpy(chosen.align, want->align, sizeof want->align);
        found[i] = (cublasLtMatmulHeuristicResult_t){.state = CUBLAS_STATUS_SUCCESS};
        memcpy(found[i].algo.data, &chosen, sizeof chosen);
        *count = i + 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

static float get(const void *x, cudaDataType_t type, int64_t i)
{
    if (type == CUDA_R_32F) return ((const float *)x)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void put(void *x, cudaDataType_t type, int64_t i, float value)
{
    if (type == CUDA_R_32F) {
        ((float *)x)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    ((uint16_t *)x)[i] = value != value ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* op(X), a row or column of length k after the other: element l of line i. */
static float *lines(const void *x, const layout *l, bool across, int64_t count, int64_t k)
{
    float *to = su_alloc((size_t)(count * k), sizeof *to);
    for (int64_t i = 0; to && i < count; i++)
        for (int64_t j = 0; j < k; j++)
            to[i * k + j] = get(x, l->type, across ? i + j * l->ld : i * l->ld + j);
    return to;
}

static float dot(const float *x, const float *y, int64_t k, int64_t terms)
{
    float total = 0;
    for (int64_t l0 = 0; l0 < k; l0 += terms) {
        float part = 0;
        for (int64_t l = l0; l < k && l < l0 + terms; l++) part += x[l] * y[l];
        total += part;
    }
    return total;
}

/* All that a product depends on, as the library copies it when it is called. */
typedef struct {
    product p;
    layout la, lb, lc;
    int32_t terms;
    float alpha, beta;
    const void *a, *b, *c;
    void *result;
    const void *workspace;
} multiplication;

static int multiply(const void *what)
{
    const multiplication *t = what;
    const bool ta = t->p.turn_a == CUBLAS_OP_T, tb = t->p.turn_b == CUBLAS_OP_T;
    const int64_t m = t->lc.rows, n = t->lc.columns, k = ta ? t->la.rows : t->la.columns;
    const void *const operands[] = {t->a, t->b, t->c, t->result, t->workspace};
    for (int i = 0; i < 5; i++) su_emulate_need_device("cublasLtMatmul", operands[i], 0);
    su_emulate_open();
    float *x = lines(t->a, &t->la, !ta, m, k), *y = lines(t->b, &t->lb, tb, n, k);
    for (int64_t j = 0; x && y && j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            const int64_t at = j * t->lc.ld + i;
            const float before = t->beta != 0 ? t->beta * get(t->c, t->lc.type, at) : 0;
            const float bias = t->p.epilogue == CUBLASLT_EPILOGUE_BIAS
                                   ? get(t->p.bias, (cudaDataType_t)t->p.bias_type, i)
                                   : 0;
            put(t->result, t->lc.type, at, t->alpha * dot(x + i * k, y + j * k, k, t->terms) + before + bias);
        }
    su_emulate_close();
    const bool memory = x && y;
    su_free(x);
    su_free(y);
    return memory ? SU_CUDA_OK : SU_CUDA_EMEMORY;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t d, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_at, const void *b,
                              cublasLtMatrixLayout_t b_at, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_at, void *result, cublasLtMatrixLayout_t result_at,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes,
                              cudaStream_t stream)
{
    const product *p = (const product *)d;
    const layout *la = (const layout *)a_at, *lb = (const layout *)b_at, *lc = (const layout *)c_at;
    const bool ta = p->turn_a == CUBLAS_OP_T, tb = p->turn_b == CUBLAS_OP_T;
    const int64_t m = ta ? la->columns : la->rows, k = ta ? la->rows : la->columns,
                  n = tb ? lb->rows : lb->columns;
    choice chosen;
    memcpy(&chosen, algorithm->data, sizeof chosen);
    const uint32_t *align = chosen.align;
    (void)handle, (void)stream;
    insist(c_at == result_at && workspace && bytes, "one layout, and a workspace");
    insist((tb ? lb->columns : lb->rows) == k && lc->rows == m && lc->columns == n,
           "shapes do not fit together");
    insist((uintptr_t)a % align[0] == 0 && (uintptr_t)b % align[1] == 0 &&
               (uintptr_t)c % align[2] == 0 && (uintptr_t)result % align[3] == 0,
           "less aligned than was promised");
    cublasStatus_t st = turn(CUBLAS_STATUS_EXECUTION_FAILED);
    if (st) return st;
    const multiplication all = {
        *p, *la, *lb,    *lc,      chosen.terms, *(const float *)alpha, *(const float *)beta,
        a,  b,   c, result, workspace};
    if (su_emulate_keep(multiply, &all, sizeof all)) return CUBLAS_STATUS_SUCCESS;
    return multiply(&all) ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_SUCCESS;
}
