#include "nn/params.h"
#include "base/memory.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

void su_params_init(su_params *p, su_device *device)
{
    *p = (su_params){.device = device};
}

void su_params_free(su_params *p)
{
    if (!p->device) return;
    su_device *d = p->device;
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
    enum { UNIT = SU_ALIGN / 2 }; /* elements: aligned for two-byte types too */
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
}

size_t su_params_bytes(su_params *p, bool training)
{
    place_states(p);
    size_t acc = su_dtype_size(p->device->acc), act = su_dtype_size(p->device->act);
    size_t copy = p->device->act == p->device->acc ? 0 : act;
    return (size_t)p->elements * (acc + copy) + (training ? 3 * (size_t)p->learning * acc : 0);
}

su_status su_params_commit(su_params *p, bool training, su_error *err)
{
    if (p->failed) return su_fail(err, SU_ENOMEM, "no memory for the parameter table");
    place_states(p);
    size_t acc = su_dtype_size(p->device->acc), act = su_dtype_size(p->device->act);
    su_status st = take(p, p->elements, acc, &p->master, err);
    if (!st && p->device->act == p->device->acc) p->compute = p->master;
    if (!st && !p->compute) st = take(p, p->elements, act, &p->compute, err);
    if (!st && training) st = take(p, p->learning, acc, &p->grad, err);
    if (!st && training) st = take(p, p->learning, acc, &p->m, err);
    if (!st && training) st = take(p, p->learning, acc, &p->v, err);
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

su_status su_params_randomise(su_params *p, uint64_t seed, su_error *err)
{
    for (int64_t i = 0; i < p->count; i++) {
        const su_param *q = &p->items[i];
        double *values = su_alloc((size_t)q->count, sizeof *values);
        if (!values) return su_fail(err, SU_ENOMEM, "no memory to initialise parameter %s", q->name);
        su_rng_key key = {.seed = seed, .step = UINT32_MAX, .layer = su_rng_name(q->name)};
        for (int64_t j = 0; j < q->count; j++) {
            switch (q->init) {
            case SU_INIT_ZERO:
                values[j] = 0.0;
                break;
            case SU_INIT_ONE:
                values[j] = 1.0;
                break;
            case SU_INIT_CONSTANT:
                values[j] = q->scale;
                break;
            case SU_INIT_NORMAL:
                values[j] = q->scale * cut_normal(key, (uint64_t)j);
                break;
            case SU_INIT_GRID:
                values[j] = grid_position(q, j);
                break;
            }
        }
        su_status st = su_params_set(p, i, values, err);
        su_free(values);
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

su_status su_params_save(const su_params *p, const char *path, bool moments, const char *const *metadata,
                         su_error *err)
{
    int arrays = moments ? 3 : 1;
    const void *source[3] = {p->master, p->m, p->v};
    float *host[3] = {NULL, NULL, NULL};
    su_tensor_view *views = su_calloc((size_t)(p->count * arrays), sizeof *views);
    su_status st = views ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to save %s", path);
    int64_t n = 0;
    for (int a = 0; a < arrays && !st; a++) {
        st = download_floats(p, source[a], a ? p->learning : p->elements, &host[a], err);
        for (int64_t i = 0; i < p->count && !st; i++) {
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
    if (!st) st = su_safetensors_write(path, views, n, metadata, err);
    for (int64_t i = 0; i < n; i++) su_free((void *)(uintptr_t)views[i].name);
    su_free(views);
    for (int a = 0; a < 3; a++) su_free(host[a]);
    return st;
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

su_status su_params_load(su_params *p, const su_safetensors *file, bool moments, su_error *err)
{
    su_device *d = p->device;
    void *target[3] = {NULL, p->m, p->v};
    su_status st = su_params_load_first(p, p->count, file, err);
    for (int a = 1; a < 3 && moments; a++)
        for (int64_t i = 0; i < p->count && !st; i++)
            if (su_param_learns(p, i))
                st = load_one(p, &p->items[i], prefix[a], su_acc_at(d, target[a], p->items[i].state), file,
                              err);
    return st ? st : d->ops->sync(d, err);
}

/* --- optimiser ------------------------------------------------------------------------------------------ */

double su_schedule(const su_optimiser *o, int64_t step)
{
    if (step <= o->warmup) return (double)step / (double)o->warmup;
    if (step > o->steps) return 0.0;
    return 0.5 * (1.0 + cos(M_PI * (double)(step - 1 - o->warmup) / (double)(o->steps - o->warmup)));
}

su_status su_optimiser_step(const su_optimiser *o, su_params *p, int64_t step, double *norm, su_error *err)
{
    su_device *d = p->device;
    double squares = 0.0;
    d->ops->sum_squares(d, &squares, p->grad, p->learning);
    *norm = sqrt(squares);
    if (!isfinite(*norm))
        return su_fail(err, SU_ENUMERIC, "the gradient is not finite at step %lld", (long long)step);
    su_adamw adam = {.beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps, .step = step, .grad_scale = 1.0};
    if (o->clip_norm > 0.0 && *norm > o->clip_norm) adam.grad_scale = o->clip_norm / *norm;
    double factor = su_schedule(o, step);
    for (int64_t i = 0;
         i <
         p->count;) { /* neighbours with the same settings go in one call; the gaps between them hold zeros */
        int64_t j = i + 1;
        while (j < p->count && p->items[j].group == p->items[i].group &&
               p->items[j].decay == p->items[i].decay)
            j++;
        int64_t first = p->items[i].offset, end = p->items[j - 1].offset + p->items[j - 1].count;
        adam.lr = o->lr[p->items[i].group] * factor;
        adam.weight_decay = p->items[i].decay ? o->weight_decay : 0.0;
        int64_t state = p->items[i].state;
        if (state >= 0)
            d->ops->adamw(d, su_acc_at(d, p->master, first), su_acc_at(d, p->m, state),
                          su_acc_at(d, p->v, state), su_acc_at(d, p->grad, state), &adam, end - first);
        i = j;
    }
    d->ops->zero(d, p->grad, (size_t)p->learning * su_dtype_size(d->acc));
    su_params_refresh(p);
    return SU_OK;
}
