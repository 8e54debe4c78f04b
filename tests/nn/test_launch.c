/* Who a process is among its ranks, by the variables of torchrun, Open MPI, MPICH and Slurm. */
#include "tests/nn/check.h"
#include "base/threads.h"
#include "nn/comm.h"

static const char *const variables[] = {"RANK",
                                        "WORLD_SIZE",
                                        "LOCAL_RANK",
                                        "LOCAL_WORLD_SIZE",
                                        "MASTER_ADDR",
                                        "MASTER_PORT",
                                        "TORCHELASTIC_USE_AGENT_STORE",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "OMPI_COMM_WORLD_LOCAL_SIZE",
                                        "OMPI_MCA_orte_bound_at_launch",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "MPI_LOCALRANKID",
                                        "MPI_LOCALNRANKS",
                                        "SLURM_PROCID",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_NTASKS",
                                        "SLURM_NTASKS_PER_NODE",
                                        "SLURM_LOCALID",
                                        "SLURM_STEP_TASKS_PER_NODE",
                                        "SLURM_LAUNCH_NODE_IPADDR",
                                        "SLURM_CPU_BIND_TYPE",
                                        "CUDA_VISIBLE_DEVICES",
                                        NULL};

/* settings: "NAME=value" each, up to NULL. */
static su_status launched(const char *const *settings, su_launch *l, su_error *err)
{
    for (int i = 0; variables[i]; i++) unsetenv(variables[i]);
    for (int i = 0; settings[i]; i++) {
        char name[64];
        const char *equals = strchr(settings[i], '=');
        snprintf(name, sizeof name, "%.*s", (int)(equals - settings[i]), settings[i]);
        setenv(name, equals + 1, 1);
    }
    return su_launch_read(l, err);
}

static void every_starter_says_who_a_rank_is(void **state)
{
    (void)state;
    static const struct {
        const char *settings[8];
        int rank, ranks, local_rank, local_ranks;
        const char *host;
        int port;
        bool mpi;
    } cases[] = {
        {{NULL}, 0, 1, 0, 1, "", 0, false},
        {{"RANK=5", "WORLD_SIZE=8", "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=4", "MASTER_ADDR=node7",
          "MASTER_PORT=1234"},
         5,
         8,
         1,
         4,
         "node7",
         1234,
         false},
        {{"RANK=1", "WORLD_SIZE=2", "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2", "MASTER_PORT=1234",
          "TORCHELASTIC_USE_AGENT_STORE=True"},
         1,
         2,
         1,
         2,
         "127.0.0.1",
         1235,
         false},
        {{"RANK=0", "WORLD_SIZE=1", "OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=3",
          "OMPI_COMM_WORLD_LOCAL_RANK=2", "OMPI_COMM_WORLD_LOCAL_SIZE=3"},
         2,
         3,
         2,
         3,
         "127.0.0.1",
         29500,
         true},
        {{"PMI_RANK=1", "PMI_SIZE=4", "MPI_LOCALRANKID=1", "MPI_LOCALNRANKS=2"}, 1, 4, 1, 2, "", 29500, true},
        {{"SLURM_PROCID=6", "SLURM_STEP_NUM_TASKS=8", "SLURM_LOCALID=2", "SLURM_STEP_TASKS_PER_NODE=4(x2)",
          "SLURM_LAUNCH_NODE_IPADDR=10.0.0.1"},
         6,
         8,
         2,
         4,
         "10.0.0.1",
         29500,
         true},
        {{"SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_LOCALID=0"}, 0, 1, 0, 1, "", 0, false}, /* a batch script
                                                                                              */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_launch l;
        su_error err = {0};
        assert_int_equal(launched(cases[i].settings, &l, &err), SU_OK);
        assert_int_equal(l.rank, cases[i].rank);
        assert_int_equal(l.ranks, cases[i].ranks);
        assert_int_equal(l.local_rank, cases[i].local_rank);
        assert_int_equal(l.local_ranks, cases[i].local_ranks);
        assert_string_equal(l.host, cases[i].host);
        assert_int_equal(l.port, cases[i].port);
        assert_true(l.mpi == cases[i].mpi);
    }
}

static void ranks_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][5] = {
        {"RANK=4", "WORLD_SIZE=4", "LOCAL_RANK=0"},
        {"RANK=-1", "WORLD_SIZE=4"},
        {"RANK=1", "WORLD_SIZE=4", "LOCAL_RANK=2", "LOCAL_WORLD_SIZE=2"},
        {"RANK=x", "WORLD_SIZE=2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_launch l;
        su_error err = {0};
        assert_int_equal(launched(cases[i], &l, &err), SU_EINVAL);
        assert_non_null(strstr(err.message, "WORLD_SIZE"));
    }
}

static void ranks_of_a_host_share_its_cores_and_take_a_gpu_each(void **state)
{
    (void)state;
    su_launch l = {.ranks = 4, .local_rank = 2, .local_ranks = 2};
    char name[32];
    int cores = su_cpu_count();
    for (int i = 0; variables[i]; i++) unsetenv(variables[i]);
    assert_int_equal(su_launch_threads(&l, 5), 5);
    assert_int_equal(su_launch_threads(&l, 0), cores / 2 > 1 ? cores / 2 : 1);
    l.bound = true;
    assert_int_equal(su_launch_threads(&l, 0), cores);
    su_launch_device(&l, "cuda", name, sizeof name);
    assert_string_equal(name, "cuda:2");
    su_launch_device(&l, "cuda,f32", name, sizeof name);
    assert_string_equal(name, "cuda:2,f32");
    su_launch_device(&l, "cuda:0", name, sizeof name);
    assert_string_equal(name, "cuda:0");
    su_launch_device(&l, "cpu", name, sizeof name);
    assert_string_equal(name, "cpu");
    setenv("CUDA_VISIBLE_DEVICES", "3", 1);
    su_launch_device(&l, "cuda", name, sizeof name);
    assert_string_equal(name, "cuda");
    l.ranks = 1;
    assert_int_equal(su_launch_threads(&l, 0), 0);
}

static void cpu_ranks_without_mpi_are_told_how_to_start(void **state)
{
    (void)state;
    su_launch l = {.rank = 1, .ranks = 2, .local_ranks = 2, .by = "RANK and WORLD_SIZE"};
    su_error err = {0};
    su_device *d = check_device(SU_DTYPE_F64, 1);
    assert_int_equal(su_comm_open(&l, d, &err), SU_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "mpirun"));
    l.mpi = true;
    setenv("SUTURE_MPI_LIBRARY", "/nowhere/libsuture_mpi.so", 1);
    assert_int_equal(su_comm_open(&l, d, &err), SU_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "/nowhere/libsuture_mpi.so"));
    assert_null(d->comm);
    l.ranks = 1;
    assert_int_equal(su_comm_open(&l, d, &err), SU_OK);
    assert_null(d->comm);
    su_comm_close(d, SU_OK);
    su_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_starter_says_who_a_rank_is),
        cmocka_unit_test(ranks_that_cannot_be_are_refused),
        cmocka_unit_test(ranks_of_a_host_share_its_cores_and_take_a_gpu_each),
        cmocka_unit_test(cpu_ranks_without_mpi_are_told_how_to_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
