/* Ranks over MPI, for CPU devices: libsuture_mpi.so.
 *
 * Sums never leave their order to the MPI library: every rank is sent what the others have of its block, and adds
 * it up in the order of the ranks, in double. A range of which several blocks have a part is done in segments of
 * all of these at once:
 *
 *   x     [ rank 0's block | rank 1's block | ... ]     a segment of every part goes to its owner,
 *   room  [ from rank 0 | from rank 1 | ... ]           is added up here, and stands in the owner's block
 *
 * A thread does it beside whatever the rank computes, one range after the other. It alone calls MPI while there are
 * ranges: every other call here waits for it first. */
#include "base/memory.h"
#include "nn/comm.h"
#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { SEGMENT = 1 << 17, CHUNK = 1 << 30 }; /* elements of a reduction; bytes of a broadcast */
enum { RANGES = 64, NAP = 50000 };           /* begun at once; nanoseconds */

typedef struct {
    void *x;
    int64_t block, first, n; /* see su_comm_reduce */
} range;

typedef struct {
    su_comm comm;
    MPI_Comm world;
    void *room;            /* [ranks][SEGMENT] of acc */
    MPI_Request *requests; /* [2 ranks] */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t change;
    range ranges[RANGES]; /* number i is at i % RANGES */
    int64_t begun, done;
    bool end;
    atomic_bool awaited; /* the rank does nothing else */
    su_error error;      /* the first one; the thread's until done == begun */
} mpi;

static su_status check(int code, const char *what, su_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code == MPI_SUCCESS) return SU_OK;
    MPI_Error_string(code, text, &length);
    return su_fail(err, SU_EIO, "MPI, %s: %s", what, text);
}

static void add_up(const mpi *m, void *sum, int64_t n)
{
    int ranks = m->comm.ranks;
    if (m->comm.device->acc == SU_DTYPE_F64) {
        const double *x = m->room;
        for (int64_t i = 0; i < n; i++) {
            double s = x[i];
            for (int r = 1; r < ranks; r++) s += x[r * n + i];
            ((double *)sum)[i] = s;
        }
        return;
    }
    const float *x = m->room;
    for (int64_t i = 0; i < n; i++) {
        double s = (double)x[i];
        for (int r = 1; r < ranks; r++) s += (double)x[r * n + i];
        ((float *)sum)[i] = (float)s;
    }
}

/* Segment k of what `rank` has of a range: how many elements, and where in x. */
static int64_t segment_of(const range *r, int rank, int64_t k, int64_t *at)
{
    int64_t from = rank * r->block, end = from + r->block, last = r->first + r->n;
    *at = (from > r->first ? from : r->first) + k * SEGMENT;
    int64_t left = (end < last ? end : last) - *at;
    return left < 0 ? 0 : left < SEGMENT ? left : SEGMENT;
}

/* Segment k of every rank's part to its owner. more: another one follows. */
static su_status exchange(mpi *m, const range *r, int64_t k, bool *more, su_error *err)
{
    su_device *d = m->comm.device;
    MPI_Datatype element = d->acc == SU_DTYPE_F64 ? MPI_DOUBLE : MPI_FLOAT;
    int own = m->comm.rank, count = 0, all = 0, code = MPI_SUCCESS;
    int64_t at = 0, there = 0, n = segment_of(r, own, k, &at);
    *more = n == SEGMENT;
    for (int i = 0; i < m->comm.ranks && !code; i++) {
        int64_t theirs = segment_of(r, i, k, &there);
        void *room = su_acc_at(d, m->room, i * n), *x = su_acc_at(d, r->x, there);
        *more |= theirs == SEGMENT;
        if (i == own) {
            memcpy(room, x, (size_t)n * su_dtype_size(d->acc));
            continue;
        }
        if (n) code = MPI_Irecv(room, (int)n, element, i, 0, m->world, &m->requests[count++]);
        if (theirs && !code)
            code = MPI_Isend(x, (int)theirs, element, i, 0, m->world, &m->requests[count++]);
    }
    while (!code && !all) {
        code = MPI_Testall(count, m->requests, &all, MPI_STATUSES_IGNORE);
        if (all) break;
        if (m->awaited)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP}, NULL);
    }
    if (!code) add_up(m, su_acc_at(d, r->x, at), n);
    return check(code, "exchange of gradients", err);
}

static void *add_up_ranges(void *context)
{
    mpi *m = context;
    pthread_mutex_lock(&m->lock);
    for (;;) {
        while (m->done == m->begun && !m->end) pthread_cond_wait(&m->change, &m->lock);
        if (m->done == m->begun) break;
        range r = m->ranges[m->done % RANGES];
        pthread_mutex_unlock(&m->lock);
        bool more = true;
        for (int64_t k = 0; more && !m->error.code; k++) exchange(m, &r, k, &more, &m->error);
        pthread_mutex_lock(&m->lock);
        m->done++;
        pthread_cond_broadcast(&m->change);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* Signals are the program's business: the thread is born with all of them blocked. */
static su_status start_thread(mpi *m, su_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->change, NULL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&m->thread, NULL, add_up_ranges, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? su_fail(err, SU_ENOMEM, "MPI: the system refuses a thread: %s", strerror(failed)) : SU_OK;
}

static void reduce(su_comm *c, void *x, int64_t block, int64_t first, int64_t n)
{
    mpi *m = c->state;
    pthread_mutex_lock(&m->lock);
    while (m->begun - m->done == RANGES) pthread_cond_wait(&m->change, &m->lock);
    m->ranges[m->begun++ % RANGES] = (range){x, block, first, n};
    pthread_cond_broadcast(&m->change);
    pthread_mutex_unlock(&m->lock);
}

static su_status await(su_comm *c, su_error *err)
{
    mpi *m = c->state;
    m->awaited = true;
    pthread_mutex_lock(&m->lock);
    while (m->done < m->begun) pthread_cond_wait(&m->change, &m->lock);
    pthread_mutex_unlock(&m->lock);
    m->awaited = false;
    if (err && m->error.code) *err = m->error;
    return m->error.code;
}

static su_status all_gather(su_comm *c, void *x, size_t bytes, su_error *err)
{
    mpi *m = c->state;
    MPI_Datatype type = bytes % 4 ? MPI_BYTE : MPI_UINT32_T;
    size_t count = bytes % 4 ? bytes : bytes / 4;
    su_status st = await(c, err);
    if (st) return st;
    if (count > INT_MAX)
        return su_fail(err, SU_ELIMIT, "MPI, all-gather: %zu bytes a rank are too many", bytes);
    return check(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x, (int)count, type, m->world),
                 "all-gather", err);
}

static su_status broadcast(su_comm *c, void *x, size_t bytes, su_error *err)
{
    mpi *m = c->state;
    su_status st = await(c, err);
    for (size_t first = 0; first < bytes && !st; first += CHUNK) {
        size_t n = bytes - first < CHUNK ? bytes - first : CHUNK;
        st = check(MPI_Bcast((char *)x + first, (int)n, MPI_BYTE, 0, m->world), "broadcast", err);
    }
    return st;
}

/* The last rank may come much later (it scores the run): the others sleep, where MPI_Finalize would spin. */
static void wait_for_all(mpi *m)
{
    MPI_Request request;
    int done = 0;
    if (MPI_Ibarrier(m->world, &request) != MPI_SUCCESS) return;
    while (MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void free_mpi(mpi *m)
{
    su_free(m->room);
    su_free(m->requests);
    su_free(m);
}

static void close_mpi(su_comm *c, bool failed)
{
    mpi *m = c->state;
    if (failed) MPI_Abort(m->world, 1); /* does not return */
    pthread_mutex_lock(&m->lock);
    m->end = true;
    pthread_cond_broadcast(&m->change);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    wait_for_all(m);
    MPI_Comm_free(&m->world);
    free_mpi(m);
    MPI_Finalize();
}

static const su_comm_ops ops = {.name = "MPI",
                                .all_gather = all_gather,
                                .broadcast = broadcast,
                                .reduce = reduce,
                                .wait = await,
                                .close = close_mpi};

__attribute__((visibility("default"))) su_comm_enter su_comm_entry;

su_status su_comm_entry(const char *version, size_t table, const su_launch *launch, su_device *device,
                        su_comm **comm, su_error *err)
{
    int begun = 0, ended = 0, got = 0;
    *comm = NULL;
    (void)launch;
    if (strcmp(version, SUTURE_VERSION) != 0 || table != sizeof(su_device_ops))
        return su_fail(err, SU_EMISMATCH,
                       "libsuture_mpi.so is of version " SUTURE_VERSION ", the program of %s", version);
    MPI_Finalized(&ended);
    MPI_Initialized(&begun);
    if (ended || begun) return su_fail(err, SU_EINVAL, "MPI can be begun once in a process");
    mpi *m = su_calloc(1, sizeof *m);
    if (!m) return su_fail(err, SU_ENOMEM, "no memory for MPI");
    su_status st = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &got), "initialisation", err);
    if (!st && got < MPI_THREAD_SERIALIZED)
        st = su_fail(err, SU_EUNSUPPORTED, "this MPI serves a process of one thread alone");
    if (!st) st = check(MPI_Comm_dup(MPI_COMM_WORLD, &m->world), "a communicator", err);
    if (st) {
        free_mpi(m);
        return st;
    }
    MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN);
    m->comm = (su_comm){.ops = &ops, .device = device, .host = true, .state = m};
    MPI_Comm_rank(m->world, &m->comm.rank);
    MPI_Comm_size(m->world, &m->comm.ranks);
    m->room = su_alloc_aligned((size_t)m->comm.ranks * SEGMENT, sizeof(double));
    m->requests = su_alloc(2 * (size_t)m->comm.ranks, sizeof *m->requests);
    if (!m->room || !m->requests)
        st = su_fail(err, SU_ENOMEM, "no memory to add up gradients of %d ranks", m->comm.ranks);
    if (!st) st = start_thread(m, err);
    if (st) {
        free_mpi(m);
        return st;
    }
    *comm = &m->comm;
    return SU_OK;
}
