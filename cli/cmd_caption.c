/* suture caption: captions for image files, folders and packed datasets. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/resize.h"
#include "caption/guard.h"
#include "caption/words.h"
#include "caption/write.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/inputs.h"
#include "cli/options.h"
#include "cli/ordered.h"
#include "cli/train.h"
#include "datasets/loader.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *model, *data, *split, *device;
    su_option_list forbid, require;
    double length_penalty, repetition_penalty, temperature, top_p;
    int64_t beams, max_tokens, min_tokens, ngram, top_k, seed, evidence, slots, threads;
    bool sample, confidence, resume, evidence_given, beams_given;
} arguments;

/* Everything of one call. */
typedef struct {
    const arguments *arguments;
    su_captioner *captioner;
    su_device *device;
    su_dataset *data; /* or NULL: files */
    int64_t *items;   /* of the dataset */
    su_inputs files;
    int64_t count, next; /* inputs, and the one to be fetched */
    su_ordered *out;
    su_progress *progress;
    int64_t written, failed, before;
    const volatile sig_atomic_t *stop;
    su_picture_facts *facts; /* [count] of files; the identities point to them */
} job;

/* --- inputs -------------------------------------------------------------------------------------------- */

static const char *name_of(const job *j, int64_t number)
{
    return j->data ? su_dataset_record(j->data, j->items[number])->id : j->files.names[number];
}

static su_status put(job *j, int64_t number, json_t *line, su_error *err)
{
    su_status st = su_ordered_put(j->out, number, line, err);
    su_progress_step(j->progress, j->before + j->written + j->failed, NULL);
    return st;
}

typedef struct {
    job *job;
    uint8_t *pixels;
    int64_t *numbers;
    su_error *errors;
    size_t image;
} preparation;

static void prepare_one(void *context, int64_t task, int worker)
{
    (void)worker;
    preparation *p = context;
    const job *j = p->job;
    const su_model *m = j->captioner->model;
    const su_tower_config *t = &m->config.stream[j->captioner->stream].tower;
    uint8_t *out = p->pixels + (size_t)task * p->image;
    int64_t number = p->numbers[task];
    if (!j->data) {
        su_image_prepare(j->files.paths[number], &m->config.recipe, t->image_size, out, &j->facts[number],
                         &p->errors[task]);
        return;
    }
    const su_image_recipe *r = su_dataset_recipe(j->data);
    int slot = 0;
    while (slot < su_dataset_streams(j->data) &&
           strcmp(su_dataset_stream(j->data, slot), m->config.stream[j->captioner->stream].name) != 0)
        slot++;
    const su_raster in = {(uint8_t *)(uintptr_t)su_dataset_pixels(j->data, slot, j->items[number]), r->size,
                          r->size, r->channels, (int64_t)r->size * r->channels};
    const su_raster to = {out, t->image_size, t->image_size, r->channels,
                          (int64_t)t->image_size * r->channels};
    su_resize(&in, NULL, &to, &p->errors[task]);
}

static json_t *error_line(const job *j, int64_t number, const su_error *bad)
{
    char *reason = su_inputs_text(bad->message); /* it names the file, in whatever bytes */
    json_t *line = json_pack("{s:s,s:s}", j->data ? "id" : "file", name_of(j, number), "error", reason);
    su_free(reason);
    return line;
}

static su_identity who_is(const job *j, int64_t number)
{
    const char *stream = j->captioner->model->config.stream[j->captioner->stream].name;
    if (j->data) return su_identity_of(j->data, j->items[number], stream);
    const su_picture_facts *f = &j->facts[number];
    return (su_identity){.id = "", .group = "", .sha256 = f->sha256, .phash = f->phash, .hashed = f->hashed};
}

/* The next images that can be read; what cannot is written down with its reason, what was done before is
 * passed on. */
static su_status fetch(void *context, int32_t room, uint8_t *pixels, int64_t *numbers, su_identity *who,
                       int32_t *count, su_error *err)
{
    job *j = context;
    const su_tower_config *t = &j->captioner->model->config.stream[j->captioner->stream].tower;
    su_error errors[64] = {{0}};
    preparation p = {.job = j,
                     .pixels = pixels,
                     .numbers = numbers,
                     .errors = errors,
                     .image = (size_t)t->image_size * (size_t)t->image_size * (size_t)t->channels};
    su_status st = SU_OK;
    *count = 0;
    if (room > 64) room = 64;
    while (!st && !*count && j->next < j->count && !*j->stop) {
        int32_t n = 0;
        for (; n < room && j->next < j->count && !st; j->next++) {
            const json_t *before = su_ordered_before(j->out, name_of(j, j->next));
            if (before)
                st = put(j, j->next, json_incref((json_t *)(uintptr_t)before), err);
            else
                numbers[n++] = j->next;
        }
        memset(errors, 0, sizeof errors);
        if (!st) su_pool_run(j->device->pool, n, prepare_one, &p);
        for (int32_t i = 0; i < n && !st; i++) {
            int64_t number = numbers[i];
            if (errors[i].code) {
                j->failed++;
                st = put(j, number, error_line(j, number, &errors[i]), err);
                continue;
            }
            if (*count < i) memmove(pixels + (size_t)*count * p.image, pixels + (size_t)i * p.image, p.image);
            who[*count] = who_is(j, number);
            numbers[(*count)++] = number;
        }
    }
    return st;
}

/* --- output -------------------------------------------------------------------------------------------- */

static json_t *tokens_json(const job *j, const su_generated *g)
{
    json_t *list = json_array();
    for (int32_t t = 0; list && t < g->length; t++)
        json_array_append_new(list,
                              json_pack("[s,f]", su_wordpiece_token(j->captioner->tokenizer, g->tokens[t]),
                                        exp((double)g->log_probs[t])));
    return list;
}

static su_status add_evidence(const job *j, const su_written *w, json_t *line, su_error *err)
{
    enum { FLAGS = 16 };
    su_flag flags[FLAGS];
    const char *texts[16];
    int32_t count = 0;
    json_t *evidence = json_array(), *list = json_array();
    for (int32_t k = 0; k < w->pieces; k++) {
        const su_evidence_item *e = su_evidence_at(j->captioner->evidence, w->evidence[k]);
        texts[k] = e->text;
        json_array_append_new(evidence, json_pack("{s:s,s:s,s:s,s:f}", "id", e->identity.id, "file", e->file,
                                                  "caption", e->text, "score", (double)w->scores[k]));
    }
    su_status st = su_guard(w->text, texts, w->pieces, flags, FLAGS, &count, err);
    for (int32_t i = 0; i < count && i < FLAGS && !st; i++)
        json_array_append_new(
            list,
            json_pack("{s:s,s:s,s:s,s:s,s:s}", "kind", su_flag_name(flags[i].kind), "word", flags[i].word,
                      "caption", flags[i].caption, "evidence", flags[i].other, "evidence_id",
                      su_evidence_at(j->captioner->evidence, w->evidence[flags[i].evidence])->identity.id));
    if (json_object_set_new(line, "evidence", evidence) | json_object_set_new(line, "flags", list))
        st = su_fail(err, SU_ENOMEM, "no memory for a line");
    return st;
}

static su_status written(void *context, const su_written *w, su_error *err)
{
    job *j = context;
    const su_generated *g = w->generated;
    json_t *line = json_object();
    if (!line) return su_fail(err, SU_ENOMEM, "no memory for a line");
    const su_record *record = j->data ? su_dataset_record(j->data, j->items[g->number]) : NULL;
    if (record) json_object_set_new(line, "id", json_string(record->id));
    json_object_set_new(line, "file", json_string(record ? record->source : name_of(j, g->number)));
    json_object_set_new(line, "caption", json_string(w->text));
    json_object_set_new(line, "log_prob", json_real(g->log_prob));
    json_object_set_new(line, "verified", json_false()); /* whoever takes the line further must see it */
    /* Its own text, as reference files have it: `eval caption` takes the file for both. */
    if (record) json_object_set_new(line, "captions", json_pack("[s]", record->text));
    if (j->arguments->confidence) json_object_set_new(line, "tokens", tokens_json(j, g));
    su_status st = j->arguments->evidence > 0 ? add_evidence(j, w, line, err) : SU_OK;
    j->written++;
    if (!st) return put(j, g->number, line, err);
    json_decref(line);
    return st;
}

static void show(const json_t *line)
{
    const char *file = json_string_value(json_object_get(line, "file")),
               *id = json_string_value(json_object_get(line, "id"));
    const char *error = json_string_value(json_object_get(line, "error"));
    printf("%s\n", id ? id : file ? file : "");
    if (error) {
        printf("    could not be captioned: %s\n", error);
        return;
    }
    const json_t *own = json_array_get(json_object_get(line, "captions"), 0);
    printf("    draft:     %s\n", json_string_value(json_object_get(line, "caption")));
    if (own) printf("    reference: %s\n", json_string_value(own));
    size_t i;
    json_t *x;
    json_array_foreach(json_object_get(line, "evidence"), i, x)
        printf("    evidence %.2f  %s: %s\n", json_number_value(json_object_get(x, "score")),
               json_string_value(json_object_get(x, "id")), json_string_value(json_object_get(x, "caption")));
    json_array_foreach(json_object_get(line, "flags"), i, x) printf(
        "    ! %s: \"%s\" is %s here and %s in %s\n", json_string_value(json_object_get(x, "kind")),
        json_string_value(json_object_get(x, "word")), json_string_value(json_object_get(x, "caption")),
        json_string_value(json_object_get(x, "evidence")),
        json_string_value(json_object_get(x, "evidence_id")));
    fflush(stdout);
}

/* --- the whole ----------------------------------------------------------------------------------------- */

static su_status rules_of(const arguments *a, const su_captioner *c, su_generation *g, su_error *err)
{
    su_generation_defaults(g);
    g->beams = a->beams_given || !a->sample ? (int32_t)a->beams : 1;
    g->length_penalty = a->length_penalty;
    g->max_tokens = (int32_t)a->max_tokens;
    g->min_tokens = (int32_t)a->min_tokens;
    g->no_repeat_ngram = (int32_t)a->ngram;
    g->repetition_penalty = a->repetition_penalty;
    g->sample = a->sample;
    g->temperature = a->temperature;
    g->top_p = a->top_p;
    g->top_k = (int32_t)a->top_k;
    g->seed = (uint64_t)a->seed;
    su_status st = su_phrases_new(c->tokenizer, a->forbid.items, a->forbid.count, true, &g->forbidden, err);
    if (!st) st = su_phrases_new(c->tokenizer, a->require.items, a->require.count, false, &g->required, err);
    return st;
}

static json_t *list_json(const su_option_list *l)
{
    json_t *o = json_array();
    for (int i = 0; o && i < l->count; i++) json_array_append_new(o, json_string(l->items[i]));
    return o;
}

static json_t *settings_json(const arguments *a, const su_captioner *c, const su_generation *g)
{
    return json_pack("{s:s,s:s,s:i,s:f,s:i,s:i,s:i,s:f,s:b,s:f,s:f,s:i,s:I,s:I,s:o?,s:o?,s:b}", "schema",
                     "suture.caption.settings/1", "model_sha256", c->model->sha256, "beam", (int)g->beams,
                     "length_penalty", g->length_penalty, "max_tokens", (int)g->max_tokens, "min_tokens",
                     (int)g->min_tokens, "no_repeat_ngram", (int)g->no_repeat_ngram, "repetition_penalty",
                     g->repetition_penalty, "sample", (int)g->sample, "temperature", g->temperature, "top_p",
                     g->top_p, "top_k", (int)g->top_k, "seed", (json_int_t)g->seed, "evidence",
                     (json_int_t)a->evidence, "forbid", list_json(&a->forbid), "require",
                     list_json(&a->require), "confidence", (int)a->confidence);
}

static su_status open_inputs(job *j, const su_option_list *given, su_error *err)
{
    const arguments *a = j->arguments;
    if (!a->data) {
        su_status st = su_inputs_list(given->items, given->count, su_option_json(), &j->files, err);
        j->count = j->files.count;
        j->facts = su_calloc((size_t)j->count + 1, sizeof *j->facts);
        return !st && !j->facts ? su_fail(err, SU_ENOMEM, "no memory for %lld files", (long long)j->count)
                                : st;
    }
    su_status st = su_dataset_open(a->data, &j->data, err);
    if (!st) st = su_model_check_dataset(j->captioner->model, j->data, err);
    if (!st) st = su_dataset_split(j->data, a->split, &j->items, &j->count, err);
    return st ? st : su_dataset_check_pixels(j->data, j->items, j->count, err);
}

static su_status run(const arguments *a, const su_option_list *given, job *j, su_error *err)
{
    su_generation rules = {0};
    const char *path = su_option_json();
    json_t *settings = NULL;
    su_status st = su_device_open(a->device, (int)a->threads, &j->device, err);
    if (!st) st = su_captioner_open(a->model, j->device, &j->captioner, err);
    arguments own = *a;
    if (!st && !a->evidence_given) own.evidence = j->captioner->pieces;
    if (!st && !own.max_tokens)
        own.max_tokens = j->captioner->max_tokens < 40 ? j->captioner->max_tokens : 40;
    j->arguments = &own;
    if (!st) st = rules_of(&own, j->captioner, &rules, err);
    if (!st) st = open_inputs(j, given, err);
    if (!st) {
        settings = settings_json(&own, j->captioner, &rules);
        st = settings ? su_ordered_open(path, settings, j->data ? "id" : "file", a->resume,
                                        path ? NULL : show, &j->out, err)
                      : su_fail(err, SU_ENOMEM, "no memory for the settings");
    }
    if (!st) {
        j->before = su_ordered_count_before(j->out);
        if (j->before)
            su_log(SU_LOG_INFO, "%lld of %lld were done before", (long long)j->before, (long long)j->count);
        if (path && (strcmp(path, "-") || !isatty(STDOUT_FILENO))) /* else the lines themselves are seen */
            j->progress = su_progress_new("caption", "images", j->count);
        su_caption_work work = {.next = fetch, .written = written, .context = j};
        st = su_caption_write(j->captioner, &rules, (int32_t)a->slots, (int32_t)own.evidence, &work, err);
        su_progress_free(j->progress);
        j->progress = NULL;
    }
    if (!st && *j->stop)
        st = su_fail(err, SU_EINTERRUPTED, "stopped after %lld of %lld images%s",
                     (long long)(j->before + j->written + j->failed), (long long)j->count,
                     path && strcmp(path, "-") ? "; --resume goes on from here" : "");
    if (!st) st = su_ordered_finish(j->out, err);
    j->arguments = a;
    json_decref(settings);
    su_phrases_free(&rules.forbidden);
    su_phrases_free(&rules.required);
    return st;
}

static void job_free(job *j)
{
    su_ordered_close(j->out);
    su_captioner_free(j->captioner);
    su_device_close(j->device);
    su_dataset_close(j->data);
    su_inputs_free(&j->files);
    su_free(j->items);
    su_free(j->facts);
}

int su_cmd_caption(int argc, char **argv)
{
    arguments a = {.device = "cpu",
                   .beams = 3,
                   .length_penalty = 0.6,
                   .repetition_penalty = 1.0,
                   .temperature = 1.0,
                   .top_p = 1.0,
                   .slots = 32};
    const su_option options[] = {
        SU_STRING("model", &a.model, "RUN", "run of 'suture train --caption' (required)"),
        SU_STRING("data", &a.data, "DS", "caption a packed dataset instead of files"),
        SU_STRING("split", &a.split, "S", "of the dataset (all)"),
        SU_INT("beam", &a.beams, 1, SU_BEAMS_MAX, "N", "beams of the search (3); 1: greedy",
               .given = &a.beams_given),
        SU_NUMBER("length-penalty", &a.length_penalty, -10, 10, "X", "above 0 longer captions gain"),
        SU_INT("max-tokens", &a.max_tokens, 1, 4096, "N", "longest caption, in word pieces (40)"),
        SU_INT("min-tokens", &a.min_tokens, 0, 4096, "N", "shortest caption"),
        SU_INT("no-repeat-ngram", &a.ngram, 0, 4096, "N", "no sequence of N word pieces twice; 0: off"),
        SU_NUMBER("repetition-penalty", &a.repetition_penalty, 0.01, 100, "X",
                  "above 1 words that were used lose"),
        SU_LIST("forbid", &a.forbid, "PHRASE", "no caption holds these"),
        SU_LIST("require", &a.require, "PHRASE", "every caption holds these"),
        SU_FLAG("sample", &a.sample, "draw words instead of taking the best (with one beam)"),
        SU_NUMBER("temperature", &a.temperature, 0.001, 1000, "T", "of --sample"),
        SU_INT("top-k", &a.top_k, 0, 1e9, "N", "of --sample: among the N likeliest; 0: all"),
        SU_NUMBER("top-p", &a.top_p, 0.000001, 1, "X",
                  "of --sample: among the likeliest that hold X of the probability"),
        SU_INT("seed", &a.seed, 0, 9e15, "N", "of --sample: same seed, same captions"),
        SU_INT("evidence", &a.evidence, 0, 16, "N",
               "captions of so many nearest training images are offered and named (as trained)",
               .given = &a.evidence_given),
        SU_FLAG("confidence", &a.confidence, "add \"tokens\": every word piece with its probability"),
        SU_INT("batch", &a.slots, 1, 4096, "N",
               "images under way at a time; the captions are the same for any number"),
        SU_DEVICE_OPTION(&a.device),
        SU_THREADS_OPTION(&a.threads),
        SU_FLAG("resume", &a.resume, "go on with the --json file of an interrupted call"),
        {0}};
    const su_command command = {
        .name = "caption",
        .synopsis = "--model RUN FILE|DIR... | --data DS [--split S] [options]",
        .summary = "Writes captions for JPEG, PNG and DICOM files: drafts for a reader, never findings, and "
                   "\"verified\"\n"
                   "is false in every line. JSON Lines in input order with --json; a file that cannot be "
                   "captioned gets\n"
                   "a line with the reason. With --data each line also holds the record's own text "
                   "(\"captions\"), so\n"
                   "that 'suture eval caption' scores the file against itself.",
        .examples = "  suture caption --model runs/captions figure.png\n"
                    "  suture caption --model runs/captions folder --json captions.jsonl\n"
                    "  suture caption --model runs/captions folder --json captions.jsonl --resume\n"
                    "  suture caption --model runs/captions --data roco --split val --json val.jsonl\n"
                    "  suture eval caption --hypotheses val.jsonl --references val.jsonl\n"
                    "  suture caption --model runs/captions figure.png --require \"pleural effusion\" "
                    "--forbid arrow\n",
        .options = options,
        .min_positional = 0,
        .max_positional = -1};
    su_option_list given = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &given);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    job j = {.arguments = &a, .stop = su_stop_on_signals()};
    const char *path = su_option_json();
    bool person = !path || strcmp(path, "-") != 0;
    char *partial = NULL;
    su_status st = SU_OK;
    if (!a.model)
        st = su_fail(&err, SU_EINVAL, "--model RUN is missing");
    else if (!given.count == !a.data)
        st = su_fail(&err, SU_EINVAL,
                     a.data ? "give files or --data, not both" : "give files, folders or --data DS");
    else if (a.resume && (!path || !strcmp(path, "-")))
        st = su_fail(&err, SU_EINVAL, "--resume goes on with a file: name it with --json FILE");
    if (!st && a.resume && su_file_exists(path)) {
        su_buffer b;
        su_buffer_init(&b, 1 << 16);
        st = su_buffer_printf(&b, &err, "%s.partial", path);
        partial = b.data;
        if (!st && !su_file_exists(partial)) {
            printf("%s is whole: nothing is left to do\n", path);
            su_free(partial);
            su_options_free(&given, &command);
            return SU_EXIT_OK;
        }
    }
    if (!st) st = run(&a, &given, &j, &err);
    if (!st && j.count && !j.written && !j.before)
        st = su_fail(&err, SU_EFORMAT, "none of the %lld files could be captioned%s", (long long)j.count,
                     path ? ": the reasons stand in the lines" : "");
    if (!st && person) {
        printf("%lld captioned", (long long)j.written);
        if (j.before) printf(", %lld before", (long long)j.before);
        if (j.failed) printf(", %lld could not be", (long long)j.failed);
        if (path) printf(": %s", path);
        printf("\n");
    }
    su_free(partial);
    job_free(&j);
    su_options_free(&given, &command);
    if (st == SU_EINTERRUPTED) {
        su_cli_fail(&command, &err);
        return 130;
    }
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
