/* The "suture.eval.align/1" document of a run on a split: what `eval align` prints and `train` leaves in
 * RUN/eval.json. */
#ifndef SU_CLI_EVALUATE_H
#define SU_CLI_EVALUATE_H

#include "align/model.h"
#include "datasets/dataset.h"
#include <jansson.h>

/* New reference in *document. command: as typed, for the receipt. */
su_status su_cli_evaluate(su_model *model, const su_dataset *ds, const char *split, int32_t draws,
                          uint64_t seed, const char *command, json_t **document, su_error *err);

#endif
