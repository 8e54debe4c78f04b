/* Caption training: a decoder on a trained alignment, into a run (see align/run.h) that is a model of both.
 *
 *   by default                    the caption loss alone, all towers frozen; without augmentation the image
 *                                 tokens are computed once
 *   "lr_factor" of the image      the caption loss alone, on decoder and image tower
 *   stream above 0
 *   "joint"                       the alignment's objective + weight * caption loss, on everything whose
 *                                 "lr_factor" is above 0
 *
 * log.jsonl: a line a step (loss, caption, align's parts when joint, grad_norm, lr), and a line an epoch with
 * the holdout's loss per token (without label smoothing), which chooses the best epoch. Same bits for any
 * number of threads and of kills, as in alignment training. */
#ifndef SU_CAPTION_TRAIN_H
#define SU_CAPTION_TRAIN_H

#include "align/memory.h"
#include "caption/config.h"
#include <signal.h>

typedef struct {
    const char *data, *out;
    const char *split; /* "train" when NULL */
    su_caption_config config;
    bool resume;
    su_memory_limit memory; /* of each rank */
    su_device *device;
    const volatile sig_atomic_t *stop; /* may be NULL */
} su_caption_options;

typedef struct {
    int64_t steps, epochs, best_epoch, pairs, holdout_pairs;
    double seconds, loss; /* of this call; of the last step */
    double best_loss;     /* of the holdout, a token; NAN without one */
} su_caption_result;

/* Errors: as su_train. */
su_status su_caption_train(const su_caption_options *options, su_caption_result *result, su_error *err);

#endif
