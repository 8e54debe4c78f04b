#include "align/train.h"
#include "align/embed.h"
#include "align/feed.h"
#include "align/holdout.h"
#include "align/init.h"
#include "align/kept.h"
#include "align/objective.h"
#include "align/run.h"
#include "base/log.h"
#include "eval/alignment.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything of one training. */
typedef struct {
    const su_train_options *options;
    su_train_config config;
    su_dataset *data;
    su_model *model;
    su_step *step;
    su_loader_options loading;
    su_feed *feed;
    size_t sent; /* bytes on the device of batches made ahead */
    su_optimiser optimiser;
    su_holdout items;
    su_kept kept[SU_MAX_STREAMS];  /* of frozen towers, pooled: training samples, then the holdout's */
    float *pooled[SU_MAX_STREAMS]; /* [batch or holdout, tower's width]: rows read back */
    su_run run;
    su_losses losses; /* of the last step */
} training;

/* --- model ---------------------------------------------------------------------------------------------- */

static su_status prepare_config(training *r, char **vocabulary, su_error *err)
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

static size_t planned_bytes(void *context, su_checkpointing level)
{
    training *r = context;
    r->model->checkpointing = level;
    return su_params_bytes(&r->model->params, true) + r->sent +
           su_step_bytes(r->model, r->config.batch / su_comm_ranks(r->options->device->comm),
                         r->config.micro_batch);
}

static su_status build_model(training *r, const char *vocabulary, su_error *err)
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
    st = su_model_table(m, r->options->device, tokenizer, &r->model, err);
    if (st) return st;
    int32_t ranks = su_comm_ranks(r->options->device->comm);
    int32_t batch = r->config.batch / ranks, micro = r->config.micro_batch;
    su_params *p = &r->model->params;
    r->loading = (su_loader_options){.batch = r->config.batch,
                                     .train = true,
                                     .seed = r->config.seed,
                                     .augment = r->config.augment,
                                     .part = su_comm_rank(r->options->device->comm),
                                     .parts = ranks};
    size_t waiting = 0;
    su_checkpointing level;
    st = su_feed_plan(r->model, r->data, &r->loading, &waiting, &r->sent, err);
    if (!st) st = su_memory_choose(&r->options->memory, r->options->device, 0, planned_bytes, r, &level, err);
    if (st) return st;
    r->model->checkpointing = level;
    char over[64] = "";
    if (ranks > 1) snprintf(over, sizeof over, " over %d ranks", ranks);
    su_log(SU_LOG_INFO,
           "model: %.2f M parameters; memory planned%s: %.0f MB weights, gradients and moments + %.0f MB "
           "activations (batch %d%s in micro-batches of %d, checkpointing %s); %.0f MB of batches made ahead",
           (double)p->elements / 1e6, ranks > 1 ? " a rank" : "", (double)su_params_bytes(p, true) / 1e6,
           (double)(su_step_bytes(r->model, batch, micro) + r->sent) / 1e6, r->config.batch, over,
           micro && micro < batch ? micro : batch, su_checkpointing_names[level], (double)waiting / 1e6);
    st = su_model_start(r->model, true, r->config.seed, err);
    if (!st) st = su_init_load(r->model, err);
    double s = log(1.0 / r->config.objective.temperature);
    if (!st) st = su_params_set(p, r->model->logit_scale, &s, err);
    if (st) return st;
    su_params_refresh(p);
    size_t bytes = 0;
    return su_step_new(r->model, batch, micro, &r->step, &bytes, err);
}

static void prepare_optimiser(training *r, int64_t steps)
{
    const su_train_config *c = &r->config;
    su_optimiser *o = &r->optimiser;
    *o = (su_optimiser){.beta1 = c->beta1,
                        .beta2 = c->beta2,
                        .eps = c->eps,
                        .weight_decay = c->weight_decay,
                        .clip_norm = c->clip_norm,
                        .warmup = (int64_t)llround(c->warmup * (double)steps),
                        .steps = steps};
    for (int i = 0; i < c->model.streams; i++)
        o->lr[SU_GROUP_STREAM + i] = c->lr * c->model.stream[i].lr_factor;
    o->lr[SU_GROUP_PROJECTION] = c->lr;
    if (c->objective.learn_temperature)
        o->lr[SU_GROUP_LOGIT_SCALE] = c->objective.temperature_lr > 0.0 ? c->objective.temperature_lr : c->lr;
}

/* 1/tau <= 100 [method 1]. */
static su_status clamp_temperature(training *r, double *tau, su_error *err)
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

/* --- one step, one epoch -------------------------------------------------------------------------------- */

static su_status train_on(training *r, const su_fed *fed, su_error *err)
{
    const su_batch *b = fed->batch;
    su_model *model = r->model;
    su_losses *losses = &r->losses;
    int64_t step = r->run.done + 1;
    su_step_batch in = {
        .count = b->count, .on_device = fed->on_device, .train = true, .seed = r->config.seed, .step = step};
    for (int m = 0; m < model->config.streams; m++) {
        int slot = su_embed_image_slot(model, r->data, m);
        if (slot >= 0) in.images[m] = fed->images[slot];
        in.ids[m] = b->ids;
        in.lengths[m] = b->lengths;
        if (r->kept[m].rows) {
            su_kept_read(&r->kept[m], b->items, b->count, r->pooled[m]);
            in.pooled[m] = r->pooled[m];
        }
    }
    double norm = 0.0, tau = 0.0, progress = (double)r->run.done / (double)r->run.steps;
    su_status st = su_step_run(r->step, &in, &r->config.objective, progress, losses, err);
    if (!st) st = su_optimiser_step(&r->optimiser, &model->params, step, &norm, err);
    if (st == SU_ENUMERIC) return su_run_blame(&r->run, b, err);
    if (!st) st = clamp_temperature(r, &tau, err);
    if (st) return st;
    return su_run_log(&r->run,
                      json_pack("{s:I,s:I,s:f,s:o,s:o,s:o,s:f,s:f,s:f}", "step", (json_int_t)step, "epoch",
                                (json_int_t)b->epoch + 1, "loss", losses->total, "infonce",
                                su_number_or_null(losses->infonce), "atp", su_number_or_null(losses->atp),
                                "cu", su_number_or_null(losses->cu), "tau", tau, "grad_norm", norm, "lr",
                                r->config.lr * su_schedule(&r->optimiser, step)),
                      err);
}

static su_status train_step(void *context, int64_t epoch, int64_t in_epoch, double *loss, su_error *err)
{
    (void)epoch;
    (void)in_epoch;
    training *r = context;
    su_fed fed;
    su_status st = su_comm_agree(r->options->device->comm, su_feed_next(r->feed, &fed, err), err);
    if (!st) st = train_on(r, &fed, err);
    if (st == SU_ENUMERIC) st = su_comm_agree(r->options->device->comm, st, err); /* all ranks found it */
    *loss = r->losses.total;
    return st;
}

/* Embeddings of the holdout: z[m] as su_embed_items gives them. */
static su_status embed_holdout(training *r, float **z, su_error *err)
{
    su_model *m = r->model;
    int64_t held = r->items.held_pairs;
    bool runs[SU_MAX_STREAMS];
    for (int i = 0; i < m->config.streams; i++) runs[i] = !r->kept[i].rows;
    su_status st = su_embed_items(m, r->data, r->items.held, held, runs, NULL, z, err);
    for (int i = 0; i < m->config.streams && !st; i++) {
        if (runs[i]) continue;
        z[i] = su_alloc((size_t)held * (size_t)su_model_width(m), sizeof **z);
        if (!z[i]) return su_fail(err, SU_ENOMEM, "no memory to score the holdout");
        su_kept_read(&r->kept[i], r->items.held, held, r->pooled[i]);
        st = su_model_encode_pooled(m, i, r->pooled[i], (int32_t)held, z[i], err);
    }
    return st;
}

/* MRR of both directions on the holdout, the mean over the pairs (anchor, m). */
static su_status score_holdout(training *r, int64_t epoch, bool *best, su_error *err)
{
    float *z[SU_MAX_STREAMS] = {NULL};
    su_alignment_score *score = su_calloc(1, sizeof *score);
    su_alignment_options o;
    su_alignment_defaults(&o);
    o.draws = 0;
    o.pool = r->options->device->pool;
    int streams = r->model->config.streams, a = r->model->config.anchor;
    int64_t held = r->items.held_pairs;
    su_status st =
        score ? embed_holdout(r, z, err) : su_fail(err, SU_ENOMEM, "no memory to score the holdout");
    bool scores = su_comm_rank(r->options->device->comm) == 0; /* and tells nobody: only it keeps models */
    if (!st && scores)
        st = su_alignment_score_compute((const float *const *)z, streams, held, su_model_width(r->model), &o,
                                        score, err);
    if (!st && scores) {
        double mrr = 0.0, r10 = 0.0, gap = 0.0, cos = 0.0;
        for (int m = 0; m < streams; m++) {
            if (m == a) continue;
            const su_pair_score *p = m < a ? &score->pair[m][a] : &score->pair[a][m];
            mrr += (p->forward.mrr + p->backward.mrr) / 2.0 / (streams - 1);
            r10 += (p->forward.r10 + p->backward.r10) / 2.0 / (streams - 1);
            gap += p->gap / (streams - 1);
            cos += p->cos_true_pairs / (streams - 1);
        }
        *best = su_run_score(&r->run, epoch, mrr);
        st = su_run_log(&r->run,
                        json_pack("{s:I,s:I,s:{s:I,s:f,s:f,s:f,s:f,s:b}}", "step", (json_int_t)r->run.done,
                                  "epoch", (json_int_t)epoch, "val", "pool", (json_int_t)held, "mrr", mrr,
                                  "r10", r10, "gap", gap, "cos_true_pairs", cos, "best", (int)*best),
                        err);
        su_log(SU_LOG_INFO,
               "epoch %lld/%lld: holdout of %lld: MRR %.4f, R@10 %.1f %%, gap %.3f, CosTP %.3f%s",
               (long long)epoch, (long long)r->config.epochs, (long long)held, mrr, 100.0 * r10, gap, cos,
               *best ? "  (best so far)" : "");
    }
    for (int m = 0; m < streams; m++) su_free(z[m]);
    su_free(score);
    return st;
}

/* Scores the holdout; keeps the model when it is the best so far or, without a choice, the last. */
static su_status end_epoch(void *context, int64_t epoch, su_error *err)
{
    training *r = context;
    bool choose = r->items.held_pairs > 0 && r->config.keep_best, best = false;
    su_comm *comm = r->options->device->comm;
    su_status st = r->items.held_pairs > 0 ? score_holdout(r, epoch, &best, err) : SU_OK;
    if (!st && su_comm_rank(comm) == 0 && (choose ? best : epoch == r->config.epochs))
        st = su_model_save(r->model, r->options->out, err);
    return su_comm_agree(comm, st, err);
}

/* --- the whole ------------------------------------------------------------------------------------------ */

su_status su_train_divide(int32_t batch, const su_comm *comm, su_error *err)
{
    int ranks = su_comm_ranks(comm);
    if (batch % ranks == 0) return SU_OK;
    int32_t less = batch / ranks * ranks;
    return su_fail(err, SU_EINVAL, "a batch of %d cannot be divided among %d ranks: use --batch %d or %d",
                   batch, ranks, less ? less : ranks, less + ranks);
}

su_status su_train_agree(su_comm *comm, json_t *config, const su_dataset *data, const su_wordpiece *tokenizer,
                         su_error *err)
{
    char *text = config ? json_dumps(config, JSON_COMPACT) : NULL;
    su_status st = text ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for the configuration");
    st = su_comm_agree(comm, st, err);
    if (!st) st = su_comm_same(comm, "configuration", text, err);
    if (!st) st = su_comm_same(comm, "dataset", su_dataset_sha256(data), err);
    if (!st) st = su_comm_same(comm, "vocabulary", tokenizer ? su_wordpiece_sha256(tokenizer) : "", err);
    free(text);
    json_decref(config);
    return st;
}

static su_status agree_on_start(training *r, su_error *err)
{
    su_comm *comm = r->options->device->comm;
    if (!comm) return SU_OK;
    su_status st = su_train_agree(comm, su_config_json(&r->config), r->data, r->model->tokenizer, err);
    return st ? st : su_params_share(&r->model->params, err);
}

static su_status open_run(training *r, su_error *err)
{
    const su_train_config *c = &r->config;
    json_t *config = su_config_json(c);
    if (!config) return su_fail(err, SU_ENOMEM, "no memory for the configuration");
    su_run_options o = {.folder = r->options->out,
                        .data = r->data,
                        .config = config,
                        .params = &r->model->params,
                        .score = "mrr",
                        .epochs = c->epochs,
                        .batches = r->items.pairs / c->batch,
                        .batch = c->batch,
                        .unit = "pairs",
                        .checkpoint_steps = c->checkpoint_steps,
                        .resume = r->options->resume,
                        .stop = r->options->stop};
    su_status st = su_run_open(&o, &r->run, err);
    json_decref(config);
    return st;
}

static su_status open_feed(training *r, su_error *err)
{
    r->loading.first_batch = r->run.done;
    return su_feed_new(r->model, r->data, r->items.train, r->items.pairs, &r->loading, &r->feed, err);
}

/* What frozen towers give, for every sample that the run sees. */
static su_status keep_frozen(training *r, su_error *err)
{
    int64_t pairs = r->items.pairs, held = r->items.held_pairs, count = pairs + held;
    int64_t *all = su_alloc((size_t)count, sizeof *all);
    if (!all) return su_fail(err, SU_ENOMEM, "no memory for %lld samples", (long long)count);
    for (int64_t i = 0; i < count; i++) all[i] = i < pairs ? r->items.train[i] : r->items.held[i - pairs];
    su_status st = SU_OK;
    for (int m = 0; m < r->model->config.streams && !st; m++) {
        int64_t most = held > r->config.batch ? held : r->config.batch;
        st = su_kept_fill(r->model, m, SU_KEEP_POOLED, r->data, all, count, &r->config.augment, &r->kept[m],
                          err);
        if (st || !r->kept[m].rows) continue;
        r->pooled[m] = su_alloc((size_t)most * r->kept[m].width, sizeof *r->pooled[m]);
        if (!r->pooled[m]) st = su_fail(err, SU_ENOMEM, "no memory to read back kept rows");
    }
    su_free(all);
    return st;
}

static void training_free(training *r)
{
    for (int m = 0; m < SU_MAX_STREAMS; m++) {
        su_kept_free(&r->kept[m]);
        su_free(r->pooled[m]);
    }
    su_feed_free(r->feed);
    su_step_free(r->step);
    su_model_free(r->model);
    su_dataset_close(r->data);
    su_run_close(&r->run);
    su_holdout_free(&r->items);
}

su_status su_train(const su_train_options *options, su_train_result *result, su_error *err)
{
    training r = {.options = options, .config = options->config, .run.lock = -1};
    char *vocabulary = NULL;
    su_status st = su_dataset_open(options->data, &r.data, err);
    if (!st) st = su_holdout_choose(r.data, options->split, r.config.holdout, r.config.batch, &r.items, err);
    if (!st) st = prepare_config(&r, &vocabulary, err);
    if (!st) st = su_train_divide(r.config.batch, options->device->comm, err);
    if (!st) st = build_model(&r, vocabulary, err);
    if (!st) st = su_model_check_dataset(r.model, r.data, err);
    if (!st) st = su_dataset_check_pixels(r.data, r.items.train, r.items.pairs, err);
    if (!st) st = su_dataset_check_pixels(r.data, r.items.held, r.items.held_pairs, err);
    st = su_comm_agree(options->device->comm, st, err);
    if (!st) st = agree_on_start(&r, err);
    if (!st) st = open_run(&r, err);
    if (!st) prepare_optimiser(&r, r.run.steps);
    if (!st && r.run.done < r.run.steps) st = keep_frozen(&r, err);
    if (!st) st = su_comm_agree(options->device->comm, open_feed(&r, err), err);
    if (!st)
        st = su_run_train(&r.run, &(su_run_work){.step = train_step, .epoch = end_epoch, .context = &r}, err);
    const su_train_config *c = &r.config;
    if (!st)
        st = su_run_finish(&r.run,
                           json_pack("{s:s,s:s,s:I,s:I,s:I,s:s,s:f}", "objective", c->objective.name,
                                     "preset", c->preset, "seed", (json_int_t)c->seed, "pairs",
                                     (json_int_t)r.items.pairs, "holdout_pairs",
                                     (json_int_t)r.items.held_pairs, "device", options->device->description,
                                     "input_wait_seconds", su_feed_waited(r.feed)),
                           err);
    int64_t batches = r.run.options.batches;
    if (result)
        *result = (su_train_result){.steps = r.run.done,
                                    .epochs = batches ? r.run.done / batches : 0,
                                    .best_epoch = r.run.best_epoch,
                                    .pairs = r.items.pairs,
                                    .holdout_pairs = r.items.held_pairs,
                                    .seconds = r.run.options.folder ? su_run_seconds(&r.run) : 0.0,
                                    .best_mrr = r.run.best,
                                    .losses = r.losses};
    su_free(vocabulary);
    training_free(&r);
    return st;
}
