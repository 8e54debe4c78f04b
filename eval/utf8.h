/* Code points in and out of UTF-8. Private to eval. */
#ifndef SU_EVAL_UTF8_H
#define SU_EVAL_UTF8_H

#include "base/memory.h"

/* The code point at s, of which `left` (> 0) bytes are there, and its bytes in *used. What is no UTF-8 is
 * U+FFFD, a byte at a time. */
uint32_t su_utf8_decode(const char *s, size_t left, size_t *used);

/* Writes c (at most U+10FFFF); its bytes, 1 to 4, are returned. */
int su_utf8_encode(uint32_t c, char s[4]);

/* Appends c (at most U+10FFFF). SU_ENOMEM, SU_ELIMIT. */
su_status su_utf8_add(su_buffer *out, uint32_t c, su_error *err);

#endif
