/* suture eval align: the alignment metrics of a run on one split. */
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/evaluate.h"
#include "cli/options.h"
#include "cli/report_align.h"
#include <stdio.h>
#include <string.h>

int su_cmd_eval_align(int argc, char **argv)
{
    const char *run = NULL, *data = NULL, *split = "val", *device_name = "cpu";
    int64_t draws = 1000, seed = 0, threads = 0;
    bool any_recipe = false;
    const su_option options[] = {
        SU_STRING("model", &run, "RUN", "trained run (required)"),
        SU_STRING("data", &data, "DS", "packed dataset (required)"),
        SU_STRING("split", &split, "S", "split to score: val, test, ... or all"),
        SU_INT("draws", &draws, 0, 100000, "N", "bootstrap draws; 0: no intervals"),
        SU_INT("seed", &seed, 0, 9e15, "N", "of the bootstrap"),
        SU_FLAG("force-recipe", &any_recipe, "take a dataset whose pictures were made by another recipe"),
        SU_DEVICE_OPTION(&device_name),
        SU_THREADS_OPTION(&threads),
        {0}};
    const su_command command = {
        .name = "eval align",
        .synopsis = "--model RUN --data DS --split S [options]",
        .summary = "Gap, true pairs, angles and retrieval of a trained run, with intervals and a receipt.",
        .examples = "  suture eval align --model runs/closegap --data roco --split val\n"
                    "  suture eval align --model runs/closegap --data roco --split val --json scores.json\n",
        .options = options,
        .min_positional = 0,
        .max_positional = 0};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_device *device = NULL;
    su_model *model = NULL;
    su_dataset *ds = NULL;
    json_t *doc = NULL;
    char *line = su_command_line("eval align", argc, argv);
    su_status st =
        run && data ? SU_OK : su_fail(&err, SU_EINVAL, "%s is missing", run ? "--data DS" : "--model RUN");
    if (!st) st = su_dataset_open(data, &ds, &err);
    if (!st) st = su_cli_open_model(run, device_name, (int)threads, &device, &model, &err);
    if (!st) model->any_recipe = any_recipe;
    if (!st) st = su_cli_evaluate(model, ds, split, (int32_t)draws, (uint64_t)seed, line, &doc, &err);
    const char *json = su_option_json();
    if (!st && json) st = su_report_write(doc, json, &err);
    if (!st && !(json && !strcmp(json, "-"))) su_report_align_print(stdout, doc);
    json_decref(doc);
    su_model_free(model);
    su_device_close(device);
    su_dataset_close(ds);
    su_free(line);
    su_options_free(&args, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
