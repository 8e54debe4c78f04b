/* Who this process is among its ranks, from the environment of whatever started it. */
#include "base/threads.h"
#include "nn/comm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *by, *rank, *ranks, *local_rank, *local_ranks;
    bool mpi;
} source;

/* The first one that names more than one rank counts. Slurm sets the number of a step's tasks under srun
 * alone, never in a batch script itself. */
static const source sources[] = {
    {"RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", false},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", true},
    {"MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", true},
    {"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", true},
};

/* The number that a variable begins with ("4(x2)" is Slurm's); `otherwise` when it is not set. */
static long number(const char *variable, long otherwise)
{
    const char *text = getenv(variable);
    if (!text || *text < '0' || *text > '9') return otherwise;
    return strtol(text, NULL, 10);
}

static void find_host(su_launch *l)
{
    const char *host = getenv("MASTER_ADDR");
    if (!host || !*host) host = getenv("SLURM_LAUNCH_NODE_IPADDR");
    if ((!host || !*host) && l->local_ranks == l->ranks) host = "127.0.0.1";
    snprintf(l->host, sizeof l->host, "%s", host ? host : "");
    l->port = (int)number("MASTER_PORT", 29500);
    const char *agent = getenv("TORCHELASTIC_USE_AGENT_STORE"); /* torchrun itself listens there */
    if (agent && !strcmp(agent, "True")) l->port++;
}

su_status su_launch_read(su_launch *l, su_error *err)
{
    *l = (su_launch){.ranks = 1, .local_ranks = 1, .by = "nothing"};
    const source *s = NULL;
    long ranks = 1;
    for (size_t i = 0; i < sizeof sources / sizeof *sources && !s; i++) {
        ranks = number(sources[i].ranks, 1);
        if (ranks > 1 && getenv(sources[i].rank)) s = &sources[i];
        if (sources[i].mpi && getenv(sources[i].ranks)) l->mpi = true;
    }
    if (!s) return SU_OK;
    long rank = number(s->rank, -1), local = number(s->local_rank, number("SLURM_LOCALID", rank));
    long locals = number(s->local_ranks, number("SLURM_NTASKS_PER_NODE", ranks));
    if (rank < 0 || rank >= ranks || ranks > 1 << 20 || local < 0 || locals < 1 || local >= locals)
        return su_fail(err, SU_EINVAL,
                       "%s %s of %s %s, %s %s: there is no such rank; unset them to train in one process",
                       s->rank, getenv(s->rank), s->ranks, getenv(s->ranks), s->local_rank,
                       getenv(s->local_rank) ? getenv(s->local_rank) : "(not set)");
    l->rank = (int)rank;
    l->ranks = (int)ranks;
    l->local_rank = (int)local;
    l->local_ranks = (int)locals;
    l->by = s->by;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (sources[i].mpi && number(sources[i].ranks, 1) == ranks) l->mpi = true;
    const char *slurm = getenv("SLURM_CPU_BIND_TYPE");
    l->bound = getenv("OMPI_MCA_orte_bound_at_launch") || (slurm && *slurm && strcmp(slurm, "none") != 0);
    find_host(l);
    return SU_OK;
}

int su_launch_threads(const su_launch *l, int asked)
{
    if (asked > 0 || l->ranks == 1) return asked;
    int cores = su_cpu_count(), share = l->bound ? cores : cores / l->local_ranks;
    return share > 1 ? share : 1;
}

void su_launch_device(const su_launch *l, const char *asked, char *name, size_t size)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    bool one = visible && *visible && !strchr(visible, ','); /* the starter shows each rank its own GPU */
    if (l->ranks > 1 && !one && !strncmp(asked, "cuda", 4) && asked[4] != ':')
        snprintf(name, size, "cuda:%d%s", l->local_rank, asked + 4);
    else
        snprintf(name, size, "%s", asked);
}
