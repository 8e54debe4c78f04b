/* Sets of synonyms from WordNet 3.0 (Debian's wordnet-base: index.* and *.exc, the formats of wndb(5WN)), as
 * METEOR 1.5 looks them up. A set is its offset. As in METEOR's copy, offsets of all parts of speech lie in
 * one pool: now and then a verb and a noun that have nothing in common share one. */
#ifndef SU_EVAL_WORDNET_H
#define SU_EVAL_WORDNET_H

#include "eval/words.h"

typedef struct su_wordnet su_wordnet;

/* folder: /usr/share/wordnet on Debian. SU_ENOTFOUND when a file is not there; SU_EIO, SU_EFORMAT, SU_ENOMEM.
 */
su_status su_wordnet_open(const char *folder, su_wordnet **wordnet, su_error *err);
void su_wordnet_close(su_wordnet *wordnet);

/* Appends the sets of a word and of its base: of the words that it is an irregular form of, or else of the
 * first word that is left when a regular ending goes (-s, -es, -ed, -ing, -er, -est, ...: WordNet's rules of
 * detachment, whatever the part of speech). Ascending, each once. SU_ENOMEM. */
su_status su_wordnet_sets(const su_wordnet *wordnet, const char *word, size_t length, su_numbers *sets,
                          su_error *err);

#endif
