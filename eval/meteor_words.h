/* A caption's words as METEOR 1.5 takes them with -norm: punctuation apart, clitics apart, hyphens open,
 * lower case. Found by asking the Java program; see docs/metrics.md for what differs. */
#ifndef SU_EVAL_METEOR_WORDS_H
#define SU_EVAL_METEOR_WORDS_H

#include "base/memory.h"

/* Appends the words with single spaces between them. SU_ENOMEM, SU_ELIMIT. */
su_status su_meteor_line(const char *text, size_t length, su_buffer *out, su_error *err);

#endif
