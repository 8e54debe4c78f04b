/* Percentile bootstrap over the samples of a pool: one resample a draw, shared by all streams, pairs and
 * metrics. */
#ifndef SU_EVAL_BOOTSTRAP_H
#define SU_EVAL_BOOTSTRAP_H

#include "base/error.h"
#include "base/threads.h"
#include "eval/alignment.h"
#include "eval/tiles.h"

/* What is resampled of one pair of streams, and where its intervals go. */
typedef struct {
    int a, b;                          /* streams */
    const double *cosines;             /* [n] of the true pairs */
    const int32_t *forward, *backward; /* [n] strict ranks */
    su_pair_score *score;              /* gap is read; the ci95 members are written */
} su_bootstrap_pair;

/* Sample i of draw d is su_rng_below({seed, d, su_rng_name("bootstrap")}, i, n).
 * Time O(draws n width streams), as a matrix product of counts and rows; memory O(draws pairs + workers n). */
su_status su_bootstrap(const su_rows *streams, int stream_count, int64_t n, int32_t width,
                       const su_bootstrap_pair *pairs, int pair_count, int32_t draws, uint64_t seed,
                       su_pool *pool, su_error *err);

/* Linear interpolation between order statistics, as numpy.percentile does; sorts values. q in [0, 1]. */
double su_quantile(double *values, int64_t count, double q);

#endif
