/* The patterns of the PTB tokenizer, one function each: it gives the end of its longest match at c[i], or 0. Private
 * to eval/ptb_match.c, which chooses among them.
 *
 * c: code points, ended by SU_PTB_END; k: the codes of each (ptb_match.h). reach, where there is one: behind all that was
 * looked at.
 *
 * Letters in patterns are ASCII unless the name says "letter"; words that are written out match in any case,
 * sets of letters only as written: "Tex." is Texas, "tex." is not. */
#ifndef SU_EVAL_PTB_PATTERNS_H
#define SU_EVAL_PTB_PATTERNS_H

#include "eval/ptb_match.h"
#include <stddef.h>
#include <string.h>

typedef uint32_t cp;

enum { SOFT_HYPHEN = 0xAD, NO_BREAK_SPACE = 0xA0 };

/* ---- sets -------------------------------------------------------------------------------------------- */

static inline bool lower(cp c)
{
    return c >= 'a' && c <= 'z';
}
static inline bool upper(cp c)
{
    return c >= 'A' && c <= 'Z';
}
static inline bool alpha(cp c)
{
    return lower(c | 32) && c < 128;
}
static inline bool digit09(cp c)
{
    return c >= '0' && c <= '9';
}
static inline bool alnum(cp c)
{
    return alpha(c) || digit09(c);
}
static inline bool among(cp c, const char *set)
{
    while (*set && c != (unsigned char)*set) set++;
    return *set != 0;
}
static inline bool vowel(cp c)
{
    return among(c, "aeiouAEIOU");
}

static inline bool space(cp c)
{
    return c == ' ' || c == '\t' || c == NO_BREAK_SPACE || (c >= 0x2000 && c <= 0x200A) || c == 0x3000;
}

static inline bool space_or_newline(cp c)
{
    return space(c) || su_ptb_is_newline(c);
}
static inline bool word_char(uint16_t k, cp c)
{
    return k & (SU_PTB_LETTER | SU_PTB_MARK) || c == SOFT_HYPHEN;
}
static inline bool letter_or_digit(uint16_t k)
{
    return k & (SU_PTB_LETTER | SU_PTB_DIGIT);
}
static inline bool hyphen(cp c)
{
    return c == '-' || c == '_' || c == 0x58A || c == 0x2010 || c == 0x2011;
}
static inline bool dash(cp c)
{
    return c == 0x96 || c == 0x97 || (c >= 0x2013 && c <= 0x2015);
}

/* ---- literals ---------------------------------------------------------------------------------------- */

/* The end of `text` (lower case) at i in any case, or 0. */
static inline int literal(const cp *c, int i, const char *text)
{
    for (; *text; text++, i++)
        if (c[i] >= 128 || (upper(c[i]) ? c[i] + 32 : c[i]) != (cp)*text) return 0;
    return i;
}

/* The first of a NULL-terminated list that stands at i and is the longest; 0 when none does. */
static inline int one_of(const cp *c, int i, const char *const *list)
{
    int best = 0;
    for (; *list; list++) {
        int end = literal(c, i, *list);
        if (end > best) best = end;
    }
    return best;
}

/* ' and its kin: the end, or 0 */
static inline int apostrophe(const cp *c, int i)
{
    if (c[i] == '\'' || c[i] == 0x92 || c[i] == 0x2019) return i + 1;
    return c[i] == '&' ? literal(c, i, "&apos;") : 0;
}

static inline int quote_in_word(const cp *c, int i)
{
    if (c[i] == '`' || c[i] == 0x91 || c[i] == 0x2018 || c[i] == 0x201B) return i + 1;
    return apostrophe(c, i);
}

/* ---- words, hyphens, abbreviations: ptb_words.c ------------------------------------------------------- */

extern const char *const su_ptb_ending_abbreviations[],
    *const su_ptb_leading_abbreviations[], *const su_ptb_numbered_abbreviations[]; /* NULL-terminated */
int su_ptb_word_letter(const cp *c, const uint16_t *k, int i);
int su_ptb_word(const cp *c, const uint16_t *k, int i);
int su_ptb_reduced_verb(const cp *c, int i);
int su_ptb_reduced_not(const cp *c, int i);
int su_ptb_negated(const cp *c, int i, int *reach);
int su_ptb_irish(const cp *c, const uint16_t *k, int i);
int su_ptb_polynesian(const cp *c, const uint16_t *k, int i);
int su_ptb_known_with_apostrophe(const cp *c, int i, int *reach);
int su_ptb_hyphenated(const cp *c, const uint16_t *k, int i);
int su_ptb_acronym(const cp *c, int i);
int su_ptb_hyphenated_number(const cp *c, int i);
int su_ptb_slashed(const cp *c, int i);
int su_ptb_ampersand(const cp *c, int i);
int su_ptb_file_name(const cp *c, const uint16_t *k, int i);
int su_ptb_abbreviation(const cp *c, int i, const char *const *list);
int su_ptb_sentence_after_acronym(const cp *c, int i);
int su_ptb_sentence_after(const cp *c, const uint16_t *k, int i);

/* ---- numbers, addresses, tags, faces, punctuation: ptb_figures.c --------------------------------------- */

int su_ptb_number(const cp *c, const uint16_t *k, int i);
int su_ptb_fraction(const cp *c, const uint16_t *k, int i);
int su_ptb_date(const cp *c, const uint16_t *k, int i);
int su_ptb_superscript(const cp *c, int i);
int su_ptb_phone(const cp *c, int i);
int su_ptb_url(const cp *c, int i);
int su_ptb_www(const cp *c, int i);
int su_ptb_site(const cp *c, int i);
int su_ptb_mail(const cp *c, int i);
int su_ptb_account(const cp *c, int i);
int su_ptb_topic(const cp *c, const uint16_t *k, int i);
int su_ptb_tag(const cp *c, int i);
int su_ptb_entity(const cp *c, int i);
int su_ptb_smiley(const cp *c, int i);
int su_ptb_asian_face(const cp *c, int i);
int su_ptb_run_of(const cp *c, int i, const char *set);
int su_ptb_ellipsis(const cp *c, int i);
bool su_ptb_curly_quote(cp c);
bool su_ptb_opens(cp c);

#endif
