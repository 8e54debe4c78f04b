/* What a frozen tower gives for a run's samples: computed once, kept in host memory, read back in every
 * epoch.
 *
 *   rows [count][width]      width: the tower's, or tokens * width
 *
 * A tower that does not learn gives the same for the same input (images that are augmented are never the
 * same). The rows are computed in the order of `items`, in batches of their own, so a run that was stopped
 * and resumed reads the same bits. */
#ifndef SU_ALIGN_KEPT_H
#define SU_ALIGN_KEPT_H

#include "align/model.h"

typedef enum { SU_KEEP_POOLED, SU_KEEP_TOKENS /* of a ViT */ } su_keep;

typedef struct {
    float *rows;     /* NULL: nothing is kept, the tower runs */
    int64_t *row_of; /* of dataset item i: its row, -1: none */
    size_t width;    /* floats a row */
} su_kept;

/* Several ranks compute a part of the rows each, and all get all: collective.
 * Keeps stream's rows for `items`, unless the tower learns, the images are augmented, the rows are more than
 * a GiB, or activations are not float32: then kept->rows stays NULL, which is no error. The model's buffers
 * must be planned (su_model_plan). Free it also after a failure. */
su_status su_kept_fill(su_model *m, int stream, su_keep what, const su_dataset *ds, const int64_t *items,
                       int64_t count, const su_augment *augment, su_kept *kept, su_error *err);
void su_kept_free(su_kept *kept);
const float *su_kept_row(const su_kept *kept, int64_t item);
/* out [count][width]. */
void su_kept_read(const su_kept *kept, const int64_t *items, int64_t count, float *out);

#endif
