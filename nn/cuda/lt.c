/* Matrix products by cuBLASLt.
 *
 * It thinks in columns. Our C = op(A) op(B), row by row, is its C^T = op(B)^T op(A)^T, column by column, over
 * the same bytes: its first operand is our B, its second our A, its m is our n.
 *
 *   bias        an addend of each of its rows (our columns): CUBLASLT_EPILOGUE_BIAS
 *
 * Sums are formed in float: no TF32 for float32, and no partial sums in bf16 where the library splits k. Its
 * first choice for a shape is kept with the shape; where it has nothing (odd alignments), the shape is left to
 * our own kernel. For large products its next choices are timed, once a shape, and the fastest is taken of those
 * that give the first one's bits: so the same program on the same GPU repeats its bits, whatever a clock said. */
#include "nn/cuda/lt.h"
#include <cublasLt.h>
#include <stdio.h>
#include <string.h>

enum {
    WORKSPACE = 32 << 20, /* what NVIDIA recommends for Hopper */
    PLANS_MOST = 4096,    /* beyond, all are forgotten: a decoder's shapes change with every step */
    PLANS_LEAST = 64,
    ALIGN_MOST = 256,
    CHOICES = 8, /* algorithms that are timed */
    TIMED_ROUNDS = 3,
};
#ifdef SUTURE_EMULATE_LT
static const double TIMED_WORK = 2e4;
#else
static const double TIMED_WORK =
    2e10; /* multiplications from which on a product is timed: some 50 us on an H100 */
#endif

/* All that a plan depends on; no padding, compared as bytes. */
typedef struct {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t in, out;
    int32_t ta, tb, add, bias; /* add: 1 in place, 2 from elsewhere */
    int32_t align[4]; /* of a, b, c and what is added, and bias */
} plan_key;
_Static_assert(sizeof(plan_key) == 6 * 8 + 10 * 4, "a key has no padding");

typedef struct {
    plan_key key;
    bool taken, usable;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t first, second, result;
    cublasLtMatmulAlgo_t algorithm;
} plan;

typedef struct {
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    size_t workspace_bytes;
    plan *plans; /* hashed by key; room is a power of two */
    int64_t count, room;
} state;

static cudaDataType_t type_of(su_dtype type)
{
    return type == SU_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool check(su_cuda *c, cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    char text[300];
    snprintf(text, sizeof text, "%s: cuBLASLt says %s", what, cublasLtGetStatusName(status));
    su_cuda_fail(c, status == CUBLAS_STATUS_ALLOC_FAILED ? SU_ENOMEM : SU_EIO, text);
    return false;
}

/* --- plans --- */

static int32_t alignment(uintptr_t at)
{
    uintptr_t bits = at | ALIGN_MOST;
    return (int32_t)(bits & -bits);
}

static plan_key key_of(const su_cuda_product *p)
{
    return (plan_key){.m = p->m,
                      .n = p->n,
                      .k = p->k,
                      .lda = p->lda,
                      .ldb = p->ldb,
                      .ldc = p->ldc,
                      .in = p->in,
                      .out = p->out,
                      .ta = p->ta,
                      .tb = p->tb,
                      .add = !p->addend ? 0 : p->addend == p->c ? 1 : 2,
                      .bias = p->bias != NULL,
                      .align = {alignment((uintptr_t)p->a), alignment((uintptr_t)p->b),
                                alignment((uintptr_t)p->c | (uintptr_t)p->addend), alignment((uintptr_t)p->bias)}};
}

/* Where the plan of this key is, or would be. */
static plan *place_of(plan *plans, int64_t room, const plan_key *key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    const unsigned char *bytes = (const unsigned char *)key;
    for (size_t i = 0; i < sizeof *key; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    int64_t at = (int64_t)((hash ^ hash >> 32) & (uint64_t)(room - 1));
    while (plans[at].taken && memcmp(&plans[at].key, key, sizeof *key) != 0) at = (at + 1) & (room - 1);
    return &plans[at];
}

static void plan_free(plan *p)
{
    if (p->product) cublasLtMatmulDescDestroy(p->product);
    if (p->first) cublasLtMatrixLayoutDestroy(p->first);
    if (p->second) cublasLtMatrixLayoutDestroy(p->second);
    if (p->result) cublasLtMatrixLayoutDestroy(p->result);
    *p = (plan){0};
}

static void forget(state *s)
{
    for (int64_t i = 0; i < s->room; i++) plan_free(&s->plans[i]);
    s->count = 0;
}

/* Room for one more plan, half of it free. */
static bool grow(su_cuda *c, state *s)
{
    if (s->count >= PLANS_MOST) forget(s);
    if (2 * (s->count + 1) <= s->room) return true;
    int64_t room = s->room ? 2 * s->room : PLANS_LEAST;
    plan *more = su_calloc((size_t)room, sizeof *more);
    if (!more) {
        su_cuda_fail(c, SU_ENOMEM, "no memory for the plans of matrix products");
        return false;
    }
    for (int64_t i = 0; i < s->room; i++)
        if (s->plans[i].taken) *place_of(more, room, &s->plans[i].key) = s->plans[i];
    su_free(s->plans);
    s->plans = more;
    s->room = room;
    return true;
}

static cublasStatus_t set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what, const void *value,
                          size_t size)
{
    return cublasLtMatmulDescSetAttribute(d, what, value, size);
}

static cublasStatus_t set_bias(const plan *n, const su_cuda_product *p)
{
    if (!p->bias) return CUBLAS_STATUS_SUCCESS;
    return set(n->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
}

static cublasStatus_t describe(plan *n, const su_cuda_product *p)
{
    const cublasOperation_t turned = CUBLAS_OP_T, plain = CUBLAS_OP_N;
    const cudaDataType_t in = type_of(p->in), out = type_of(p->out);
    const cublasLtEpilogue_t epilogue = p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const uint64_t m = (uint64_t)p->m, k = (uint64_t)p->k, width = (uint64_t)p->n;
    cublasStatus_t st = cublasLtMatmulDescCreate(&n->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!st) st = set(n->product, CUBLASLT_MATMUL_DESC_TRANSA, p->tb ? &turned : &plain, sizeof plain);
    if (!st) st = set(n->product, CUBLASLT_MATMUL_DESC_TRANSB, p->ta ? &turned : &plain, sizeof plain);
    if (!st) st = set(n->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!st && p->bias) {
        const int32_t type = (int32_t)in;
        st = set(n->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
        if (!st) st = set_bias(n, p);
    }
    if (!st) st = cublasLtMatrixLayoutCreate(&n->first, in, p->tb ? k : width, p->tb ? width : k, p->ldb);
    if (!st) st = cublasLtMatrixLayoutCreate(&n->second, in, p->ta ? m : k, p->ta ? k : m, p->lda);
    if (!st) st = cublasLtMatrixLayoutCreate(&n->result, out, width, m, p->ldc);
    return st;
}

/* The library's choices, best first. NOT_SUPPORTED: it has none. */
static cublasStatus_t ask(const state *s, const plan *n, cublasLtMatmulHeuristicResult_t *found, int wanted,
                          int *count)
{
    static const cublasLtMatmulPreferenceAttributes_t which[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t st = CUBLAS_STATUS_SUCCESS;
    *count = 0;
    for (int i = 0; i < 4 && !st; i++) {
        const uint32_t bytes = (uint32_t)n->key.align[i < 3 ? i : 2];
        st = cublasLtMatmulPreferenceSetAttribute(s->preference, which[i], &bytes, sizeof bytes);
    }
    if (!st)
        st = cublasLtMatmulAlgoGetHeuristic(s->handle, n->product, n->first, n->second, n->result, n->result,
                                            s->preference, wanted, found, count);
    if (!st && (*count < 1 || found[0].state != CUBLAS_STATUS_SUCCESS)) st = CUBLAS_STATUS_NOT_SUPPORTED;
    return st;
}

static cublasStatus_t multiply(su_cuda *c, const state *s, const plan *n, const su_cuda_product *p,
                               const cublasLtMatmulAlgo_t *algorithm)
{
    const float beta = p->addend ? 1 : 0;
    cublasStatus_t st = set_bias(n, p);
    if (!st)
        st = cublasLtMatmul(s->handle, n->product, &p->alpha, p->b, n->first, p->a, n->second, &beta,
                            p->addend ? p->addend : p->c, n->result, p->c, n->result, algorithm, s->workspace,
                            s->workspace_bytes, c->stream);
    return st;
}

/* Milliseconds of the fastest of some rounds. False: it cannot be had (a failure of the clock is no failure of ours). */
static bool time_of(su_cuda *c, const state *s, const plan *n, const su_cuda_product *p,
                    const cublasLtMatmulAlgo_t *algorithm, void *const event[2], float *fastest)
{
    *fastest = 0;
    for (int round = 0; round < TIMED_ROUNDS; round++) {
        float t = 0;
        if (c->rt->event_record(event[0], c->stream) || multiply(c, s, n, p, algorithm) ||
            c->rt->event_record(event[1], c->stream) || c->rt->event_wait(event[1]) ||
            c->rt->event_between(&t, event[0], event[1]))
            return false;
        if (round == 0 || t < *fastest) *fastest = t;
    }
    return true;
}

/* Takes the fastest choice whose product has the bits of the first choice's. C is written, as the product will. */
static void choose_by_clock(su_cuda *c, const state *s, plan *n, const su_cuda_product *p,
                            const cublasLtMatmulHeuristicResult_t *found, int count)
{
    void *event[2] = {NULL, NULL};
    float best = 0, t = 0;
    uint64_t bits = 0, same = 0;
    if (c->rt->event_new(&event[0], true) == SU_CUDA_OK && c->rt->event_new(&event[1], true) == SU_CUDA_OK &&
        time_of(c, s, n, p, &n->algorithm, event, &best) && su_cuda_bits(c, &bits, p, s->workspace))
        for (int i = 1; i < count; i++) {
            if (found[i].state != CUBLAS_STATUS_SUCCESS || !time_of(c, s, n, p, &found[i].algo, event, &t))
                continue;
            if (t < best && su_cuda_bits(c, &same, p, s->workspace) && same == bits)
                best = t, n->algorithm = found[i].algo;
        }
    for (int i = 0; i < 2; i++)
        if (event[i]) c->rt->event_free(event[i]);
}

/* NULL: a failure, which is recorded. */
static const plan *plan_of(su_cuda *c, state *s, const su_cuda_product *p)
{
    const plan_key key = key_of(p);
    if (s->room) {
        const plan *known = place_of(s->plans, s->room, &key);
        if (known->taken) return known;
    }
    if (!grow(c, s)) return NULL;
    plan made = {.key = key, .taken = true};
    cublasLtMatmulHeuristicResult_t found[CHOICES];
    memset(found, 0, sizeof found);
    int count = 0;
    /* A product that is added in place cannot be repeated. */
    const bool timed = p->addend != p->c && (double)p->m * (double)p->n * (double)p->k >= TIMED_WORK;
    if (timed && su_cuda_records(c, "timing matrix products")) return NULL;
    cublasStatus_t st = describe(&made, p);
    if (!st) st = ask(s, &made, found, timed ? CHOICES : 1, &count);
    if (!st) made.algorithm = found[0].algo;
    if (!st && timed) choose_by_clock(c, s, &made, p, found, count);
    made.usable = st == CUBLAS_STATUS_SUCCESS;
    if (st && st != CUBLAS_STATUS_NOT_SUPPORTED && st != CUBLAS_STATUS_INVALID_VALUE) {
        plan_free(&made);
        check(c, st, "planning a matrix product");
        return NULL;
    }
    plan *at = place_of(s->plans, s->room, &key);
    *at = made;
    s->count++;
    return at;
}

/* --- the device's library --- */

bool su_cuda_lt_multiply(su_cuda *c, const su_cuda_product *p)
{
    state *s = c->products;
    if (p->bias && p->in != p->out) return false; /* nobody asks for it */
    if (c->failed) return true;                               /* as launches do: see launch.h */
    su_cuda_here(c);
    const plan *n = plan_of(c, s, p);
    if (!n) return true;
    if (!n->usable) return false;
    check(c, multiply(c, s, n, p, &n->algorithm), "matrix product");
    return true;
}

void su_cuda_lt_close(su_cuda *c)
{
    state *s = c->products;
    if (!s) return;
    forget(s);
    su_free(s->plans);
    if (s->preference) cublasLtMatmulPreferenceDestroy(s->preference);
    if (s->handle) cublasLtDestroy(s->handle);
    if (s->workspace) {
        c->rt->release(s->workspace);
        c->allocated -= s->workspace_bytes;
    }
    su_free(s);
    c->products = NULL;
}

su_status su_cuda_lt_open(su_cuda *c, su_error *err)
{
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const size_t bytes = WORKSPACE;
    state *s = c->products = su_calloc(1, sizeof *s);
    if (!s) return su_fail(err, SU_ENOMEM, "no memory for cuBLASLt's state");
    if (c->rt->allocate(&s->workspace, bytes) != SU_CUDA_OK) {
        s->workspace = NULL;
        su_cuda_lt_close(c);
        return su_fail(err, SU_ENOMEM, "cuda:%d (%s) has no %d MB left for cuBLASLt's workspace", c->number,
                       c->properties.name, WORKSPACE >> 20);
    }
    s->workspace_bytes = bytes;
    c->allocated += bytes;
    cublasStatus_t st = cublasLtCreate(&s->handle);
    if (!st) st = cublasLtMatmulPreferenceCreate(&s->preference);
    if (!st)
        st = cublasLtMatmulPreferenceSetAttribute(s->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &bytes, sizeof bytes);
    if (!st)
        st = cublasLtMatmulPreferenceSetAttribute(s->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &schemes, sizeof schemes);
    if (!st) return SU_OK;
    su_cuda_lt_close(c);
    return su_fail(err, st == CUBLAS_STATUS_ALLOC_FAILED ? SU_ENOMEM : SU_EUNSUPPORTED,
                   "cuda:%d: cuBLASLt does not start: %s (version %zu)", c->number, cublasLtGetStatusName(st),
                   cublasLtGetVersion());
}
