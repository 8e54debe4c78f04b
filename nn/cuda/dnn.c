/* Running cuDNN's plans: one a shape and direction, made when it is first asked for and kept; a shape that cuDNN has
 * nothing for is remembered, and left to our kernels.
 *
 * Beside what the caller gives, a plan reads the number of queries and of keys of every sequence. Queries all count;
 * where no lengths are given, neither do keys end early: both lists are kept with the plan. */
#include "nn/cuda/dnn.h"
#include "nn/cuda/dnn_plan.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLANS_MOST = 64 };

/* What a plan depends on; no padding, compared as bytes. */
typedef struct {
    int64_t q_stride, kv_stride, o_stride;
    int32_t batch, heads, dim, tq, tk, causal, backward, unused;
} plan_key;
_Static_assert(sizeof(plan_key) == 3 * 8 + 8 * 4, "a key has no padding");

typedef struct {
    plan_key key;
    bool usable;
    su_dnn_plan plan;
    int32_t *lengths; /* device [2][batch]: tq, then tk */
} entry;

typedef struct {
    su_dnn dnn;
    cudnnHandle_t handle;
    entry entries[PLANS_MOST];
    int count;
} state;

static void forget(su_cuda *c, state *s)
{
    while (s->count) {
        entry *e = &s->entries[--s->count];
        if (e->usable) su_dnn_plan_free(&s->dnn, &e->plan);
        if (e->lengths) c->device.ops->release(&c->device, e->lengths);
    }
}

void su_cuda_dnn_close(su_cuda *c)
{
    state *s = c->attentions;
    if (!s) return;
    forget(c, s);
    if (s->handle) s->dnn.destroy(s->handle);
    su_free(s);
    c->attentions = NULL;
}

su_status su_cuda_dnn_open(su_cuda *c, su_error *err)
{
    const char *choice = getenv("SUTURE_ATTENTION"); /* "cudnn": it must be there; "own": not asked for */
    const bool must = choice && !strcmp(choice, "cudnn");
    if (choice && !must && *choice) return SU_OK;
    state *s = c->attentions = su_calloc(1, sizeof *s);
    if (!s) return su_fail(err, SU_ENOMEM, "no memory for cuDNN's state");
    su_status status = su_dnn_load(&s->dnn, err);
    if (status)
        status = su_fail_context(
            err, SU_EUNSUPPORTED,
            "cuda:%d: SUTURE_ATTENTION=cudnn needs cuDNN 9 where the system looks for libraries, or on "
            "LD_LIBRARY_PATH",
            c->number);
    if (!status && s->dnn.create(&s->handle) != CUDNN_STATUS_SUCCESS) {
        s->handle = NULL;
        status = su_fail(err, SU_EUNSUPPORTED, "cuda:%d: cuDNN does not start", c->number);
    }
    if (!status && s->dnn.set_stream(s->handle, c->stream) != CUDNN_STATUS_SUCCESS)
        status = su_fail(err, SU_EIO, "cuda:%d: cuDNN does not take the stream", c->number);
    if (!status) return SU_OK;
    su_cuda_dnn_close(c);
    return must ? status : SU_OK; /* our own kernels do without */
}

/* The lists of lengths that a plan reads where the caller has none. */
static bool fill_lengths(su_cuda *c, entry *e)
{
    const size_t n = (size_t)e->key.batch;
    su_error err = {0};
    void *memory = NULL;
    int32_t *host = su_alloc(2 * n, sizeof *host);
    if (!host || c->device.ops->alloc(&c->device, 2 * n * sizeof *host, &memory, &err)) {
        su_free(host);
        su_cuda_fail(c, SU_ENOMEM, host ? err.message : "no memory for the plans of attention");
        return false;
    }
    e->lengths = memory;
    for (size_t i = 0; i < n; i++) host[i] = e->key.tq, host[n + i] = e->key.tk;
    c->device.ops->upload(&c->device, memory, host, 2 * n * sizeof *host);
    su_free(host);
    return true;
}

/* NULL: not for cuDNN, or a failure, which is recorded. */
static const entry *entry_of(su_cuda *c, state *s, const su_attention *a, bool backward)
{
    const plan_key key = {.q_stride = a->q_stride,
                          .kv_stride = a->kv_stride,
                          .o_stride = a->o_stride,
                          .batch = a->batch,
                          .heads = a->heads,
                          .dim = a->dim,
                          .tq = a->tq,
                          .tk = a->tk,
                          .causal = a->causal,
                          .backward = backward};
    for (int i = 0; i < s->count; i++)
        if (!memcmp(&s->entries[i].key, &key, sizeof key))
            return s->entries[i].usable ? &s->entries[i] : NULL;
    if (s->count == PLANS_MOST) {
        su_cuda_check(c, c->rt->stream_wait(c->stream), "waiting for the GPU");
        forget(c, s);
    }
    entry *e = &s->entries[s->count++];
    *e = (entry){.key = key};
    e->usable = su_dnn_plan_new(&s->dnn, s->handle, NULL, a, backward, &e->plan, NULL) == SU_OK;
    if (!e->usable) return NULL;
    if (fill_lengths(c, e)) return e;
    su_dnn_plan_free(&s->dnn, &e->plan);
    s->count--;
    return NULL;
}

/* Whether rows of 16-byte packs are what it reads, and no dropout is asked for. */
static bool takes(const su_cuda *c, const su_attention *a, uintptr_t addresses)
{
    const int64_t widths = a->dim | a->q_stride | a->kv_stride | a->o_stride;
    return c->attentions && c->device.act == SU_DTYPE_BF16 && a->dropout <= 0 && a->dim <= 128 && a->tq > 1 &&
           widths % 8 == 0 && addresses % 16 == 0;
}

typedef struct {
    int64_t names[SU_DNN_NAMES];
    void *at[SU_DNN_NAMES];
    int count;
} pack;

static void add(pack *p, su_dnn_name name, const void *at)
{
    p->names[p->count] = name;
    p->at[p->count++] = (void *)(uintptr_t)at;
}

static bool run(su_cuda *c, state *s, const entry *e, const su_attention *a, pack *p, void *workspace)
{
    const float scale = (float)a->scale, least = -INFINITY, one = 1;
    add(p, SU_DNN_SCALE, &scale);
    add(p, SU_DNN_MINUS_INFINITY, &least);
    if (e->key.backward) add(p, SU_DNN_ONE, &one);
    add(p, SU_DNN_LENGTH_Q, e->lengths);
    add(p, SU_DNN_LENGTH_KV, a->lengths ? a->lengths : e->lengths + e->key.batch);
    cudnnBackendDescriptor_t d = NULL;
    const su_dnn *dnn = &s->dnn;
    cudnnStatus_t st = dnn->descriptor_new(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &d);
    if (!st) st = dnn->set(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, p->count, p->names);
    if (!st) st = dnn->set(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, p->count, p->at);
    if (!st) st = dnn->set(d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (!st) st = dnn->finalise(d);
    if (!st) st = dnn->execute(s->handle, e->plan.plan, d);
    if (d) dnn->descriptor_free(d);
    if (st) {
        char text[300], message[400];
        dnn->last_error(text, sizeof text);
        snprintf(message, sizeof message, "attention: cuDNN says: %.250s", text);
        su_cuda_fail(c, SU_EIO, message);
    }
    return true;
}

bool su_cuda_dnn_attention(su_cuda *c, const su_attention *a, void *o, void *lse, const void *q,
                           const void *k, const void *v)
{
    if (!takes(c, a, (uintptr_t)o | (uintptr_t)q | (uintptr_t)k | (uintptr_t)v)) return false;
    if (c->failed) return true;
    su_cuda_here(c);
    state *s = c->attentions;
    const entry *e = entry_of(c, s, a, false);
    if (!e) return c->failed != SU_OK;
    const size_t workspace = su_cuda_room(e->plan.workspace, 1);
    const int64_t lines = (int64_t)a->batch * a->heads * a->tq;
    char *scratch = su_cuda_scratch(c, workspace + su_cuda_room(lines, sizeof(float)));
    if (!scratch) return true;
    pack p = {0};
    add(&p, SU_DNN_Q, q);
    add(&p, SU_DNN_K, k);
    add(&p, SU_DNN_V, v);
    add(&p, SU_DNN_O, o);
    add(&p, SU_DNN_LSE, lse ? lse : scratch + workspace);
    return run(c, s, e, a, &p, scratch);
}

bool su_cuda_dnn_attention_backward(su_cuda *c, const su_attention *a, void *dq, void *dk, void *dv,
                                    const void *d_o, const void *o, const void *lse, const void *q,
                                    const void *k, const void *v)
{
    const uintptr_t addresses = (uintptr_t)dq | (uintptr_t)dk | (uintptr_t)dv | (uintptr_t)d_o |
                                (uintptr_t)o | (uintptr_t)q | (uintptr_t)k | (uintptr_t)v;
    if (!takes(c, a, addresses)) return false;
    if (c->failed) return true;
    su_cuda_here(c);
    state *s = c->attentions;
    const entry *e = entry_of(c, s, a, true);
    if (!e) return c->failed != SU_OK;
    const size_t workspace = su_cuda_room(e->plan.workspace, 1);
    const int64_t lines = (int64_t)a->batch * a->heads * a->tq;
    char *scratch = su_cuda_scratch(c, workspace + su_cuda_room(lines, sizeof(float)));
    if (!scratch) return true;
    pack p = {0};
    add(&p, SU_DNN_Q, q);
    add(&p, SU_DNN_K, k);
    add(&p, SU_DNN_V, v);
    add(&p, SU_DNN_O, o);
    add(&p, SU_DNN_DO, d_o);
    add(&p, SU_DNN_LSE, lse);
    add(&p, SU_DNN_DQ, dq);
    add(&p, SU_DNN_DK, dk);
    add(&p, SU_DNN_DV, dv);
    add(&p, SU_DNN_SUMS, scratch + workspace);
    return run(c, s, e, a, &p, scratch);
}
