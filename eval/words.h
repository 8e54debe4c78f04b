/* Numbers for things seen again and again: byte strings, and pairs of numbers. The first new thing is 0, the
 * next 1, and so on: numbers depend on the order of the calls alone. */
#ifndef SU_EVAL_WORDS_H
#define SU_EVAL_WORDS_H

#include "base/error.h"
#include "base/memory.h"
#include <stdint.h>

typedef struct {
    su_buffer bytes; /* all strings, one behind the other */
    uint64_t *entry; /* [count] offset << 24 | length */
    int32_t *slot;   /* [slots] number + 1, 0: free */
    uint32_t *hash;  /* [count] */
    int32_t count, room;
    uint32_t slots; /* a power of two */
} su_words;

enum { SU_WORDS_LENGTH_MAX = (1 << 24) - 1 }; /* bytes of a string */

void su_words_init(su_words *w);
void su_words_free(su_words *w);
/* SU_ENOMEM, SU_ELIMIT (2^31 - 2 strings, or one too long) */
su_status su_words_add(su_words *w, const char *text, size_t length, int32_t *number, su_error *err);
int32_t su_words_find(const su_words *w, const char *text, size_t length); /* -1: not there */
const char *su_words_text(const su_words *w, int32_t number, size_t *length);

typedef struct {
    uint64_t key;
    int32_t number; /* + 1, 0: free */
} su_pair_slot;

typedef struct {
    su_pair_slot *slot; /* [slots] */
    int32_t count;
    uint64_t slots; /* a power of two */
} su_pairs;

void su_pairs_init(su_pairs *p);
void su_pairs_free(su_pairs *p);
/* Begins to fetch what su_pairs_add will look at: a table of millions of pairs is in no cache. */
void su_pairs_prefetch(const su_pairs *p, int32_t first, int32_t second);
su_status su_pairs_add(su_pairs *p, int32_t first, int32_t second, int32_t *number, su_error *err);
int32_t su_pairs_find(const su_pairs *p, int32_t first, int32_t second); /* -1: not there */

/* A list of numbers that grows. */
typedef struct {
    int32_t *item;
    int32_t count, room;
} su_numbers;

su_status su_numbers_add(su_numbers *n, int32_t item, su_error *err); /* SU_ENOMEM */
void su_numbers_free(su_numbers *n);

#endif
