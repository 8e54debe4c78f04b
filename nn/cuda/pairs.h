/* What losses over all pairs of a batch share: the N x N matrix of inner products, walked in tiles that are
 * formed by one matrix product and never stored together.
 *
 *            columns
 *         +---------+---------+--
 *   rows  | tile    |         |      TILE_ROWS x TILE_COLUMNS, float
 *         +---------+---------+--
 *
 * A tile's side is the length of the sums that are formed from it, and its other side the rows that they go to: both
 * are as long as it takes to give every multiprocessor work when these have 512 columns. 256 MB are beyond the L2
 * cache, but a tile that it holds gives 32 of 132 multiprocessors work in those products, which are half of all.
 *
 * Where the device computes in bf16, embeddings enter the products rounded to bf16 and sums are formed in
 * float: an inner product of unit rows of width 512 is then off by about 1e-4. */
#ifndef SU_NN_CUDA_PAIRS_H
#define SU_NN_CUDA_PAIRS_H

#include "nn/cuda/internal.h"
#include "nn/cuda/kernel.h"
#include "nn/cuda/product.h"

#ifdef __CUDACC__
enum { TILE_ROWS = 8192, TILE_COLUMNS = 8192 };
#else
enum { TILE_ROWS = 64, TILE_COLUMNS = 128 }; /* emulated: so that tests walk over many */
#endif

/* e^x for x <= 0: where products are of bf16, which put 1e-3 on x, by two instructions, at most 2 + 1.16 |x| units of the
 * last place off [CUDA Math API]. */
template <class T> DEVICE float exp_of(float x)
{
    if constexpr (sizeof(T) == sizeof(float))
        return expf(x);
    else
        return __expf(x);
}

typedef struct {
    int64_t n, row, column; /* the first of the tile */
    int64_t rows, columns;  /* of this tile */
    int64_t stride;         /* of a stored tile */
} pair_tile;

/* Rows of embeddings as a product reads them. */
typedef struct {
    const void *at;
    int64_t stride; /* elements; on a bf16 device width rounded up to 8, with zeros */
} pair_rows;

static inline int64_t pair_stride(int64_t width)
{
    return (width + 7) / 8 * 8;
}

static inline int64_t pair_tile_rows(int64_t n)
{
    return su_cuda_least(n, TILE_ROWS);
}

static inline int64_t pair_tile_stride(int64_t n)
{
    return su_cuda_least(pair_stride(n), TILE_COLUMNS);
}

/* The first tile; then each next one, row of tiles after row of tiles. False behind the last. */
static inline pair_tile pair_first(int64_t n)
{
    pair_tile t = {n, 0, 0, pair_tile_rows(n), su_cuda_least(n, TILE_COLUMNS), pair_tile_stride(n)};
    return t;
}
static inline bool pair_next(pair_tile *t)
{
    t->column += TILE_COLUMNS;
    if (t->column >= t->n) {
        t->column = 0;
        t->row += TILE_ROWS;
    }
    if (t->row >= t->n) return false;
    t->rows = su_cuda_least(t->n - t->row, TILE_ROWS);
    t->columns = su_cuda_least(t->n - t->column, TILE_COLUMNS);
    return true;
}

/* tile = X_rows Y_columns^T, of width w */
static inline void pair_product(su_cuda *c, float *tile, const pair_tile *t, pair_rows x, pair_rows y, int64_t w)
{
    const size_t size = su_dtype_size(c->device.act);
    su_cuda_product p = {};
    p.a = (const char *)x.at + (size_t)(t->row * x.stride) * size;
    p.b = (const char *)y.at + (size_t)(t->column * y.stride) * size;
    p.c = tile;
    p.tb = true;
    p.m = t->rows, p.n = t->columns, p.k = w;
    p.lda = x.stride, p.ldb = y.stride, p.ldc = t->stride;
    p.in = c->device.act, p.out = SU_DTYPE_F32;
    p.alpha = 1;
    su_cuda_multiply(c, &p);
}

/* sums[rows] += alpha E Y_columns, or (turned) sums[columns] += alpha E^T X_rows; E a tile of type act. */
static inline void pair_collect(su_cuda *c, float *sums, const void *e, const pair_tile *t, bool turned, pair_rows other,
                                int64_t w, float alpha)
{
    const size_t size = su_dtype_size(c->device.act);
    const int64_t first = turned ? t->row : t->column, own = turned ? t->column : t->row;
    su_cuda_product p = {};
    p.a = e;
    p.b = (const char *)other.at + (size_t)(first * other.stride) * size;
    p.c = sums + own * w;
    p.ta = turned;
    p.m = turned ? t->columns : t->rows, p.n = w, p.k = turned ? t->rows : t->columns;
    p.lda = t->stride, p.ldb = other.stride, p.ldc = w;
    p.in = c->device.act, p.out = SU_DTYPE_F32;
    p.add = true;
    p.alpha = alpha;
    su_cuda_multiply(c, &p);
}

#endif
