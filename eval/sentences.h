/* Captions as numbers: every caption becomes a line of tokens with single spaces between them, and every
 * token a number.
 *
 * Two views of a line, because the field's metrics split it in two ways: BLEU and CIDEr at any white space of
 * Unicode (Python's split()), ROUGE-L at every single space (split(" "), so that an empty line is one empty
 * token, and two spaces hold an empty one between them). For most lines both are the same array. */
#ifndef SU_EVAL_SENTENCES_H
#define SU_EVAL_SENTENCES_H

#include "base/threads.h"
#include "eval/words.h"

typedef enum {
    SU_TOKENIZER_PTB,        /* eval/ptb.h: what pycocoevalcap's PTBTokenizer leaves */
    SU_TOKENIZER_WHITESPACE, /* the caption is the line */
    SU_TOKENIZER_METEOR,     /* eval/meteor_words.h, of lines that one of the others made */
} su_caption_tokenizer;

typedef struct {
    const int32_t *word, *piece;
    int32_t words, pieces;
    const char *line; /* the tokens as text; NUL-terminated */
} su_sentence;

typedef struct {
    su_sentence *sentence;
    int64_t count;
    su_words words; /* number <-> token */
    struct su_sentence_store *store;
} su_sentences;

/* text: [count], not kept; a NULL ends a file of captions and makes an empty sentence. The tokens of a
 * caption may depend on the one that follows it in its file (eval/ptb.h). Tokenised by all threads of the
 * pool, numbered in order: the numbers do not depend on the threads. SU_ENOMEM, SU_ELIMIT. */
su_status su_sentences_make(const char *const *text, int64_t count, su_caption_tokenizer tokenizer,
                            su_pool *pool, su_sentences *sentences, su_error *err);
void su_sentences_free(su_sentences *sentences);

/* Bytes of the white space (Python's str.isspace) that starts at text, 0: none. NUL-terminated text. */
int su_space_length(const char *text);

#endif
