/* METEOR 1.5 [Denkowski & Lavie 2014], English, as pycocoevalcap runs it (-l en -norm).
 *
 * Words of hypothesis and reference may match in stages: equal; equal stems (Snowball's English); a common
 * set of WordNet; phrases that a table calls paraphrases. The alignment is searched by eval/meteor_align.h. A
 * chunk is a run of matches that follow one another on both sides. Function words (a list) count less:
 *
 *   P     = sum_s w_s (d content_s + (1-d) function_s) / (d content + (1-d) function)    of the hypothesis
 *   R     = the same                                                                     of the reference
 *   F     = 1 / ((1-a)/P + a/R)
 *   score = F (1 - g (chunks / matched)^b)
 *   a = 0.85, b = 0.2, g = 0.6, d = 0.75; w = 1, 0.6, 0.8, 0.6
 *
 * matched: words, the mean of both sides. A whole match has no chunks.
 *
 * The best of several references counts; the score of a set is the formula on the sums of its items' counts.
 * The Java program always reads the paraphrase table that is distributed with it; we have none of our own,
 * and read that file when it is named. */
#ifndef SU_EVAL_METEOR_H
#define SU_EVAL_METEOR_H

#include "eval/caption_score.h"

typedef enum {
    SU_METEOR_EXACT,
    SU_METEOR_STEM,
    SU_METEOR_SYNONYM,
    SU_METEOR_PARAPHRASE,
    SU_METEOR_STAGES
} su_meteor_stage;

enum { SU_METEOR_WORDS_MAX = 2000 }; /* of a caption; what follows is not looked at */

/* What a score is made of, in this order; [2]: of the hypothesis, of the reference. */
typedef struct {
    int32_t length[2], function_words[2];
    int32_t content[SU_METEOR_STAGES][2], function[SU_METEOR_STAGES][2]; /* matched words by stage */
    int32_t chunks, matched[2];
} su_meteor_counts;

/* The score of counts or of sums of counts: [SU_METEOR_COUNTS] in the order of su_meteor_counts. */
double su_meteor_value(const double *counts);

typedef struct {
    const char *wordnet;     /* folder (eval/wordnet.h); NULL: no synonym stage */
    const char *paraphrases; /* file (eval/paraphrases.h); NULL: no paraphrase stage */
} su_meteor_options;

/* What METEOR has to know of sentences; they must live as long. Their lines are split into METEOR's words
 * anew. SU_ENOTFOUND, SU_EIO, SU_EFORMAT, SU_ENOMEM. */
typedef struct su_meteor su_meteor;
su_status su_meteor_new(const su_sentences *sentences, const su_meteor_options *options, su_pool *pool,
                        su_meteor **meteor, su_error *err);
void su_meteor_free(su_meteor *meteor);

/* Fills meteor and meteor_items of counts[i], i < pairs. The same for any number of threads. SU_ENOMEM. */
su_status su_meteor_score(const su_meteor *meteor, const su_caption_pair *pair, int64_t pairs, su_pool *pool,
                          su_caption_counts *counts, su_error *err);

#endif
