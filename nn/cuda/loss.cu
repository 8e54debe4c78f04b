/* Losses that look at one row at a time. A row's loss goes to a list; the list is summed in double, in a fixed
 * order. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"

enum { THREADS = 256, SUM_THREADS = 1024, ROW_WARPS = 4 };

/* --- the sum of a list --- */

__global__ void __launch_bounds__(SUM_THREADS) add_list(float *loss, double weight, const double *values, int64_t n)
{
    SHARED(double, room, ROOM);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += values[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *loss += (float)(weight * sum);
}

void su_cuda_add_loss(su_cuda *c, void *loss, double weight, const double *values, int64_t n)
{
    launch(c, "loss", 1, SUM_THREADS, 0, add_list)((float *)loss, weight, values, n);
}

/* --- cross-entropy: a block has a row. With lse = log sum_k exp(z_k),
 *     loss_r = lse - (1-e) z_t - e/K sum_k z_k,   dz_k = weight (exp(z_k - lse) - (1-e) [k = t] - e/K)
 *
 * The largest logit is taken out before exp, and the loss is put together in double around it, so that a row
 * that is certain of its target has a loss of 0 and not of the rounding of lse. */

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    cross_entropy_row(double *list, float *losses, T *dlogits, const T *logits, const int32_t *targets, double smoothing,
                      double weight, int classes)
{
    SHARED(float, room, ROOM);
    const int64_t r = blockIdx.x, at = r * classes;
    const int target = targets[r], first = (int)threadIdx.x * V, step = (int)blockDim.x * V;
    float v[V];
    if (target < 0) {
        for (int k = 0; k < V; k++) v[k] = 0;
        for (int i = first; dlogits && i < classes; i += step) store(dlogits + at + i, v);
        if (threadIdx.x == 0) {
            list[r] = 0;
            if (losses) losses[r] = 0;
        }
        return;
    }
    float most = -INFINITY, all = 0, sum = 0;
    for (int i = first; i < classes; i += step) {
        load(v, logits + at + i);
        UNROLL for (int k = 0; k < V; k++)
        {
            most = fmaxf(most, v[k]);
            all += v[k];
        }
    }
    most = block_max(most, room);
    for (int i = first; i < classes; i += step) {
        load(v, logits + at + i);
        UNROLL for (int k = 0; k < V; k++) sum += expf(v[k] - most);
    }
    const float chosen = get(logits[at + target]);
    sum = block_sum(sum, room); /* behind its barriers nobody reads `chosen` any more: logits may be overwritten */
    all = block_sum(all, room);
    const double even = smoothing / classes, own = 1 - smoothing;
    if (threadIdx.x == 0) {
        double loss = own * ((double)most - (double)chosen) + log((double)sum);
        if (even > 0) loss += smoothing * (double)most - even * (double)all;
        list[r] = loss;
        if (losses) losses[r] = (float)loss;
    }
    if (!dlogits) return;
    const float scale = (float)(weight / (double)sum), less = (float)(weight * even), own_weight = (float)(weight * own);
    for (int i = first; i < classes; i += step) {
        load(v, logits + at + i);
        UNROLL for (int k = 0; k < V; k++)
            v[k] = expf(v[k] - most) * scale - less - (i + k == target ? own_weight : 0.0f);
        store(dlogits + at + i, v);
    }
}

void su_cuda_cross_entropy(su_device *d, void *loss, void *losses, void *dlogits, const void *logits,
                           const int32_t *targets, double smoothing, double weight, int64_t rows, int32_t classes)
{
    su_cuda *c = su_cuda_of(d);
    if (rows <= 0) return;
    double *list = (double *)su_cuda_scratch(c, (size_t)rows * sizeof(double));
    if (!list) return;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel) {
            launch(c, "cross_entropy", rows, THREADS, 0, kernel)(list, (float *)losses, (T *)dlogits, (const T *)logits,
                                                                 targets, smoothing, weight, classes);
        };
        const bool pairs = classes % 2 == 0 && (((uintptr_t)logits | (uintptr_t)dlogits) & 7) == 0;
        if (su_cuda_packs(classes, sizeof(T), logits, dlogits, NULL))
            go(cross_entropy_row<T, PACK<T>>);
        else if (pairs)
            go(cross_entropy_row<T, 2>);
        else
            go(cross_entropy_row<T, 1>);
    });
    su_cuda_add_loss(c, loss, weight, list, rows);
}

/* --- L_ATP: weight/N sum_i |x_i - y_i|^2;  dx_i += 2 weight/N (x_i - y_i), dy_i -= the same. A warp has a row --- */

__global__ void atp_rows(double *list, float *dx, float *dy, const float *x, const float *y, float scale, int64_t rows,
                         int width)
{
    const int64_t r = (int64_t)blockIdx.x * ROW_WARPS + warp_id();
    if (r >= rows) return;
    float squares = 0;
    for (int i = lane_id(); i < width; i += WARP) {
        const int64_t at = r * width + i;
        const float e = x[at] - y[at];
        squares += e * e;
        if (dx) dx[at] += scale * e;
        if (dy) dy[at] -= scale * e;
    }
    squares = warp_sum(squares);
    if (lane_id() == 0) list[r] = (double)squares;
}

void su_cuda_atp(su_device *d, void *loss, void *dx, void *dy, const void *x, const void *y, double weight,
                 int64_t n, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    if (n <= 0) return;
    double *list = (double *)su_cuda_scratch(c, (size_t)n * sizeof(double));
    if (!list) return;
    launch(c, "atp", su_cuda_parts(n, ROW_WARPS), ROW_WARPS * WARP, 0, atp_rows)(
        list, (float *)dx, (float *)dy, (const float *)x, (const float *)y, (float)(2 * weight / (double)n), n, width);
    su_cuda_add_loss(c, loss, weight / (double)n, list, n);
}
