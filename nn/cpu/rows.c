/* Element-wise and row-wise operations: see rows.inc. */
#include "nn/cpu/internal.h"
#include "nn/cpu/philox.h"
#include <assert.h>
#include <string.h>

enum {
    ELEMENTS = 1 << 16, /* a task of an element-wise loop */
    WORDS = 1024,       /* random numbers drawn together */
    ROWS = 64,          /* a task of a row-wise loop */
    COLUMNS = 64,       /* a task of scatter_add */
};

#include "nn/cpu/f32.h"
#include "nn/cpu/rows.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/rows.inc"
