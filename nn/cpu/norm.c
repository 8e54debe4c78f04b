/* LayerNorm with the residual sum in front, forward and backward, a row at a time.
 *
 * Statistics take two passes over a row that is in cache: the mean first, then the squares of what is left.
 * dgamma and dbeta are summed over blocks of rows, 32 rows or a 256th of all, and the blocks' sums are added
 * in order. */
#include "nn/cpu/internal.h"
#include <string.h>

enum { NORM_ROWS = 32, NORM_BLOCKS = 256 };

static int64_t block_rows(int64_t rows)
{
    int64_t n = su_cpu_tasks(rows, NORM_BLOCKS);
    return n > NORM_ROWS ? n : NORM_ROWS;
}

#include "nn/cpu/f32.h"
#include "nn/cpu/norm.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/norm.inc"
