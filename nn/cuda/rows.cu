/* Element-wise and row-wise operations; nn/device.h has the formulas. Every output element is written by one
 * thread, or its sum formed by one block, so there is nothing to order. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/random.h"

enum { THREADS = 256, ROW_THREADS = 256 };

/* --- conversion between floating types --- */

DEVICE double f16_value(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double value = exponent == 31  ? (fraction ? (double)NAN : (double)INFINITY)
                         : exponent == 0 ? fraction * 0x1p-24
                                         : ldexp((double)(1024 + fraction), exponent - 25);
    return bits >> 15 ? -value : value;
}

DEVICE uint16_t f16_bits(double x)
{
    const uint16_t sign = x < 0 || (x == 0 && 1 / x < 0) ? 0x8000 : 0;
    const double a = fabs(x);
    if (x != x) return sign | 0x7e00;
    if (a >= 65520) return sign | 0x7c00; /* past the middle between 65504 and 2^16 */
    if (a < 0x1p-14) return sign | (uint16_t)rint(a * 0x1p24);
    int exponent;
    const double fraction = frexp(a, &exponent); /* [0.5, 1): 11 bits; a carry moves into the exponent */
    return (uint16_t)(sign | (((exponent + 13) << 10) + (int)rint(fraction * 2048)));
}

enum kind { KIND_F64, KIND_F32, KIND_BF16, KIND_F16 };

__global__ void convert_any(void *to, int to_kind, const void *from, int from_kind, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const double x = from_kind == KIND_F64    ? static_cast<const double *>(from)[i]
                     : from_kind == KIND_F32  ? (double)static_cast<const float *>(from)[i]
                     : from_kind == KIND_BF16 ? (double)get(static_cast<const bf16 *>(from)[i])
                                              : f16_value(static_cast<const uint16_t *>(from)[i]);
    if (to_kind == KIND_F64)
        static_cast<double *>(to)[i] = x;
    else if (to_kind == KIND_F32)
        static_cast<float *>(to)[i] = (float)x;
    else if (to_kind == KIND_BF16)
        put(static_cast<bf16 *>(to)[i], (float)x);
    else
        static_cast<uint16_t *>(to)[i] = f16_bits(x);
}

template <class To, class From, int V> __global__ void convert_packs(To *to, const From *from, int64_t packs)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    float x[V];
    load(x, from + i * V);
    store(to + i * V, x);
}

static int kind_of(su_dtype type)
{
    return type == SU_DTYPE_F64    ? KIND_F64
           : type == SU_DTYPE_F32  ? KIND_F32
           : type == SU_DTYPE_BF16 ? KIND_BF16
           : type == SU_DTYPE_F16  ? KIND_F16
                                   : -1;
}

void su_cuda_convert(su_device *d, void *to, su_dtype to_type, const void *from, su_dtype from_type, int64_t n)
{
    su_cuda *c = su_cuda_of(d);
    if (n <= 0) return;
    if (to_type == from_type) {
        d->ops->copy(d, to, from, (size_t)n * su_dtype_size(to_type));
        return;
    }
    if (kind_of(to_type) < 0 || kind_of(from_type) < 0) {
        su_cuda_fail(c, SU_EUNSUPPORTED, "only F64, F32, F16 and BF16 are converted");
        return;
    }
    const int64_t packs = su_cuda_packs(0, 2, to, from, NULL) ? n / 8 : 0;
    int64_t done = 8 * packs;
    if (to_type == SU_DTYPE_BF16 && from_type == SU_DTYPE_F32)
        launch(c, "convert", su_cuda_parts(packs, THREADS), THREADS, 0, convert_packs<bf16, float, 8>)(
            (bf16 *)to, (const float *)from, packs);
    else if (to_type == SU_DTYPE_F32 && from_type == SU_DTYPE_BF16)
        launch(c, "convert", su_cuda_parts(packs, THREADS), THREADS, 0, convert_packs<float, bf16, 8>)(
            (float *)to, (const bf16 *)from, packs);
    else
        done = 0;
    launch(c, "convert", su_cuda_parts(n - done, THREADS), THREADS, 0, convert_any)(
        (char *)to + (size_t)done * su_dtype_size(to_type), kind_of(to_type),
        (const char *)from + (size_t)done * su_dtype_size(from_type), kind_of(from_type), n - done);
}

/* --- y = a + b --- */

template <class T, int V> __global__ void add_packs(T *y, const T *a, const T *b, int64_t packs)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    float x[V], z[V];
    load(x, a + i * V);
    load(z, b + i * V);
    UNROLL for (int k = 0; k < V; k++) x[k] += z[k];
    store(y + i * V, x);
}

/* Launches kernel<T, PACK> where n elements at these addresses can be read in packs, else kernel<T, 1>. */
#define BY_PACKS(T, n, a, b, c, kernel, go)                                                                  \
    do {                                                                                                     \
        if (su_cuda_packs(n, sizeof(T), a, b, c)) {                                                          \
            constexpr int V = PACK<T>;                                                                       \
            go(kernel<T, V>, V);                                                                             \
        } else {                                                                                             \
            constexpr int V = 1;                                                                             \
            go(kernel<T, V>, V);                                                                             \
        }                                                                                                    \
    } while (0)

void su_cuda_add(su_device *d, void *y, const void *a, const void *b, int64_t n)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            launch(c, "add", su_cuda_parts(n / v, THREADS), THREADS, 0, kernel)((T *)y, (const T *)a, (const T *)b, n / v);
        };
        BY_PACKS(T, n, y, a, b, add_packs, go);
    });
}

/* --- dropout --- */

/* V is a multiple of 4: a thread's elements are whole blocks of random words. */
template <class T, int V> __global__ void dropout_packs(T *y, const T *x, dropping drop, int64_t packs)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    float v[V];
    load(v, x + i * V);
    if constexpr (V == 1) {
        const float factor = drop_factor(drop, (uint64_t)i);
        v[0] = factor == 0.0f ? 0.0f : v[0] * factor;
    } else {
        UNROLL for (int k = 0; k < V; k += 4)
        {
            const philox_words words = philox(drop.key, (uint64_t)(i * V + k) / 4);
            UNROLL for (int j = 0; j < 4; j++) v[k + j] = words.w[j] < drop.below ? 0.0f : v[k + j] * drop.scale;
        }
    }
    store(y + i * V, v);
}

void su_cuda_dropout(su_device *d, void *y, const void *x, double p, su_rng_key key, int64_t n)
{
    su_cuda *c = su_cuda_of(d);
    if (p <= 0) {
        d->ops->copy(d, y, x, (size_t)n * su_dtype_size(d->act));
        return;
    }
    const dropping drop = dropping_of(p, key);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            launch(c, "dropout", su_cuda_parts(n / v, THREADS), THREADS, 0, kernel)((T *)y, (const T *)x, drop, n / v);
        };
        BY_PACKS(T, n, y, x, NULL, dropout_packs, go);
    });
}

/* A block has a part of one sample. Sample b is dropped when uniform(key, b) < p, as base/rng.c draws it. */
template <class T, int V>
__global__ void drop_path_packs(T *y, const T *x, double p, float scale, philox_key key, int64_t sample, int parts)
{
    const int64_t b = blockIdx.x / parts, at = (int64_t)(blockIdx.x % parts) * blockDim.x + threadIdx.x;
    if (at * V >= sample) return;
    const philox_words words = philox(key, (uint64_t)b);
    const double u = (double)((((uint64_t)words.w[0] << 32) | words.w[1]) >> 11) * 0x1p-53;
    const float factor = u < p ? 0.0f : scale;
    float v[V];
    load(v, x + b * sample + at * V);
    UNROLL for (int k = 0; k < V; k++) v[k] = factor == 0.0f ? 0.0f : v[k] * factor;
    store(y + b * sample + at * V, v);
}

void su_cuda_drop_path(su_device *d, void *y, const void *x, double p, su_rng_key key, int64_t samples,
                       int64_t sample)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            const int64_t parts = su_cuda_parts(su_cuda_parts(sample, v), THREADS);
            launch(c, "drop_path", samples * parts, THREADS, 0, kernel)((T *)y, (const T *)x, p, (float)(1 / (1 - p)),
                                                                        philox_key_of(key), sample, (int)parts);
        };
        BY_PACKS(T, sample, y, x, NULL, drop_path_packs, go);
    });
}

/* --- gather: a block has some rows, of each `lanes` threads --- */

template <class T, int V>
__global__ void gather_rows(T *y, const T *x, const int32_t *index, int64_t rows, int width, int lanes, bool add)
{
    const int each = (int)blockDim.x / lanes, own = (int)threadIdx.x / lanes;
    const int64_t r = (int64_t)blockIdx.x * each + own;
    if (own >= each || r >= rows) return;
    const T *from = x + (int64_t)index[r] * width;
    T *to = y + r * width;
    for (int i = (int)threadIdx.x % lanes * V; i < width; i += lanes * V) {
        float v[V], old[V];
        load(v, from + i);
        if (add) {
            load(old, to + i);
            UNROLL for (int k = 0; k < V; k++) v[k] += old[k];
        }
        store(to + i, v);
    }
}

void su_cuda_gather(su_device *d, void *y, bool add, const void *x, const int32_t *index, int64_t rows,
                    int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            const int lanes = width / v < ROW_THREADS ? width / v : (int)ROW_THREADS, threads = row_threads(ROW_THREADS / lanes * lanes, ROW_THREADS);
            launch(c, "gather", su_cuda_parts(rows, threads / lanes), threads, 0, kernel)((T *)y, (const T *)x, index, rows, width, lanes, add);
        };
        BY_PACKS(T, width, y, x, NULL, gather_rows, go);
    });
}

/* --- scatter: a block has a row --- */

template <class T, int V> __global__ void scatter_rows(T *table, const T *y, const int32_t *index, int width)
{
    const int64_t r = blockIdx.x;
    T *to = table + (int64_t)index[r] * width;
    for (int i = (int)threadIdx.x * V; i < width; i += (int)blockDim.x * V) {
        float v[V];
        load(v, y + r * width + i);
        store(to + i, v);
    }
}

void su_cuda_scatter(su_device *d, void *table, const void *y, const int32_t *index, int64_t rows, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            launch(c, "scatter", rows, row_threads(width / v, ROW_THREADS), 0, kernel)((T *)table, (const T *)y, index, width);
        };
        BY_PACKS(T, width, table, y, NULL, scatter_rows, go);
    });
}

/* --- mean_pool: a thread has V columns of one sample --- */

template <class T, int V>
__global__ void mean_pool_columns(T *y, const T *x, const int32_t *lengths, int tokens, int first, int width, int parts)
{
    const int64_t b = blockIdx.x / parts;
    const int at = (int)((blockIdx.x % parts) * blockDim.x + threadIdx.x) * V;
    if (at >= width) return;
    const int length = lengths ? lengths[b] : tokens - first;
    const T *from = x + (b * tokens + first) * width + at;
    float sum[V] = {}, v[V];
    for (int t = 0; t < length; t++) {
        load(v, from + (int64_t)t * width);
        UNROLL for (int k = 0; k < V; k++) sum[k] += v[k];
    }
    const float scale = 1.0f / (float)length;
    UNROLL for (int k = 0; k < V; k++) sum[k] *= scale;
    store(y + b * width + at, sum);
}

void su_cuda_mean_pool(su_device *d, void *y, const void *x, const int32_t *lengths, int32_t batch,
                       int32_t tokens, int32_t first, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            const int threads = row_threads(width / v, ROW_THREADS), parts = (int)su_cuda_parts(width / v, threads);
            launch(c, "mean_pool", (int64_t)batch * parts, threads, 0, kernel)((T *)y, (const T *)x, lengths, tokens, first,
                                                                               width, parts);
        };
        BY_PACKS(T, width, y, x, NULL, mean_pool_columns, go);
    });
}

/* A block has one token. */
template <class T, int V>
__global__ void mean_pool_spread(T *dx, const T *dy, const int32_t *lengths, int tokens, int first, int width)
{
    const int64_t b = blockIdx.x / tokens;
    const int t = (int)(blockIdx.x % tokens) - first, length = lengths ? lengths[b] : tokens - first;
    const float scale = 1.0f / (float)length;
    const bool pooled = t >= 0 && t < length;
    for (int i = (int)threadIdx.x * V; i < width; i += (int)blockDim.x * V) {
        float v[V];
        load(v, dy + b * width + i);
        UNROLL for (int k = 0; k < V; k++) v[k] = pooled ? v[k] * scale : 0.0f;
        store(dx + (int64_t)blockIdx.x * width + i, v);
    }
}

void su_cuda_mean_pool_backward(su_device *d, void *dx, const void *dy, const int32_t *lengths, int32_t batch,
                                int32_t tokens, int32_t first, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel, int v) {
            launch(c, "mean_pool_backward", (int64_t)batch * tokens, row_threads(width / v, ROW_THREADS), 0, kernel)(
                (T *)dx, (const T *)dy, lengths, tokens, first, width);
        };
        BY_PACKS(T, width, dx, dy, NULL, mean_pool_spread, go);
    });
}

/* --- patches: a block has some patches. A byte has 256 values: (byte/255 - mean)/std is a table of each
 * channel, formed in double as the CPU does, so that both devices start from the same numbers. */

enum { PATCHES = 16 };

/* A thread has V neighbouring pixels of one channel. */
template <class T, int V> __global__ void cut_patches(T *out, const uint8_t *images, su_patches p, int64_t rows)
{
    SHARED(float, table, 4 * 256);
    /* Unrolled, mean and std are indexed by constants, and p needs no copy on the stack. */
    UNROLL for (int channel = 0; channel < 4; channel++)
        for (int i = (int)threadIdx.x; channel < p.channels && i < 256; i += (int)blockDim.x)
            table[channel * 256 + i] = (float)((i / 255. - (double)p.mean[channel]) / (double)p.std[channel]);
    __syncthreads();
    const int side = p.patch, across = p.width / side, packs = side / V, each = packs * side * p.channels;
    for (int i = (int)threadIdx.x; i < PATCHES * each; i += (int)blockDim.x) {
        const int64_t r = (int64_t)blockIdx.x * PATCHES + i / each, b = r / p.kept;
        if (r >= rows) return;
        const int number = p.keep ? p.keep[r] : (int)(r % p.kept), pack = i % each;
        const int line = pack / packs, channel = line / side;
        const int row = number / across * side + line % side, column = number % across * side + pack % packs * V;
        const uint8_t *from = images + ((b * p.height + row) * p.width + column) * p.channels + channel;
        float v[V];
        UNROLL for (int e = 0; e < V; e++) v[e] = table[channel * 256 + from[e * p.channels]];
        store(out + (r * each + pack) * V, v);
    }
}

void su_cuda_patches(su_device *d, void *out, const uint8_t *images, const su_patches *p)
{
    su_cuda *c = su_cuda_of(d);
    const int64_t rows = (int64_t)p->batch * p->kept;
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        auto go = [&](auto kernel) {
            launch(c, "patches", su_cuda_parts(rows, PATCHES), THREADS, 0, kernel)((T *)out, images, *p, rows);
        };
        if (p->patch % PACK<T> == 0)
            go(cut_patches<T, PACK<T>>);
        else if (p->patch % 2 == 0)
            go(cut_patches<T, 2>);
        else
            go(cut_patches<T, 1>);
    });
}

/* --- normalise: a warp has a row --- */

enum { ROW_WARPS = 4 };

template <class T> __global__ void normalise_rows(float *z, float *norm, const T *x, int64_t rows, int width)
{
    const int64_t r = (int64_t)blockIdx.x * ROW_WARPS + warp_id();
    if (r >= rows) return;
    const T *from = x + r * width;
    float squares = 0;
    for (int i = lane_id(); i < width; i += WARP) squares += get(from[i]) * get(from[i]);
    const float length = sqrtf(warp_sum(squares)), scale = 1.0f / fmaxf(length, 1e-12f);
    for (int i = lane_id(); i < width; i += WARP) z[r * width + i] = get(from[i]) * scale;
    if (lane_id() == 0) norm[r] = length;
}

void su_cuda_normalise(su_device *d, void *z, void *norm, const void *x, int64_t rows, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        launch(c, "normalise", su_cuda_parts(rows, ROW_WARPS), ROW_WARPS * WARP, 0, normalise_rows<T>)(
            (float *)z, (float *)norm, (const T *)x, rows, width);
    });
}

/* dx = (dz - z <z, dz>) / |x|; a row shorter than 1e-12 has no direction: 0 */
template <class T>
__global__ void normalise_backward_rows(T *dx, const float *dz, const float *z, const float *norm, int64_t rows,
                                        int width)
{
    const int64_t r = (int64_t)blockIdx.x * ROW_WARPS + warp_id();
    if (r >= rows) return;
    const float *dzr = dz + r * width, *zr = z + r * width;
    float along = 0;
    for (int i = lane_id(); i < width; i += WARP) along += dzr[i] * zr[i];
    along = warp_sum(along);
    const float scale = norm[r] > 1e-12f ? 1.0f / norm[r] : 0.0f;
    for (int i = lane_id(); i < width; i += WARP) put(dx[r * width + i], (dzr[i] - zr[i] * along) * scale);
}

void su_cuda_normalise_backward(su_device *d, void *dx, const void *dz, const void *z, const void *norm,
                                int64_t rows, int32_t width)
{
    su_cuda *c = su_cuda_of(d);
    by_type(c, [&](auto zero) {
        using T = decltype(zero);
        launch(c, "normalise_backward", su_cuda_parts(rows, ROW_WARPS), ROW_WARPS * WARP, 0, normalise_backward_rows<T>)(
            (T *)dx, (const float *)dz, (const float *)z, (const float *)norm, rows, width);
    });
}
