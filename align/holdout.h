/* The holdout: training groups that are not trained on, but choose the best epoch. */
#ifndef SU_ALIGN_HOLDOUT_H
#define SU_ALIGN_HOLDOUT_H

#include "datasets/dataset.h"

typedef struct {
    int64_t *train, *held; /* item indexes, ascending; owned */
    int64_t pairs, held_pairs;
} su_holdout;

/* Divides a split (NULL: "train"). A group is held out by a hash of its name alone: the same groups for every
 * seed, so that runs can be compared. SU_EINVAL when what is left to train on does not fill a batch, or when
 * `share` (0: none) leaves fewer than two pairs to choose by. Free it also after a failure. */
su_status su_holdout_choose(const su_dataset *ds, const char *split, double share, int32_t batch,
                            su_holdout *holdout, su_error *err);
void su_holdout_free(su_holdout *holdout);

#endif
