/* Global gradient norm and AdamW, in float. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include <math.h>

enum { THREADS = 256, BLOCKS = 1024 /* most parts of a sum */, PART = 4096 /* least elements of one */ };

/* --- sum of squares, in double: a block has a part whose length depends on n alone --- */

__global__ void __launch_bounds__(THREADS) squares_of_part(double *parts, const float *x, int64_t n, int64_t part)
{
    SHARED(double, room, ROOM);
    const int64_t from = (int64_t)blockIdx.x * part, to = from + part < n ? from + part : n;
    double sum = 0;
    for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x) sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) sum_of_parts(double *result, const double *parts, int64_t n)
{
    SHARED(double, room, ROOM);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *result = sum;
}

void su_cuda_sum_squares(su_device *d, double *result, const void *x, int64_t n)
{
    su_cuda *c = su_cuda_of(d);
    *result = 0;
    if (n <= 0) return;
    int64_t part = su_cuda_parts(n, BLOCKS);
    if (part < PART) part = PART;
    const int64_t parts = su_cuda_parts(n, part);
    double *sums = (double *)su_cuda_scratch(c, (size_t)(parts + 1) * sizeof(double));
    if (!sums) return;
    launch(c, "sum_squares", parts, THREADS, 0, squares_of_part)(sums, (const float *)x, n, part);
    launch(c, "sum_squares", 1, THREADS, 0, sum_of_parts)(sums + parts, sums, parts);
    d->ops->download(d, result, sums + parts, sizeof *result);
    if (c->failed) *result = (double)NAN; /* not a norm to step by */
}

/* --- AdamW, one pass:  g' = grad_scale g;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2
 *     w = w - lr wd w - lr/(1-b1^t) m / (sqrt(v/(1-b2^t)) + eps)      [Loshchilov & Hutter 2019, algorithm 2] */

struct adamw_step {
    float scale, beta1, rest1, beta2, rest2, unbias2, eps;
};

/* A launch's runs, as a parameter of the kernel: many small tensors in one launch. Ends count from its first element. */
enum { RUNS = 128 };
struct adamw_runs {
    int count;
    struct {
        int64_t end;
        float shrink, rate;
    } at[RUNS];
};

template <int V>
__global__ void __launch_bounds__(THREADS)
    adamw_packs(float *w, bf16 *narrow, float *m, float *v, const float *g, const GRID_CONSTANT adamw_runs runs, adamw_step s, int64_t packs)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    int run = 0;
    for (int more = runs.count - 1; run < more;) { /* the first run that ends behind it, by halving */
        const int middle = (run + more) / 2;
        if (runs.at[middle].end > i * V)
            more = middle;
        else
            run = middle + 1;
    }
    const float shrink = runs.at[run].shrink, rate = runs.at[run].rate;
    float wi[V], mi[V], vi[V], gi[V];
    load(wi, w + i * V);
    load(mi, m + i * V);
    load(vi, v + i * V);
    load(gi, g + i * V);
    UNROLL for (int k = 0; k < V; k++)
    {
        const float gradient = gi[k] * s.scale;
        mi[k] = s.beta1 * mi[k] + s.rest1 * gradient;
        vi[k] = s.beta2 * vi[k] + s.rest2 * gradient * gradient;
        wi[k] = wi[k] * shrink - rate * mi[k] / (sqrtf(vi[k] * s.unbias2) + s.eps);
    }
    store(w + i * V, wi);
    if (narrow) store(narrow + i * V, wi);
    store(m + i * V, mi);
    store(v + i * V, vi);
}

void su_cuda_adamw(su_device *d, void *w, void *narrow, void *m, void *v, const void *g, const su_adamw *o, const su_adamw_run *runs,
                   int32_t count)
{
    su_cuda *c = su_cuda_of(d);
    const double correction1 = 1 - pow(o->beta1, (double)o->step), correction2 = 1 - pow(o->beta2, (double)o->step);
    const adamw_step s = {(float)o->grad_scale,  (float)o->beta1,           (float)(1 - o->beta1), (float)o->beta2,
                          (float)(1 - o->beta2), (float)(1 / correction2), (float)o->eps};
    const size_t size = sizeof(float);
    int64_t from = 0;
    for (int32_t first = 0; first < count; first += RUNS) {
        adamw_runs list = {};
        bool packs = su_cuda_packs(from, size, w, m, v) && su_cuda_packs(from, size, g, NULL, NULL) && !((uintptr_t)narrow & 7);
        for (; list.count < RUNS && first + list.count < count; list.count++) {
            const su_adamw_run *r = &runs[first + list.count];
            list.at[list.count] = {r->end - from, (float)(1 - r->lr * r->weight_decay), (float)(r->lr / correction1)};
            packs = packs && su_cuda_packs(r->end, size, NULL, NULL, NULL);
        }
        const int64_t n = list.at[list.count - 1].end;
        auto go = [&](auto kernel, int packed) {
            launch(c, "adamw", su_cuda_parts(n / packed, THREADS), THREADS, 0, kernel)(
                (float *)w + from, narrow ? (bf16 *)narrow + from : NULL, (float *)m + from, (float *)v + from, (const float *)g + from, list, s, n / packed);
        };
        packs ? go(adamw_packs<4>, 4) : go(adamw_packs<1>, 1);
        from += n;
    }
}
