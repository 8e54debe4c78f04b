/* METEOR's table of paraphrases (paraphrase-en.gz, three lines each: a weight, a phrase, its paraphrase), as
 * far as it is about the words of a vocabulary. */
#ifndef SU_EVAL_PARAPHRASES_H
#define SU_EVAL_PARAPHRASES_H

#include "eval/words.h"

typedef struct su_paraphrases su_paraphrases;

/* path: gzip or plain text. Entries with a word that is not in the vocabulary are skipped; weights are not
 * kept, METEOR does not use them. SU_ENOTFOUND, SU_EIO, SU_EFORMAT, SU_ENOMEM. */
su_status su_paraphrases_read(const char *path, const su_words *vocabulary, su_paraphrases **table,
                              su_error *err);
void su_paraphrases_free(su_paraphrases *table);

/* Phrases and their beginnings have numbers below this. */
int32_t su_paraphrases_count(const su_paraphrases *table);
/* The number of the phrase, or beginning of one, that is `phrase` (-1: nothing) and then `word`; -1: none. */
int32_t su_paraphrases_longer(const su_paraphrases *table, int32_t phrase, int32_t word);
bool su_paraphrases_is_whole(const su_paraphrases *table, int32_t phrase); /* not a beginning alone */
/* Numbers of a phrase's paraphrases in the order of the file; one that comes twice there does so here. */
const su_numbers *su_paraphrases_of(const su_paraphrases *table, int32_t phrase);

#endif
