/* Ranks over MPI, for CPU devices: libsuture_mpi.so.
 *
 * Sums never leave their order to the MPI library: a reduce-scatter is an exchange of blocks, which every
 * rank then adds up in the order of the ranks, in double. It is done in segments:
 *
 *   x     [ rank 0's block | rank 1's block | ... ]     the same segment of every block goes to its owner,
 *   room  [ from rank 0 | from rank 1 | ... ]           is added up here, and stands in the owner's block
 */
#include "base/memory.h"
#include "nn/comm.h"
#include <limits.h>
#include <mpi.h>
#include <string.h>
#include <time.h>

enum { SEGMENT = 1 << 17, CHUNK = 1 << 30 }; /* elements of a reduction; bytes of a broadcast */

typedef struct {
    su_comm comm;
    MPI_Comm world;
    void *room; /* [ranks][SEGMENT] of acc */
} mpi;

static su_status check(int code, const char *what, su_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code == MPI_SUCCESS) return SU_OK;
    MPI_Error_string(code, text, &length);
    return su_fail(err, SU_EIO, "MPI, %s: %s", what, text);
}

static su_status all_gather(su_comm *c, void *x, size_t bytes, su_error *err)
{
    mpi *m = c->state;
    MPI_Datatype type = bytes % 4 ? MPI_BYTE : MPI_UINT32_T;
    size_t count = bytes % 4 ? bytes : bytes / 4;
    if (count > INT_MAX)
        return su_fail(err, SU_ELIMIT, "MPI, all-gather: %zu bytes a rank are too many", bytes);
    return check(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x, (int)count, type, m->world),
                 "all-gather", err);
}

static su_status broadcast(su_comm *c, void *x, size_t bytes, su_error *err)
{
    mpi *m = c->state;
    su_status st = SU_OK;
    for (size_t first = 0; first < bytes && !st; first += CHUNK) {
        size_t n = bytes - first < CHUNK ? bytes - first : CHUNK;
        st = check(MPI_Bcast((char *)x + first, (int)n, MPI_BYTE, 0, m->world), "broadcast", err);
    }
    return st;
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

/* n elements of every block, from element `first` of it on. */
static su_status exchange(mpi *m, void *x, int64_t block, int64_t first, int64_t n, su_error *err)
{
    su_device *d = m->comm.device;
    MPI_Datatype element = d->acc == SU_DTYPE_F64 ? MPI_DOUBLE : MPI_FLOAT, part, spread;
    su_status st = check(MPI_Type_contiguous((int)n, element, &part), "a type", err);
    if (st) return st;
    MPI_Type_create_resized(part, 0, (MPI_Aint)((size_t)block * su_dtype_size(d->acc)), &spread);
    MPI_Type_commit(&part);
    MPI_Type_commit(&spread);
    st = check(MPI_Alltoall(su_acc_at(d, x, first), 1, spread, m->room, 1, part, m->world),
               "exchange of gradients", err);
    MPI_Type_free(&spread);
    MPI_Type_free(&part);
    if (!st) add_up(m, su_acc_at(d, x, m->comm.rank * block + first), n);
    return st;
}

static su_status reduce_scatter(su_comm *c, void *x, int64_t n, su_error *err)
{
    mpi *m = c->state;
    su_status st = SU_OK;
    if (!m->room) m->room = su_alloc_aligned((size_t)c->ranks * SEGMENT, sizeof(double));
    if (!m->room) return su_fail(err, SU_ENOMEM, "no memory to add up gradients of %d ranks", c->ranks);
    for (int64_t first = 0; first < n && !st; first += SEGMENT)
        st = exchange(m, x, n, first, n - first < SEGMENT ? n - first : SEGMENT, err);
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

static void close_mpi(su_comm *c, bool failed)
{
    mpi *m = c->state;
    if (failed) MPI_Abort(m->world, 1); /* does not return */
    wait_for_all(m);
    MPI_Comm_free(&m->world);
    su_free(m->room);
    su_free(m);
    MPI_Finalize();
}

static const su_comm_ops ops = {.name = "MPI",
                                .all_gather = all_gather,
                                .reduce_scatter = reduce_scatter,
                                .broadcast = broadcast,
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
    su_status st = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &got), "initialisation", err);
    if (!st) st = check(MPI_Comm_dup(MPI_COMM_WORLD, &m->world), "a communicator", err);
    if (st) {
        su_free(m);
        return st;
    }
    MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN);
    m->comm = (su_comm){.ops = &ops, .device = device, .host = true, .state = m};
    MPI_Comm_rank(m->world, &m->comm.rank);
    MPI_Comm_size(m->world, &m->comm.ranks);
    *comm = &m->comm;
    return SU_OK;
}
