/* Captions as people write them: word pieces joined, and punctuation put back where it stood.
 *
 * A WordPiece tokenizer splits off every punctuation character, and nothing in the tokens says where spaces
 * were. The rules put them where English most often has them: none before . , ; : ? ! ) ] } %, none behind (
 * [ {, none around - and / between words (x-ray, 2/3) and around an apostrophe (patient's), none around a
 * point or a comma between digits (3.5 cm). */
#ifndef SU_CAPTION_WORDS_H
#define SU_CAPTION_WORDS_H

#include "caption/search.h"
#include "text/wordpiece.h"

/* Control tokens are left out. Freed with su_free; NULL without memory. */
char *su_caption_text(const su_wordpiece *wp, const int32_t *ids, int32_t count);

/* Phrases of words as tokens, for su_generation's forbidden and required. SU_EINVAL: a phrase without a known
 * token. `control`: the tokens that no caption holds are added ([PAD], [UNK], [CLS], [MASK]). */
su_status su_phrases_new(const su_wordpiece *wp, const char *const *words, int32_t count, bool control,
                         su_phrases *phrases, su_error *err);
void su_phrases_free(su_phrases *phrases);

#endif
