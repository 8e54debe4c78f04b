/* How well M streams of embeddings share one space: gap, pairs, angles, retrieval, clusters. Arrays in,
 * numbers out.
 *
 *   gap(m,n)    = | mean_i z_i^m - mean_i z_i^n |                                            [Liang 2022; eq
 * 2] cos_true    = mean_i <z_i^m, z_i^n>                                                      [eq 3] AV(m) =
 * mean_{i != j} <z_i^m, z_j^m> RMG         = P / (P + I),  P = mean_i (1 - <x_i, y_i>), I = half the sum of
 * the off-diagonal means of (1 - <x_i,x_j>), (1 - <y_i,y_j>)   [Schrodi 2025] R@K, median rank (1-based),
 * MRR: ties take the pessimistic rank (a tie with the true item counts against it). floor(m,n)  =
 * sqrt(trace(Cov(z^m - z^n)) / n): the gap that two streams with one and the same mean show in a pool of n by
 * sampling alone; a gap near its floor is closed as far as this pool can tell. Sums are accumulated in
 * double. A row whose norm is not 1 to 1e-6 is normalised first (a zero row is an error). Scores closer than
 * 1e-12 are ties.
 *
 * Intervals are percentile bootstraps, one resample of the pool's samples for all streams and metrics.
 * Resampling moves the squared distance of two means up by about floor^2, so the gap's draws are shifted back
 * by their bias on the squared scale before the percentiles are taken: the interval lies around the gap, not
 * above it. */
#ifndef SU_EVAL_ALIGNMENT_H
#define SU_EVAL_ALIGNMENT_H

#include "base/error.h"
#include "base/threads.h"
#include <stdbool.h>
#include <stdint.h>

enum { SU_EVAL_STREAMS = 8 };

typedef struct {
    double r1, r5, r10, median_rank, mrr;
    double r1_ci95[2], r5_ci95[2], r10_ci95[2]; /* bootstrap over queries */
    double r1_dup, r5_dup,
        r10_dup; /* a candidate with the query's own text is a hit too; NAN without texts */
} su_retrieval_score;

typedef struct {
    double gap, gap_floor, cos_true_pairs, rmg; /* rmg: NAN when all vectors are one */
    double gap_ci95[2], cos_ci95[2];            /* bootstrap over samples */
    su_retrieval_score forward, backward;       /* stream a -> stream b, b -> a */
} su_pair_score;

typedef struct {
    int streams;
    int64_t pool;
    double angular_value[SU_EVAL_STREAMS];
    su_pair_score pair[SU_EVAL_STREAMS][SU_EVAL_STREAMS]; /* filled for a < b */
    bool clustered; /* labels were given and name two classes at least */
    int32_t classes;
    double v_measure;    /* of one k-means over all streams' rows, k = classes */
    double knn_accuracy; /* 5 nearest, all streams' rows together, 80/20 by group; NAN when a side is empty */
} su_alignment_score;

typedef struct {
    const char *const *names; /* [streams], for messages; NULL: streams are numbered from 0 */
    const char *const
        *texts; /* [n], for the duplicates policy; NULL: strict figures only. Two texts are the same after
                   ASCII letters are lowered, runs of ASCII white space become one space and both ends
                   are stripped; every other byte counts as it is. An empty text equals none. */
    const int32_t *labels;     /* [n] class of each sample, below 0: none (left out); NULL: no clustering */
    const char *const *groups; /* [n], for the kNN split: su_hash64(group) % 5 == 0 is tested, the others are
                                  neighbours; NULL: each sample its own group, named by its index ("17") */
    int32_t draws;             /* bootstrap draws, 0 .. 100000; 0: no intervals (NAN); 1000 by default */
    uint64_t seed;             /* of the bootstrap and of k-means */
    su_pool *pool;             /* may be NULL */
} su_alignment_options;

void su_alignment_defaults(su_alignment_options *o);

/* z[m]: [n, width] float, host memory. 2 <= streams <= SU_EVAL_STREAMS, n >= 2. SU_ENUMERIC names the first
 * row that is zero or not finite (its index is err->position). The same bits for any thread count. Time O(M^2
 * n^2 width) in tiles; memory O(tile + M^2 n). */
su_status su_alignment_score_compute(const float *const *z, int streams, int64_t n, int32_t width,
                                     const su_alignment_options *options, su_alignment_score *score,
                                     su_error *err);

#endif
