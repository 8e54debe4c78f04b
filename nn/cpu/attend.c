/* Attention of single queries over a cache: a task is one query, head by head.
 *
 * With one query nothing is worth transposing: a score is a dot product with a key as it lies there, and the
 * values are added up a key at a time, KEYS of them together. */
#include "nn/cpu/internal.h"
#include "nn/cpu/math.h"
#include <assert.h>
#include <string.h>

enum { KEYS = 4 };

#include "nn/cpu/f32.h"
#include "nn/cpu/attend.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/attend.inc"
