#include "caption/train.h"
#include "align/embed.h"
#include "align/feed.h"
#include "align/holdout.h"
#include "align/kept.h"
#include "align/objective.h"
#include "align/run.h"
#include "align/train.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "caption/captioner.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Everything of one training. Samples are numbered: the trained ones first, then the held out ones. */
typedef struct {
    const su_caption_options *options;
    su_caption_config config;
    su_dataset *data;
    su_holdout items;
    su_captioner *captioner;
    su_texts texts;
    int64_t *number_of;     /* of dataset item i: its number, -1: neither trained on nor held out */
    int64_t *evidence;      /* [pairs + held][evidence] rows, -1: fewer */
    su_evidence_row prefix; /* under construction */
    su_rows *rows;
    su_loader_options loading;
    su_feed *feed;
    size_t sent; /* bytes on the device of batches made ahead */
    su_step *step; /* joint training */
    su_optimiser optimiser;
    su_run run;
    void *arena;             /* device memory of the decoder's buffers */
    void *memory, *d_memory; /* device: act [micro, tokens, width] */
    su_comm *comm;           /* the device's: several ranks each have a part of every batch */
    su_kept kept;            /* image tokens, when they never change */
    int32_t micro, tokens;
    /* of the step under way */
    su_fed fed;
    int64_t asked; /* tokens with a target in the whole batch */
    int32_t
        longest; /* row of the whole batch: all pieces are padded to it, dropout draws by the padded length */
    double caption;
    su_losses align;
} training;

static bool joint(const training *r)
{
    return r->config.joint;
}

static bool image_frozen(const training *r)
{
    return su_model_frozen(r->captioner->model, r->captioner->stream);
}

static int64_t samples(const training *r)
{
    return r->items.pairs + r->items.held_pairs;
}

static int64_t item_of(const training *r, int64_t number)
{
    return number < r->items.pairs ? r->items.train[number] : r->items.held[number - r->items.pairs];
}

/* --- what is trained on -------------------------------------------------------------------------------- */

static su_status tokenise(const training *r, const su_wordpiece *wp, int64_t count, int32_t max,
                          su_texts *texts, su_error *err)
{
    su_status st = su_texts_new(count, max, texts, err);
    for (int64_t i = 0; i < count && !st; i++)
        st = su_texts_set(texts, i, wp, su_dataset_record(r->data, item_of(r, i))->text, err);
    return st;
}

/* The decoder's vocabulary: all of the alignment's, or what the training captions (not the held out ones)
 * use. */
static su_status make_vocabulary(training *r, su_wordpiece **own, su_error *err)
{
    su_model *towers = NULL;
    su_texts texts = {0};
    *own = NULL;
    su_status st = su_model_read(r->config.from, NULL, r->options->device, &towers, err);
    if (!st && !towers->tokenizer)
        st = su_fail(err, SU_EINVAL, "%s has no vocabulary: captions need an alignment with texts",
                     r->config.from);
    if (!st && r->config.whole_vocabulary) {
        size_t length = 0;
        const char *text = su_wordpiece_text(towers->tokenizer, &length);
        st = su_wordpiece_parse(text, length, "vocab.txt", own, err);
    } else if (!st) {
        st = tokenise(r, towers->tokenizer, r->items.pairs, r->config.max_tokens, &texts, err);
        if (!st) st = su_vocabulary_used(towers->tokenizer, &texts, own, err);
    }
    su_texts_free(&texts);
    su_model_free(towers);
    return st;
}

/* Nearest training images of every sample, held out ones included; among the trained ones alone. */
static su_status find_evidence(training *r, su_error *err)
{
    su_captioner *c = r->captioner;
    int32_t k = r->config.evidence, found = 0;
    if (!k) return SU_OK;
    su_evidence *held = NULL;
    su_status st =
        su_evidence_build(c->model, c->stream, r->data, r->items.train, r->items.pairs, &c->evidence, err);
    if (!st && r->items.held_pairs)
        st = su_evidence_build(c->model, c->stream, r->data, r->items.held, r->items.held_pairs, &held, err);
    r->evidence = su_alloc((size_t)samples(r) * (size_t)k, sizeof *r->evidence);
    if (!st && !r->evidence) st = su_fail(err, SU_ENOMEM, "no memory for evidence");
    for (int64_t i = 0; i < samples(r) && !st; i++) {
        bool own = i < r->items.pairs;
        const float *z =
            own ? su_evidence_embedding(c->evidence, i) : su_evidence_embedding(held, i - r->items.pairs);
        su_identity who = su_identity_of(r->data, item_of(r, i), c->model->config.stream[c->stream].name);
        int64_t *rows = r->evidence + i * k;
        for (int32_t j = 0; j < k; j++) rows[j] = -1;
        st = su_evidence_find(c->evidence, r->options->device, z, &who, 1, k, rows, NULL, &found, err);
    }
    su_evidence_free(held);
    return st;
}

static su_status prepare_texts(training *r, su_error *err)
{
    const su_caption_config *c = &r->config;
    su_status st = tokenise(r, r->captioner->tokenizer, samples(r), c->max_tokens, &r->texts, err);
    r->number_of = su_alloc((size_t)su_dataset_count(r->data) + 1, sizeof *r->number_of);
    if (!st && !r->number_of) st = su_fail(err, SU_ENOMEM, "no memory for the samples");
    if (st) return st;
    for (int64_t i = 0; i < su_dataset_count(r->data); i++) r->number_of[i] = -1;
    for (int64_t i = 0; i < samples(r); i++) r->number_of[item_of(r, i)] = i;
    st = su_evidence_row_new(c->evidence, c->evidence_tokens, &r->prefix, err);
    if (!st) st = su_rows_new(r->micro, r->prefix.room, c->max_tokens, &r->rows, err);
    return st ? st : find_evidence(r, err);
}

/* What stands before a sample's caption, into r->prefix. */
static void make_prefix(training *r, int64_t number)
{
    su_evidence_row_clear(&r->prefix);
    for (int32_t j = 0; j < r->config.evidence; j++) {
        int64_t row = r->evidence[number * r->config.evidence + j];
        if (row < 0) continue; /* rows of the evidence are the trained samples' numbers */
        su_evidence_row_add(&r->prefix, r->texts.tokens + row * r->texts.max, r->texts.lengths[row],
                            su_wordpiece_sep(r->captioner->tokenizer));
    }
}

static void add_sample(training *r, int64_t number)
{
    const su_wordpiece *wp = r->captioner->tokenizer;
    make_prefix(r, number);
    su_rows_add(r->rows, &r->prefix.prefix, r->texts.tokens + number * r->texts.max, r->texts.lengths[number],
                su_wordpiece_cls(wp), su_wordpiece_sep(wp));
}

/* Targets of a sample: its tokens, and [SEP] when it was not cut. */
static int64_t targets_of(const training *r, int64_t number)
{
    int32_t n = r->texts.lengths[number];
    return n < r->config.max_tokens ? n + 1 : n;
}

/* --- buffers ------------------------------------------------------------------------------------------- */

static int32_t share_of_batch(const training *r)
{
    return r->config.train.batch / su_comm_ranks(r->comm);
}

static void plan_decoder(training *r, su_arena *a)
{
    const su_captioner *c = r->captioner;
    size_t act = su_dtype_size(r->options->device->act);
    size_t tokens = (size_t)r->micro * (size_t)r->tokens * (size_t)c->decoder->config.memory_width;
    su_decoder_plan(c->decoder, a, r->micro, r->prefix.room + r->config.max_tokens, r->tokens, true,
                    c->model->checkpointing);
    r->memory = su_arena_take(a, tokens, act);
    r->d_memory = image_frozen(r) ? NULL : su_arena_take(a, tokens, act);
}

static size_t planned_bytes(void *context, su_checkpointing level)
{
    training *r = context;
    su_model *m = r->captioner->model;
    su_arena a;
    m->checkpointing = level;
    su_arena_measure(&a);
    plan_decoder(r, &a);
    return su_params_bytes(&m->params, true) + r->sent + a.peak +
           (joint(r) ? su_step_bytes(m, share_of_batch(r), r->micro)
                     : su_model_bytes(m, r->micro, !image_frozen(r)));
}

static su_status plan(training *r, su_error *err)
{
    su_device *d = r->options->device;
    su_captioner *c = r->captioner;
    size_t bytes = 0, weights = su_params_bytes(&c->model->params, true), waiting = 0;
    const su_train_config *t = &r->config.train;
    r->loading = (su_loader_options){.batch = t->batch,
                                     .train = true,
                                     .seed = t->seed,
                                     .augment = t->augment,
                                     .part = su_comm_rank(r->comm),
                                     .parts = su_comm_ranks(r->comm)};
    su_checkpointing level;
    su_status st = su_feed_plan(c->model, r->data, &r->loading, &waiting, &r->sent, err);
    if (!st) st = su_memory_choose(&r->options->memory, d, weights, planned_bytes, r, &level, err);
    if (st) return st;
    c->model->checkpointing = level;
    st = joint(r) ? su_step_new(c->model, share_of_batch(r), r->micro, &r->step, &bytes, err)
                  : su_model_plan(c->model, r->micro, !image_frozen(r), &bytes, err);
    if (st) return st;
    su_arena a;
    su_arena_measure(&a);
    plan_decoder(r, &a);
    size_t size = a.peak;
    st = d->ops->alloc(d, size, &r->arena, err);
    if (st)
        return su_fail_context(err, st,
                               "%d captions a call need %.1f MB (a smaller --micro-batch needs less)",
                               r->micro, (double)size / 1e6);
    su_arena_init(&a, r->arena, size);
    plan_decoder(r, &a);
    if (a.overflow)
        return su_fail(err, SU_ENOMEM, "no memory for the buffers of %d captions a call", r->micro);
    const su_params *p = &c->model->params;
    su_log(SU_LOG_INFO,
           "model: %.2f M parameters, of which %.2f M learn; a decoder of %d layers, %d wide, over %d "
           "tokens; memory planned: %.0f MB parameters + %.0f MB activations (batch %d in micro-batches of "
           "%d, checkpointing %s); %.0f MB of batches made ahead",
           (double)p->elements / 1e6, (double)p->learning / 1e6, c->decoder->config.depth,
           c->decoder->config.width, c->decoder->config.vocabulary, (double)weights / 1e6,
           (double)(bytes + size + r->sent) / 1e6, t->batch, r->micro, su_checkpointing_names[level],
           (double)waiting / 1e6);
    return SU_OK;
}

static su_status keep_tokens(training *r, su_error *err)
{
    if (joint(r)) return SU_OK;
    su_captioner *c = r->captioner;
    int64_t *all = su_alloc((size_t)samples(r), sizeof *all);
    if (!all) return su_fail(err, SU_ENOMEM, "no memory for the samples");
    for (int64_t i = 0; i < samples(r); i++) all[i] = item_of(r, i);
    su_status st = su_kept_fill(c->model, c->stream, SU_KEEP_TOKENS, r->data, all, samples(r),
                                &r->config.train.augment, &r->kept, err);
    su_free(all);
    return st;
}

/* --- one step ------------------------------------------------------------------------------------------ */

/* Samples of the batch that the ranks before this one have. */
static int64_t before(const training *r)
{
    return (int64_t)r->fed.batch->count * su_comm_rank(r->comm);
}

static su_tower_input image_input(const training *r, int32_t first, int32_t count, bool train)
{
    const su_model *m = r->captioner->model;
    int stream = r->captioner->stream;
    const su_tower_config *t = &m->config.stream[stream].tower;
    size_t image = (size_t)t->image_size * (size_t)t->image_size * (size_t)t->channels;
    return (su_tower_input){.batch = count,
                            .images = r->fed.images[su_embed_image_slot(m, r->data, stream)] +
                                      (size_t)first * image,
                            .on_device = r->fed.on_device,
                            .train = train && !image_frozen(r),
                            .key = {.seed = r->config.train.seed,
                                    .step = (uint32_t)r->run.done + 1,
                                    .layer = (uint32_t)stream << 28},
                            .first = train ? before(r) + first : 0};
}

/* Captions first .. first + count - 1 of the batch, the step's last ones if `final`: loss and gradients; *d_memory:
 * gradient at the image tokens. */
static su_status learn_captions(training *r, int32_t first, int32_t count, bool final, const void *memory,
                                int32_t tokens, void *d_memory, su_error *err)
{
    int64_t asked = 0;
    su_rows_clear(r->rows);
    for (int32_t i = first; i < first + count; i++) add_sample(r, r->number_of[r->fed.batch->items[i]]);
    su_decoder_input in = su_rows_input(r->rows, r->longest);
    in.train = true;
    in.final = final;
    in.first = before(r) + first;
    in.key = (su_rng_key){.seed = r->config.train.seed, .step = (uint32_t)r->run.done + 1, .layer = 7u << 28};
    return su_decoder_loss(r->captioner->decoder, &in, memory, tokens, r->config.label_smoothing,
                           r->config.weight / (double)r->asked, true, d_memory, &r->caption, &asked, err);
}

/* Image tokens of a piece of the batch, on the device. */
static su_status see(training *r, int32_t first, int32_t count, bool train, const void **memory,
                     int32_t *tokens, su_error *err)
{
    su_captioner *c = r->captioner;
    su_device *d = r->options->device;
    if (r->kept.rows) {
        for (int32_t i = 0; i < count; i++)
            d->ops->upload(d, su_act_at(d, r->memory, (int64_t)i * (int64_t)r->kept.width),
                           su_kept_row(&r->kept, r->fed.batch->items[first + i]),
                           r->kept.width * sizeof *r->kept.rows);
        *memory = r->memory;
        *tokens = r->tokens;
        return SU_OK;
    }
    void *pooled = NULL;
    su_tower_input in = image_input(r, first, count, train);
    su_status st = su_tower_forward(c->model->tower[c->stream], &in, &pooled, err);
    *memory = su_tower_output(c->model->tower[c->stream], tokens);
    return st;
}

/* The caption loss alone. */
static su_status step_alone(training *r, su_error *err)
{
    su_captioner *c = r->captioner;
    su_status st = SU_OK;
    for (int32_t first = 0; first < r->fed.batch->count && !st; first += r->micro) {
        int32_t count = r->fed.batch->count - first < r->micro ? r->fed.batch->count - first : r->micro,
                tokens = 0;
        const void *memory = NULL;
        bool final = first + count == r->fed.batch->count;
        st = see(r, first, count, true, &memory, &tokens, err);
        if (!st) st = learn_captions(r, first, count, final, memory, tokens, r->d_memory, err);
        if (!st && r->d_memory) {
            su_tower_input in = image_input(r, first, count, true);
            in.final = final;
            st = su_tower_backward(c->model->tower[c->stream], &in, NULL, r->d_memory, err);
        }
    }
    return st;
}

static su_status captions_beside(void *context, int stream, int32_t first, int32_t count,
                                 const void **d_tokens, su_error *err)
{
    training *r = context;
    *d_tokens = NULL;
    if (stream != r->captioner->stream) return SU_OK;
    int32_t tokens = 0;
    const void *memory = su_tower_output(r->captioner->model->tower[stream], &tokens);
    *d_tokens = r->d_memory;
    return learn_captions(r, first, count, first == 0, memory, tokens, r->d_memory, err);
}

static su_status step_jointly(training *r, su_error *err)
{
    su_model *m = r->captioner->model;
    su_step_extra extra = {captions_beside, r};
    su_step_batch in = {.count = r->fed.batch->count,
                        .on_device = r->fed.on_device,
                        .train = true,
                        .seed = r->config.train.seed,
                        .step = r->run.done + 1,
                        .extra = &extra};
    for (int s = 0; s < m->config.streams; s++) {
        int slot = su_embed_image_slot(m, r->data, s);
        if (slot >= 0) in.images[s] = r->fed.images[slot];
        in.ids[s] = r->fed.batch->ids;
        in.lengths[s] = r->fed.batch->lengths;
    }
    double progress = (double)r->run.done / (double)r->run.steps;
    return su_step_run(r->step, &in, &r->config.train.objective, progress, &r->align, err);
}

/* asked and longest, of the whole batch. */
static su_status measure_batch(training *r, su_error *err)
{
    r->asked = 0;
    r->longest = 0;
    for (int32_t i = 0; i < r->fed.batch->count; i++) {
        int64_t number = r->number_of[r->fed.batch->items[i]], targets = targets_of(r, number);
        make_prefix(r, number);
        r->asked += targets;
        if (r->prefix.prefix.length + targets > r->longest)
            r->longest = r->prefix.prefix.length + (int32_t)targets;
    }
    double asked = (double)r->asked, longest = r->longest;
    su_status st = su_comm_sum(r->comm, &asked, 1, err);
    if (!st) st = su_comm_max(r->comm, &longest, 1, err);
    r->asked = (int64_t)asked;
    r->longest = (int32_t)longest;
    return st;
}

static su_status train_on(training *r, su_error *err)
{
    const su_batch *b = r->fed.batch;
    int64_t step = r->run.done + 1;
    double norm = 0.0;
    r->caption = 0.0;
    su_status st = measure_batch(r, err);
    if (!st) st = joint(r) ? step_jointly(r, err) : step_alone(r, err);
    if (!st) st = su_comm_sum(r->comm, &r->caption, 1, err);
    if (!st && !isfinite(r->caption)) st = su_fail(err, SU_ENUMERIC, "the caption loss is not finite");
    if (!st) st = su_optimiser_step(&r->optimiser, &r->captioner->model->params, step, &norm, err);
    if (st == SU_ENUMERIC) return su_run_blame(&r->run, b, err);
    if (st) return st;
    json_t *line = json_pack("{s:I,s:I,s:f,s:f}", "step", (json_int_t)step, "epoch", (json_int_t)b->epoch + 1,
                             "loss", r->caption + (joint(r) ? r->align.total : 0.0), "caption", r->caption);
    if (line && joint(r)) {
        json_object_set_new(line, "infonce", su_number_or_null(r->align.infonce));
        json_object_set_new(line, "atp", su_number_or_null(r->align.atp));
        json_object_set_new(line, "cu", su_number_or_null(r->align.cu));
    }
    if (line) {
        json_object_set_new(line, "grad_norm", json_real(norm));
        json_object_set_new(line, "lr", json_real(r->config.train.lr * su_schedule(&r->optimiser, step)));
    }
    return su_run_log(&r->run, line, err);
}

static su_status train_step(void *context, int64_t epoch, int64_t in_epoch, double *loss, su_error *err)
{
    (void)epoch;
    (void)in_epoch;
    training *r = context;
    su_status st = su_comm_agree(r->comm, su_feed_next(r->feed, &r->fed, err), err);
    if (!st) st = train_on(r, err);
    if (st == SU_ENUMERIC) st = su_comm_agree(r->comm, st, err); /* all ranks found it */
    *loss = r->caption + (joint(r) ? r->align.total : 0.0);
    return st;
}

/* --- one epoch ----------------------------------------------------------------------------------------- */

/* Cross-entropy a token of the held out captions, given what stands before each token. */
static su_status score_holdout(training *r, double *loss, int64_t *asked, su_error *err)
{
    su_captioner *c = r->captioner;
    su_feed *feed = NULL;
    su_loader_options l = {.batch = r->micro};
    size_t host = 0, device = 0;
    double sum = 0.0;
    int64_t done = 0, start = 0, own = su_comm_share(r->comm, r->items.held_pairs, &start);
    *asked = 0;
    su_status st = su_feed_plan(c->model, r->data, &l, &host, &device, err);
    if (!st && own) st = su_feed_new(c->model, r->data, r->items.held + start, own, &l, &feed, err);
    while (!st && done < own) {
        const void *memory = NULL;
        int32_t tokens = 0;
        int64_t n = 0;
        st = su_feed_next(feed, &r->fed, err);
        if (st || !r->fed.batch) break;
        st = see(r, 0, r->fed.batch->count, false, &memory, &tokens, err);
        su_rows_clear(r->rows);
        for (int32_t i = 0; i < r->fed.batch->count; i++) add_sample(r, r->number_of[r->fed.batch->items[i]]);
        su_decoder_input in = su_rows_input(r->rows, 0);
        if (!st) st = su_decoder_loss(c->decoder, &in, memory, tokens, 0.0, 1.0, false, NULL, &sum, &n, err);
        *asked += n;
        done += r->fed.batch->count;
    }
    su_feed_free(feed);
    double sums[2] = {sum, (double)*asked};
    st = su_comm_agree(r->comm, st, err);
    if (!st) st = su_comm_sum(r->comm, sums, 2, err);
    *asked = (int64_t)sums[1];
    *loss = sums[0] / sums[1];
    return st;
}

static su_status end_epoch(void *context, int64_t epoch, su_error *err)
{
    training *r = context;
    bool held = r->items.held_pairs > 0, choose = held && r->config.train.keep_best, best = false;
    su_status st = SU_OK;
    if (held) {
        double loss = 0.0;
        int64_t asked = 0;
        st = score_holdout(r, &loss, &asked, err);
        if (!st) {
            best = su_run_score(&r->run, epoch, loss);
            st = su_run_log(&r->run,
                            json_pack("{s:I,s:I,s:{s:I,s:I,s:f,s:f,s:b}}", "step", (json_int_t)r->run.done,
                                      "epoch", (json_int_t)epoch, "val", "pool",
                                      (json_int_t)r->items.held_pairs, "tokens", (json_int_t)asked, "loss",
                                      loss, "perplexity", exp(loss), "best", (int)best),
                            err);
            su_log(SU_LOG_INFO,
                   "epoch %lld/%lld: holdout of %lld captions: loss %.4f a token, perplexity %.1f%s",
                   (long long)epoch, (long long)r->config.train.epochs, (long long)r->items.held_pairs, loss,
                   exp(loss), best ? "  (best so far)" : "");
        }
    }
    if (!st && su_comm_rank(r->comm) == 0 && (choose ? best : epoch == r->config.train.epochs))
        st = su_captioner_save(r->captioner, r->options->out, err);
    return su_comm_agree(r->comm, st, err);
}

/* --- the whole ----------------------------------------------------------------------------------------- */

static su_status check_streams(training *r, su_error *err)
{
    const su_model *m = r->captioner->model;
    if (!joint(r) && su_embed_image_slot(m, r->data, r->captioner->stream) < 0)
        return su_fail(err, SU_EMISMATCH, "%s has no stream '%s', which the model has",
                       su_dataset_folder(r->data), m->config.stream[r->captioner->stream].name);
    return su_model_check_dataset(m, r->data, err);
}

static su_status prepare(training *r, su_error *err)
{
    const su_caption_options *o = r->options;
    su_train_config *t = &r->config.train;
    su_wordpiece *own = NULL;
    su_status st = su_caption_config_check(&r->config, err);
    if (!st) st = su_dataset_open(o->data, &r->data, err);
    if (!st) st = su_holdout_choose(r->data, o->split, t->holdout, t->batch, &r->items, err);
    if (!st) st = su_train_divide(t->batch, r->comm, err);
    if (!st) st = make_vocabulary(r, &own, err);
    if (st) return st;
    r->config.decoder.vocabulary = su_wordpiece_size(own);
    st = su_captioner_new(&r->config, own, o->device, &r->captioner, err);
    if (!st) st = check_streams(r, err);
    if (!st) st = su_dataset_check_pixels(r->data, r->items.train, r->items.pairs, err);
    if (!st) st = su_dataset_check_pixels(r->data, r->items.held, r->items.held_pairs, err);
    if (st) return st;
    snprintf(r->config.from_sha256, sizeof r->config.from_sha256, "%s", r->captioner->model->sha256);
    int32_t share = t->batch / su_comm_ranks(r->comm);
    r->micro = t->micro_batch > 0 && t->micro_batch < share ? t->micro_batch : share;
    r->tokens = su_captioner_memory(r->captioner);
    return prepare_texts(r, err);
}

static su_status agree_on_start(training *r, su_error *err)
{
    if (!r->comm) return SU_OK;
    json_t *config = su_caption_config_json(&r->config);
    su_status st = su_train_agree(r->comm, config, r->data, r->captioner->tokenizer, err);
    return st ? st : su_params_share(&r->captioner->model->params, err);
}

static su_status open_run(training *r, su_error *err)
{
    const su_train_config *t = &r->config.train;
    json_t *config = su_caption_config_json(&r->config);
    if (!config) return su_fail(err, SU_ENOMEM, "no memory for the configuration");
    su_run_options o = {.folder = r->options->out,
                        .data = r->data,
                        .config = config,
                        .params = &r->captioner->model->params,
                        .score = "loss",
                        .lower_is_better = true,
                        .epochs = t->epochs,
                        .batches = r->items.pairs / t->batch,
                        .batch = t->batch,
                        .unit = "captions",
                        .checkpoint_steps = t->checkpoint_steps,
                        .resume = r->options->resume,
                        .stop = r->options->stop};
    su_status st = su_run_open(&o, &r->run, err);
    json_decref(config);
    return st;
}

static void prepare_optimiser(training *r)
{
    const su_train_config *t = &r->config.train;
    su_optimiser *o = &r->optimiser;
    *o = (su_optimiser){.beta1 = t->beta1,
                        .beta2 = t->beta2,
                        .eps = t->eps,
                        .weight_decay = t->weight_decay,
                        .clip_norm = t->clip_norm,
                        .warmup = (int64_t)llround(t->warmup * (double)r->run.steps),
                        .steps = r->run.steps};
    for (int i = 0; i < t->model.streams; i++)
        o->lr[SU_GROUP_STREAM + i] = t->lr * t->model.stream[i].lr_factor;
    o->lr[SU_GROUP_DECODER] = t->lr;
    o->lr[SU_GROUP_PROJECTION] = joint(r) ? t->lr : 0.0;
    if (joint(r) && t->objective.learn_temperature)
        o->lr[SU_GROUP_LOGIT_SCALE] = t->objective.temperature_lr > 0.0 ? t->objective.temperature_lr : t->lr;
}

static su_status open_feed(training *r, su_error *err)
{
    r->loading.first_batch = r->run.done;
    return su_feed_new(r->captioner->model, r->data, r->items.train, r->items.pairs, &r->loading, &r->feed,
                       err);
}

static void training_free(training *r)
{
    su_device *d = r->options->device;
    su_feed_free(r->feed);
    su_step_free(r->step);
    su_rows_free(r->rows);
    su_evidence_row_free(&r->prefix);
    su_texts_free(&r->texts);
    su_captioner_free(r->captioner);
    if (r->arena) d->ops->release(d, r->arena);
    su_dataset_close(r->data);
    su_run_close(&r->run);
    su_holdout_free(&r->items);
    su_free(r->number_of);
    su_free(r->evidence);
    su_kept_free(&r->kept);
}

su_status su_caption_train(const su_caption_options *options, su_caption_result *result, su_error *err)
{
    training r = {
        .options = options, .config = options->config, .comm = options->device->comm, .run.lock = -1};
    su_status st = prepare(&r, err);
    if (!st) st = plan(&r, err);
    st = su_comm_agree(r.comm, st, err);
    if (!st) st = agree_on_start(&r, err);
    if (!st) st = open_run(&r, err);
    if (!st) st = keep_tokens(&r, err);
    if (!st) prepare_optimiser(&r);
    if (!st) st = su_comm_agree(r.comm, open_feed(&r, err), err);
    if (!st)
        st = su_run_train(&r.run, &(su_run_work){.step = train_step, .epoch = end_epoch, .context = &r}, err);
    const su_train_config *t = &r.config.train;
    if (!st)
        st = su_run_finish(&r.run,
                           json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:f}", "task", "caption", "from",
                                     r.config.from, "from_sha256", r.config.from_sha256, "seed",
                                     (json_int_t)t->seed, "pairs", (json_int_t)r.items.pairs, "holdout_pairs",
                                     (json_int_t)r.items.held_pairs, "device", options->device->description,
                                     "input_wait_seconds", su_feed_waited(r.feed)),
                           err);
    int64_t batches = r.run.options.batches;
    if (result)
        *result = (su_caption_result){.steps = r.run.done,
                                      .epochs = batches ? r.run.done / batches : 0,
                                      .best_epoch = r.run.best_epoch,
                                      .pairs = r.items.pairs,
                                      .holdout_pairs = r.items.held_pairs,
                                      .seconds = r.run.options.folder ? su_run_seconds(&r.run) : 0.0,
                                      .loss = r.caption,
                                      .best_loss = r.run.best};
    training_free(&r);
    return st;
}
