/* Activations and their slopes, element by element. */
#include "nn/cuda/activation.h"
#include "nn/cuda/launch.h"

enum { THREADS = 256, EACH = 2 /* packs of a thread, forward */ };

/* y = f(x + bias), in place allowed; kept, when given, receives x + bias. Bias belongs to column i % width. */
template <class T, int V>
__global__ void activate(T *y, T *kept, const T *x, const T *bias, int f, int64_t packs, int width)
{
    const int64_t first = (int64_t)blockIdx.x * blockDim.x * EACH + threadIdx.x;
    float v[EACH][V];
    UNROLL for (int e = 0; e < EACH; e++) /* behind the end: the last pack, without a branch around the load */
    {
        const int64_t i = first + e * (int)blockDim.x;
        load(v[e], x + (i < packs ? i : packs - 1) * V);
    }
    UNROLL for (int e = 0; e < EACH; e++)
    {
        const int64_t i = first + e * (int)blockDim.x;
        if (i >= packs) break;
        if (bias) {
            float b[V];
            load(b, bias + i * V % width);
            UNROLL for (int k = 0; k < V; k++) v[e][k] = rounded<T>(v[e][k] + b[k]);
        }
        if (kept) store(kept + i * V, v[e]);
        UNROLL for (int k = 0; k < V; k++) v[e][k] = activated<T>(v[e][k], f);
        store(y + i * V, v[e]);
    }
}

void su_cuda_activate(su_cuda *c, void *y, void *kept, const void *pre, const void *bias, su_activation f,
                      int64_t rows, int32_t width)
{
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        const bool packs = su_cuda_packs(width, sizeof(T), y, kept, pre) && su_cuda_packs(width, sizeof(T), bias, NULL, NULL);
        auto go = [&](auto kernel, int v) {
            const int64_t n = rows * width / v;
            launch(c, "activation", su_cuda_parts(n, THREADS * EACH), THREADS, 0, kernel)((T *)y, (T *)kept, (const T *)pre,
                                                                                   (const T *)bias, f, n, width);
        };
        if (packs)
            go(activate<T, PACK<T>>, PACK<T>);
        else
            go(activate<T, 1>, 1);
    });
}

/* y as activate gives it; NULL: not wanted. */
template <class T, int V>
__global__ void slopes(T *dpre, T *y, const T *dy, const T *pre, int f, int64_t packs)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    float g[V], v[V];
    load(g, dy + i * V);
    load(v, pre + i * V);
    UNROLL for (int k = 0; k < V; k++) g[k] *= slope<T>(v[k], f);
    store(dpre + i * V, g);
    if (!y) return;
    UNROLL for (int k = 0; k < V; k++) v[k] = activated<T>(v[k], f);
    store(y + i * V, v);
}

void su_cuda_act_backward(su_device *d, void *dpre, void *y, void *db, const void *dy, const void *pre, su_activation f,
                          int64_t rows, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    const int64_t n = rows * width;
    if (f == SU_ACT_NONE) {
        d->ops->copy(d, dpre, dy, (size_t)n * su_dtype_size(d->act));
        if (y) d->ops->copy(d, y, pre, (size_t)n * su_dtype_size(d->act));
        if (db) su_cuda_column_sums(c, (float *)db, dpre, rows, width, width);
        return;
    }
    if (db) {
        su_cuda_slopes_and_sums(c, dpre, y, (float *)db, dy, pre, f, rows, width);
        return;
    }
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            launch(c, "act_backward", su_cuda_parts(n / v, THREADS), THREADS, 0, kernel)((T *)dpre, (T *)y, (const T *)dy,
                                                                                         (const T *)pre, f, n / v);
        };
        if (su_cuda_packs(n, sizeof(T), dpre, dy, pre) && su_cuda_packs(n, sizeof(T), y, NULL, NULL))
            go(slopes<T, PACK<T>>, PACK<T>);
        else
            go(slopes<T, 1>, 1);
    });
}
