/* The tokens of Stanford's PTBTokenizer, as the COCO caption metrics call it, without Java.
 *
 * pycocoevalcap writes all captions into one file, one a line, runs
 *
 *     edu.stanford.nlp.process.PTBTokenizer -preserveLines -lowerCase        (CoreNLP 3.4.1)
 *
 * and drops the tokens of a punctuation list from each line that comes back. The rules here
 * (eval/ptb_match.c) were written from the tokenizer's documented behaviour and from its answers to tens of
 * millions of strings; docs/metrics.md says how they are compared and what still differs.
 *
 * A token is the longest match of a set of patterns. Some patterns look at what follows, and line ends are
 * white space to them: "lobe A." keeps its period unless the NEXT line begins with "The". So a line is given
 * together with the text behind it, and a caption's tokens depend on its neighbour in the file exactly as in
 * pycocoevalcap.
 *
 * Tokens may hold U+00A0: "1 1/2", telephone numbers and tags keep their inner spaces as such. */
#ifndef SU_EVAL_PTB_H
#define SU_EVAL_PTB_H

#include "base/error.h"
#include "base/memory.h"
#include <stdbool.h>

typedef enum {
    SU_PTB_ALL,     /* every token */
    SU_PTB_CAPTION, /* without pycocoevalcap's punctuation: '' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - --
                       ... ; */
} su_ptb_mode;

typedef struct su_ptb su_ptb;
su_ptb *su_ptb_new(void); /* scratch memory of one thread; NULL without memory */
void su_ptb_free(su_ptb *ptb);

/* Appends the tokens of text[0, length) to out, one space between two, lower case, UTF-8. Line ends inside
 * the text count as spaces. next: what follows after a line end, next_length bytes (only the beginning is
 * looked at); NULL at the end of the file. Bytes that are no UTF-8 are dropped as U+FFFD is. Time O(length).
 * SU_ENOMEM, SU_ELIMIT (out's). */
su_status su_ptb_line(su_ptb *ptb, const char *text, size_t length, const char *next, size_t next_length,
                      su_ptb_mode mode, su_buffer *out, su_error *err);

#endif
