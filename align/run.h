/* A training run in its folder: what every kind of training shares, whatever it trains.
 *
 *   RUN/config.json             the resolved configuration, with the dataset's SHA-256
 *   RUN/log.jsonl               a line a step, and a line an epoch with the holdout's score
 *   RUN/checkpoint.safetensors  parameters, moments, step, best score: what --resume goes on from
 *   RUN/run.json                written last: what was trained on what, for how long
 *
 * With several ranks (the comm of the parameters' device) rank 0 alone has the folder; what it finds there, and
 * what goes wrong there, all ranks are told. open, train and finish are collective.
 *
 * One process at a time has the folder. A run goes on only with the configuration and the dataset that it was
 * started with; log lines of steps past the checkpoint are cut, because those steps are done again: a run
 * that was killed any number of times leaves the bytes of one that never was. */
#ifndef SU_ALIGN_RUN_H
#define SU_ALIGN_RUN_H

#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "nn/params.h"
#include <jansson.h>
#include <signal.h>
#include <stdio.h>

typedef struct {
    const char *folder;
    const su_dataset *data;
    const json_t *config; /* whatever decides the run's bits; borrowed */
    su_params *params;    /* what a checkpoint holds */
    const char *score;    /* what chooses the best epoch: "mrr", "loss" */
    bool lower_is_better;
    int64_t epochs, batches; /* batches: an epoch's */
    int32_t batch;
    const char *unit;         /* of progress: "pairs" */
    int64_t checkpoint_steps; /* besides the ends of epochs; 0: never */
    bool resume;
    const volatile sig_atomic_t *stop; /* set non-zero: checkpoint, then SU_EINTERRUPTED; may be NULL */
} su_run_options;

typedef struct {
    su_run_options options;
    int64_t steps, done; /* the whole run's; finished ones */
    double best;         /* NAN: none yet */
    int64_t best_epoch;
    double started; /* of this process, on the monotonic clock */
    /* private */
    double next_save, saving_seconds; /* monotonic clock; what checkpoints took */
    FILE *log;
    int lock;
    char config_sha256[65];
    char *config_path, *log_path, *checkpoint_path, *run_path;
} su_run;

/* Makes the folder, locks it, settles the configuration, loads the checkpoint when there is one to resume
 * from and opens the log. Close it also after a failure. SU_EINVAL (the folder holds a run and resume is
 * false), SU_EMISMATCH (another configuration or dataset), SU_EIO (another process has the folder). */
su_status su_run_open(const su_run_options *options, su_run *run, su_error *err);
void su_run_close(su_run *run);

/* Appends a line, on rank 0; takes the reference, NULL (without memory) included. */
su_status su_run_log(su_run *run, json_t *line, su_error *err);
/* Keeps the score when it is the best so far, and says whether it is. */
bool su_run_score(su_run *run, int64_t epoch, double score);

/* What a training does. step: the step run->done + 1, which is batch `in_epoch` of `epoch` (both from 0);
 * writes its log line; the value is shown as "loss". epoch: after the last step of an epoch (from 1): scores,
 * keeps the model. */
typedef struct {
    su_status (*step)(void *context, int64_t epoch, int64_t in_epoch, double *loss, su_error *err);
    su_status (*epoch)(void *context, int64_t epoch, su_error *err);
    void *context;
} su_run_work;

/* From run->done to the last step. Checkpoints: after the first epoch and the last step, every checkpoint_steps,
 * when asked to stop, and after each epoch that ends when 50 times what the last checkpoint took has passed since. */
su_status su_run_train(su_run *run, const su_run_work *work, su_error *err);

/* Completes doc with "schema", "epochs", "steps", "best_epoch", "best_SCORE", the hashes of dataset and
 * model.safetensors, "version", and this process's "seconds" and "checkpoint_seconds", and writes run.json. Takes
 * the reference. */
su_status su_run_finish(su_run *run, json_t *doc, su_error *err);

double su_run_seconds(const su_run *run); /* since su_run_open */

/* SU_ENUMERIC, in front of what err holds: the step, and the samples of the batch that it happened in. */
su_status su_run_blame(const su_run *run, const su_batch *batch, su_error *err);

json_t *su_number_or_null(double x); /* JSON has no NaN */

#endif
