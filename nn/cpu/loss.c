/* The losses: of rows (cross-entropy, L_ATP) in loss.inc, of all pairs in a batch (InfoNCE, L_CU) in
 * pairwise.inc. */
#include "nn/cpu/math.h"
#include "base/memory.h"
#include <assert.h>

enum {
    PARTS = 64, /* most partial sums of a loss over rows */
    TILE = 256, /* side of a tile of the N x N matrices; a multiple of every LANES */
};

/* Row-wise losses: rows in a task, so that there are at most PARTS of them whatever the number of threads. */
static int64_t rows_a_part(int64_t rows)
{
    int64_t part = su_cpu_tasks(rows, PARTS);
    return part < 8 ? 8 : part;
}

#include "nn/cpu/f32.h"
#include "nn/cpu/loss.inc"
#include "nn/cpu/pairwise.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/loss.inc"
#include "nn/cpu/pairwise.inc"
