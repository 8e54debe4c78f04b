/* suture train: from a packed dataset to a run, then its score on the split that training never saw. */
#include "align/train.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/evaluate.h"
#include "cli/options.h"
#include "cli/ranks.h"
#include "cli/report_align.h"
#include "cli/train.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stop_asked;

static void ask_stop(int signal_number)
{
    (void)signal_number;
    if (stop_asked) _exit(130); /* a second Ctrl-C does not wait for the checkpoint */
    stop_asked = 1;
}

const volatile sig_atomic_t *su_stop_on_signals(void)
{
    signal(SIGINT, ask_stop);
    signal(SIGTERM, ask_stop);
    return &stop_asked;
}

typedef struct {
    const char *data, *out, *config, *preset, *objective, *device, *vocabulary, *evaluate;
    double lambda_atp, lambda_cu, temperature, lr, holdout;
    int64_t epochs, batch, micro_batch, seed, threads;
    bool resume, atp_given, cu_given, temperature_given, lr_given, holdout_given, epochs_given, batch_given,
        micro_given, seed_given;
    su_option_list init;
    su_memory_limit memory;
} arguments;

/* preset < configuration of the run being resumed < --config < options */
static su_status resolve(const arguments *a, su_train_config *c, su_error *err)
{
    su_status st = su_config_preset(a->preset ? a->preset : "tiny", c, err);
    char *old = a->resume ? su_path_join(a->out, "config.json") : NULL;
    json_t *json = NULL;
    if (!st && old && su_file_exists(old)) {
        st = su_json_read(old, 1 << 20, &json, err);
        if (!st) json_object_del(json, "data_sha256");
        if (!st) st = su_config_merge(json, old, c, err);
        json_decref(json);
        json = NULL;
    }
    su_free(old);
    if (!st && a->config) {
        st = su_json_read(a->config, 1 << 20, &json, err);
        if (!st) st = su_config_merge(json, a->config, c, err);
        json_decref(json);
    }
    if (!st && a->objective) st = su_config_objective(a->objective, &c->objective, err);
    if (a->atp_given) c->objective.lambda_atp = a->lambda_atp;
    if (a->cu_given) c->objective.lambda_cu = a->lambda_cu;
    if (a->temperature_given) c->objective.temperature = a->temperature;
    if (a->epochs_given) c->epochs = a->epochs;
    if (a->batch_given) c->batch = (int32_t)a->batch;
    if (a->micro_given) c->micro_batch = (int32_t)a->micro_batch;
    if (a->lr_given) c->lr = a->lr;
    if (a->seed_given) c->seed = (uint64_t)a->seed;
    if (a->holdout_given) c->holdout = a->holdout;
    for (int i = 0; i < a->init.count && !st; i++) {
        const char *equals = strchr(a->init.items[i], '=');
        su_stream_config *s = NULL;
        for (int k = 0; k < c->model.streams && equals; k++)
            if (strlen(c->model.stream[k].name) == (size_t)(equals - a->init.items[i]) &&
                !strncmp(c->model.stream[k].name, a->init.items[i], (size_t)(equals - a->init.items[i])))
                s = &c->model.stream[k];
        if (!s)
            st = su_fail(err, SU_EINVAL,
                         "--init %s is not STREAM=DIR with a stream of this model (image, text)",
                         a->init.items[i]);
        else
            snprintf(s->init, sizeof s->init, "%s", equals + 1);
    }
    return st;
}

/* Scores the run on the split that was asked for, or on val or test when there is one; leaves RUN/eval.json. */
static su_status evaluate(const arguments *a, const char *line, su_device *device, json_t **doc,
                          su_error *err)
{
    su_dataset *ds = NULL;
    su_model *model = NULL;
    su_comm *comm = device->comm;
    device->comm = NULL; /* this rank alone */
    su_status st = su_dataset_open(a->data, &ds, err);
    const char *split = a->evaluate;
    static const char *const usual[] = {"val", "test", NULL};
    for (int i = 0; !st && !split && usual[i]; i++) {
        int64_t *items = NULL, count = 0;
        if (!su_dataset_split(ds, usual[i], &items, &count, NULL) && count >= 2) split = usual[i];
        su_free(items);
    }
    if (!st && split && strcmp(split, "none") != 0) {
        st = su_model_open(a->out, device, false, &model, err);
        if (!st) st = su_cli_evaluate(model, ds, split, 1000, 0, line, doc, err);
        char *path = su_path_join(a->out, "eval.json");
        if (!st) st = path ? su_json_write_sealed(path, *doc, err) : su_fail(err, SU_ENOMEM, "no memory");
        su_free(path);
    }
    su_model_free(model);
    su_dataset_close(ds);
    device->comm = comm;
    return st;
}

int su_cmd_train(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--caption")) return su_cmd_train_caption(argc, argv);
    arguments a = {.device = "cpu"};
    bool caption = false;
    const su_option options[] = {
        SU_STRING("data", &a.data, "DS", "packed dataset (required)"),
        SU_STRING("out", &a.out, "RUN", "folder of the run (required)"),
        SU_STRING("preset", &a.preset, "NAME",
                  "tiny (default), small, base, eva-g: sizes, batch, epochs, learning rate;\nthe run's "
                  "config.json shows all of it"),
        SU_STRING("config", &a.config, "FILE.json", "members override the preset's (see RUN/config.json)"),
        SU_STRING("objective", &a.objective, "NAME",
                  "clip-lt: InfoNCE, temperature learned\nclip-ft: InfoNCE, temperature fixed\nclosegap "
                  "(default): + L_ATP + L_CU"),
        SU_NUMBER("lambda-atp", &a.lambda_atp, 0, 1e6, "X",
                  "weight of L_ATP, align true pairs (the objective's: 1 for closegap)",
                  .given = &a.atp_given),
        SU_NUMBER("lambda-cu", &a.lambda_cu, 0, 1e6, "X",
                  "weight of L_CU, centroid uniformity (the objective's: 1 for closegap)",
                  .given = &a.cu_given),
        SU_NUMBER("temperature", &a.temperature, 0.01, 100, "T", "tau, where it starts when learned (0.07)",
                  .given = &a.temperature_given),
        SU_INT("epochs", &a.epochs, 1, 1e9, "N", "passes over the training split (the preset's)",
               .given = &a.epochs_given),
        SU_INT("batch", &a.batch, 2, 1 << 24, "N", "pairs that one loss compares (the preset's)",
               .given = &a.batch_given),
        SU_INT("micro-batch", &a.micro_batch, 0, 1 << 24, "N",
               "pairs in memory at once; same gradient, less memory (the batch)", .given = &a.micro_given),
        SU_CHECKPOINTING_OPTION(a.memory),
        SU_MEMORY_OPTION(a.memory),
        SU_NUMBER("lr", &a.lr, 0, 10, "X", "peak learning rate (the preset's)", .given = &a.lr_given),
        SU_INT("seed", &a.seed, 0, 9e15, "N", "same seed, same bits (0)", .given = &a.seed_given),
        SU_NUMBER("holdout", &a.holdout, 0, 0.5, "X",
                  "share of training groups that choose the best epoch (0.1); 0: last epoch",
                  .given = &a.holdout_given),
        SU_LIST("init", &a.init, "STREAM=DIR", "start a tower from another run or imported model"),
        SU_STRING("vocab", &a.vocabulary, "VOCAB.txt", "WordPiece vocabulary (bert-base-uncased by default)"),
        SU_STRING("evaluate", &a.evaluate, "SPLIT",
                  "split scored at the end into RUN/eval.json (val, else test; none)"),
        SU_DEVICE_OPTION(&a.device),
        SU_INT("threads", &a.threads, 0, 1024, "N", "0: all cores; the result is the same for any number"),
        SU_FLAG("resume", &a.resume, "go on with an interrupted run: same bits as if uninterrupted"),
        SU_FLAG("caption", &caption,
                "a caption decoder on a trained alignment: see suture train --caption --help"),
        {0}};
    const su_command command = {
        .name = "train",
        .synopsis = "--data DS --out RUN [options]",
        .summary = "Trains image and text towers into one space. Started by mpirun, srun or torchrun, it "
                   "divides every\n"
                   "batch among their ranks; the result is that of one rank.",
        .examples = "  suture train --data roco --out runs/closegap\n"
                    "  suture train --data roco --out runs/lt --objective clip-lt --epochs 40 --seed 2\n"
                    "  suture train --data roco --out runs/closegap --resume\n"
                    "  suture train --data roco --out runs/warm --preset small --init text=minilm\n"
                    "  mpirun -n 4 --bind-to none suture train --data roco --out runs/closegap\n",
        .options = options,
        .min_positional = 0,
        .max_positional = 0};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_device *device = NULL;
    json_t *doc = NULL;
    su_train_result result = {0};
    su_train_options train = {.data = a.data, .out = a.out, .resume = a.resume, .stop = su_stop_on_signals()};
    char *own = NULL, *line = su_command_line("train", argc, argv);
    su_status st = a.data && a.out
                       ? SU_OK
                       : su_fail(&err, SU_EINVAL, "%s is missing", a.data ? "--out RUN" : "--data DS");
    if (!st) st = su_cli_ranks_open(a.device, a.threads, &device, &err);
    if (!st) st = su_comm_agree(device->comm, resolve(&a, &train.config, &err), &err);
    if (!st) {
        train.vocabulary = a.vocabulary ? a.vocabulary : (own = su_cli_vocabulary());
        train.device = device;
        train.memory = a.memory;
        st = su_train(&train, &result, &err);
    }
    bool first = !device || su_comm_rank(device->comm) == 0; /* it scores and reports, the others wait */
    if (!st && first) st = evaluate(&a, line, device, &doc, &err);
    json_t *summary =
        st ? NULL
           : json_pack("{s:s,s:s,s:I,s:I,s:I,s:f,s:O?}", "schema", "suture.train/1", "run", a.out, "steps",
                       (json_int_t)result.steps, "epochs", (json_int_t)result.epochs, "best_epoch",
                       (json_int_t)result.best_epoch, "seconds", result.seconds, "eval", doc);
    if (first && su_cli_report(summary, &st, &err)) {
        printf("%s: %s, %lld steps over %lld pairs in %.0f s", a.out, train.config.objective.name,
               (long long)result.steps, (long long)result.pairs, result.seconds);
        if (result.holdout_pairs)
            printf(", best epoch %lld by MRR on %lld held-out training pairs", (long long)result.best_epoch,
                   (long long)result.holdout_pairs);
        printf("\n");
        if (doc) su_report_align_print(stdout, doc);
    }
    json_decref(summary);
    json_decref(doc);
    su_free(own);
    su_free(line);
    code = su_cli_ranks_close(&command, device, st, &err);
    su_options_free(&args, &command);
    return code;
}
