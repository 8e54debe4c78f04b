#include "cli/evaluate.h"
#include "align/evaluate.h"
#include "cli/report_align.h"

su_status su_cli_evaluate(su_model *model, const su_dataset *ds, const char *split, int32_t draws,
                          uint64_t seed, const char *command, json_t **document, su_error *err)
{
    *document = NULL;
    su_alignment_score *score = su_calloc(1, sizeof *score);
    if (!score) return su_fail(err, SU_ENOMEM, "no memory to score");
    su_alignment_options o;
    su_alignment_defaults(&o);
    o.draws = draws;
    o.seed = seed;
    o.pool = model->device->pool;
    const char *names[SU_MAX_STREAMS];
    for (int i = 0; i < model->config.streams; i++) names[i] = model->config.stream[i].name;
    o.names = names;
    su_status st = su_evaluate_split(model, ds, split, &o, score, err);
    if (!st) {
        const char *any = "";
        o.texts = &any; /* the split's texts were used: the receipt states the duplicates policy */
        su_receipt receipt = {.dataset_sha256 = su_dataset_sha256(ds),
                              .split = split,
                              .model_sha256 = model->sha256,
                              .tokenizer_sha256 =
                                  model->tokenizer ? su_wordpiece_sha256(model->tokenizer) : NULL,
                              .command = command};
        *document = su_report_align_json(score, names, su_receipt_json(&receipt, score, &o));
        if (!*document) st = su_fail(err, SU_ENOMEM, "no memory for the report");
    }
    su_free(score);
    return st;
}
