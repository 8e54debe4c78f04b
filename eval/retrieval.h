/* Ranks of the true pairs between two streams, both directions from one pass over the score matrix. */
#ifndef SU_EVAL_RETRIEVAL_H
#define SU_EVAL_RETRIEVAL_H

#include "base/error.h"
#include "base/threads.h"
#include "eval/alignment.h"
#include "eval/tiles.h"

/* 1-based pessimistic ranks of one direction, [n] each. */
typedef struct {
    int32_t *strict;     /* candidates that score at least as high as the true one, itself included */
    int32_t *duplicates; /* 1 + candidates with another text that score at least as high as the best one with
                            the query's own text; NULL without texts */
} su_ranks;

/* forward: row i of x asks for row i of y among all of y; backward: the other way round. The arrays belong to
 * the caller. text: [n] equal numbers for equal texts, or NULL (then .duplicates are NULL). Time O(n^2
 * width). */
su_status su_retrieval_ranks(const su_rows *x, const su_rows *y, int64_t n, int32_t width,
                             const int32_t *text, su_pool *pool, const su_ranks *forward,
                             const su_ranks *backward, su_error *err);

/* Recalls, median rank, MRR from ranks; intervals become NAN (the bootstrap fills them). */
su_status su_retrieval_summary(const su_ranks *ranks, int64_t n, su_retrieval_score *score, su_error *err);

/* Numbers texts so that equal texts (after folding, see su_alignment_options) have equal numbers; freed with
 * su_free. */
su_status su_text_classes(const char *const *texts, int64_t n, int32_t **classes, su_error *err);

#endif
