#include "nn/params.h"
#include "base/memory.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { UNIT = SU_ALIGN / 2 }; /* elements: aligned for two-byte types too */
enum { WORTH = 1 << 20 };     /* elements, 4 MB: see su_params */

void su_params_init(su_params *p, su_device *device)
{
    *p = (su_params){.device = device, .worth = WORTH};
}

void su_params_free(su_params *p)
{
    if (!p->device) return;
    su_device *d = p->device;
    if (p->grad) su_comm_wait(d->comm, NULL); /* a step that failed may leave sums under way */
    if (p->compute != p->master) d->ops->release(d, p->compute);
    d->ops->release(d, p->master);
    d->ops->release(d, p->grad);
    d->ops->release(d, p->m);
    d->ops->release(d, p->v);
    for (int64_t i = 0; i < p->count; i++) su_free(p->items[i].name);
    su_free(p->items);
    *p = (su_params){0};
}

int64_t su_params_add(su_params *p, const char *name, int rank, const int64_t *shape, bool decay, int group,
                      su_init init, double scale, bool packed)
{
    if (p->count == p->capacity) {
        int64_t capacity = p->capacity ? p->capacity * 2 : 64;
        su_param *items = su_realloc(p->items, (size_t)capacity, sizeof *items);
        if (!items) {
            p->failed = true;
            return 0;
        }
        p->items = items;
        p->capacity = capacity;
    }
    su_param *q = &p->items[p->count];
    *q = (su_param){
        .name = su_strdup(name), .rank = rank, .decay = decay, .group = group, .init = init, .scale = scale};
    if (!q->name) {
        p->failed = true;
        return 0;
    }
    q->count = 1;
    for (int i = 0; i < rank; i++) {
        q->shape[i] = shape[i];
        if (__builtin_mul_overflow(q->count, shape[i], &q->count)) p->failed = true;
    }
    int64_t start = packed ? p->elements : (p->elements + UNIT - 1) / UNIT * UNIT;
    q->offset = start;
    if (__builtin_add_overflow(start, q->count, &p->elements)) p->failed = true;
    return p->count++;
}

static su_status take(su_params *p, int64_t elements, size_t size, void **memory, su_error *err)
{
    su_device *d = p->device;
    size_t bytes = 0;
    if (__builtin_mul_overflow((size_t)elements, size, &bytes))
        return su_fail(err, SU_ELIMIT, "the model has too many parameters for this machine's address space");
    su_status st = d->ops->alloc(d, bytes, memory, err);
    if (!st) d->ops->zero(d, *memory, bytes);
    return st;
}

void su_params_freeze(su_params *p, int group)
{
    p->frozen |= 1u << group;
}

/* Places in grad, m and v: as in master, less the frozen runs. What follows one starts aligned there too. */
static void place_states(su_params *p)
{
    int64_t skipped = 0, end = 0;
    p->learning = 0;
    for (int64_t i = 0; i < p->count; i++) {
        su_param *q = &p->items[i];
        int64_t next = i + 1 < p->count ? p->items[i + 1].offset : p->elements;
        if (p->frozen >> q->group & 1) {
            q->state = -1;
            skipped += next - q->offset;
            continue;
        }
        q->state = q->offset - skipped;
        end = q->state + q->count;
    }
    p->learning = skipped ? end : p->elements;
    int64_t part = su_comm_part(p->device->comm, p->learning);
    p->shard = p->device->comm ? (part + UNIT - 1) / UNIT * UNIT : part;
}

/* Elements of grad: a part for every rank, the last one filled up. */
static int64_t gradients(const su_params *p)
{
    return p->shard * su_comm_ranks(p->device->comm);
}

/* The elements [*first, *end) that this rank's moments are of; none where the last parts are empty. */
static void own_part(const su_params *p, int64_t *first, int64_t *end)
{
    *first = p->shard * su_comm_rank(p->device->comm);
    *end = *first + p->shard < p->learning ? *first + p->shard : p->learning;
}

size_t su_params_bytes(su_params *p, bool training)
{
    place_states(p);
    size_t acc = su_dtype_size(p->device->acc), act = su_dtype_size(p->device->act);
    size_t copy = p->device->act == p->device->acc ? 0 : act;
    return (size_t)p->elements * (acc + copy) + (training ? (size_t)(gradients(p) + 2 * p->shard) * acc : 0);
}

su_status su_params_commit(su_params *p, bool training, su_error *err)
{
    if (p->failed) return su_fail(err, SU_ENOMEM, "no memory for the parameter table");
    place_states(p);
    size_t acc = su_dtype_size(p->device->acc), act = su_dtype_size(p->device->act);
    su_status st = take(p, p->elements, acc, &p->master, err);
    if (!st && p->device->act == p->device->acc) p->compute = p->master;
    if (!st && !p->compute) st = take(p, p->elements, act, &p->compute, err);
    if (!st && training) st = take(p, gradients(p), acc, &p->grad, err);
    if (!st && training) st = take(p, p->shard, acc, &p->m, err);
    if (!st && training) st = take(p, p->shard, acc, &p->v, err);
    if (st)
        return su_fail_context(err, st, "%.2f M parameters need %.0f MB%s", (double)p->elements / 1e6,
                               (double)su_params_bytes(p, training) / 1e6,
                               training ? " with their gradients and moments" : "");
    return SU_OK;
}

void su_params_refresh(su_params *p)
{
    su_device *d = p->device;
    if (p->compute != p->master) d->ops->convert(d, p->compute, d->act, p->master, d->acc, p->elements);
}

su_status su_params_share(su_params *p, su_error *err)
{
    su_device *d = p->device;
    if (!d->comm) return SU_OK;
    su_status st = su_comm_broadcast(d->comm, p->master, (size_t)p->elements * su_dtype_size(d->acc), err);
    if (!st) su_params_refresh(p);
    return st;
}

su_status su_params_set(su_params *p, int64_t index, const double *values, su_error *err)
{
    su_device *d = p->device;
    const su_param *q = &p->items[index];
    void *to = su_acc_at(d, p->master, q->offset);
    if (d->acc == SU_DTYPE_F64) {
        d->ops->upload(d, to, values, (size_t)q->count * sizeof *values);
        return SU_OK;
    }
    float *host = su_alloc((size_t)q->count, sizeof *host);
    if (!host) return su_fail(err, SU_ENOMEM, "no memory to set parameter %s", q->name);
    for (int64_t i = 0; i < q->count; i++) host[i] = (float)values[i];
    d->ops->upload(d, to, host, (size_t)q->count * sizeof *host);
    su_status st = d->ops->sync(d, err);
    su_free(host);
    return st;
}

su_status su_params_get(const su_params *p, int64_t index, double *values, su_error *err)
{
    su_device *d = p->device;
    const su_param *q = &p->items[index];
    const void *from = su_acc_at(d, p->master, q->offset);
    if (d->acc == SU_DTYPE_F64) {
        d->ops->download(d, values, from, (size_t)q->count * sizeof *values);
        return SU_OK;
    }
    float *host = su_alloc((size_t)q->count, sizeof *host);
    if (!host) return su_fail(err, SU_ENOMEM, "no memory to read parameter %s", q->name);
    d->ops->download(d, host, from, (size_t)q->count * sizeof *host);
    for (int64_t i = 0; i < q->count; i++) values[i] = (double)host[i];
    su_free(host);
    return SU_OK;
}

/* A normal number within two standard deviations: the first of a few draws that fits. */
static double cut_normal(su_rng_key key, uint64_t element)
{
    for (uint64_t attempt = 0; attempt < 16; attempt++) {
        double x = su_rng_normal(key, element * 16 + attempt);
        if (fabs(x) <= 2.0) return x;
    }
    return 0.0;
}

/* Element j of a position table. */
static double grid_position(const su_param *q, int64_t j)
{
    int64_t width = q->shape[2], quarter = width / 4, patch = j / width - 1, k = j % width;
    int64_t across = (int64_t)llround(sqrt((double)(q->shape[1] - 1)));
    if (patch < 0 || k >= 4 * quarter) return 0.0;
    double at = (double)(k < 2 * quarter ? patch % across : patch / across);
    double exponent = quarter > 1 ? (double)(k % quarter) / (double)(quarter - 1) : 0.0;
    double angle = at / pow(10000.0, exponent);
    return k / quarter % 2 ? cos(angle) : sin(angle);
}

/* Start values of one parameter, INIT_PART at a time. */
enum { INIT_PART = 1 << 14 };

typedef struct {
    const su_param *param;
    su_rng_key key;
    double *values;
} initialising;

static double start_value(const initialising *n, int64_t j)
{
    const su_param *q = n->param;
    switch (q->init) {
    case SU_INIT_ZERO:
        return 0.0;
    case SU_INIT_ONE:
        return 1.0;
    case SU_INIT_CONSTANT:
        return q->scale;
    case SU_INIT_NORMAL:
        return q->scale * cut_normal(n->key, (uint64_t)j);
    case SU_INIT_GRID:
        return grid_position(q, j);
    }
    return 0.0;
}

static void initialise_part(void *context, int64_t part, int worker)
{
    (void)worker;
    const initialising *n = context;
    const int64_t from = part * INIT_PART, left = n->param->count - from;
    const int64_t to = from + (left < INIT_PART ? left : INIT_PART);
    for (int64_t j = from; j < to; j++) n->values[j] = start_value(n, j);
}

su_status su_params_randomise(su_params *p, uint64_t seed, su_error *err)
{
    for (int64_t i = 0; i < p->count; i++) {
        const su_param *q = &p->items[i];
        initialising n = {.param = q};
        n.key = (su_rng_key){.seed = seed, .step = UINT32_MAX, .layer = su_rng_name(q->name)};
        n.values = su_alloc((size_t)q->count, sizeof *n.values);
        if (!n.values) return su_fail(err, SU_ENOMEM, "no memory to initialise parameter %s", q->name);
        su_pool_run(p->device->pool, (q->count + INIT_PART - 1) / INIT_PART, initialise_part, &n);
        su_status st = su_params_set(p, i, n.values, err);
        su_free(n.values);
        if (st) return st;
    }
    su_params_refresh(p);
    return SU_OK;
}

int64_t su_params_find(const su_params *p, const char *name)
{
    for (int64_t i = 0; i < p->count; i++)
        if (!strcmp(p->items[i].name, name)) return i;
    return -1;
}

/* --- files ---------------------------------------------------------------------------------------------- */

/* Host copies of one flat array as F32. */
static su_status download_floats(const su_params *p, const void *array, int64_t elements, float **host,
                                 su_error *err)
{
    su_device *d = p->device;
    float *out = su_alloc((size_t)(elements ? elements : 1), sizeof *out);
    if (!out) return su_fail(err, SU_ENOMEM, "no memory to copy the parameters");
    if (d->acc == SU_DTYPE_F32) {
        d->ops->download(d, out, array, (size_t)elements * sizeof *out);
    } else {
        double *wide = su_alloc((size_t)elements, sizeof *wide);
        if (!wide) {
            su_free(out);
            return su_fail(err, SU_ENOMEM, "no memory to copy the parameters");
        }
        d->ops->download(d, wide, array, (size_t)elements * sizeof *wide);
        for (int64_t i = 0; i < elements; i++) out[i] = (float)wide[i];
        su_free(wide);
    }
    *host = out;
    return SU_OK;
}

static const char *const prefix[3] = {"", "adam.m/", "adam.v/"};

static void zero_gradients(const su_params *p)
{
    su_device *d = p->device;
    d->ops->zero(d, p->grad, (size_t)gradients(p) * su_dtype_size(d->acc));
}

/* All elements of a moment: the array itself, or, of several ranks, gathered in grad. */
static su_status whole_moment(const su_params *p, void *moment, void **whole, su_error *err)
{
    su_device *d = p->device;
    *whole = moment;
    if (!d->comm) return SU_OK;
    int64_t first = 0, end = 0;
    own_part(p, &first, &end);
    size_t bytes = (size_t)p->shard * su_dtype_size(d->acc);
    *whole = p->grad;
    d->ops->copy(d, su_acc_at(d, p->grad, first), moment, bytes);
    return su_comm_all_gather(d->comm, p->grad, bytes, err);
}

su_status su_params_save(const su_params *p, const char *path, bool moments, const char *const *metadata,
                         su_error *err)
{
    int arrays = moments ? 3 : 1;
    bool writes = !moments || su_comm_rank(p->device->comm) == 0;
    void *source[3] = {p->master, p->m, p->v};
    float *host[3] = {NULL, NULL, NULL};
    su_tensor_view *views = su_calloc((size_t)(p->count * arrays), sizeof *views);
    su_status st = views ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to save %s", path);
    int64_t n = 0;
    for (int a = 0; a < arrays; a++) {
        void *whole = source[a];
        su_status gathered = a ? whole_moment(p, source[a], &whole, err) : SU_OK;
        if (!st) st = gathered;
        if (!st && writes) st = download_floats(p, whole, a ? p->learning : p->elements, &host[a], err);
        for (int64_t i = 0; i < p->count && !st && writes; i++) {
            const su_param *q = &p->items[i];
            if (a && q->state < 0) continue;
            su_tensor_view *v = &views[n];
            size_t length = strlen(prefix[a]) + strlen(q->name) + 1;
            char *name = su_alloc(length, 1);
            if (!name) {
                st = su_fail(err, SU_ENOMEM, "no memory to save %s", path);
                break;
            }
            snprintf(name, length, "%s%s", prefix[a], q->name);
            *v = (su_tensor_view){.name = name,
                                  .dtype = SU_DTYPE_F32,
                                  .rank = q->rank,
                                  .data = host[a] + (a ? q->state : q->offset),
                                  .bytes = (size_t)q->count * sizeof(float)};
            memcpy(v->shape, q->shape, sizeof q->shape);
            n++;
        }
    }
    if (!st && writes) st = su_safetensors_write(path, views, n, metadata, err);
    for (int64_t i = 0; i < n; i++) su_free((void *)(uintptr_t)views[i].name);
    su_free(views);
    for (int a = 0; a < 3; a++) su_free(host[a]);
    if (!moments || !p->device->comm) return st;
    zero_gradients(p);
    return su_comm_agree(p->device->comm, st, err);
}

static su_status load_one(su_params *p, const su_param *q, const char *front, void *to,
                          const su_safetensors *file, su_error *err)
{
    su_device *d = p->device;
    char name[512];
    snprintf(name, sizeof name, "%s%s", front, q->name);
    const su_tensor_view *view = NULL;
    su_status st = su_safetensors_get(file, name, SU_DTYPE_F32, q->rank, q->shape, &view, err);
    if (st) return st;
    if (d->acc == SU_DTYPE_F32) {
        d->ops->upload(d, to, view->data, view->bytes);
        return SU_OK;
    }
    double *wide = su_alloc((size_t)q->count, sizeof *wide);
    if (!wide) return su_fail(err, SU_ENOMEM, "no memory to load parameter %s", q->name);
    for (int64_t j = 0; j < q->count; j++) {
        float x;
        memcpy(&x, (const char *)view->data + (size_t)j * sizeof x, sizeof x);
        wide[j] = (double)x;
    }
    d->ops->upload(d, to, wide, (size_t)q->count * sizeof *wide);
    su_free(wide);
    return SU_OK;
}

su_status su_params_load_first(su_params *p, int64_t count, const su_safetensors *file, su_error *err)
{
    su_device *d = p->device;
    su_status st = SU_OK;
    for (int64_t i = 0; i < count && !st; i++)
        st = load_one(p, &p->items[i], prefix[0], su_acc_at(d, p->master, p->items[i].offset), file, err);
    if (st) return st;
    su_params_refresh(p);
    return d->ops->sync(d, err);
}

/* Every moment of `file` (on rank 0) to `to`, an array over all elements. */
static su_status load_moment(su_params *p, const su_safetensors *file, const char *front, void *to,
                             su_error *err)
{
    su_device *d = p->device;
    su_status st = SU_OK;
    for (int64_t i = 0; i < p->count && file && !st; i++)
        if (su_param_learns(p, i))
            st = load_one(p, &p->items[i], front, su_acc_at(d, to, p->items[i].state), file, err);
    return st;
}

/* The same with several ranks: through grad, of which each rank keeps its part. */
static su_status share_moment(su_params *p, const su_safetensors *file, const char *front, void *moment,
                              su_error *err)
{
    su_device *d = p->device;
    int64_t first = 0, end = 0;
    size_t acc = su_dtype_size(d->acc);
    su_status st = su_comm_agree(d->comm, load_moment(p, file, front, p->grad, err), err);
    if (!st) st = su_comm_broadcast(d->comm, p->grad, (size_t)gradients(p) * acc, err);
    own_part(p, &first, &end);
    if (!st) d->ops->copy(d, moment, su_acc_at(d, p->grad, first), (size_t)p->shard * acc);
    zero_gradients(p);
    return st;
}

su_status su_params_load(su_params *p, const su_safetensors *file, bool moments, su_error *err)
{
    su_device *d = p->device;
    void *target[3] = {NULL, p->m, p->v};
    bool several = moments && d->comm;
    su_status st = file || !several ? su_params_load_first(p, p->count, file, err) : SU_OK;
    if (several) {
        st = su_comm_agree(d->comm, st, err);
        if (!st) st = su_params_share(p, err);
    }
    for (int a = 1; a < 3 && moments && !st; a++)
        st = several ? share_moment(p, file, prefix[a], target[a], err)
                     : load_moment(p, file, prefix[a], target[a], err);
    return st ? st : d->ops->sync(d, err);
}

/* --- sums over the ranks -------------------------------------------------------------------------------- */

/* Where parameter i, or the next one that learns, lies in grad. */
static int64_t state_from(const su_params *p, int64_t i)
{
    while (i < p->count && p->items[i].state < 0) i++;
    return i < p->count ? p->items[i].state : p->learning;
}

static void begin_sum(su_params *p, int64_t first, int64_t end)
{
    int64_t from = state_from(p, first);
    for (int64_t i = first; i < end; i++) p->items[i].summing = true;
    su_comm_reduce(p->device->comm, p->grad, p->shard, from, state_from(p, end) - from);
}

void su_params_ready(su_params *p, int64_t first, int64_t end)
{
    if (!p->device->comm) return;
    if (end != p->ready) p->ready_end = end;
    p->ready = first;
    if (state_from(p, p->ready_end) - state_from(p, first) < p->worth) return;
    begin_sum(p, first, p->ready_end);
    p->ready_end = first;
}

/* The sums that have not begun, and the end of all. */
static su_status sum_gradients(su_params *p, su_error *err)
{
    for (int64_t i = 0, end = 0; i < p->count; i = end) {
        while (end < p->count && p->items[end].summing == p->items[i].summing) end++;
        if (!p->items[i].summing) begin_sum(p, i, end);
    }
    for (int64_t i = 0; i < p->count; i++) p->items[i].summing = false;
    p->ready = p->ready_end = 0;
    return su_comm_wait(p->device->comm, err);
}

/* --- optimiser ------------------------------------------------------------------------------------------ */

double su_schedule(const su_optimiser *o, int64_t step)
{
    if (step <= o->warmup) return (double)step / (double)o->warmup;
    if (step > o->steps) return 0.0;
    return 0.5 * (1.0 + cos(M_PI * (double)(step - 1 - o->warmup) / (double)(o->steps - o->warmup)));
}

/* The next run of parameters that lie together in master and in grad, from parameter *i on; false: none. */
static bool next_run(const su_params *p, int64_t *i, int64_t *offset, int64_t *state, int64_t *n)
{
    while (*i < p->count && p->items[*i].state < 0) ++*i;
    if (*i == p->count) return false;
    const su_param *from = &p->items[*i], *to = from;
    while (*i < p->count && p->items[*i].state >= 0) to = &p->items[(*i)++];
    *offset = from->offset;
    *state = from->state;
    *n = to->state + to->count - from->state;
    return true;
}

/* One AdamW step of what is this rank's, which alone refreshes what is computed with; factor: of the learning rates. */
static su_status update(su_params *p, const su_optimiser *o, const su_adamw *adam, double factor, su_error *err)
{
    su_device *d = p->device;
    int64_t first = 0, end = 0, offset = 0, state = 0, n = 0;
    own_part(p, &first, &end);
    su_adamw_run *runs = su_alloc((size_t)p->count, sizeof *runs);
    if (!runs) return su_fail(err, SU_ENOMEM, "no memory for a step of the optimiser");
    for (int64_t i = 0, k = 0; next_run(p, &i, &offset, &state, &n); k = i) {
        int64_t from = state > first ? state : first, to = state + n < end ? state + n : end;
        int32_t count = 0;
        for (; k < i; k++) { /* the gap behind a parameter goes with it: it holds zeros */
            const su_param *q = &p->items[k];
            int64_t stop = k + 1 < i ? q[1].state : state + n;
            if (q->state < 0 || stop <= from || q->state >= to) continue;
            su_adamw_run run = {.end = (stop < to ? stop : to) - from,
                                .lr = o->lr[q->group] * factor,
                                .weight_decay = q->decay ? o->weight_decay : 0.0};
            su_adamw_run *before = count ? &runs[count - 1] : NULL;
            if (before && before->lr == run.lr && before->weight_decay == run.weight_decay)
                before->end = run.end;
            else
                runs[count++] = run;
        }
        void *narrow = p->compute != p->master && !d->comm ? su_act_at(d, p->compute, offset + from - state) : NULL;
        if (count)
            d->ops->adamw(d, su_acc_at(d, p->master, offset + from - state), narrow, su_acc_at(d, p->m, from - first),
                          su_acc_at(d, p->v, from - first), su_acc_at(d, p->grad, from), adam, runs, count);
    }
    su_free(runs);
    return SU_OK;
}

/* Every rank's part of the weights to all, through grad: its gradients are used up. */
static su_status gather_weights(su_params *p, su_error *err)
{
    su_device *d = p->device;
    size_t acc = su_dtype_size(d->acc);
    int64_t first = 0, end = 0, offset = 0, state = 0, n = 0;
    own_part(p, &first, &end);
    for (int64_t i = 0; next_run(p, &i, &offset, &state, &n);) {
        int64_t from = state > first ? state : first, to = state + n < end ? state + n : end;
        if (from < to)
            d->ops->copy(d, su_acc_at(d, p->grad, from), su_acc_at(d, p->master, offset + from - state),
                         (size_t)(to - from) * acc);
    }
    su_status st = su_comm_all_gather(d->comm, p->grad, (size_t)p->shard * acc, err);
    for (int64_t i = 0; !st && next_run(p, &i, &offset, &state, &n);)
        d->ops->copy(d, su_acc_at(d, p->master, offset), su_acc_at(d, p->grad, state), (size_t)n * acc);
    return st;
}

su_status su_optimiser_step(const su_optimiser *o, su_params *p, int64_t step, double *norm, su_error *err)
{
    su_device *d = p->device;
    double squares = 0.0;
    int64_t first = 0, end = 0;
    own_part(p, &first, &end);
    su_status st = sum_gradients(p, err);
    if (st) return st;
    if (first < end) d->ops->sum_squares(d, &squares, su_acc_at(d, p->grad, first), end - first);
    st = su_comm_sum(d->comm, &squares, 1, err);
    if (st) return st;
    *norm = sqrt(squares);
    if (!isfinite(*norm))
        return su_fail(err, SU_ENUMERIC, "the gradient is not finite at step %lld", (long long)step);
    su_adamw adam = {.beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps, .step = step, .grad_scale = 1.0};
    if (o->clip_norm > 0.0 && *norm > o->clip_norm) adam.grad_scale = o->clip_norm / *norm;
    st = update(p, o, &adam, su_schedule(o, step), err);
    if (!st && d->comm) st = gather_weights(p, err);
    zero_gradients(p);
    if (d->comm) su_params_refresh(p);
    return st;
}
