/* Sequences of operations that are launched as one: CUDA graphs.
 *
 *     first time     carried out, so that what is chosen, loaded or taken once (algorithms, kernels, scratch memory) is
 *     second         recorded, then run
 *     later          run
 *
 * A recording holds addresses and numbers as they were. What it cannot hold (su_cuda_records) spoils it, as a failure
 * does: then nothing of it was carried out, and the operations are carried out, this time and ever after. */
#include "nn/cuda/internal.h"
#include <stdio.h>

struct su_recorded {
    bool seen;    /* carried out once */
    bool refused; /* it cannot be recorded, or not run */
    void *graph;
};

bool su_cuda_records(su_cuda *c, const char *what)
{
    if (!c->recording) return false;
    char text[160];
    snprintf(text, sizeof text, "%s cannot be recorded", what);
    su_cuda_fail(c, SU_EUNSUPPORTED, text);
    return true;
}

/* A failure in here is none of an operation: whatever is wrong for good is met again when it is carried out. */
static void *record(su_cuda *c, void (*work)(void *context), void *context)
{
    void *graph = NULL;
    if (c->rt->record_begin(c->stream) != SU_CUDA_OK) return NULL;
    c->recording = true;
    work(context);
    c->recording = false;
    const bool ended = c->rt->record_end(c->stream, &graph) == SU_CUDA_OK;
    if (ended && !c->failed) return graph;
    c->failed = SU_OK;
    if (graph) c->rt->graph_free(graph);
    return NULL;
}

bool su_cuda_repeat(su_device *d, su_recorded **recorded, void (*work)(void *context), void *context)
{
    su_cuda *c = su_cuda_of(d);
    su_recorded *r = *recorded;
    if (c->failed) return false; /* nothing more is launched: see launch.h */
    su_cuda_here(c);
    if (!r) r = *recorded = su_calloc(1, sizeof *r); /* without memory: never recorded */
    if (r && r->seen && !r->refused) {
        if (!r->graph) r->graph = record(c, work, context);
        if (r->graph && c->rt->graph_run(r->graph, c->stream) == SU_CUDA_OK) return true;
        if (r->graph) c->rt->graph_free(r->graph);
        r->graph = NULL;
        r->refused = true;
    }
    work(context);
    if (r) r->seen = !c->failed;
    return false;
}

void su_cuda_forget(su_device *d, su_recorded *recorded)
{
    su_cuda *c = su_cuda_of(d);
    if (!recorded) return;
    su_cuda_here(c);
    if (recorded->graph) {
        su_cuda_check(c, c->rt->stream_wait(c->stream), "waiting for the GPU");
        su_cuda_check(c, c->rt->graph_free(recorded->graph), "giving a recording back");
    }
    su_free(recorded);
}
