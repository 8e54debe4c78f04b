/* The search for one image's caption: which tokens to go on with, given the decoder's logits.
 *
 * Settings mean what they mean in Hugging Face's generate(): `beams` is num_beams (1: greedy, or sampling),
 * max_tokens and min_tokens are max_new_tokens and min_new_tokens, `forbidden` is bad_words_ids,
 * early_stopping is False; the score of a beam is its sum of log-probabilities over length^length_penalty.
 * Two things are ours: `required` phrases, and that [SEP] ends a caption. A search knows nothing of any other
 * search: its result does not depend on what is captioned beside it. */
#ifndef SU_CAPTION_SEARCH_H
#define SU_CAPTION_SEARCH_H

#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

enum { SU_BEAMS_MAX = 64, SU_REQUIRED_MAX = 16 };

/* Phrases as tokens: number i is tokens[start[i]] .. tokens[start[i+1] - 1]. */
typedef struct {
    int32_t *tokens, *start; /* start [count + 1]; both owned by whoever made them */
    int32_t count;
} su_phrases;

typedef struct {
    int32_t beams;             /* 1..SU_BEAMS_MAX */
    double length_penalty;     /* above 0 longer captions gain */
    int32_t max_tokens;        /* [SEP] included */
    int32_t min_tokens;        /* before [SEP] */
    int32_t no_repeat_ngram;   /* no sequence of so many tokens twice; 0: off */
    double repetition_penalty; /* 1: off */
    bool sample;               /* with beams 1: draws a token instead of taking the best */
    double temperature, top_p; /* of sampling; 1: off */
    int32_t top_k;             /* of sampling; 0: off */
    uint64_t seed;             /* of sampling: the same for (seed, number of the image) */
    su_phrases forbidden;      /* none of them appears */
    su_phrases required;       /* all of them appear, whatever the other rules say; at most SU_REQUIRED_MAX */
    int32_t start, end;        /* [CLS], [SEP] */
} su_generation;

void su_generation_defaults(su_generation *g); /* beam 3, length penalty 0.6, at most 40 tokens */
/* Ranges, and that required phrases fit into max_tokens and are not forbidden. */
su_status su_generation_check(const su_generation *g, int32_t vocabulary, su_error *err);

/* One partial or finished caption; arrays of max_tokens. */
typedef struct {
    int32_t *tokens;
    float *log_probs; /* the decoder's own, before any rule */
    int32_t length;
    double score;   /* running: the sum of what the search adds up; finished: over length^length_penalty */
    int32_t parent; /* row of the last step that this one continues */
    uint32_t met;   /* required phrases that have appeared, a bit each */
    int32_t phrase, progress; /* the one under way, -1: none, and how many of its tokens are there */
} su_beam;

/* What sampling may draw: a token and its probability. */
typedef struct {
    int32_t token;
    float x; /* its score */
    double p;
} su_choice;

typedef struct {
    const su_generation *rules;         /* borrowed */
    int64_t number;                     /* of the image; keys sampling */
    su_beam *running, *next, *finished; /* [beams] each; finished: the best first */
    int32_t live, done;                 /* how many run, how many are finished */
    bool over; /* finished[0] is the caption; none when no token was allowed at all */
    /* private */
    int32_t vocabulary;
    su_beam *beams;
    int32_t *tokens;
    float *log_probs;
    void *changes, *candidates;
    su_choice *choices;
} su_search;

su_status su_search_new(const su_generation *rules, int32_t vocabulary, su_search **search, su_error *err);
void su_search_free(su_search *s);
/* The first step has one row, which has read [CLS]. */
void su_search_begin(su_search *s, int64_t number);
/* The decoder's answer to the rows of one step. Where tokens is NULL every logit is there; else logits holds those of
 * `count` tokens a row, which are listed in ascending order, and -INFINITY at the others. */
typedef struct {
    float *logits;         /* [live, vocabulary]; rules change them */
    const int32_t *tokens; /* [live, count] */
    int32_t count;
    const float *log_sums; /* [live], of all logits */
} su_search_rows;

/* How many of a row's largest logits decide: what is chosen from them is chosen from all. The vocabulary's size when
 * all are needed, as for sampling and required phrases. */
int32_t su_search_candidates(const su_generation *g, int32_t vocabulary);
/* Afterwards running[0 .. live - 1] continue, each with its last token to be read and its parent's row; or the search
 * is over. */
void su_search_advance(su_search *s, const su_search_rows *rows);

/* What sampling draws from, given a row of logits: the tokens that temperature, top_k and top_p leave, with
 * probabilities that sum to 1 (the likeliest first when top_k or top_p is set). choices [vocabulary]; returns
 * how many, 0 when every logit is -INFINITY. */
int32_t su_search_filter(const su_generation *g, const float *logits, int32_t vocabulary, su_choice *choices);

#endif
