#include "nn/comm.h"
#include "base/companion.h"
#include "base/memory.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static su_status open_part(const su_launch *l, su_device *d, su_comm **comm, su_error *err)
{
    bool gpu = !strcmp(d->ops->name, "cuda");
    const char *file = gpu ? "libsuture_nccl.so" : "libsuture_mpi.so";
    if (!gpu && !l->mpi)
        return su_fail(
            err, SU_EUNSUPPORTED,
            "%s speak of %d ranks, but CPU ranks talk over MPI: start them with mpirun or srun, or "
            "unset WORLD_SIZE to train in one process",
            l->by, l->ranks);
    char *path = su_companion(gpu ? "SUTURE_NCCL_LIBRARY" : "SUTURE_MPI_LIBRARY", file, "lib/suture");
    void *library =
        dlopen(path ? path : file, RTLD_NOW | RTLD_LOCAL); /* never closed: MPI does not survive that */
    const char *why = library ? NULL : dlerror();
    bool there = path != NULL;
    su_free(path);
    if (!library && there) return su_fail(err, SU_EUNSUPPORTED, "%d ranks: %s", l->ranks, why);
    if (!library)
        return su_fail(err, SU_EUNSUPPORTED,
                       "%d ranks: this build has no %s (it is built where CMake finds %s)", l->ranks, file,
                       gpu ? "NCCL and the CUDA toolkit" : "MPI");
    void *symbol = dlsym(library, SU_COMM_ENTRY);
    su_comm_enter *enter = NULL;
    memcpy(&enter, &symbol, sizeof enter); /* ISO C has no cast from an object to a function */
    if (!enter) return su_fail(err, SU_EMISMATCH, "%s has no function " SU_COMM_ENTRY, file);
    return enter(SUTURE_VERSION, sizeof(su_device_ops), l, d, comm, err);
}

su_status su_comm_open(const su_launch *l, su_device *d, su_error *err)
{
    d->comm = NULL;
    if (l->ranks < 2) return SU_OK;
    su_comm *c = NULL;
    su_status st = open_part(l, d, &c, err);
    if (st) return st;
    d->comm = c;
    c->local_ranks = l->local_ranks;
    if (c->rank == l->rank && c->ranks == l->ranks) return SU_OK;
    return su_fail(err, SU_EMISMATCH, "%s call this process rank %d of %d, %s calls it %d of %d", l->by,
                   l->rank, l->ranks, c->ops->name, c->rank, c->ranks);
}

void su_comm_close(su_device *d, su_status status)
{
    if (!d || !d->comm) return;
    su_comm *c = d->comm;
    d->comm = NULL;
    if (c->stage) d->ops->release(d, c->stage);
    c->ops->close(c, status && !c->agreed);
}

int64_t su_comm_part(const su_comm *c, int64_t count)
{
    int64_t ranks = su_comm_ranks(c);
    return (count + ranks - 1) / ranks;
}

int64_t su_comm_share(const su_comm *c, int64_t count, int64_t *first)
{
    int64_t part = su_comm_part(c, count), from = part * su_comm_rank(c);
    if (from > count) from = count;
    *first = from;
    return count - from < part ? count - from : part;
}

su_status su_comm_all_gather(su_comm *c, void *x, size_t bytes, su_error *err)
{
    return c && bytes ? c->ops->all_gather(c, x, bytes, err) : SU_OK;
}

void su_comm_reduce(su_comm *c, void *x, int64_t block, int64_t first, int64_t n)
{
    if (c && n) c->ops->reduce(c, x, block, first, n);
}

su_status su_comm_wait(su_comm *c, su_error *err)
{
    return c ? c->ops->wait(c, err) : SU_OK;
}

su_status su_comm_broadcast(su_comm *c, void *x, size_t bytes, su_error *err)
{
    return c && bytes ? c->ops->broadcast(c, x, bytes, err) : SU_OK;
}

/* --- host memory --------------------------------------------------------------------------------------- */

/* Device memory for `bytes`, kept for the next time. */
static su_status take_stage(su_comm *c, size_t bytes, su_error *err)
{
    su_device *d = c->device;
    if (c->stage_bytes >= bytes) return SU_OK;
    if (c->stage) d->ops->release(d, c->stage);
    c->stage = NULL;
    c->stage_bytes = 0;
    su_status st = d->ops->alloc(d, bytes, &c->stage, err);
    if (!st) c->stage_bytes = bytes;
    return st;
}

su_status su_comm_gather_host(su_comm *c, void *x, size_t bytes, su_error *err)
{
    if (!c || c->host) return su_comm_all_gather(c, x, bytes, err);
    su_device *d = c->device;
    size_t own = (size_t)c->rank * bytes, all = (size_t)c->ranks * bytes;
    su_status st = take_stage(c, all, err);
    if (st) return st;
    d->ops->upload(d, (char *)c->stage + own, (char *)x + own, bytes);
    st = su_comm_all_gather(c, c->stage, bytes, err);
    if (!st) d->ops->download(d, x, c->stage, all);
    return st ? st : d->ops->sync(d, err);
}

su_status su_comm_broadcast_host(su_comm *c, void *x, size_t bytes, su_error *err)
{
    if (!c || c->host) return su_comm_broadcast(c, x, bytes, err);
    su_device *d = c->device;
    su_status st = take_stage(c, bytes, err);
    if (st) return st;
    d->ops->upload(d, c->stage, x, bytes);
    st = su_comm_broadcast(c, c->stage, bytes, err);
    if (!st) d->ops->download(d, x, c->stage, bytes);
    return st ? st : d->ops->sync(d, err);
}

/* --- a few numbers ------------------------------------------------------------------------------------- */

static su_status combine(su_comm *c, double *x, int n, bool largest, su_error *err)
{
    if (!c) return SU_OK;
    double *all = su_calloc((size_t)c->ranks * (size_t)n, sizeof *all);
    if (!all) return su_fail(err, SU_ENOMEM, "no memory for %d numbers of %d ranks", n, c->ranks);
    memcpy(all + (size_t)c->rank * (size_t)n, x, (size_t)n * sizeof *x);
    su_status st = su_comm_gather_host(c, all, (size_t)n * sizeof *all, err);
    for (int i = 0; i < n && !st; i++) {
        x[i] = all[i];
        for (int r = 1; r < c->ranks; r++) {
            double other = all[(size_t)r * (size_t)n + (size_t)i];
            x[i] = largest ? fmax(x[i], other) : x[i] + other;
        }
    }
    su_free(all);
    return st;
}

su_status su_comm_sum(su_comm *c, double *x, int n, su_error *err)
{
    return combine(c, x, n, false, err);
}

su_status su_comm_max(su_comm *c, double *x, int n, su_error *err)
{
    return combine(c, x, n, true, err);
}

/* --- agreement ----------------------------------------------------------------------------------------- */

typedef struct {
    su_error error;
    bool failed;
} verdict;

/* What the first failed rank has to say; called when there is one. */
static su_status hear(su_comm *c, su_status status, su_error *err)
{
    verdict *all = su_calloc((size_t)c->ranks, sizeof *all), *own = all ? &all[c->rank] : NULL;
    if (!all) return su_fail(err, SU_ENOMEM, "no memory for what %d ranks say", c->ranks);
    own->failed = status != SU_OK;
    if (err && status) own->error = *err;
    own->error.code = status;
    su_status st = su_comm_gather_host(c, all, sizeof *all, err);
    if (!st) {
        int r = 0, alike = 0;
        while (!all[r].failed) r++;
        const su_error *first = &all[r].error;
        for (int i = 0; i < c->ranks; i++) alike += all[i].failed && all[i].error.code == first->code;
        c->agreed = true;
        st = su_fail_at(err, first->code, first->position, "%s", first->message);
        if (alike < c->ranks) su_fail_context(err, st, "rank %d", r);
    }
    su_free(all);
    return st;
}

su_status su_comm_agree(su_comm *c, su_status status, su_error *err)
{
    if (!c) return status;
    double failed = status != SU_OK;
    su_error own = {0};
    if (err) own = *err;
    su_status st = su_comm_max(c, &failed, 1, err);
    if (st || failed == 0.0) return st;
    if (err) *err = own;
    return hear(c, status, err);
}

su_status su_comm_same(su_comm *c, const char *what, const char *text, su_error *err)
{
    if (!c) return SU_OK;
    uint64_t length = strlen(text);
    su_status st = su_comm_broadcast_host(c, &length, sizeof length, err);
    char *first = st ? NULL : su_calloc(length + 1, 1);
    if (!st && !first) st = su_fail(err, SU_ENOMEM, "no memory to compare the ranks' %s", what);
    if (first && c->rank == 0) memcpy(first, text, length);
    if (!st) st = su_comm_broadcast_host(c, first, length, err);
    if (!st && strcmp(first, text) != 0)
        st = su_fail(err, SU_EMISMATCH, "its %s differs from rank 0's: all ranks need the same", what);
    su_free(first);
    return su_comm_agree(c, st, err);
}
