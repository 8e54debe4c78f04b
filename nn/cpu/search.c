/* Exact search: see search.inc. */
#include "nn/cpu/internal.h"
#include "base/memory.h"
#include "nn/cpu/math.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES = 256,  /* queries answered together */
    BLOCK = 512,    /* rows of x scored together: a QUERIES x BLOCK tile of scores a worker */
    SEGMENTS = 64,  /* most tasks over x */
    SEGMENT = 1024, /* least rows of a task */
    SPARE = 16,     /* candidates kept beyond k: see search.inc */
    FEW = 4,        /* queries for which a matrix product does not pay */
};

#include "nn/cpu/f32.h"
#include "nn/cpu/search.inc"
#include "nn/cpu/f64.h"
#include "nn/cpu/search.inc"
