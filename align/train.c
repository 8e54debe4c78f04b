#include "align/train.h"
#include "align/embed.h"
#include "align/init.h"
#include "align/objective.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "eval/alignment.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Everything of one run. */
typedef struct {
    const su_train_options *options;
    su_train_config config;
    su_dataset *data;
    su_model *model;
    su_step *step;
    su_loader *loader;
    su_optimiser optimiser;
    int64_t *train, *holdout, pairs, held; /* item indexes */
    int64_t batches, steps;                /* an epoch's, the run's */
    int64_t done;                          /* steps finished */
    double best_mrr;                       /* NAN: none yet */
    int64_t best_epoch;
    FILE *log;
    char config_sha256[SU_SHA256_HEX];
    int lock; /* on the run's folder */
    char *config_path, *log_path, *checkpoint_path, *run_path;
} run;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- data
 * ---------------------------------------------------------------------------------------------------------
 */

/* A group is held out by a hash of its name alone: the same groups for every seed, so that runs can be
 * compared. */
static bool held_out(const su_record *r, double share)
{
    char key[512];
    int n = snprintf(key, sizeof key, "holdout\n%s", *r->group ? r->group : r->id);
    size_t length = n < (int)sizeof key ? (size_t)n : sizeof key - 1;
    return (double)su_hash64(key, length) < share * 18446744073709551616.0;
}

static su_status choose_items(run *r, su_error *err)
{
    int64_t *items = NULL, count = 0;
    su_status st =
        su_dataset_split(r->data, r->options->split ? r->options->split : "train", &items, &count, err);
    if (st) return st;
    r->train = items;
    r->holdout = su_alloc((size_t)(count > 0 ? count : 1), sizeof *r->holdout);
    if (!r->holdout) return su_fail(err, SU_ENOMEM, "no memory for the holdout");
    for (int64_t i = 0; i < count; i++) {
        if (r->config.holdout > 0.0 && held_out(su_dataset_record(r->data, items[i]), r->config.holdout))
            r->holdout[r->held++] = items[i];
        else
            r->train[r->pairs++] = items[i];
    }
    if (r->pairs < r->config.batch)
        return su_fail(err, SU_EINVAL,
                       "%lld training pairs do not fill one batch of %d: use a smaller --batch",
                       (long long)r->pairs, r->config.batch);
    if (r->config.holdout > 0.0 && r->held < 2)
        return su_fail(
            err, SU_EINVAL,
            "a holdout of %g leaves %lld pairs to choose the best epoch on: raise it, or set it to 0",
            r->config.holdout, (long long)r->held);
    return SU_OK;
}

/* --- model
 * -------------------------------------------------------------------------------------------------------- */

static su_status prepare_config(run *r, char **vocabulary, su_error *err)
{
    su_model_config *m = &r->config.model;
    const su_image_recipe *recipe = su_dataset_recipe(r->data);
    m->recipe = *recipe;
    for (int i = 0; i < m->streams; i++) {
        su_tower_config *t = &m->stream[i].tower;
        if (t->kind != SU_TOWER_VIT) continue;
        t->channels = recipe->channels;
        if (t->image_size > recipe->size)
            return su_fail(
                err, SU_EINVAL,
                "stream '%s' takes %d px, but %s was packed at %d px: import with --size %d or more",
                m->stream[i].name, t->image_size, r->options->data, recipe->size, t->image_size);
    }
    su_status st = su_init_configure(m, vocabulary, err);
    if (!st && !*vocabulary && r->options->vocabulary) {
        *vocabulary = su_strdup(r->options->vocabulary);
        if (!*vocabulary) return su_fail(err, SU_ENOMEM, "no memory");
    }
    return st ? st : su_config_check(&r->config, err);
}

static su_status build_model(run *r, const char *vocabulary, su_error *err)
{
    su_wordpiece *tokenizer = NULL;
    su_model_config *m = &r->config.model;
    su_status st = SU_OK;
    bool text = false;
    for (int i = 0; i < m->streams; i++) text |= m->stream[i].tower.kind == SU_TOWER_BERT;
    if (text && !vocabulary)
        return su_fail(err, SU_EINVAL, "the text tower needs a vocabulary: give --vocab VOCAB.txt");
    if (text) st = su_wordpiece_open(vocabulary, &tokenizer, err);
    for (int i = 0; i < m->streams && !st; i++)
        if (m->stream[i].tower.kind == SU_TOWER_BERT && !*m->stream[i].init)
            m->stream[i].tower.vocabulary = su_wordpiece_size(tokenizer);
    if (st) return st;
    st = su_model_new(m, r->options->device, tokenizer, true, r->config.seed, &r->model, err);
    if (!st) st = su_init_load(r->model, err);
    double s = log(1.0 / r->config.objective.temperature);
    if (!st) st = su_params_set(&r->model->params, r->model->logit_scale, &s, err);
    if (st) return st;
    su_params_refresh(&r->model->params);
    size_t bytes = 0;
    st = su_step_new(r->model, r->config.batch, r->config.micro_batch, &r->step, &bytes, err);
    if (!st) {
        const su_params *p = &r->model->params;
        size_t acc = su_dtype_size(p->device->acc);
        int32_t micro = r->config.micro_batch ? r->config.micro_batch : r->config.batch;
        su_log(SU_LOG_INFO,
               "model: %.2f M parameters; memory planned: %.0f MB weights, gradients and moments + %.0f MB "
               "activations (batch %d in micro-batches of %d)",
               (double)p->elements / 1e6, (double)p->elements * (double)acc * 4.0 / 1e6, (double)bytes / 1e6,
               r->config.batch, micro < r->config.batch ? micro : r->config.batch);
    }
    return st;
}

static void prepare_optimiser(run *r)
{
    const su_train_config *c = &r->config;
    su_optimiser *o = &r->optimiser;
    *o = (su_optimiser){.beta1 = c->beta1,
                        .beta2 = c->beta2,
                        .eps = c->eps,
                        .weight_decay = c->weight_decay,
                        .clip_norm = c->clip_norm,
                        .warmup = (int64_t)llround(c->warmup * (double)r->steps),
                        .steps = r->steps};
    for (int i = 0; i < c->model.streams; i++)
        o->lr[SU_GROUP_STREAM + i] = c->lr * c->model.stream[i].lr_factor;
    o->lr[SU_GROUP_PROJECTION] = c->lr;
    if (c->objective.learn_temperature)
        o->lr[SU_GROUP_LOGIT_SCALE] = c->objective.temperature_lr > 0.0 ? c->objective.temperature_lr : c->lr;
}

/* 1/tau <= 100 [method 1]. */
static su_status clamp_temperature(run *r, double *tau, su_error *err)
{
    const su_params *p = &r->model->params;
    double s = 0.0, top = log(100.0);
    su_status st = su_params_get(p, r->model->logit_scale, &s, err);
    if (!st && s > top) {
        s = top;
        st = su_params_set(&r->model->params, r->model->logit_scale, &s, err);
        su_params_refresh(&r->model->params);
    }
    *tau = exp(-s);
    return st;
}

/* --- checkpoint
 * ----------------------------------------------------------------------------------------------------- */

static su_status save_checkpoint(run *r, su_error *err)
{
    char done[32], best[32], epoch[32];
    snprintf(done, sizeof done, "%lld", (long long)r->done);
    snprintf(best, sizeof best, "%.17g", r->best_mrr);
    snprintf(epoch, sizeof epoch, "%lld", (long long)r->best_epoch);
    if (fflush(r->log) || fsync(fileno(r->log)))
        return su_fail(err, SU_EIO, "%s: %s: free space or choose another folder, then --resume", r->log_path,
                       strerror(errno));
    return su_params_save(&r->model->params, r->checkpoint_path, true,
                          (const char *const[]){"format", "suture.checkpoint/1", "step", done, "best_mrr",
                                                best, "best_epoch", epoch, "data", su_dataset_sha256(r->data),
                                                "config", r->config_sha256, NULL},
                          err);
}

static su_status load_checkpoint(run *r, su_error *err)
{
    su_safetensors *file = NULL;
    su_status st = su_safetensors_open(r->checkpoint_path, &file, err);
    if (!st) st = su_safetensors_verify(file, err);
    const char *step = NULL, *best = NULL, *epoch = NULL, *data = NULL, *config = NULL;
    if (!st) {
        step = su_safetensors_metadata(file, "step");
        best = su_safetensors_metadata(file, "best_mrr");
        epoch = su_safetensors_metadata(file, "best_epoch");
        data = su_safetensors_metadata(file, "data");
        config = su_safetensors_metadata(file, "config");
        if (!step || !best || !epoch || !data)
            st = su_fail(err, SU_EFORMAT, "%s is no checkpoint of a run", r->checkpoint_path);
        else if (strcmp(data, su_dataset_sha256(r->data)))
            st = su_fail(err, SU_EMISMATCH,
                         "%s is not the dataset that this run was started on (its manifest differs)",
                         r->options->data);
        else if (config && strcmp(config, r->config_sha256))
            st = su_fail(
                err, SU_EMISMATCH,
                "%s is not what this run was started with (it was changed or damaged since): restore it, or "
                "start a new run",
                r->config_path);
    }
    if (!st) st = su_params_load(&r->model->params, file, true, err);
    if (!st) {
        r->done = strtoll(step, NULL, 10);
        r->best_mrr = strtod(best, NULL);
        r->best_epoch = strtoll(epoch, NULL, 10);
        if (r->done < 0 || r->done > r->steps)
            st = su_fail(err, SU_EMISMATCH, "%s is at step %lld of a run of %lld steps", r->checkpoint_path,
                         (long long)r->done, (long long)r->steps);
    }
    su_safetensors_close(file);
    return st;
}

/* Opens the log for appending; lines past the checkpoint belong to steps that will be done again and are cut.
 */
typedef struct {
    run *r;
    su_writer *out;
} log_cut;

static su_status keep_line(void *context, int64_t number, json_t *line, su_error *err)
{
    (void)number;
    log_cut *c = context;
    int64_t step = json_integer_value(json_object_get(line, "step"));
    if (step > c->r->done) return SU_OK;
    char *text = json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text) return su_fail(err, SU_ENOMEM, "no memory to copy the log");
    su_status st = su_writer_printf(c->out, err, "%s\n", text);
    free(text);
    return st;
}

/* The last line of a killed run may be torn; everything up to the last newline is whole. */
static su_status cut_torn_line(const char *path, su_error *err)
{
    char *data = NULL;
    size_t length = 0;
    su_status st = su_file_read(path, (size_t)1 << 32, &data, &length, err);
    if (st) return st;
    size_t whole = length;
    while (whole > 0 && data[whole - 1] != '\n') whole--;
    if (whole < length) st = su_file_write(path, data, whole, err);
    su_free(data);
    return st;
}

static su_status open_log(run *r, su_error *err)
{
    su_status st = SU_OK;
    if (r->done > 0 && su_file_exists(r->log_path)) {
        log_cut cut = {.r = r};
        st = cut_torn_line(r->log_path, err);
        if (!st) st = su_writer_open(r->log_path, &cut.out, err);
        if (!st) st = su_jsonl_read(r->log_path, keep_line, &cut, err);
        if (!st)
            st = su_writer_commit(cut.out, err);
        else
            su_writer_abort(cut.out);
        if (st) return st;
    }
    r->log = fopen(r->log_path, r->done > 0 ? "a" : "w");
    if (!r->log) return su_fail(err, SU_EIO, "cannot write %s: %s", r->log_path, strerror(errno));
    return SU_OK;
}

static su_status log_line(run *r, json_t *line, su_error *err)
{
    if (!line) return su_fail(err, SU_ENOMEM, "no memory for a log line");
    int bad = json_dumpf(line, r->log, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(line);
    if (bad || fputc('\n', r->log) == EOF)
        return su_fail(err, SU_EIO, "cannot write %s: %s", r->log_path, strerror(errno));
    return SU_OK;
}

/* --- one step, one epoch
 * --------------------------------------------------------------------------------------------- */

static json_t *number_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static su_status name_batch(run *r, const su_batch *b, su_error *err)
{
    char ids[512] = "";
    for (int32_t i = 0; i < b->count && strlen(ids) + 80 < sizeof ids; i++)
        snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%s%.60s", i ? ", " : "",
                 su_dataset_record(r->data, b->items[i])->id);
    return su_fail_context(
        err, SU_ENUMERIC,
        "step %lld (epoch %lld, batch %lld: samples %s%s); the last checkpoint is whole: try a "
        "lower --lr, and look at these samples",
        (long long)r->done + 1, (long long)b->epoch + 1, (long long)b->in_epoch + 1, ids,
        b->count > 8 ? ", ..." : "");
}

static su_status train_step(run *r, const su_batch *b, su_losses *losses, su_error *err)
{
    su_model *model = r->model;
    su_step_batch in = {.count = b->count, .train = true, .seed = r->config.seed, .step = r->done + 1};
    for (int m = 0; m < model->config.streams; m++) {
        int slot = su_embed_image_slot(model, r->data, m);
        if (slot >= 0) in.images[m] = b->images[slot];
        in.ids[m] = b->ids;
        in.lengths[m] = b->lengths;
    }
    double norm = 0.0, tau = 0.0, progress = (double)r->done / (double)r->steps;
    su_status st = su_step_run(r->step, &in, &r->config.objective, progress, losses, err);
    if (!st) st = su_optimiser_step(&r->optimiser, &model->params, r->done + 1, &norm, err);
    if (st == SU_ENUMERIC) return name_batch(r, b, err);
    if (!st) st = clamp_temperature(r, &tau, err);
    if (st) return st;
    r->done++;
    return log_line(r,
                    json_pack("{s:I,s:I,s:f,s:f,s:o,s:o,s:f,s:f,s:f}", "step", (json_int_t)r->done, "epoch",
                              (json_int_t)b->epoch + 1, "loss", losses->total, "infonce", losses->infonce,
                              "atp", number_or_null(losses->atp), "cu", number_or_null(losses->cu), "tau",
                              tau, "grad_norm", norm, "lr",
                              r->config.lr * su_schedule(&r->optimiser, r->done)),
                    err);
}

/* Scores the holdout, keeps the model when it is the best so far (or, without a holdout, always). */
static su_status end_epoch(run *r, int64_t epoch, su_error *err)
{
    su_status st = SU_OK;
    bool keep = r->held == 0 || !r->config.keep_best;
    if (r->held > 0) {
        float *z[SU_MAX_STREAMS] = {NULL};
        su_alignment_score *score = su_calloc(1, sizeof *score);
        su_alignment_options o;
        su_alignment_defaults(&o);
        o.draws = 0;
        o.pool = r->options->device->pool;
        int streams = r->model->config.streams, a = r->model->config.anchor;
        st = score ? su_embed_items(r->model, r->data, r->holdout, r->held, NULL, NULL, z, err)
                   : su_fail(err, SU_ENOMEM, "no memory to score the holdout");
        if (!st)
            st = su_alignment_score_compute((const float *const *)z, streams, r->held,
                                            su_model_width(r->model), &o, score, err);
        if (!st) {
            double mrr = 0.0, r10 = 0.0, gap = 0.0, cos = 0.0;
            for (int m = 0; m < streams; m++) {
                if (m == a) continue;
                const su_pair_score *p = m < a ? &score->pair[m][a] : &score->pair[a][m];
                mrr += (p->forward.mrr + p->backward.mrr) / 2.0 / (streams - 1);
                r10 += (p->forward.r10 + p->backward.r10) / 2.0 / (streams - 1);
                gap += p->gap / (streams - 1);
                cos += p->cos_true_pairs / (streams - 1);
            }
            bool best = isnan(r->best_mrr) || mrr > r->best_mrr;
            if (best) {
                r->best_mrr = mrr;
                r->best_epoch = epoch;
                keep |= r->config.keep_best;
            }
            st = log_line(r,
                          json_pack("{s:I,s:I,s:{s:I,s:f,s:f,s:f,s:f,s:b}}", "step", (json_int_t)r->done,
                                    "epoch", (json_int_t)epoch, "val", "pool", (json_int_t)r->held, "mrr",
                                    mrr, "r10", r10, "gap", gap, "cos_true_pairs", cos, "best", (int)best),
                          err);
            su_log(SU_LOG_INFO,
                   "epoch %lld/%lld: holdout of %lld: MRR %.4f, R@10 %.1f %%, gap %.3f, CosTP %.3f%s",
                   (long long)epoch, (long long)r->config.epochs, (long long)r->held, mrr, 100.0 * r10, gap,
                   cos, best ? "  (best so far)" : "");
        }
        for (int m = 0; m < streams; m++) su_free(z[m]);
        su_free(score);
    }
    bool last = epoch == r->config.epochs;
    if (!st && keep && (last || (r->config.keep_best && r->held > 0)))
        st = su_model_save(r->model, r->options->out, err);
    return st ? st : save_checkpoint(r, err);
}

static su_status train_epochs(run *r, su_losses *losses, su_error *err)
{
    su_status st = SU_OK;
    char what[64], note[96];
    su_progress *progress = NULL;
    int64_t shown = -1;
    while (r->done < r->steps && !st) {
        const su_batch *b = NULL;
        st = su_loader_next(r->loader, &b, err);
        if (st) break;
        if (b->epoch != shown) {
            su_progress_free(progress);
            snprintf(what, sizeof what, "epoch %lld/%lld", (long long)b->epoch + 1,
                     (long long)r->config.epochs);
            progress = su_progress_new(what, "pairs", r->batches * r->config.batch);
            shown = b->epoch;
        }
        bool ends = b->in_epoch + 1 == r->batches;
        int64_t epoch = b->epoch + 1, in_epoch = b->in_epoch + 1;
        st = train_step(r, b, losses, err);
        su_loader_release(r->loader, b);
        if (st) break;
        snprintf(note, sizeof note, "loss %.3f", losses->total);
        su_progress_step(progress, in_epoch * r->config.batch, note);
        bool stop = r->options->stop && *r->options->stop;
        if (ends) {
            su_progress_free(progress);
            progress = NULL;
            st = end_epoch(r, epoch, err);
        } else if (stop || (r->config.checkpoint_steps > 0 && r->done % r->config.checkpoint_steps == 0)) {
            st = save_checkpoint(r, err);
        }
        if (!st && stop && r->done < r->steps)
            st = su_fail(err, SU_EINTERRUPTED, "stopped after step %lld of %lld; --resume goes on from here",
                         (long long)r->done, (long long)r->steps);
    }
    su_progress_free(progress);
    return st;
}

/* --- the whole
 * ------------------------------------------------------------------------------------------------------ */

/* A folder that already holds a run is continued with the same configuration, or refused. */
static su_status settle_config(run *r, su_error *err)
{
    bool exists = su_file_exists(r->config_path) && su_file_exists(r->log_path); /* else it never began */
    json_t *mine = su_config_json(&r->config), *theirs = NULL;
    su_status st = mine ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for the configuration");
    if (!st) json_object_set_new(mine, "data_sha256", json_string(su_dataset_sha256(r->data)));
    if (!st) st = su_json_sha256(mine, r->config_sha256, err);
    if (!st && exists && !r->options->resume)
        st = su_fail(err, SU_EINVAL,
                     "%s already holds a run: add --resume to go on with it, or choose another --out",
                     r->options->out);
    if (!st && exists) st = su_json_read(r->config_path, 1 << 20, &theirs, err);
    if (!st && exists) {
        const char *key;
        json_t *value;
        json_object_foreach(mine, key, value)
        {
            if (json_equal(value, json_object_get(theirs, key))) continue;
            st = su_fail(
                err, SU_EMISMATCH,
                "%s: \"%s\" differs from what this run was started with: a run goes on only as it began",
                r->config_path, key);
            break;
        }
    } else if (!st) {
        st = su_json_write(r->config_path, mine, err);
    }
    json_decref(mine);
    json_decref(theirs);
    return st;
}

static su_status finish(run *r, double seconds, su_error *err)
{
    const su_train_config *c = &r->config;
    char *weights = su_path_join(r->options->out, "model.safetensors"), hash[65] = "";
    su_status st = weights ? su_sha256_file(weights, hash, err) : su_fail(err, SU_ENOMEM, "no memory");
    su_free(weights);
    if (st) return st;
    json_t *doc = json_pack(
        "{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:s,s:s,s:s,s:s,s:f}", "schema", "suture.run/1",
        "objective", c->objective.name, "preset", c->preset, "seed", (json_int_t)c->seed, "epochs",
        (json_int_t)c->epochs, "steps", (json_int_t)r->steps, "pairs", (json_int_t)r->pairs, "holdout_pairs",
        (json_int_t)r->held, "best_epoch", (json_int_t)r->best_epoch, "best_mrr", number_or_null(r->best_mrr),
        "data_sha256", su_dataset_sha256(r->data), "model_sha256", hash, "version", SUTURE_VERSION, "device",
        r->options->device->description, "seconds", seconds);
    if (!doc) return su_fail(err, SU_ENOMEM, "no memory for run.json");
    st = su_json_write_sealed(r->run_path, doc, err);
    json_decref(doc);
    return st;
}

static void run_free(run *r)
{
    su_loader_free(r->loader);
    su_step_free(r->step);
    su_model_free(r->model);
    su_dataset_close(r->data);
    if (r->log) fclose(r->log);
    su_folder_unlock(r->lock);
    su_free(r->train);
    su_free(r->holdout);
    su_free(r->config_path);
    su_free(r->log_path);
    su_free(r->checkpoint_path);
    su_free(r->run_path);
}

su_status su_train(const su_train_options *options, su_train_result *result, su_error *err)
{
    run r = {.options = options, .config = options->config, .best_mrr = (double)NAN, .lock = -1};
    char *vocabulary = NULL;
    double start = seconds_now();
    su_losses losses = {0};
    r.config_path = su_path_join(options->out, "config.json");
    r.log_path = su_path_join(options->out, "log.jsonl");
    r.checkpoint_path = su_path_join(options->out, "checkpoint.safetensors");
    r.run_path = su_path_join(options->out, "run.json");
    su_status st = r.config_path && r.log_path && r.checkpoint_path && r.run_path
                       ? SU_OK
                       : su_fail(err, SU_ENOMEM, "no memory for a run");
    if (!st) st = su_dataset_open(options->data, &r.data, err);
    if (!st) st = choose_items(&r, err);
    if (!st) st = prepare_config(&r, &vocabulary, err);
    if (!st) st = build_model(&r, vocabulary, err);
    if (!st) st = su_model_check_dataset(r.model, r.data, err);
    if (!st) st = su_dataset_check_pixels(r.data, r.train, r.pairs, err);
    if (!st) st = su_dataset_check_pixels(r.data, r.holdout, r.held, err);
    if (!st) st = su_mkdirs(options->out, err);
    if (!st) st = su_folder_lock(options->out, "training", &r.lock, err);
    if (!st) st = settle_config(&r, err);
    r.batches = r.pairs / r.config.batch;
    r.steps = r.batches * r.config.epochs;
    if (!st) prepare_optimiser(&r);
    bool saved = su_file_exists(r.checkpoint_path);
    if (!st && options->resume && saved) st = load_checkpoint(&r, err);
    if (!st && options->resume && !saved && su_file_exists(r.log_path))
        su_log(SU_LOG_INFO, "the run has no checkpoint yet: it begins with the first step");
    if (!st) st = open_log(&r, err);
    if (!st) {
        su_loader_options l = {.batch = r.config.batch,
                               .train = true,
                               .seed = r.config.seed,
                               .augment = r.config.augment,
                               .first_batch = r.done};
        st = su_embed_loader_options(&r.model->config, &l, err);
        if (!st) st = su_loader_new(r.data, r.train, r.pairs, r.model->tokenizer, &l, &r.loader, err);
    }
    if (!st) st = train_epochs(&r, &losses, err);
    double seconds = seconds_now() - start;
    if (!st) st = finish(&r, seconds, err);
    if (result)
        *result = (su_train_result){.steps = r.done,
                                    .epochs = r.batches ? r.done / r.batches : 0,
                                    .best_epoch = r.best_epoch,
                                    .pairs = r.pairs,
                                    .holdout_pairs = r.held,
                                    .seconds = seconds,
                                    .best_mrr = r.best_mrr,
                                    .losses = losses};
    su_free(vocabulary);
    run_free(&r);
    return st;
}
