/* The objective over M streams, and one training step's forward and backward under it.
 *
 *   L = lambda0 mean_{m != a} InfoNCE(a, m) + lambda1 mean_{m != a} ATP(a, m) + lambda2 CU(all)
 *                                                                 [method: eq 1, 7, 8, 11; lambda0 is 1
 * there]
 *
 * InfoNCE and CU couple the whole batch. A batch that does not fit is cut into micro-batches: embeddings of
 * all of them are computed first and kept, the loss is formed once over the whole batch, then each
 * micro-batch runs forward again and its share of the embedding gradient goes back through its towers. The
 * gradient is that of the whole batch. */
#ifndef SU_ALIGN_OBJECTIVE_H
#define SU_ALIGN_OBJECTIVE_H

#include "align/model.h"

typedef struct {
    double total, infonce, atp, cu; /* the parts without their weights; NAN when the weight is 0 */
} su_losses;

/* Both weights at `progress` (0..1 of all steps) under the schedule. */
void su_objective_weights(const su_objective *o, double progress, double *lambda_atp, double *lambda_cu);

/* z[m], dz[m]: acc [n, width] on the device; dz is overwritten. log_scale: acc [1]; d_log_scale: acc [1],
 * ADDED, or NULL when the temperature is fixed. scratch: acc [3]. */
su_status su_objective_apply(const su_objective *o, su_device *d, double lambda_atp, double lambda_cu,
                             int streams, int anchor, void *const *z, void *const *dz, const void *log_scale,
                             void *d_log_scale, void *scratch, int64_t n, int32_t width, su_losses *losses,
                             su_error *err);

typedef struct su_step su_step;

/* Several ranks (device->comm) each compute the embeddings of their own samples, gather everybody's, and form the
 * loss of the whole batch; each sends the gradient of its own embeddings back through its towers. The sum of the
 * ranks' parameter gradients, which su_optimiser_step forms, is that of the whole batch on one rank.
 *
 * Plans everything for batches of `batch` samples of this rank in micro-batches of `micro`, as model->checkpointing
 * says. *bytes: activations and embeddings. */
size_t su_step_bytes(su_model *model, int32_t batch, int32_t micro); /* what it would take, before it does */
su_status su_step_new(su_model *model, int32_t batch, int32_t micro, su_step **step, size_t *bytes,
                      su_error *err);
void su_step_free(su_step *s);

/* What else is asked of a micro-batch (samples first .. first + count - 1 of the batch) while a stream's
 * activations are in place, just before its backward pass: *d_tokens becomes a gradient at the tower's tokens
 * (see su_tower_backward), or NULL. */
typedef struct {
    su_status (*run)(void *context, int stream, int32_t first, int32_t count, const void **d_tokens,
                     su_error *err);
    void *context;
} su_step_extra;

/* One whole batch, or this rank's equal part of it: per stream of the model either images or ids, in host memory but
 * for images that are on_device. */
typedef struct {
    int32_t count;
    const uint8_t *images[SU_MAX_STREAMS];
    bool on_device; /* the images lie in the device's memory */
    const int32_t *ids[SU_MAX_STREAMS], *lengths[SU_MAX_STREAMS];
    const float *pooled[SU_MAX_STREAMS]; /* of a frozen tower, kept (align/kept.h); NULL: it runs */
    bool train;
    uint64_t seed;
    int64_t step;               /* keys dropout; of the run, from 1 */
    const su_step_extra *extra; /* may be NULL */
} su_step_batch;

/* Forward and backward: gradients are ADDED to the table; nothing is updated. SU_ENUMERIC when the loss is
 * not finite. Losses are the whole batch's. Collective: with several ranks sums of the gradients may have begun, and
 * su_optimiser_step comes next. */
su_status su_step_run(su_step *s, const su_step_batch *batch, const su_objective *o, double progress,
                      su_losses *losses, su_error *err);

#endif
