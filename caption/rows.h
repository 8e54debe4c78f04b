/* Captions as the decoder reads them.
 *
 *     input    evidence 1 [SEP]  evidence 2 [SEP]  ...  [CLS] the     caption
 *     type     1        1 1      2        2 2           0     0       0
 *     target                                            the   caption [SEP]     none in evidence
 *
 * Positions count from 0 in each piece. A caption that is too long is cut, and does not learn to end there. */
#ifndef SU_CAPTION_ROWS_H
#define SU_CAPTION_ROWS_H

#include "caption/decoder.h"
#include "caption/generate.h"
#include "text/wordpiece.h"

/* Tokens of many texts, each cut to `max`. */
typedef struct {
    int32_t *tokens; /* [count][max]; owned */
    int32_t *lengths;
    int64_t count;
    int32_t max;
} su_texts;

su_status su_texts_new(int64_t count, int32_t max, su_texts *texts, su_error *err);
su_status su_texts_set(su_texts *texts, int64_t i, const su_wordpiece *wp, const char *text, su_error *err);
void su_texts_free(su_texts *texts);

/* Pieces of evidence in front of [CLS]; memory for `pieces` of at most `max` tokens. */
typedef struct {
    su_prefix prefix;
    int32_t *ids, *position, *type; /* owned */
    int32_t room, max, pieces;
} su_evidence_row;

su_status su_evidence_row_new(int32_t pieces, int32_t max, su_evidence_row *row, su_error *err);
void su_evidence_row_free(su_evidence_row *row);
void su_evidence_row_clear(su_evidence_row *row);
void su_evidence_row_add(su_evidence_row *row, const int32_t *tokens, int32_t count, int32_t sep);

/* A batch of rows under construction. */
typedef struct su_rows su_rows;

su_status su_rows_new(int32_t max_batch, int32_t max_prefix, int32_t max_tokens, su_rows **rows,
                      su_error *err);
void su_rows_free(su_rows *rows);
void su_rows_clear(su_rows *rows);
/* tokens: a caption's, without [CLS] and [SEP], of a su_texts with max = max_tokens. prefix may be NULL. */
void su_rows_add(su_rows *rows, const su_prefix *prefix, const int32_t *tokens, int32_t count, int32_t cls,
                 int32_t sep);
/* Everything that was added, padded to the longest row, or to `tokens` (at most what rows have room for) where
 * that is more; valid until the next clear. */
su_decoder_input su_rows_input(su_rows *rows, int32_t tokens);

/* The vocabulary of the tokens that texts use, of all control tokens and of all ASCII pieces of one
 * character: on these texts it gives the tokens that the whole one gives. */
su_status su_vocabulary_used(const su_wordpiece *whole, const su_texts *texts, su_wordpiece **used,
                             su_error *err);

#endif
