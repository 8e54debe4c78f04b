/* The alignment of two word sequences by their possible matches, as METEOR 1.5 searches it: exactly, ties
 * included, since its beam is narrow and which of two equal alignments it keeps decides later ones. Private
 * to eval/meteor.c.
 *
 * Left to right over the reference's words, with the 40 best paths. At each word a path takes one of the
 * matches that start there, or leaves the word out. Better is: more matched words (a match of weight below 1
 * counts half, rounded down on each side), then fewer chunks, then less distance, then the earlier path. Two
 * things are not as one would write them, and are kept:
 *  - a match that shares no word with any other is taken without trying to leave it out;
 *  - the distance of a match is added to the path that it branches off from, after the branch: it counts for
 *    the matches tried later and for leaving the word out, not for the match. */
#ifndef SU_EVAL_METEOR_ALIGN_H
#define SU_EVAL_METEOR_ALIGN_H

#include "base/error.h"
#include <stdint.h>

typedef struct {
    int32_t start, length; /* in the reference */
    int32_t other, others; /* start and length in the hypothesis */
    int32_t stage;         /* 0: exact, weight 1 */
    int32_t next;          /* match of the same start that was added next; -1: last */
} su_meteor_match;

typedef struct {
    su_meteor_match *match;
    int32_t count, room;
    int32_t *chosen; /* out: [words of the reference] the match that the alignment has there, or -1 */
    int32_t chunks;  /* out: runs of matches that follow one another on both sides */
    struct su_meteor_search *search;
} su_meteor_aligner;

void su_meteor_aligner_free(su_meteor_aligner *a); /* of a zeroed one too */
/* Empties the aligner, which starts as zeros, for sequences of these lengths. SU_ENOMEM, here and below. */
su_status su_meteor_aligner_start(su_meteor_aligner *a, int32_t words, int32_t other_words, su_error *err);
su_status su_meteor_aligner_add(su_meteor_aligner *a, su_meteor_match match, su_error *err);
/* Fills chosen and chunks. */
su_status su_meteor_align(su_meteor_aligner *a, su_error *err);

#endif
