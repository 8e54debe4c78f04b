/* Linear layers.
 *
 * y and dx are products over one weight matrix: it is packed once (product.c), then tiles of the result are
 * formed, each finished (bias, activation) 4 groups of columns at a time, while these are in cache. For few
 * rows it is not packed but read as it is stored, which then crosses the memory bus once (decoding).
 *
 * How a product is cut depends on its shape alone. A tile is 96 rows by all columns; columns are dealt out
 * and rows halved until there are 16 tiles. A weight gradient's sum over rows is cut as well when its tiles
 * are fewer: the cuts' sums are added in order. */
#include "nn/cpu/blas.h"
#include "nn/cpu/internal.h"
#include <string.h>

enum {
    TILE_ROWS = 96,
    TILE_ROWS_LEAST = 24,
    TILES_WANTED = 16,
    FINISH_GROUPS = 4, /* of columns */
    FEW_ROWS = 96,
    FEW_COLUMNS = 96,  /* of a task for few rows */
    WEIGHT_ROWS = 256, /* of a weight gradient's tile */
    WEIGHT_COLUMNS = 512,
    SUM_ROWS_LEAST = 512, /* of a cut through a weight gradient's sum */
    SUM_TILES_WANTED = 24,
    SUM_BLOCK = 64, /* rows whose column sums are formed first, for accuracy */
    ADD_BLOCK = 16384
};

typedef struct {
    int64_t rows, columns; /* of a whole tile */
    int64_t down, across;  /* tiles */
} tiling;

/* columns: in groups */
static tiling cut(int64_t rows, int64_t columns)
{
    tiling t = {TILE_ROWS, columns, su_cpu_tasks(rows, TILE_ROWS), 1};
    if (t.down > 0 && t.down < TILES_WANTED) {
        t.columns = su_cpu_tasks(columns, su_cpu_tasks(TILES_WANTED, t.down));
        t.across = su_cpu_tasks(columns, t.columns);
        while (t.down * t.across < TILES_WANTED && t.rows > TILE_ROWS_LEAST) {
            t.rows /= 2;
            t.down = su_cpu_tasks(rows, t.rows);
        }
    }
    return t;
}

#include "nn/cpu/f32.h"
#include "nn/cpu/linear.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/linear.inc"
