/* The harness of tests that run on several ranks: see CMakeLists.txt. All ranks run the same tests in step.
 */
#ifndef SU_TESTS_RANKS_RANKS_H
#define SU_TESTS_RANKS_RANKS_H

#include "tests/nn/check.h"
#include "nn/comm.h"

static su_comm *ranks_comm; /* MPI begins once in a process: one communicator serves all devices */
static su_device *ranks_first;

/* Lends the communicator to d; NULL: takes it back. */
CHECK_UNUSED static void ranks_lend(su_device *d)
{
    if (d) {
        d->comm = ranks_comm;
        ranks_comm->device = d;
    } else {
        ranks_comm->device->comm = NULL;
    }
}

static bool ranks_join(void)
{
    su_error err = {0};
    su_launch launch;
    if (su_launch_read(&launch, &err) || su_device_cpu(1, SU_DTYPE_F32, &ranks_first, &err) ||
        su_comm_open(&launch, ranks_first, &err)) {
        fprintf(stderr, "rank %d: %s\n", launch.rank, err.message);
        return false;
    }
    ranks_comm = ranks_first->comm;
    if (!ranks_comm) fprintf(stderr, "one rank alone: start it with mpirun\n");
    return ranks_comm != NULL;
}

CHECK_UNUSED static int ranks_main(const struct CMUnitTest *tests, size_t count)
{
    if (!ranks_join()) return 1;
    int failed = _cmocka_run_group_tests("ranks", tests, count, NULL, NULL);
    ranks_lend(ranks_first);
    su_comm_close(ranks_first, failed ? SU_EINVAL : SU_OK);
    su_device_close(ranks_first);
    return failed;
}

#endif
