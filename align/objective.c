#include "align/objective.h"
#include <math.h>
#include <string.h>

static double scheduled(double start, double end, double from, double progress)
{
    if (end < 0.0 || progress <= from) return start;
    return start + (end - start) * (progress - from) / (1.0 - from);
}

void su_objective_weights(const su_objective *o, double progress, double *lambda_atp, double *lambda_cu)
{
    *lambda_atp = scheduled(o->lambda_atp, o->atp_end, o->atp_from, progress);
    *lambda_cu = scheduled(o->lambda_cu, o->cu_end, o->cu_from, progress);
}

enum { INFONCE, ATP, CU, PARTS };

su_status su_objective_apply(const su_objective *o, su_device *d, double lambda_atp, double lambda_cu,
                             int streams, int anchor, void *const *z, void *const *dz, const void *log_scale,
                             void *d_log_scale, void *scratch, int64_t n, int32_t width, su_losses *losses,
                             su_error *err)
{
    size_t acc = su_dtype_size(d->acc);
    d->ops->zero(d, scratch, PARTS * acc);
    for (int m = 0; m < streams; m++) d->ops->zero(d, dz[m], (size_t)(n * width) * acc);
    double share = 1.0 / (streams - 1);
    su_status st = SU_OK;
    for (int m = 0; m < streams && !st; m++) {
        if (m == anchor) continue;
        st = d->ops->infonce(d, su_acc_at(d, scratch, INFONCE), dz[anchor], dz[m],
                             o->learn_temperature ? d_log_scale : NULL, z[anchor], z[m], log_scale,
                             share * o->lambda_infonce, n, width, err);
        if (!st && lambda_atp > 0.0)
            d->ops->atp(d, su_acc_at(d, scratch, ATP), dz[anchor], dz[m], z[anchor], z[m], share * lambda_atp,
                        n, width);
    }
    if (!st && lambda_cu > 0.0)
        st = d->ops->cu(d, su_acc_at(d, scratch, CU), dz, (const void *const *)z, streams, o->centroids,
                        lambda_cu, n, width, err);
    if (st) return st;
    double parts[PARTS];
    float narrow[PARTS];
    if (d->acc == SU_DTYPE_F64) {
        d->ops->download(d, parts, scratch, sizeof parts);
    } else {
        d->ops->download(d, narrow, scratch, sizeof narrow);
        for (int i = 0; i < PARTS; i++) parts[i] = (double)narrow[i];
    }
    *losses =
        (su_losses){.total = parts[INFONCE] + parts[ATP] + parts[CU],
                    .infonce = o->lambda_infonce > 0.0 ? parts[INFONCE] / o->lambda_infonce : (double)NAN,
                    .atp = lambda_atp > 0.0 ? parts[ATP] / lambda_atp : (double)NAN,
                    .cu = lambda_cu > 0.0 ? parts[CU] / lambda_cu : (double)NAN};
    return SU_OK;
}

/* --- one step ------------------------------------------------------------------------------------------- */

struct su_step {
    su_model *model;
    int32_t batch, micro;
    void *z[SU_MAX_STREAMS], *dz[SU_MAX_STREAMS], *norm[SU_MAX_STREAMS];
    void *scratch;
    /* of the step under way */
    int64_t before;                 /* samples of the ranks before this one */
    int32_t tokens[SU_MAX_STREAMS]; /* see padded */
};

void su_step_free(su_step *s)
{
    if (!s) return;
    su_device *d = s->model->device;
    for (int m = 0; m < SU_MAX_STREAMS; m++) {
        d->ops->release(d, s->z[m]);
        d->ops->release(d, s->dz[m]);
        d->ops->release(d, s->norm[m]);
    }
    d->ops->release(d, s->scratch);
    su_free(s);
}

static int32_t piece_size(int32_t batch, int32_t micro)
{
    return micro < 1 || micro > batch ? batch : micro;
}

size_t su_step_bytes(su_model *model, int32_t batch, int32_t micro)
{
    size_t own = (size_t)batch, whole = own * (size_t)su_comm_ranks(model->device->comm);
    return su_model_bytes(model, piece_size(batch, micro), true) +
           ((size_t)model->config.streams * (2 * whole * (size_t)su_model_width(model) + own) + PARTS) *
               su_dtype_size(model->device->acc);
}

su_status su_step_new(su_model *model, int32_t batch, int32_t micro, su_step **step, size_t *bytes,
                      su_error *err)
{
    *step = NULL;
    su_device *d = model->device;
    micro = piece_size(batch, micro);
    *bytes = su_step_bytes(model, batch, micro);
    su_step *s = su_calloc(1, sizeof *s);
    if (!s) return su_fail(err, SU_ENOMEM, "no memory for a training step");
    *s = (su_step){.model = model, .batch = batch, .micro = micro};
    size_t acc = su_dtype_size(d->acc), rows = (size_t)batch * (size_t)su_comm_ranks(d->comm);
    size_t width = (size_t)su_model_width(model);
    su_status st = su_model_plan(model, micro, true, NULL, err);
    for (int m = 0; m < model->config.streams && !st; m++) {
        st = d->ops->alloc(d, rows * width * acc, &s->z[m], err);
        if (!st) st = d->ops->alloc(d, rows * width * acc, &s->dz[m], err);
        if (!st) st = d->ops->alloc(d, (size_t)batch * acc, &s->norm[m], err);
    }
    if (!st) st = d->ops->alloc(d, PARTS * acc, &s->scratch, err);
    if (st)
        su_step_free(s);
    else
        *step = s;
    return st;
}

/* Tokens that rows of a text stream are padded to, in every piece: dropout draws by the padded length. 0 where
 * nothing is drawn, and rows may be as short as they are. */
static su_status padded(su_step *s, const su_step_batch *b, su_error *err)
{
    double longest[SU_MAX_STREAMS] = {0};
    bool any = false;
    for (int m = 0; m < s->model->config.streams; m++) {
        const su_tower_config *c = &s->model->config.stream[m].tower;
        bool draws = b->train && (c->dropout > 0.0 || c->attention_dropout > 0.0);
        if (c->kind != SU_TOWER_BERT || !draws || b->pooled[m]) continue;
        any = true;
        for (int32_t i = 0; i < b->count; i++) longest[m] = fmax(longest[m], b->lengths[m][i]);
    }
    su_status st = any ? su_comm_max(s->model->device->comm, longest, s->model->config.streams, err) : SU_OK;
    for (int m = 0; m < s->model->config.streams; m++) s->tokens[m] = (int32_t)longest[m];
    return st;
}

/* The piece of a batch from sample `first` on, for one stream. Random keys differ by stream; what a sample
 * draws depends on its place in the batch, not on the piece. */
static su_tower_input piece(const su_step *s, const su_step_batch *b, int stream, int32_t first)
{
    const su_tower_config *c = &s->model->config.stream[stream].tower;
    int32_t n = b->count - first < s->micro ? b->count - first : s->micro;
    su_tower_input in = {.batch = n,
                         .train = b->train && !su_model_frozen(s->model, stream),
                         .key = {.seed = b->seed, .step = (uint32_t)b->step, .layer = (uint32_t)stream << 28},
                         .first = s->before + first,
                         .tokens = s->tokens[stream]};
    if (b->pooled[stream])
        in.pooled = b->pooled[stream] + (size_t)first * (size_t)c->width;
    else if (c->kind == SU_TOWER_VIT) {
        in.images = b->images[stream] +
                    (size_t)first * (size_t)c->image_size * (size_t)c->image_size * (size_t)c->channels;
        in.on_device = b->on_device;
    } else {
        in.ids = b->ids[stream] + (size_t)first * (size_t)c->max_tokens;
        in.lengths = b->lengths[stream] + first;
    }
    return in;
}

static su_status forward(su_step *s, const su_step_batch *b, int stream, int32_t first, su_tower_input *in,
                         su_error *err)
{
    su_device *d = s->model->device;
    *in = piece(s, b, stream, first);
    return su_model_forward(s->model, stream, in,
                            su_acc_at(d, s->z[stream], (s->before + first) * su_model_width(s->model)),
                            su_acc_at(d, s->norm[stream], first), err);
}

su_status su_step_run(su_step *s, const su_step_batch *b, const su_objective *o, double progress,
                      su_losses *losses, su_error *err)
{
    su_model *model = s->model;
    su_device *d = model->device;
    int32_t width = su_model_width(model);
    int64_t whole = (int64_t)b->count * su_comm_ranks(d->comm);
    if (whole < 2 || b->count < 1 || b->count > s->batch)
        return su_fail(err, SU_EINVAL, "a batch of %d does not fit the planned %d", b->count, s->batch);
    su_tower_input in;
    s->before = (int64_t)b->count * su_comm_rank(d->comm);
    su_status st = padded(s, b, err);
    /* The last stream, as a rule the text, goes first: it is the sooner on its way, and while the device works on
     * it the host lists the images' patches. */
    for (int32_t first = 0; first < b->count && !st; first += s->micro)
        for (int m = model->config.streams - 1; m >= 0 && !st; m--) st = forward(s, b, m, first, &in, err);
    for (int m = 0; m < model->config.streams && !st; m++)
        st = su_comm_all_gather(d->comm, s->z[m], (size_t)b->count * (size_t)width * su_dtype_size(d->acc),
                                err);
    if (st) return st;
    double lambda_atp = 0.0, lambda_cu = 0.0;
    su_objective_weights(o, progress, &lambda_atp, &lambda_cu);
    const void *log_scale =
        su_acc_at(d, model->params.master, model->params.items[model->logit_scale].offset);
    void *d_log_scale = su_param_grad(&model->params, model->logit_scale);
    if (su_comm_rank(d->comm) > 0) d_log_scale = NULL; /* it is the whole batch's: counted once */
    st = su_objective_apply(o, d, lambda_atp, lambda_cu, model->config.streams, model->config.anchor, s->z,
                            s->dz, log_scale, d_log_scale, s->scratch, whole, width, losses, err);
    if (!st && !isfinite(losses->total))
        st = su_fail(err, SU_ENUMERIC, "the loss is %s", isnan(losses->total) ? "not a number" : "infinite");
    /* Backward from the last micro-batch to the first: the last one's activations are still in place. The last
     * stream goes first here too: the sum of a text's word embeddings over the ranks, a long one, begins before the
     * images' backward. */
    int32_t last = (b->count - 1) / s->micro * s->micro;
    for (int32_t first = last; first >= 0 && !st; first -= s->micro) {
        for (int m = model->config.streams - 1; m >= 0 && !st; m--) {
            if (first != last)
                st = forward(s, b, m, first, &in, err);
            else
                in = piece(s, b, m, first);
            in.final = first == 0;
            int64_t at = (s->before + first) * width;
            const void *d_tokens = NULL;
            if (!st && b->extra) st = b->extra->run(b->extra->context, m, first, in.batch, &d_tokens, err);
            if (!st)
                st = su_model_backward(model, m, &in, su_acc_at(d, s->dz[m], at), su_acc_at(d, s->z[m], at),
                                       su_acc_at(d, s->norm[m], first), d_tokens, err);
        }
    }
    return st ? st : d->ops->sync(d, err);
}
