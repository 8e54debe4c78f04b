/* Tiles of dot products: the one kernel under retrieval, clustering and the bootstrap of the gap.
 *
 * Rows come as float32 with one factor each (1/norm, or 1 when the row is a unit vector already) and are
 * multiplied out in double, so a score of two unit vectors is right to about 1e-15. Every sum runs over k in
 * ascending order: a score depends on its two vectors only, never on the tile or the thread that computed it.
 * Sums may still differ in the last bits between processors (fused multiply-add or not), which is why ranks
 * treat scores closer than SU_SCORE_TIE as equal. */
#ifndef SU_EVAL_TILES_H
#define SU_EVAL_TILES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SU_TILE_ROWS = 192,   /* rows of a tile: a multiple of SU_TILE_STEP_ROWS */
    SU_TILE_COLUMNS = 64, /* columns of a tile: a multiple of SU_TILE_LANES */
    SU_TILE_STEP_ROWS = 6,
    SU_TILE_LANES = 8,
};

/* Well above the rounding of a double sum over unit vectors, well below float32's resolution. */
#define SU_SCORE_TIE 1e-12

typedef struct {
    const float *const *row; /* [n] addresses of the rows */
    const double *scale;     /* [n] factor of each */
} su_rows;

/* Elements between two rows in a row tile of this depth: padded so that rows do not share cache sets. */
int64_t su_tile_stride(int64_t depth);

/* Rows first .. first+count-1 as doubles: tile[r * stride + k], count <= SU_TILE_ROWS. Rows up to the next
 * multiple of SU_TILE_STEP_ROWS become zero. The tile holds SU_TILE_ROWS * stride doubles. */
void su_tile_rows(double *tile, const su_rows *x, int64_t first, int64_t count, int32_t width);

/* The same rows as columns: tile[(j / LANES) * depth * LANES + k * LANES + j % LANES], count <=
 * SU_TILE_COLUMNS, zero up to the next multiple of SU_TILE_LANES. The tile holds SU_TILE_COLUMNS * width
 * doubles. */
void su_tile_columns(double *tile, const su_rows *y, int64_t first, int64_t count, int32_t width);

/* out[r * SU_TILE_COLUMNS + j] (+)= sum_k rows[r * stride + k] * columns[j][k]
 * rows and columns count what is wanted; whole steps and lanes are computed and written. */
void su_tile_dots(double *out, bool add, const double *rows, int64_t row_count, int64_t stride,
                  const double *columns, int64_t column_count, int64_t depth);

double su_row_dot(const float *x, const float *y, int32_t width); /* accumulated in double */

#endif
