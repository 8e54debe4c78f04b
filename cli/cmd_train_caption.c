/* suture train --caption: a caption decoder on a trained alignment. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "caption/train.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "cli/ranks.h"
#include "cli/train.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *data, *out, *from, *config, *device;
    double lr, holdout;
    int64_t epochs, batch, micro_batch, seed, threads, evidence;
    bool caption, resume, lr_given, holdout_given, epochs_given, batch_given, micro_given, seed_given,
        evidence_given;
    su_memory_limit memory;
} arguments;

static su_status merge_file(const char *path, su_caption_config *c, su_error *err)
{
    json_t *json = NULL;
    su_status st = su_json_read(path, 1 << 20, &json, err);
    if (!st) json_object_del(json, "data_sha256");
    if (!st) st = su_caption_config_merge(json, path, c, err);
    json_decref(json);
    return st;
}

/* The alignment's towers < configuration of the run being resumed < --config < options */
static su_status resolve(const arguments *a, su_caption_config *c, su_error *err)
{
    char *old = su_path_join(a->out, "config.json");
    if (!old) return su_fail(err, SU_ENOMEM, "no memory to read %s", a->out);
    bool resumed = a->resume && su_file_exists(old);
    json_t *json = NULL;
    const char *from = a->from;
    su_status st = SU_OK;
    if (!from && resumed) {
        st = su_json_read(old, 1 << 20, &json, err);
        if (!st) st = su_json_string(json_object_get(json, "caption"), "from", old, &from, err);
    }
    if (!st && !from)
        st = su_fail(err, SU_EINVAL, "--from RUN is missing: the alignment that the decoder looks through");
    if (!st) st = su_caption_config_from(from, c, err);
    json_decref(json);
    if (!st && resumed) st = merge_file(old, c, err);
    if (!st && a->config) st = merge_file(a->config, c, err);
    su_free(old);
    if (st) return st;
    if (a->from) snprintf(c->from, sizeof c->from, "%s", a->from);
    if (a->epochs_given) c->train.epochs = a->epochs;
    if (a->batch_given) c->train.batch = (int32_t)a->batch;
    if (a->micro_given) c->train.micro_batch = (int32_t)a->micro_batch;
    if (a->lr_given) c->train.lr = a->lr;
    if (a->seed_given) c->train.seed = (uint64_t)a->seed;
    if (a->holdout_given) c->train.holdout = a->holdout;
    if (a->evidence_given) c->evidence = (int32_t)a->evidence;
    return SU_OK;
}

int su_cmd_train_caption(int argc, char **argv)
{
    arguments a = {.device = "cpu"};
    const su_option options[] = {
        SU_FLAG("caption", &a.caption, "train a caption decoder"),
        SU_STRING("from", &a.from, "RUN", "trained alignment whose image tower it looks through (required)"),
        SU_STRING("data", &a.data, "DS", "packed dataset (required)"),
        SU_STRING("out", &a.out, "RUN2", "folder of the new run: the alignment and the decoder (required)"),
        SU_STRING("config", &a.config, "FILE.json",
                  "members override the defaults (see RUN2/config.json, \"caption\")"),
        SU_INT("evidence", &a.evidence, 0, 16, "N", "offer the captions of the N nearest training images (0)",
               .given = &a.evidence_given),
        SU_INT("epochs", &a.epochs, 1, 1e9, "N", "passes over the training split (20)",
               .given = &a.epochs_given),
        SU_INT("batch", &a.batch, 1, 1 << 24, "N", "captions of one step (64)", .given = &a.batch_given),
        SU_INT("micro-batch", &a.micro_batch, 0, 1 << 24, "N",
               "captions in memory at once; same gradient, less memory (the batch)", .given = &a.micro_given),
        SU_CHECKPOINTING_OPTION(a.memory),
        SU_MEMORY_OPTION(a.memory),
        SU_NUMBER("lr", &a.lr, 0, 10, "X",
                  "peak learning rate of the decoder; a tower's is this times its \"lr_factor\" (1e-3)",
                  .given = &a.lr_given),
        SU_INT("seed", &a.seed, 0, 9e15, "N", "same seed, same bits (0)", .given = &a.seed_given),
        SU_NUMBER("holdout", &a.holdout, 0, 0.5, "X",
                  "share of training groups that choose the best epoch (0.1); 0: last epoch",
                  .given = &a.holdout_given),
        SU_DEVICE_OPTION(&a.device),
        SU_INT("threads", &a.threads, 0, 1024, "N", "0: all cores; the result is the same for any number"),
        SU_FLAG("resume", &a.resume, "go on with an interrupted run: same bits as if uninterrupted"),
        {0}};
    const su_command command = {
        .name = "train",
        .synopsis = "--caption --from RUN --data DS --out RUN2 [options]",
        .summary =
            "Trains a caption decoder on a trained alignment, whose towers stay as they are unless the\n"
            "configuration says else.",
        .examples =
            "  suture train --caption --from runs/closegap --data roco --out runs/captions\n"
            "  suture train --caption --from runs/closegap --data roco --out runs/evidence --evidence 3\n"
            "  suture train --caption --data roco --out runs/captions --resume\n"
            "  suture caption --model runs/captions FOLDER\n",
        .options = options,
        .min_positional = 0,
        .max_positional = 0};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_device *device = NULL;
    su_caption_result result = {0};
    su_caption_options train = {
        .data = a.data, .out = a.out, .resume = a.resume, .stop = su_stop_on_signals()};
    su_status st = a.data && a.out
                       ? SU_OK
                       : su_fail(&err, SU_EINVAL, "%s is missing", a.data ? "--out RUN2" : "--data DS");
    if (!st) st = su_cli_ranks_open(a.device, a.threads, &device, &err);
    if (!st) st = su_comm_agree(device->comm, resolve(&a, &train.config, &err), &err);
    if (!st) {
        train.device = device;
        train.memory = a.memory;
        st = su_caption_train(&train, &result, &err);
    }
    json_t *summary =
        st ? NULL
           : json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:f,s:o}", "schema", "suture.train.caption/1", "run", a.out,
                       "from", train.config.from, "steps", (json_int_t)result.steps, "epochs",
                       (json_int_t)result.epochs, "best_epoch", (json_int_t)result.best_epoch, "seconds",
                       result.seconds, "holdout_loss",
                       isfinite(result.best_loss) ? json_real(result.best_loss) : json_null());
    bool first = !device || su_comm_rank(device->comm) == 0;
    if (first && su_cli_report(summary, &st, &err)) {
        printf("%s: captions on %s, %lld steps over %lld pairs in %.0f s", a.out, train.config.from,
               (long long)result.steps, (long long)result.pairs, result.seconds);
        if (result.holdout_pairs)
            printf(", best epoch %lld by loss on %lld held-out training captions (%.3f a token, perplexity "
                   "%.1f)",
                   (long long)result.best_epoch, (long long)result.holdout_pairs, result.best_loss,
                   exp(result.best_loss));
        printf("\n");
    }
    json_decref(summary);
    code = su_cli_ranks_close(&command, device, st, &err);
    su_options_free(&args, &command);
    return code;
}
