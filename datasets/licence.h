/* Licence names: many spellings, one canonical form, so that a filter compares like with like.
 *
 *   "CC BY-NC-SA", "cc_by_nc_sa 4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/"  ->  "cc-by-nc-sa"
 *   "CC0", "CC0 1.0", ".../publicdomain/zero/1.0/"                                          ->  "cc0"
 *   anything else: lower case, words joined by '-'                                          ->  "no-cc-code" */
#ifndef SU_DATASETS_LICENCE_H
#define SU_DATASETS_LICENCE_H

#include "base/error.h"
#include <stdbool.h>

enum { SU_LICENCE_MAX = 64 };

void su_licence_canonical(const char *name, char canonical[SU_LICENCE_MAX]); /* "" for "" */
/* True when list, names separated by commas in any spelling, has a name equal to licence. The match is exact:
 * cc-by does not admit cc-by-nc. An empty licence is never in a list. */
bool su_licence_in(const char *list, const char *licence);

#endif
