/* Rules that change a row of scores before a token is chosen from it, in generate()'s order: repetition
 * penalty, n-gram blocking, forbidden phrases, minimum length; then required phrases, which win over the
 * others. Private to caption/. */
#ifndef SU_CAPTION_RULES_H
#define SU_CAPTION_RULES_H

#include "caption/search.h"

typedef struct {
    int32_t token;
    float value; /* what it was */
} su_change;

/* One row of logits. What is ruled out becomes -INFINITY. */
typedef struct {
    float *x;
    int32_t vocabulary;
    float log_sum;
    bool log_probs; /* rules see x - log_sum (beam search) or x itself (greedy, sampling) */
    su_change *changes;
    int32_t changed, room;
} su_row;

int32_t su_rules_changes(const su_generation *g); /* room that a row's changes need */

void su_rules_apply(const su_generation *g, const su_beam *beam, su_row *row);
/* x[token] as the decoder gave it. */
float su_row_raw(const su_row *row, int32_t token);

/* Required phrases: the state of `beam` after one more token, and how many tokens are missing then. */
void su_required_step(const su_generation *g, su_beam *beam, int32_t token);
int32_t su_required_missing(const su_generation *g, const su_beam *beam);

#endif
