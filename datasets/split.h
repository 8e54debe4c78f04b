/* Splits by group: all samples of one article or patient go to the same side, whatever else is in the
 * dataset.
 *
 *   u(group) = su_hash64("SEED:GROUP") / 2^64          train when u < f0, val when u < f0 + f1, else test
 *
 * The side depends on the seed and the group's name alone, so adding or dropping samples never moves another
 * one. */
#ifndef SU_DATASETS_SPLIT_H
#define SU_DATASETS_SPLIT_H

#include "base/error.h"
#include <stdint.h>

typedef struct {
    uint64_t seed;
    double train, val, test; /* each 0..1, together 1 */
} su_split_rule;

void su_split_defaults(su_split_rule *rule); /* seed 0; 0.8, 0.1, 0.1 */
/* "0.8,0.1,0.1". SU_EINVAL: not three numbers in 0..1 whose sum is 1. */
su_status su_split_parse_fractions(const char *text, su_split_rule *rule, su_error *err);
/* "train", "val" or "test"; SU_ENOMEM. */
su_status su_split_of_group(const su_split_rule *rule, const char *group, const char **split, su_error *err);
/* The name used here for a split's usual names, whatever their case: training, validation, valid, dev,
 * testing; any other name as it is. */
const char *su_split_name(const char *name);

#endif
