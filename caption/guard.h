/* The guard: where a caption says the opposite of the evidence that it was offered.
 *
 * It looks for two things that a reader must not miss, and changes nothing:
 *   negation     "no pleural effusion" against "a large pleural effusion", either way round
 *   laterality   "left pleural effusion" against "right pleural effusion"
 *
 * Both texts are cut into clauses. A word is negated when a negation before it in its clause ("no",
 * "without", "no evidence of", "free of", ...) or one after it ("is not seen", "absent", "resolved", ...)
 * reaches it; its side is that of the side word of its phrase ("left lower lobe", "of the right lung"; both
 * sides and "bilateral" are neither). A word that only one of the texts uses contradicts nothing. Structures
 * that have a side in their name (left atrium, right ventricle, coronary arteries, ...) are passed over, as
 * is evidence that says both.
 *
 * This is a list of rules over words, not understanding: tests/caption/guard_cases.txt counts what it finds,
 * what it misses and what it flags wrongly. */
#ifndef SU_CAPTION_GUARD_H
#define SU_CAPTION_GUARD_H

#include "base/error.h"
#include <stdint.h>

typedef enum { SU_FLAG_NEGATION, SU_FLAG_LATERALITY } su_flag_kind;

typedef struct {
    su_flag_kind kind;
    int32_t evidence;            /* index of the text that is contradicted */
    char word[48];               /* what is said to be there and not there, or on the left and on the right */
    char caption[16], other[16]; /* "absent" and "present"; "left" and "right" */
} su_flag;

/* At most `room` flags, one a word and evidence; *count: how many there are. Texts are UTF-8. SU_ENOMEM. */
su_status su_guard(const char *caption, const char *const *evidence, int32_t pieces, su_flag *flags,
                   int32_t room, int32_t *count, su_error *err);

const char *su_flag_name(su_flag_kind kind); /* "negation", "laterality" */

#endif
