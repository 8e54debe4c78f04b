/* What losses over all pairs of a batch share: the N x N matrix of inner products, walked in tiles that are
 * formed by one matrix product and never stored together.
 *
 *            columns
 *         +---------+---------+--
 *   rows  | tile    |         |      TILE x TILE, float
 *         +---------+---------+--
 *
 * A tile's side is the length of the sums that are formed from it, and the rows that they go to: as long as it takes
 * to give every multiprocessor work when these have 512 columns. 256 MB are beyond the L2
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
enum { TILE = 8192 };
#else
enum { TILE = 320 }; /* emulated: so that tests walk over many, and products of our own have whole tiles */
#endif

/* Kernels that form numbers of a tile's rows and columns at once give each block a piece of it, which it reads once:
 * every lane has PACKED_COLUMNS neighbours of a row. */
enum {
    PIECE_ROWS = 64,
    PACKED_COLUMNS = 4,
    PIECE_COLUMNS = WARP * PACKED_COLUMNS,
    PIECE_WARPS = 8,
    PIECE_THREADS = WARP * PIECE_WARPS,
    PIECE_EACH = PIECE_ROWS / PIECE_WARPS, /* rows of a warp */
    PIECE_HALVES = PIECE_THREADS / PIECE_COLUMNS, /* threads that share a column */
    JOIN_WARPS = 8,                               /* of a block that joins pieces; its lanes have a row or column each */
};

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
    return su_cuda_least(n, TILE);
}

static inline int64_t pair_tile_stride(int64_t n)
{
    return su_cuda_least(pair_stride(n), TILE);
}

/* The first tile; then each next one, row of tiles after row of tiles. False behind the last. */
static inline pair_tile pair_first(int64_t n)
{
    pair_tile t = {n, 0, 0, pair_tile_rows(n), su_cuda_least(n, TILE), pair_tile_stride(n)};
    return t;
}
static inline bool pair_next(pair_tile *t)
{
    t->column += TILE;
    if (t->column >= t->n) {
        t->column = 0;
        t->row += TILE;
    }
    if (t->row >= t->n) return false;
    t->rows = su_cuda_least(t->n - t->row, TILE);
    t->columns = su_cuda_least(t->n - t->column, TILE);
    return true;
}

/* The same where the matrix is symmetric: tiles below the diagonal are left out. */
static inline bool pair_next_upper(pair_tile *t)
{
    while (pair_next(t))
        if (t->column >= t->row) return true;
    return false;
}

/* Two numbers of every row and of every column of each piece:
 *     rows [2][across][t.rows]      columns [2][down][t.columns]      across, down: pieces of a row, of a column
 * Pieces have PIECE_ROWS and PIECE_COLUMNS, or those of a product's warp: pairs_hopper.h. */
typedef struct {
    float *rows, *columns;
    int across, down;
} pair_parts;

/* Elements that parts need for tiles of n samples. */
static inline int64_t pair_row_parts(int64_t n)
{
    return 2 * su_cuda_parts(pair_tile_stride(n), PIECE_COLUMNS) * pair_tile_rows(n);
}
static inline int64_t pair_column_parts(int64_t n)
{
    return 2 * su_cuda_parts(pair_tile_rows(n), WARP_ROWS) * pair_tile_stride(n);
}
static inline pair_parts pair_parts_of(pair_parts p, const pair_tile *t, int rows, int columns)
{
    p.across = (int)su_cuda_parts(t->columns, columns);
    p.down = (int)su_cuda_parts(t->rows, rows);
    return p;
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
    p.addend = p.c;
    p.alpha = alpha;
    su_cuda_multiply(c, &p);
}

#endif
