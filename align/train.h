/* Alignment training: from a packed dataset to a run.
 *
 *   RUN/config.json             the resolved configuration
 *   RUN/log.jsonl               a line a step: step, epoch, loss and its parts, tau, grad_norm, lr;
 *                               a line an epoch with "val"
 *   RUN/checkpoint.safetensors  weights, moments, step: what --resume goes on from (align/run.h says when)
 *   RUN/model.json, model.safetensors, vocab.txt
 *                               the model (see align/model.h): best holdout epoch, or the last one
 *   RUN/run.json                written last: what was trained, on what, for how long
 *
 * The best epoch is chosen on a holdout of the TRAINING groups (config.holdout): no sample of another split
 * is looked at. Same configuration, same data, same device: the same bits, for any number of threads, also
 * after any number of kills. */
#ifndef SU_ALIGN_TRAIN_H
#define SU_ALIGN_TRAIN_H

#include "align/config.h"
#include "align/memory.h"
#include "align/objective.h"
#include <signal.h>

typedef struct {
    const char *data, *out;
    const char *split;      /* "train" when NULL */
    const char *vocabulary; /* for a text tower that starts from random weights */
    su_train_config config;
    bool resume;
    su_memory_limit memory; /* of each rank */
    su_device *device;
    const volatile sig_atomic_t *stop; /* when set non-zero: checkpoint, then SU_EINTERRUPTED; may be NULL */
} su_train_options;

typedef struct {
    int64_t steps, epochs, best_epoch;
    int64_t pairs, holdout_pairs;
    double seconds;   /* of this call */
    su_losses losses; /* of the last step */
    double best_mrr;  /* of the holdout; NAN without one */
} su_train_result;

/* With several ranks (the device's comm) it is collective: each trains on its part of every batch, config.batch being
 * the whole of it. Results are one rank's but for the order of sums, in which the number of ranks counts: the same
 * number gives the same bits.
 * SU_ENUMERIC (a NaN: names step, epoch and the samples of the batch), SU_EMISMATCH (resuming with another
 * configuration or dataset), SU_EINVAL (RUN exists and resume is false; too few samples for one batch),
 * SU_EINTERRUPTED. */
su_status su_train(const su_train_options *options, su_train_result *result, su_error *err);

/* What every training on several ranks begins with. agree: all have read the same configuration (takes the reference,
 * NULL without memory included), dataset and vocabulary; SU_EMISMATCH. divide: SU_EINVAL when they cannot each have an equal part of the batch. */
su_status su_train_agree(su_comm *comm, json_t *config, const su_dataset *data, const su_wordpiece *tokenizer,
                         su_error *err);
su_status su_train_divide(int32_t batch, const su_comm *comm, su_error *err);

#endif
