/* Text as people compare it: case folded (Unicode), canonical composition, runs of white space as one space,
 * none at the ends. Two captions are "identical texts" when their folded forms are equal. */
#ifndef SU_DATASETS_FOLD_H
#define SU_DATASETS_FOLD_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>

/* Shortest form of UTF-8, no surrogates, nothing above U+10FFFF, no NUL. */
bool su_utf8_valid(const char *text, size_t length);

/* Nothing to read in it: white space, controls and other characters without a shape. text must be valid
 * UTF-8.
 */
bool su_text_blank(const char *text);

/* *folded is freed with su_free. text must be valid UTF-8. SU_ENOMEM. */
su_status su_text_fold(const char *text, char **folded, su_error *err);

#endif
