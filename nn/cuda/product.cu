/* Matrix products: the choice between the library and our own kernel, and that kernel.
 *
 * Ours takes every shape, alignment and type, and is what the emulator and a GPU without cuBLASLt use: a block
 * forms a 64 x 64 tile of C from 16-deep slices of A and B in shared memory, a thread 4 x 4 of it. It is not
 * fast: it has no tensor cores. */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/hopper_product.h"
#include "nn/cuda/library.h"
#include <stdlib.h>
#include <string.h>

enum { TILE = 64, DEPTH = 16, EACH = 4, SIDE = TILE / EACH, STRIDE = TILE + 4 };

struct product_shape {
    int64_t m, n, k, lda, ldb, ldc;
    int across; /* tiles of a row of C */
    bool ta, tb;
    float alpha;
};

template <class In, class Out>
__global__ void __launch_bounds__(SIDE *SIDE) product_tile(Out *c, const In *a, const In *b, const In *bias, const Out *addend, product_shape p)
{
    SHARED(float, as, DEPTH *STRIDE); /* [depth][row of A] */
    SHARED(float, bs, DEPTH *STRIDE); /* [depth][column of B] */
    const int64_t row = (int64_t)(blockIdx.x / p.across) * TILE, column = (int64_t)(blockIdx.x % p.across) * TILE;
    const int t = (int)threadIdx.x, ti = t / SIDE * EACH, tj = t % SIDE * EACH;
    float sum[EACH][EACH] = {};
    for (int64_t l0 = 0; l0 < p.k; l0 += DEPTH) {
        for (int e = t; e < TILE * DEPTH; e += SIDE * SIDE) {
            /* Neighbouring threads read neighbouring elements of what is stored. */
            const int ai = p.ta ? e % TILE : e / DEPTH, al = p.ta ? e / TILE : e % DEPTH;
            const int bj = p.tb ? e / DEPTH : e % TILE, bl = p.tb ? e % DEPTH : e / TILE;
            const int64_t i = row + ai, j = column + bj, la = l0 + al, lb = l0 + bl;
            as[al * STRIDE + ai] = i < p.m && la < p.k ? get(a[p.ta ? la * p.lda + i : i * p.lda + la]) : 0.0f;
            bs[bl * STRIDE + bj] = j < p.n && lb < p.k ? get(b[p.tb ? j * p.ldb + lb : lb * p.ldb + j]) : 0.0f;
        }
        __syncthreads();
        for (int l = 0; l < DEPTH; l++) {
            float x[EACH], y[EACH];
            load(x, as + l * STRIDE + ti);
            load(y, bs + l * STRIDE + tj);
            UNROLL for (int i = 0; i < EACH; i++)
            {
                UNROLL for (int j = 0; j < EACH; j++) sum[i][j] += x[i] * y[j];
            }
        }
        __syncthreads();
    }
    UNROLL for (int i = 0; i < EACH; i++)
    {
        UNROLL for (int j = 0; j < EACH; j++)
        {
            const int64_t ci = row + ti + i, cj = column + tj + j;
            if (ci >= p.m || cj >= p.n) continue;
            const int64_t at = ci * p.ldc + cj;
            put(c[at], sum[i][j] * p.alpha + (bias ? get(bias[cj]) : 0.0f) + (addend ? get(addend[at]) : 0.0f));
        }
    }
}

template <class In, class Out> static void tiles(su_cuda *c, const su_cuda_product *p)
{
    const int64_t down = su_cuda_parts(p->m, TILE), across = su_cuda_parts(p->n, TILE);
    const product_shape shape = {p->m, p->n, p->k, p->lda, p->ldb, p->ldc, (int)across, p->ta, p->tb, p->alpha};
    launch(c, "matrix product", down * across, SIDE * SIDE, 0, product_tile<In, Out>)(
        (Out *)p->c, (const In *)p->a, (const In *)p->b, (const In *)p->bias, (const Out *)p->addend, shape);
}

void su_cuda_multiply_own(su_cuda *c, const su_cuda_product *p)
{
    if (p->in == SU_DTYPE_F32)
        tiles<float, float>(c, p);
    else if (p->out == SU_DTYPE_F32)
        tiles<bf16, float>(c, p);
    else
        tiles<bf16, bf16>(c, p);
}

void su_cuda_multiply(su_cuda *c, const su_cuda_product *p)
{
    if (p->m <= 0 || p->n <= 0) return;
    if (c->library && p->k > 0 && c->library->multiply(c, p)) return;
    su_cuda_multiply_own(c, p);
}

bool su_cuda_hopper(const su_cuda *c)
{
#if defined(SUTURE_SM90A) || !defined(__CUDACC__)
    const char *wish = getenv("SUTURE_PRODUCT");
    return c->properties.major == 9 && c->properties.minor == 0 && !(wish && strcmp(wish, "library") == 0);
#else
    (void)c;
    return false;
#endif
}

bool su_cuda_hopper_asked(const su_cuda *c)
{
    const char *wish = getenv("SUTURE_PRODUCT");
    return wish && strcmp(wish, "own") == 0 && su_cuda_hopper(c);
}

/* --- the bits of a product: sum over its 4-byte words of (word + 1) times an odd number of its place, modulo 2^64 --- */

enum { BITS_THREADS = 256 };

__global__ void __launch_bounds__(BITS_THREADS) bits_of_part(uint64_t *parts, const uint32_t *words, int64_t n, int64_t part)
{
    SHARED(uint64_t, room, ROOM);
    const int64_t from = (int64_t)blockIdx.x * part, to = from + part < n ? from + part : n;
    uint64_t sum = 0;
    for (int64_t i = from + threadIdx.x; i < to; i += BITS_THREADS)
        sum += (words[i] + 1ull) * ((uint64_t)i * 0x9E3779B97F4A7C15ull | 1ull);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

bool su_cuda_bits(su_cuda *c, uint64_t *bits, const su_cuda_product *p, void *parts)
{
    const int64_t n = p->m * p->n * (int64_t)su_dtype_size(p->out) / 4, part = su_cuda_parts(n, SU_CUDA_BITS);
    if (p->ldc != p->n || p->m * p->n % 2) return false;
    uint64_t host[SU_CUDA_BITS] = {};
    launch(c, "matrix product", su_cuda_parts(n, part), BITS_THREADS, 0, bits_of_part)((uint64_t *)parts, (const uint32_t *)p->c, n, part);
    c->device.ops->download(&c->device, host, parts, (size_t)su_cuda_parts(n, part) * sizeof *host);
    *bits = 0;
    for (uint64_t h : host) *bits += h;
    return !c->failed;
}
