/* The tokens that pycocoevalcap's PTBTokenizer leaves of a caption: those of Stanford's PTBTokenizer (CoreNLP
 * 3.4.1, -preserveLines -lowerCase) without its list of punctuation. Written from the Penn Treebank's
 * published conventions and from comparing with the Java program on much text; docs/metrics.md says what
 * differs. */
#ifndef SU_EVAL_PTB_H
#define SU_EVAL_PTB_H

#include "base/memory.h"

/* Appends the tokens of one caption, single spaces between them. Line ends inside the caption are spaces.
 * SU_ENOMEM, SU_ELIMIT. */
su_status su_ptb_line(const char *text, size_t length, su_buffer *out, su_error *err);

#endif
