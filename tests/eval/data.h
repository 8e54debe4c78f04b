/* Embeddings for the tests of eval/: two noisy views of a few directions, the same on every machine. */
#ifndef SU_TESTS_EVAL_DATA_H
#define SU_TESTS_EVAL_DATA_H

#include "base/memory.h"
#include "base/rng.h"
#include "eval/tiles.h"
#include <math.h>

/* [n, width]; stream m of sample i is a shared vector plus its own noise and a shift of the stream. */
static inline float *make_stream(int stream, int64_t n, int32_t width)
{
    float *z = su_alloc((size_t)n, (size_t)width * sizeof *z);
    su_rng_key shared = {.seed = 1}, own = {.seed = 1, .layer = (uint32_t)stream + 1};
    for (int64_t i = 0; i < n * width; i++)
        z[i] = (float)(su_rng_normal(shared, (uint64_t)i) + 1.5 * su_rng_normal(own, (uint64_t)i) +
                       (i % width == 0 ? 2.0 * stream : 0));
    return z;
}

/* Row addresses with factors 1/norm (unit) or 1; both arrays freed with su_free. */
static inline su_rows make_rows(const float *z, int64_t n, int32_t width, bool unit)
{
    const float **row = su_alloc((size_t)n, sizeof *row);
    double *scale = su_alloc((size_t)n, sizeof *scale);
    for (int64_t i = 0; i < n; i++) {
        row[i] = z + i * width;
        scale[i] = unit ? 1 / sqrt(su_row_dot(row[i], row[i], width)) : 1;
    }
    return (su_rows){row, scale};
}

static inline void free_rows(su_rows rows)
{
    su_free((void *)(uintptr_t)rows.row);
    su_free((void *)(uintptr_t)rows.scale);
}

#endif
