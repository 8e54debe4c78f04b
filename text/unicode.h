/* What BERT's uncased normaliser and word splitter do to a code point. Private to text/.
 *
 * The steps are: drop control characters, make every white space a space, put spaces around CJK ideographs,
 * decompose canonically (NFD), drop nonspacing marks, lower-case, split at white space, split off
 * punctuation. For one code point all that has one answer, its code. Only the canonical ordering of NFD looks
 * at neighbours: a run of marks that are kept is sorted by combining class, and BREAK (a dropped mark of
 * class 0) ends such a run.
 *
 *   cp < FLAT:  code = su_unicode_code[su_unicode_page[cp / PAGE] * PAGE + cp % PAGE]
 *   else:       from the ranges, WORD when in none
 */
#ifndef SU_TEXT_UNICODE_H
#define SU_TEXT_UNICODE_H

#include <stdint.h>

enum { SU_UNICODE_FLAT = 0x30000, SU_UNICODE_PAGE = 64 };

enum {
    SU_UNICODE_WORD,   /* a letter of a word as it is */
    SU_UNICODE_ALONE,  /* punctuation or a CJK ideograph: a word of its own */
    SU_UNICODE_SPACE,  /* ends a word */
    SU_UNICODE_DROP,   /* leaves nothing */
    SU_UNICODE_BREAK,  /* leaves nothing, and ends a run of marks */
    SU_UNICODE_HANGUL, /* a syllable: two or three jamo, by arithmetic [Unicode 3.12] */
    SU_UNICODE_MARK,   /* MARK + rank: a mark that is kept; ranks in the order of combining classes */
    SU_UNICODE_MAP =
        16, /* MAP + i: becomes cp + delta[i]; from i = deltas on sequence[i - deltas], zero-terminated */
};

typedef struct {
    uint32_t first, last;
    uint16_t code;
} su_unicode_range;

extern const int su_unicode_deltas, su_unicode_ranges;
extern const uint8_t su_unicode_page[];
extern const uint16_t su_unicode_code[];
extern const int32_t su_unicode_delta[];
extern const uint32_t su_unicode_sequence[][3];
extern const su_unicode_range su_unicode_above[];

static inline unsigned su_unicode_class(uint32_t cp)
{
    if (cp < SU_UNICODE_FLAT)
        return su_unicode_code[su_unicode_page[cp / SU_UNICODE_PAGE] * SU_UNICODE_PAGE +
                               cp % SU_UNICODE_PAGE];
    for (int i = 0; i < su_unicode_ranges; i++)
        if (cp >= su_unicode_above[i].first && cp <= su_unicode_above[i].last)
            return su_unicode_above[i].code;
    return SU_UNICODE_WORD;
}

#endif
