/* Attention of single queries over a cache: a task is one head of a few queries, of which neighbours often
 * share their keys (beams of one image), which are then still in the nearest cache.
 *
 * With one query nothing is worth transposing: keys are read as they lie there, a register of products each,
 * and the sums of a register's worth of keys are formed together. */
#include "nn/cpu/internal.h"
#include "nn/cpu/math.h"
#include <assert.h>
#include <string.h>

enum { ROWS = 12 };

#include "nn/cpu/f32.h"
#include "nn/cpu/attend.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/attend.inc"
