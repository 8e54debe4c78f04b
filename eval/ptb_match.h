/* The patterns of the PTB tokenizer over one decoded line. Private to eval/ptb.c; eval/meteor_words.c takes
 * Java's lower case from here. */
#ifndef SU_EVAL_PTB_MATCH_H
#define SU_EVAL_PTB_MATCH_H

#include <stdbool.h>
#include <stdint.h>

/* What a code point is, measured one by one (eval/make_ptb_classes.py). A code's upper bits are the index of
 * the distance to its lower case. */
enum {
    SU_PTB_LETTER = 1, /* of a word */
    SU_PTB_MARK = 2,   /* of a word too, but not of hyphenated and mixed ones */
    SU_PTB_DIGIT = 4,  /* decimal digit of any script */
    SU_PTB_SYMBOL = 8, /* a token of its own */
    SU_PTB_UPPER = 16, /* an upper-case letter */
    SU_PTB_FLAGS = 31, /* none of them: white space, or dropped */
    SU_PTB_LOWER_SHIFT = 5,
    SU_PTB_PAGE = 64,
};

extern const uint8_t su_ptb_page[];  /* [0x10000 / SU_PTB_PAGE] */
extern const uint16_t su_ptb_code[]; /* [pages][SU_PTB_PAGE] */
extern const int32_t su_ptb_delta[];

static inline unsigned su_ptb_class(uint32_t c)
{
    return c < 0x10000 ? su_ptb_code[su_ptb_page[c / SU_PTB_PAGE] * SU_PTB_PAGE + c % SU_PTB_PAGE] : 0;
}

/* Java's lower case of c, as far as it is one code point that depends on no other (U+0130, final sigma). */
static inline uint32_t su_ptb_lower(uint32_t c)
{
    return (uint32_t)((int32_t)c + su_ptb_delta[su_ptb_class(c) >> SU_PTB_LOWER_SHIFT]);
}

enum { SU_PTB_END = 0x7fffffff }; /* stands behind the last code point of the text that is known */

/* How a token is written. */
typedef enum {
    SU_PTB_NONE,   /* nothing matched: the code point is dropped */
    SU_PTB_WORD,   /* lower case, without soft hyphens ("-" when nothing is left) */
    SU_PTB_RAW,    /* lower case */
    SU_PTB_SPACED, /* lower case, spaces as U+00A0, ( and ) as -lrb- and -rrb- */
    SU_PTB_TAG,    /* lower case, spaces as U+00A0 */
    SU_PTB_QUOTED, /* lower case, every kind of quotation mark as ` or ', "&amp;" as & */
    SU_PTB_TEXT,   /* `text` stands for it */
} su_ptb_kind;

typedef struct {
    int stop;  /* behind the token's text */
    int end;   /* where the next token is looked for: behind the text, or at its last period */
    int reach; /* behind all that its pattern looked at; the longest reach wins */
    su_ptb_kind kind;
    const char *text;
} su_ptb_token;

/* Behind the white space at c[i]; i itself when there is none, or when it begins an address: of all white
 * space only that of ASCII separates addresses. */
int su_ptb_blank(const uint32_t *c, int i);

/* The token at c[i], where su_ptb_blank is i. c ends with SU_PTB_END; k[j] is su_ptb_class(c[j]). */
su_ptb_token su_ptb_match(const uint32_t *c, const uint16_t *k, int i);

static inline bool su_ptb_is_newline(uint32_t c)
{
    return (c >= '\n' && c <= '\r') || c == 0x85 || c == 0x2028 || c == 0x2029;
}

#endif
