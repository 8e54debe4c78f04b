/* Alignment metrics of a model on one split of a dataset. */
#ifndef SU_ALIGN_EVALUATE_H
#define SU_ALIGN_EVALUATE_H

#include "align/embed.h"
#include "eval/alignment.h"

/* Embeds every stream of the split and scores it, with the records' texts (duplicates policy) and groups (kNN
 * split). o: draws, seed, labels and pool are the caller's; its texts and groups are not read. */
su_status su_evaluate_split(su_model *m, const su_dataset *ds, const char *split,
                            const su_alignment_options *o, su_alignment_score *score, su_error *err);

#endif
