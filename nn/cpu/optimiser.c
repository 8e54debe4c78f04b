/* The optimiser's two operations: see optimiser.inc. */
#include "nn/cpu/internal.h"
#include <assert.h>

enum {
    SPAN = 1 << 16, /* elements of a task of adamw */
    PARTS = 256,    /* most partial sums of sum_squares */
};

#include "nn/cpu/f32.h"
#include "nn/cpu/optimiser.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/optimiser.inc"
