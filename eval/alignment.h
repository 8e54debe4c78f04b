/* How well M streams of embeddings share one space: gap, pairs, angles, retrieval, clusters. Arrays in, numbers out.
 *
 *   gap(m,n)    = | mean_i z_i^m - mean_i z_i^n |                                            [Liang 2022; eq 2]
 *   cos_true    = mean_i <z_i^m, z_i^n>                                                      [eq 3]
 *   AV(m)       = mean_{i != j} <z_i^m, z_j^m>
 *   RMG         = P / (P + I),  P = mean_i (1 - <x_i, y_i>),
 *                 I = half the sum of the off-diagonal means of (1 - <x_i,x_j>), (1 - <y_i,y_j>)   [Schrodi 2025]
 *   R@K, median rank (1-based), MRR: ties take the pessimistic rank (a tie with the true item counts against it).
 * Sums are accumulated in double. Rows are normalised first unless they already are to 1e-6 (a zero row is an error). */
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
    double r1_dup, r5_dup, r10_dup;             /* "duplicates": "hit": a candidate with the query's own text is a hit too; NAN without texts */
} su_retrieval_score;

typedef struct {
    double gap, cos_true_pairs, rmg;
    double gap_ci95[2], cos_ci95[2]; /* bootstrap over samples */
    su_retrieval_score forward, backward; /* stream a -> stream b, b -> a */
} su_pair_score;

typedef struct {
    int streams;
    int64_t pool;
    double angular_value[SU_EVAL_STREAMS];
    su_pair_score pair[SU_EVAL_STREAMS][SU_EVAL_STREAMS]; /* filled for a < b */
    bool clustered;
    double v_measure, knn_accuracy;
} su_alignment_score;

typedef struct {
    const char *const *texts;  /* [n], for the duplicates policy; NULL: strict figures only */
    const int32_t *labels;     /* [n] class of each sample, -1: none; NULL: no clustering */
    const char *const *groups; /* [n], for the 80/20 kNN split; NULL: each sample its own group */
    int32_t draws;             /* bootstrap draws; 0: no intervals (NAN); 1000 by default */
    uint64_t seed;
    su_pool *pool; /* may be NULL */
} su_alignment_options;

void su_alignment_defaults(su_alignment_options *o);

/* z[m]: [n, width] float, host memory. 2 <= streams <= SU_EVAL_STREAMS, n >= 2. SU_ENUMERIC names the first row that is
 * zero or not finite. Time O(M^2 n^2 width) in tiles; memory O(tile + n). */
su_status su_alignment_score_compute(const float *const *z, int streams, int64_t n, int32_t width,
                                     const su_alignment_options *options, su_alignment_score *score, su_error *err);

#endif
