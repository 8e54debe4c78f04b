/* Linear layers: matrix products in tiles, one call of gemm each, finished while the tile is in
 * cache.
 *
 * How a product is cut depends on its shape alone. A tile starts at 256 rows by all columns (at most 512)
 * and is halved, rows first, until there are 16 tiles or a tile is small. A weight gradient's sum over rows
 * is cut as well when its tiles are fewer: the cuts' sums are added in order. */
#include "nn/cpu/internal.h"
#include "base/memory.h"
#include <string.h>

enum {
    TILE_ROWS = 256,
    TILE_COLUMNS = 512,
    TILE_ROWS_LEAST = 64,
    TILE_COLUMNS_LEAST = 128,
    TILES_WANTED = 16,
    SUM_ROWS_LEAST = 512, /* of a cut through a weight gradient's sum */
    SUM_TILES_WANTED = 24,
    SUM_BLOCK = 64, /* rows whose column sums are formed first, for accuracy */
    ADD_BLOCK = 16384
};

typedef struct {
    int64_t rows, columns; /* of a whole tile */
    int64_t down, across;  /* tiles */
} tiling;

static tiling cut(int64_t rows, int64_t columns)
{
    tiling t = {TILE_ROWS, su_cpu_min(columns, TILE_COLUMNS), 0, 0};
    for (;;) {
        t.down = su_cpu_tasks(rows, t.rows);
        t.across = su_cpu_tasks(columns, t.columns);
        if (t.down * t.across >= TILES_WANTED) return t;
        if (t.rows > TILE_ROWS_LEAST)
            t.rows /= 2;
        else if (t.columns > TILE_COLUMNS_LEAST)
            t.columns = (t.columns / 2 + 15) / 16 * 16;
        else
            return t;
    }
}

#include "nn/cpu/f32.h"
#include "nn/cpu/linear.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/linear.inc"
