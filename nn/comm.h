/* Ranks: processes that train one model together, each with a device of its own.
 *
 * Who they are comes from whatever started them, by environment variables alone: torchrun or anything like it
 * (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), Slurm's srun, or mpirun. CPU ranks talk over MPI,
 * GPU ranks over NCCL; both live in shared objects (libsuture_mpi.so, libsuture_nccl.so, see base/companion.h),
 * so that a host without them trains on one rank. Nothing is sent to anybody but the job's own ranks.
 *
 * Every function here that takes a communicator is collective: all ranks call it, in the same order. With
 * NULL, the one rank, it does nothing and succeeds. Sums are formed in the order of the ranks (NCCL: in its
 * own, fixed for a machine), so the same number of ranks gives the same bits. All but su_comm_reduce return when
 * it is done.
 *
 * Failures. A rank that fails between two collective calls says so at the next su_comm_agree, and all ranks
 * leave with its message. One that cannot wait for that, because another call comes first, closes its
 * communicator as failed, which ends the others. A rank that is killed is noticed by what started it (mpirun,
 * srun
 * --kill-on-bad-exit, torchrun), and with NCCL by the others. */
#ifndef SU_NN_COMM_H
#define SU_NN_COMM_H

#include "nn/device.h"

/* --- who this process is */

typedef struct {
    int rank, ranks;             /* 0 .. ranks-1; ranks 1: alone */
    int local_rank, local_ranks; /* among those of this host */
    char host[256];              /* where rank 0 is: GPU ranks meet there; "": not known */
    int port;
    bool mpi;       /* MPI knows the ranks too */
    bool bound;     /* the starter gave each rank cores of its own */
    const char *by; /* what said so, for messages */
} su_launch;

/* SU_EINVAL: variables that cannot be (RANK 4 of WORLD_SIZE 4). */
su_status su_launch_read(su_launch *launch, su_error *err);
/* Threads of this rank: `asked`, or, when it is 0, its share of the host's cores. */
int su_launch_threads(const su_launch *launch, int asked);
/* The device of this rank: "cuda" becomes "cuda:1" on local rank 1; any other name stays. */
void su_launch_device(const su_launch *launch, const char *asked, char *name, size_t size);

/* --- the ranks together */

typedef struct {
    const char *name; /* "MPI", "NCCL" */
    /* x: device memory [ranks][bytes]; each rank's own block is in place, the others' arrive. */
    su_status (*all_gather)(su_comm *c, void *x, size_t bytes, su_error *err);
    /* See su_comm_reduce, su_comm_wait. What goes wrong in the one is told by the other. */
    void (*reduce)(su_comm *c, void *x, int64_t block, int64_t first, int64_t n);
    su_status (*wait)(su_comm *c, su_error *err);
    /* x: what rank 0 has. */
    su_status (*broadcast)(su_comm *c, void *x, size_t bytes, su_error *err);
    /* failed: this rank leaves where the others do not expect it, and they are ended. */
    void (*close)(su_comm *c, bool failed);
} su_comm_ops;

struct su_comm {
    const su_comm_ops *ops;
    su_device *device; /* not owned */
    int rank, ranks;
    int local_ranks; /* of this host */
    bool host;   /* takes host memory as well */
    bool agreed; /* on a failure, by su_comm_agree */
    void *stage; /* device memory for what comes from the host, unless `host` */
    size_t stage_bytes;
    void *state;
};

/* The door of a shared object. `version` and `table` are the caller's SUTURE_VERSION and
 * sizeof(su_device_ops); an object of another version refuses (SU_EMISMATCH). */
#define SU_COMM_ENTRY "su_comm_entry"
typedef su_status su_comm_enter(const char *version, size_t table, const su_launch *launch, su_device *device,
                                su_comm **comm, su_error *err);

/* Joins the ranks and sets device->comm; NULL when there is one. It may be done once in a process.
 * SU_EUNSUPPORTED: the shared object is missing or cannot be used here. */
su_status su_comm_open(const su_launch *launch, su_device *device, su_error *err);
/* Leaves them; before the device is closed. status: what this rank ends with; a failure that was not agreed
 * on ends the other ranks, and with MPI this process too: say what there is to say before. */
void su_comm_close(su_device *device, su_status status);

static inline int su_comm_rank(const su_comm *c)
{
    return c ? c->rank : 0;
}
static inline int su_comm_ranks(const su_comm *c)
{
    return c ? c->ranks : 1;
}
/* What rank r of count items has, where they are divided in runs of equal length (the last ranks' may be
 * shorter, or empty): *first, and how many. su_comm_part is the length of a full run. */
int64_t su_comm_part(const su_comm *c, int64_t count);
int64_t su_comm_share(const su_comm *c, int64_t count, int64_t *first);

su_status su_comm_all_gather(su_comm *c, void *x, size_t bytes, su_error *err);
su_status su_comm_broadcast(su_comm *c, void *x, size_t bytes, su_error *err);
/* The same in host memory. */
su_status su_comm_gather_host(su_comm *c, void *x, size_t bytes, su_error *err);
su_status su_comm_broadcast_host(su_comm *c, void *x, size_t bytes, su_error *err);
/* x: acc [ranks][block]. Begins the sum of its elements [first, first + n), in any of the blocks, behind what the
 * device was told to do before: an element becomes its sum over the ranks on the rank whose block it is in, and is
 * lost on the others. Nobody touches them until su_comm_wait, which waits for all that this rank has begun: it is
 * not collective, and a rank that fails waits too before it lets go of x. */
void su_comm_reduce(su_comm *c, void *x, int64_t block, int64_t first, int64_t n);
su_status su_comm_wait(su_comm *c, su_error *err);
/* A few numbers in host memory: their sums, in double, in the order of the ranks; the largest ones. */
su_status su_comm_sum(su_comm *c, double *x, int n, su_error *err);
su_status su_comm_max(su_comm *c, double *x, int n, su_error *err);
/* Waits for all ranks, and gives all of them the same status: SU_OK when every rank says so, else what the
 * first failed rank says, its number in front of its message unless all
 * say the same. */
su_status su_comm_agree(su_comm *c, su_status status, su_error *err);
/* SU_EMISMATCH when `text` is another than rank 0's; `what` names it. */
su_status su_comm_same(su_comm *c, const char *what, const char *text, su_error *err);

#endif
