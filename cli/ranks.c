#include "cli/ranks.h"
#include "base/log.h"

su_status su_cli_ranks_open(const char *device_name, int64_t threads, su_device **device, su_error *err)
{
    su_launch launch;
    char name[64];
    su_status st = su_launch_read(&launch, err);
    if (st || launch.rank == 0) su_log_to_stderr(su_option_quiet());
    if (st) return st;
    su_launch_device(&launch, device_name, name, sizeof name);
    st = su_device_open(name, su_launch_threads(&launch, (int)threads), device, err);
    if (!st) st = su_comm_open(&launch, *device, err);
    if (st && launch.ranks > 1) return su_fail_context(err, st, "rank %d", launch.rank);
    if (launch.ranks > 1)
        su_log(SU_LOG_INFO, "%d ranks over %s; this one: %s", launch.ranks, (*device)->comm->ops->name,
               (*device)->description);
    return st;
}

int su_cli_ranks_close(const su_command *command, su_device *device, su_status status, su_error *err)
{
    const su_comm *comm = device ? device->comm : NULL;
    bool known = comm && comm->agreed, speaks = !known || comm->rank == 0;
    int code = SU_EXIT_OK;
    if (status && comm && !known) su_fail_context(err, status, "rank %d", comm->rank);
    if (status)
        code = speaks ? su_cli_fail(command, err) : status == SU_EINVAL ? SU_EXIT_USAGE : SU_EXIT_FAILED;
    if (status == SU_EINTERRUPTED) code = 130;
    su_comm_close(device, status);
    su_device_close(device);
    return code;
}
