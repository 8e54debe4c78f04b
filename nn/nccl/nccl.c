/* Ranks over NCCL, for CUDA devices: libsuture_nccl.so.
 *
 * Collectives run in the device's own stream, behind what it already computes there, and the host waits for them: while
 * it does, it looks whether a rank is gone (meeting.h), so that nobody waits for ever. Sums of gradients alone run in a
 * stream beside it, behind what the device's own has by then. */
#include "nn/nccl/meeting.h"
#include "base/memory.h"
#include "nn/cuda/internal.h"
#include <cuda.h>
#include <nccl.h>
#include <string.h>
#include <time.h>

enum { MEET_SECONDS = 600, NAP = 20000 /* nanoseconds */ };

typedef struct {
    su_comm comm;
    ncclComm_t nccl;
    CUstream stream, beside;
    CUevent behind;     /* what `stream` has when a sum begins */
    ncclResult_t begun; /* the first failure to begin one */
    su_meeting *meeting;
    bool broken;
} nccl_ranks;

/* The device is the calling thread's; NCCL takes that one. */
static void here(su_device *d)
{
    su_cuda *c = su_cuda_of(d);
    c->rt->use_device(c->number);
}

static su_status give_up(nccl_ranks *n, su_status status)
{
    if (!n->broken) ncclCommAbort(n->nccl);
    n->broken = true;
    return status;
}

/* What was begun in a stream with `code` is done, or a rank is gone. */
static su_status finish(nccl_ranks *n, CUstream stream, ncclResult_t code, const char *what, su_error *err)
{
    if (code != ncclSuccess)
        return give_up(n, su_fail(err, SU_EIO, "NCCL, %s: %s", what, ncclGetErrorString(code)));
    for (;;) {
        CUresult ready = cuStreamQuery(stream);
        if (ready == CUDA_SUCCESS) return SU_OK;
        if (ready != CUDA_ERROR_NOT_READY) {
            const char *name = NULL;
            cuGetErrorName(ready, &name);
            return give_up(n, su_fail(err, SU_EIO, "NCCL, %s: %s", what, name ? name : "the GPU failed"));
        }
        ncclResult_t later = ncclSuccess;
        if (ncclCommGetAsyncError(n->nccl, &later) != ncclSuccess ||
            (later != ncclSuccess && later != ncclInProgress))
            return give_up(n, su_fail(err, SU_EIO, "NCCL, %s: %s", what, ncclGetErrorString(later)));
        if (su_meeting_broken(n->meeting))
            return give_up(n, su_fail(err, SU_EIO, "another rank has ended: what it said is the reason"));
        nanosleep(&(struct timespec){.tv_nsec = NAP}, NULL);
    }
}

static su_status all_gather(su_comm *c, void *x, size_t bytes, su_error *err)
{
    nccl_ranks *n = c->state;
    here(c->device);
    const char *own = (const char *)x + (size_t)c->rank * bytes;
    return finish(n, n->stream, ncclAllGather(own, x, bytes, ncclUint8, n->nccl, (cudaStream_t)n->stream),
                  "all-gather", err);
}

static su_status broadcast(su_comm *c, void *x, size_t bytes, su_error *err)
{
    nccl_ranks *n = c->state;
    here(c->device);
    return finish(n, n->stream, ncclBroadcast(x, x, bytes, ncclUint8, 0, n->nccl, (cudaStream_t)n->stream),
                  "broadcast", err);
}

/* Every part of the range to its owner. */
static ncclResult_t begin(nccl_ranks *n, void *x, int64_t block, int64_t first, int64_t end)
{
    if (cuEventRecord(n->behind, n->stream) || cuStreamWaitEvent(n->beside, n->behind, 0))
        return ncclUnhandledCudaError;
    ncclResult_t code = ncclGroupStart();
    for (int64_t from = first, to = 0; from < end && code == ncclSuccess; from = to) {
        int64_t owner = from / block;
        to = (owner + 1) * block < end ? (owner + 1) * block : end;
        void *part = su_acc_at(n->comm.device, x, from);
        code = ncclReduce(part, part, (size_t)(to - from), ncclFloat32, ncclSum, (int)owner, n->nccl,
                          (cudaStream_t)n->beside);
    }
    ncclResult_t grouped = ncclGroupEnd();
    return code == ncclSuccess ? grouped : code;
}

static void reduce(su_comm *c, void *x, int64_t block, int64_t first, int64_t count)
{
    nccl_ranks *n = c->state;
    here(c->device);
    if (n->begun == ncclSuccess) n->begun = begin(n, x, block, first, first + count);
}

static su_status await(su_comm *c, su_error *err)
{
    nccl_ranks *n = c->state;
    here(c->device);
    if (n->broken) return su_fail(err, SU_EIO, "NCCL: the ranks do not hear one another any more");
    return finish(n, n->beside, n->begun, "sums of gradients", err);
}

static void free_nccl(nccl_ranks *n)
{
    if (n->behind) cuEventDestroy(n->behind);
    if (n->beside) cuStreamDestroy(n->beside);
    su_meeting_close(n->meeting);
    su_free(n);
}

static void close_nccl(su_comm *c, bool failed)
{
    nccl_ranks *n = c->state;
    if (!n->broken && failed)
        ncclCommAbort(n->nccl);
    else if (!n->broken)
        ncclCommDestroy(n->nccl);
    free_nccl(n);
}

static const su_comm_ops ops = {.name = "NCCL",
                                .all_gather = all_gather,
                                .broadcast = broadcast,
                                .reduce = reduce,
                                .wait = await,
                                .close = close_nccl};

/* Sums go first: they are short, and what waits for them is the step's end. */
static su_status open_beside(nccl_ranks *n, su_error *err)
{
    int least = 0, most = 0;
    if (!cuCtxGetStreamPriorityRange(&least, &most) &&
        !cuStreamCreateWithPriority(&n->beside, CU_STREAM_NON_BLOCKING, most) &&
        !cuEventCreate(&n->behind, CU_EVENT_DISABLE_TIMING))
        return SU_OK;
    return su_fail(err, SU_EIO, "NCCL: the GPU has no stream for sums of gradients");
}

__attribute__((visibility("default"))) su_comm_enter su_comm_entry;

su_status su_comm_entry(const char *version, size_t table, const su_launch *launch, su_device *device,
                        su_comm **comm, su_error *err)
{
    ncclUniqueId id = {0};
    *comm = NULL;
    if (strcmp(version, SUTURE_VERSION) != 0 || table != sizeof(su_device_ops))
        return su_fail(err, SU_EMISMATCH,
                       "libsuture_nccl.so is of version " SUTURE_VERSION ", the program of %s", version);
    nccl_ranks *n = su_calloc(1, sizeof *n);
    if (!n) return su_fail(err, SU_ENOMEM, "no memory for NCCL");
    n->comm =
        (su_comm){.ops = &ops, .device = device, .rank = launch->rank, .ranks = launch->ranks, .state = n};
    n->stream = (CUstream)su_cuda_of(device)->stream;
    here(device);
    su_status st = open_beside(n, err);
    ncclResult_t code = launch->rank ? ncclSuccess : ncclGetUniqueId(&id);
    if (!st && code != ncclSuccess) st = su_fail(err, SU_EIO, "NCCL: %s", ncclGetErrorString(code));
    if (!st) st = su_meeting_open(launch, MEET_SECONDS, &id, sizeof id, &n->meeting, err);
    if (!st) {
        code = ncclCommInitRank(&n->nccl, launch->ranks, id, launch->rank);
        if (code != ncclSuccess)
            st = su_fail(err, SU_EIO,
                         "NCCL does not connect the ranks: %s (two on one GPU? see NCCL_DEBUG=INFO)",
                         ncclGetErrorString(code));
    }
    if (st) {
        free_nccl(n);
        return st;
    }
    *comm = &n->comm;
    return SU_OK;
}
