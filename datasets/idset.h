/* The set of ids seen so far, held as 64-bit hashes: 16 bytes an id or less. Two different ids among a
 * million take each other's place with a probability of 3e-8. */
#ifndef SU_DATASETS_IDSET_H
#define SU_DATASETS_IDSET_H

#include "base/error.h"
#include <stdbool.h>

typedef struct su_idset su_idset;

su_idset *su_idset_new(void); /* NULL without memory */
void su_idset_free(su_idset *set);
su_status su_idset_add(su_idset *set, const char *id, bool *seen, su_error *err); /* SU_ENOMEM */

#endif
