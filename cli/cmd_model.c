/* suture model info | import */
#include "align/init.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include <stdio.h>
#include <string.h>

int su_cmd_model_import(int argc, char **argv)
{
    const char *out = NULL;
    const su_option options[] = {SU_STRING("out", &out, "DIR", "folder of the imported model (required)"),
                                 {0}};
    const su_command command = {
        .name = "model import",
        .synopsis = "HF_FOLDER --out DIR [options]",
        .summary =
            "Reads a BERT encoder from a Hugging Face folder (config.json, model.safetensors, vocab.txt).",
        .examples = "  suture model import all-MiniLM-L6-v2 --out minilm\n"
                    "  suture embed --model minilm --text sentences.txt --out sentences.safetensors\n"
                    "  suture train --data roco --out run --init text=minilm\n",
        .options = options,
        .min_positional = 1,
        .max_positional = 1};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_device *device = NULL;
    su_status st =
        out ? SU_OK : su_fail(&err, SU_EINVAL, "--out is missing: the folder to write the model to");
    char *existing = out ? su_path_join(out, "model.json") : NULL;
    if (!st && existing && su_file_exists(existing))
        st = su_fail(&err, SU_EINVAL, "%s already holds a model: choose another --out", out);
    su_free(existing);
    if (!st) st = su_device_cpu(0, SU_DTYPE_F32, &device, &err);
    if (!st) st = su_import_bert(args.items[0], out, device, &err);
    su_device_close(device);
    json_t *doc =
        st ? NULL
           : json_pack("{s:s,s:s,s:s}", "schema", "suture.model.import/1", "from", args.items[0], "out", out);
    if (su_cli_report(doc, &st, &err)) printf("imported %s into %s\n", args.items[0], out);
    json_decref(doc);
    su_options_free(&args, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}

static json_t *describe(const su_model *m)
{
    json_t *doc = json_object(), *groups = json_object();
    double tau = 0.0;
    su_model_temperature(m, &tau, NULL);
    json_object_set_new(doc, "schema", json_string("suture.model.info/1"));
    int64_t total = 0;
    for (int64_t i = 0; i < m->params.count; i++) {
        const su_param *p = &m->params.items[i];
        char part[80];
        snprintf(part, sizeof part, "%.*s", (int)strcspn(p->name, "."), p->name);
        json_int_t so_far = json_integer_value(json_object_get(groups, part));
        json_object_set_new(groups, part, json_integer(so_far + p->count));
        total += p->count;
    }
    json_object_set_new(doc, "parameters", json_integer(total));
    json_object_set_new(doc, "parameters_of", groups);
    json_object_set_new(doc, "temperature", json_real(tau));
    json_object_set_new(doc, "model_sha256", json_string(m->sha256));
    json_object_set_new(doc, "vocabulary_sha256",
                        m->tokenizer ? json_string(su_wordpiece_sha256(m->tokenizer)) : json_null());
    json_object_set_new(doc, "model", su_model_config_json(&m->config));
    return doc;
}

static void print_model(const char *folder, const su_model *m, const json_t *doc)
{
    const su_model_config *c = &m->config;
    printf("%s: %.2f M parameters, shared space of %d dimensions, tau %.4f\n\n", folder,
           (double)json_integer_value(json_object_get(doc, "parameters")) / 1e6, su_model_width(m),
           json_real_value(json_object_get(doc, "temperature")));
    printf("  %-10s %-5s %6s %6s %6s %6s  %-12s %s\n", "stream", "kind", "width", "depth", "heads", "mlp",
           "input", "pooling");
    for (int i = 0; i < c->streams; i++) {
        const su_tower_config *t = &c->stream[i].tower;
        char input[48];
        if (t->kind == SU_TOWER_VIT)
            snprintf(input, sizeof input, "%d px / %d", t->image_size, t->patch);
        else
            snprintf(input, sizeof input, "%d tokens", t->max_tokens);
        printf("  %-10s %-5s %6d %6d %6d %6d  %-12s %s\n", c->stream[i].name,
               t->kind == SU_TOWER_VIT ? "ViT" : "BERT", t->width, t->depth, t->heads, t->mlp, input,
               t->pooling == SU_POOLING_CLS ? "class token" : "mean");
    }
    if (c->recipe.size) {
        char recipe[128];
        su_image_recipe_text(&c->recipe, recipe);
        printf("\n  image recipe: %s\n", recipe);
    }
    if (m->tokenizer)
        printf("  vocabulary: %d tokens, sha256 %.16s...\n", su_wordpiece_size(m->tokenizer),
               su_wordpiece_sha256(m->tokenizer));
    printf("  weights: sha256 %.16s...\n", m->sha256);
}

int su_cmd_model_info(int argc, char **argv)
{
    const su_option options[] = {{0}};
    const su_command command = {
        .name = "model info",
        .synopsis = "RUN [options]",
        .summary = "Shows the towers, recipe, vocabulary and size of a run or of an imported model.",
        .examples = "  suture model info runs/closegap\n  suture model info minilm --json -\n",
        .options = options,
        .min_positional = 1,
        .max_positional = 1};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_device *device = NULL;
    su_model *m = NULL;
    su_status st = su_cli_open_model(args.items[0], "cpu", 0, &device, &m, &err);
    json_t *doc = st ? NULL : describe(m);
    if (su_cli_report(doc, &st, &err)) print_model(args.items[0], m, doc);
    json_decref(doc);
    su_model_free(m);
    su_device_close(device);
    su_options_free(&args, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
