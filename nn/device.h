/* The device: one narrow table of coarse operations that a model is written against.
 *
 * nn/cpu/ fills the table in float32 (and in float64, for finite-difference checks); nn/cuda/ fills it in a
 * shared object that is opened at run time. A model never asks which device it runs on.
 *
 * Types. `act` is the type of activations and of the weights that matmuls read (F32, F64; BF16 on a GPU).
 * `acc` is the type of master weights, gradients of weights, optimiser moments, norm statistics,
 * log-sum-exps, embeddings after the projection, and losses: F64 when act is F64, else F32. Below, A* marks a
 * pointer to `act` elements and C* one to `acc` elements; both are device memory. Indexes and lengths are
 * int32 device memory.
 *
 * Layout. Everything is row-major and contiguous unless a stride is given. Strides count elements.
 *
 * Gradients. Weight gradients (dw, db, dgamma, dbeta, dtable, ...) are ADDED to what is there; activation
 * gradients are OVERWRITTEN unless the argument `add` says otherwise. Backward functions recompute what is
 * cheap.
 *
 * Determinism. Reductions are split by the problem's size, never by the number of threads or blocks in
 * flight: the same inputs give the same bits on the same device.
 *
 * Errors. Arguments are checked where a model's configuration or a file could make them wrong, and by assert
 * elsewhere. A device may report a failure of an earlier asynchronous operation at the next su_device_sync. */
#ifndef SU_NN_DEVICE_H
#define SU_NN_DEVICE_H

#include "base/dtype.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/threads.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    SU_ACT_NONE,
    SU_ACT_GELU,       /* x Phi(x), exact, by erf: BERT, EVA, open_clip */
    SU_ACT_GELU_TANH,  /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    SU_ACT_QUICK_GELU, /* x sigmoid(1.702 x): OpenAI CLIP */
    SU_ACT_TANH,       /* BERT's pooler */
} su_activation;

/* Attention over B sequences and H heads:
 *     s_ij = scale <q_i, k_j>;   p_i = softmax of s_ij over j < lengths[b] (and j <= i + tk - tq when causal);
 *     o_i = sum_j p_ij v_j
 * A row that may see no key gives zeros. Keys beyond the length get zero gradient. Element (b, t, h, d) of q
 * lies at q + (b*tq + t)*q_stride + h*dim + d; k, v likewise with tk and kv_stride, o with tq and o_stride, so
 * a packed [B, T, 3, H, dim] projection is read in place. */
typedef struct {
    int32_t batch, heads, dim, tq, tk;
    int64_t q_stride, kv_stride, o_stride;
    const int32_t *lengths; /* [B], 1..tk; NULL: all tk */
    bool causal;
    double scale;   /* 1/sqrt(dim) */
    double dropout; /* on p, 0 <= dropout < 1 */
    su_rng_key key; /* of dropout; element (b, h, i, j) is keyed by its own index, so backward repeats it */
} su_attention;

/* Attention of single queries over keys and values that lie anywhere in a pool of rows: decoding with a
 * cache. Head h of key and of value j of query r lie at row*kv_stride + h*kv_head, where
 *     row = index[r*index_stride + j],   or, when index is NULL,   first[r] + j
 * and those of q and o at r*q_stride + h*dim and r*o_stride + h*dim.
 *     p = softmax_{j < lengths[r]} scale <q_r, k_j>;   o_r = sum_j p_j v_j;   no key gives zeros
 * kv_head is dim where a row holds all heads, or the size of a head's own block of rows.
 * A row's result depends on its own query and keys alone, to the bit. */
typedef struct {
    int32_t rows, heads, dim;
    int64_t q_stride, kv_stride, kv_head, o_stride;
    const int32_t *index, *first, *lengths; /* device memory; lengths [rows], index [rows][index_stride] */
    int64_t index_stride;
    double scale;
} su_attend;

/* Cutting images into a ViT's patches, normalised:
 *   out[b][n][c*P*P + y*P + x] = (pixel/255 - mean[c]) / std[c]   with n running over kept patches, row by
 * row. The order c, y, x is that of a convolution weight [width, C, P, P] flattened. */
typedef struct {
    int32_t batch, channels, height, width, patch; /* height and width are multiples of patch */
    float mean[4], std[4];
    const int32_t *keep; /* [B][kept] patch numbers, ascending, for patch dropout; NULL: all */
    int32_t kept;        /* patches a sample; (height/patch)*(width/patch) when keep is NULL */
} su_patches;

typedef struct {
    double beta1, beta2, eps;
    int64_t step;      /* 1-based, for bias correction */
    double grad_scale; /* gradients are multiplied by this first (clipping) */
} su_adamw;

/* Elements from where the run before ends, or from 0, up to `end`. */
typedef struct {
    int64_t end;
    double lr, weight_decay; /* decoupled: w -= lr*(m_hat/(sqrt(v_hat)+eps) + weight_decay*w) */
} su_adamw_run;

/* What L_CU's centroids are: see the operation cu. */
typedef enum { SU_CENTROIDS_NORMALISED, SU_CENTROIDS_RAW } su_centroids;

enum { SU_MAX_STREAMS = 8 };

typedef struct su_device su_device;
typedef struct su_recorded su_recorded; /* operations that a device can run again; see the operation repeat */
typedef struct su_comm su_comm;         /* nn/comm.h */

typedef struct {
    const char *name;

    /* --- memory ----------------------------------------------------------------------------------------- */
    /* SU_ALIGN-aligned, not initialised. */
    su_status (*alloc)(su_device *d, size_t bytes, void **memory, su_error *err);
    void (*release)(su_device *d, void *memory);
    void (*zero)(su_device *d, void *memory, size_t bytes);
    void (*upload)(su_device *d, void *to, const void *from_host, size_t bytes);
    void (*download)(su_device *d, void *to_host, const void *from, size_t bytes); /* waits for the data */
    void (*copy)(su_device *d, void *to, const void *from, size_t bytes);
    void (*convert)(su_device *d, void *to, su_dtype to_type, const void *from, su_dtype from_type,
                    int64_t n);
    su_status (*sync)(su_device *d, su_error *err);
    /* Bytes that can be taken now, what the device's own working buffers and other ranks on the same memory may
     * need left out; SIZE_MAX: not known. */
    size_t (*room)(su_device *d);
    /* All three, or NULL where the device's memory is the host's. host_alloc: memory that the device can read
     * by itself (page-locked), SU_ALIGN-aligned. send: begins a copy from there, beside what is computed;
     * neither side may be touched before the next sync has returned. */
    su_status (*host_alloc)(su_device *d, size_t bytes, void **memory, su_error *err);
    void (*host_release)(su_device *d, void *memory);
    void (*send)(su_device *d, void *to, const void *from_host, size_t bytes);

    /* --- linear layers ---------------------------------------------------------------------------------- */
    /* y = f(x W^T + b); x [rows, in], W [out, in] (as Hugging Face stores it), b [out]. pre: where the
     * pre-activation is kept for backward; may be NULL when f is SU_ACT_NONE or no backward follows. */
    void (*linear)(su_device *d, void *y, void *pre, const void *x, const void *w, const void *b,
                   su_activation f, int64_t rows, int32_t out, int32_t in);
    /* y = x W^T + b + residual; residual [rows, out], and y may be it. */
    void (*linear_add)(su_device *d, void *y, const void *residual, const void *x, const void *w, const void *b,
                       int64_t rows, int32_t out, int32_t in);
    /* dx = dy W (dx += when add); dW += dy^T x; db += column sums of dy. dx, dw, db may each be NULL; dw, db
     * are acc. dy is the gradient at the pre-activation (act_backward first when f is not SU_ACT_NONE). */
    void (*linear_backward)(su_device *d, void *dx, bool add, void *dw, void *db, const void *dy,
                            const void *x, const void *w, int64_t rows, int32_t out, int32_t in);
    /* dpre = dy f'(pre), all [rows, width]; in place allowed. y: f(pre) again, the bits that linear gave; it may
     * take pre's place; NULL: not wanted. db: acc [width] += column sums of dpre, the gradient of the bias in front
     * of f, formed on the way; NULL: not wanted. */
    void (*act_backward)(su_device *d, void *dpre, void *y, void *db, const void *dy, const void *pre,
                         su_activation f, int64_t rows, int32_t width);
    /* Both in one: act_backward of linear_backward's dx. dy [rows, out], w [out, in]; dpre, y, pre [rows, in]; db [in]. */
    void (*linear_act_backward)(su_device *d, void *dpre, void *y, void *db, const void *dy, const void *w,
                                const void *pre, su_activation f, int64_t rows, int32_t out, int32_t in);

    /* --- attention -------------------------------------------------------------------------------------- */
    /* o [B,tq,H,dim]; lse C [B,H,tq]: the log-sum-exp of each row, kept for backward. */
    void (*attention)(su_device *d, const su_attention *a, void *o, void *lse, const void *q, const void *k,
                      const void *v);
    /* dq has q's strides, dk and dv have k's; all three overwritten. dbq, dbv: acc [H*dim] += column sums of dq and of
     * dv, the gradients of biases in front of q and v; NULL: not wanted. A bias in front of k has none: it adds one
     * number to all scores of a query, which its softmax does not see. */
    void (*attention_backward)(su_device *d, const su_attention *a, void *dq, void *dk, void *dv, void *dbq,
                               void *dbv, const void *d_o, const void *o, const void *lse, const void *q, const void *k,
                               const void *v);

    /* No backward: training never decodes a token at a time. */
    void (*attend)(su_device *d, const su_attend *a, void *o, const void *q, const void *k, const void *v);

    /* --- LayerNorm over the last axis, with the residual sum in front ------------------------------------ */
    /* s = x + residual; y = (s - mean) * rstd * gamma + beta, rstd = 1/sqrt(var + eps), var biased.
     * sum: where s is kept; sum and y may each alias x or residual. With residual NULL s = x and sum is not
     * written. y depends on s as it is stored: the norm of a kept sum is the same bits again.
     * mean, rstd: C [rows], kept for backward; may be NULL without a backward. */
    void (*norm)(su_device *d, void *y, void *sum, void *mean, void *rstd, const void *x,
                 const void *residual, const void *gamma, const void *beta, double eps, int64_t rows,
                 int32_t width);
    /* s: the normalised input as kept by forward. dx = gradient at s (dx += when add). dx may alias dy when
     * !add. sums: acc [width] += column sums of what stands in dx then, the gradient of a bias whose layer gave s or
     * was added to it; NULL: not wanted. */
    void (*norm_backward)(su_device *d, void *dx, bool add, void *sums, void *dgamma, void *dbeta, const void *dy,
                          const void *s, const void *mean, const void *rstd, const void *gamma, int64_t rows,
                          int32_t width);

    /* --- element-wise and rows -------------------------------------------------------------------------- */
    /* y = a + b; aliases allowed. */
    void (*add)(su_device *d, void *y, const void *a, const void *b, int64_t n);
    /* y = x/(1-p), or 0 with probability p by (key, element); its own backward. In place allowed. */
    void (*dropout)(su_device *d, void *y, const void *x, double p, su_rng_key key, int64_t n);
    /* Stochastic depth: rows of `sample` elements are kept with probability 1-p and scaled by 1/(1-p). */
    void (*drop_path)(su_device *d, void *y, const void *x, double p, su_rng_key key, int64_t samples,
                      int64_t sample);
    /* y[r] = x[index[r]] (y[r] += when add). */
    void (*gather)(su_device *d, void *y, bool add, const void *x, const int32_t *index, int64_t rows,
                   int32_t width);
    /* table[index[r]] += y[r], in ascending r for each destination: deterministic. table [places, width]: acc when
     * to_acc, else act. */
    void (*scatter_add)(su_device *d, void *table, int64_t places, bool to_acc, const void *y, const int32_t *index,
                        int64_t rows, int32_t width);
    /* table[index[r]] = y[r]; no index twice. */
    void (*scatter)(su_device *d, void *table, const void *y, const int32_t *index, int64_t rows,
                    int32_t width);
    /* y[b] = mean over t < lengths[b] of x[b][first + t]; x [B, T, width]; lengths NULL: all of T - first. */
    void (*mean_pool)(su_device *d, void *y, const void *x, const int32_t *lengths, int32_t batch,
                      int32_t tokens, int32_t first, int32_t width);
    /* dx overwritten, zeros where not pooled. */
    void (*mean_pool_backward)(su_device *d, void *dx, const void *dy, const int32_t *lengths, int32_t batch,
                               int32_t tokens, int32_t first, int32_t width);
    /* images [B, H, W, C] */
    void (*patches)(su_device *d, void *out, const uint8_t *images, const su_patches *p);

    /* --- embeddings and losses (all C) ------------------------------------------------------------------ */
    /* z = x / max(|x|, 1e-12), x A [rows, width] -> z C; norm C [rows] kept for backward. dx overwritten. */
    void (*normalise)(su_device *d, void *z, void *norm, const void *x, int64_t rows, int32_t width);
    void (*normalise_backward)(su_device *d, void *dx, const void *dz, const void *z, const void *norm,
                               int64_t rows, int32_t width);
    /* InfoNCE between two streams, both directions, mean of the two [method: eq 1]:
     *   L = 1/2 sum over directions of  -1/N sum_i log softmax_j(e^s <x_i, y_j>)[i]
     * log_scale: C [1], s = log(1/tau). loss C [1]: weight*L is ADDED. dx, dy [N, D], d_log_scale [1]:
     * weight*dL ADDED; dx and dy may both be NULL (value only), d_log_scale may be NULL. Never stores more
     * than a tile of N x N. */
    su_status (*infonce)(su_device *d, void *loss, void *dx, void *dy, void *d_log_scale, const void *x,
                         const void *y, const void *log_scale, double weight, int64_t n, int32_t width,
                         su_error *err);
    /* L_ATP between two streams [eq 7]: weight/N sum_i |x_i - y_i|^2 is ADDED to loss; gradients ADDED (NULL:
     * value only). */
    void (*atp)(su_device *d, void *loss, void *dx, void *dy, const void *x, const void *y, double weight,
                int64_t n, int32_t width);
    /* L_CU over M streams [eq 8, 9]: mu_i = mean_m z_i^m, then
     *   NORMALISED (the released code; default):  u_i = mu_i/|mu_i|,
     *                                             L = log( 2/(N(N-1)) sum_{i<j} exp(-2 |u_i - u_j|^2) )
     *   RAW (the paper's equation):               L = log( 1/N sum_i sum_{j != i} exp(-2 |mu_i - mu_j|^2) )
     * weight*L ADDED to loss; dz[m] ADDED (dz NULL: value only). SU_EINVAL when n < 2. Never stores more than a
     * tile. */
    su_status (*cu)(su_device *d, void *loss, void *const *dz, const void *const *z, int streams,
                    su_centroids form, double weight, int64_t n, int32_t width, su_error *err);
    /* Next-token cross-entropy with label smoothing e: target distribution (1-e) one-hot + e/classes.
     * loss C [1] += weight * sum over rows with target >= 0. dlogits A [rows, classes] overwritten, may alias
     * logits; NULL: value only. losses: C [rows], each row's loss, unweighted; may be NULL. */
    void (*cross_entropy)(su_device *d, void *loss, void *losses, void *dlogits, const void *logits,
                          const int32_t *targets, double smoothing, double weight, int64_t rows,
                          int32_t classes);

    /* --- optimiser (all C; n elements) ------------------------------------------------------------------ */
    /* Accumulated in double; waits. */
    void (*sum_squares)(su_device *d, double *result, const void *x, int64_t n);
    /* Of all elements up to the last run's end; runs ascend. narrow: A, receives the new w too; NULL: nothing, as always where
     * A is C. */
    void (*adamw)(su_device *d, void *w, void *narrow, void *m, void *v, const void *g, const su_adamw *o,
                  const su_adamw_run *runs, int32_t count);

    /* --- search ----------------------------------------------------------------------------------------- */
    /* For every query row, C*, the k largest inner products with rows of x, ties to the smaller row number, sorted.
     * A score is the sum of exact products, formed in double and rounded to float. type: of x, acc's or SU_DTYPE_BF16.
     * longest: no row of x is longer; 0 where that is not known, and the device looks itself if it must. rows int64
     * [queries, k], scores float [queries, k], both HOST memory. k <= n. */
    su_status (*top_k)(su_device *d, int64_t *rows, float *scores, const void *queries, const void *x, su_dtype type,
                       double longest, int64_t nq, int64_t n, int32_t width, int32_t k, su_error *err);

    /* For every row of x, A* [rows, classes], its k largest numbers, sorted, ties to the smaller class, and its
     * log-sum-exp. which int32 [rows, k], values float [rows, k], log_sums float [rows], whatever acc is.
     * 1 <= k <= classes; no NaN. */
    void (*largest)(su_device *d, int32_t *which, float *values, float *log_sums, const void *x, int64_t rows,
                    int32_t classes, int32_t k);

    /* --- sequences that are run many times -------------------------------------------------------------- */
    /* Both NULL where a launch costs nothing: the CPU.
     *
     * Does work(context), as a call of it would; from the third time on for the same *recorded (NULL before the
     * first), by one launch of what it launched the second time, without calling it. So addresses, sizes and numbers
     * that work gives to operations must be the same every time; what stands in device memory may differ.
     *
     * work calls linear, attend, norm, add, gather, scatter, convert, copy, zero and largest alone, does nothing else
     * that lasts, and may be called twice in place of once: where something cannot be recorded, or is not run, it is
     * carried out as ever. Returns whether a recording was run. */
    bool (*repeat)(su_device *d, su_recorded **recorded, void (*work)(void *context), void *context);
    void (*forget)(su_device *d, su_recorded *recorded);

    void (*close)(su_device *d);
} su_device_ops;

struct su_device {
    const su_device_ops *ops;
    su_dtype act, acc;
    su_pool *pool;         /* host threads, owned: the CPU device computes on them; loaders have their own */
    char description[128]; /* "CPU, 2 threads, AVX-512" */
    su_comm *comm;         /* the ranks that train together, one device each; NULL: this one alone */
    void *state;
};

/* threads 0: all cores. type: SU_DTYPE_F32, or SU_DTYPE_F64 for checks. SU_ENOTFOUND, SU_EUNSUPPORTED: the
 * BLAS library that SUTURE_BLAS names cannot be used (see nn/cpu/blas.h). */
su_status su_device_cpu(int threads, su_dtype type, su_device **device, su_error *err);

/* "cpu", "cuda", "cuda:N" as the command takes them; a GPU computes in bf16, or with ",f32" behind its name in
 * float32. SU_EUNSUPPORTED says what is missing for a GPU; nn/device.c says where the CUDA device is looked for.
 */
su_status su_device_open(const char *name, int threads, su_device **device, su_error *err);
void su_device_close(su_device *device);

/* Address of element i of an act or acc array. */
static inline void *su_act_at(const su_device *d, const void *base, int64_t i)
{
    return (char *)(uintptr_t)base + (size_t)i * su_dtype_size(d->act);
}
static inline void *su_acc_at(const su_device *d, const void *base, int64_t i)
{
    return (char *)(uintptr_t)base + (size_t)i * su_dtype_size(d->acc);
}

#endif
