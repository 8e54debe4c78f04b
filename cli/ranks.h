/* Commands that run on several ranks (nn/comm.h), one process each. */
#ifndef SU_CLI_RANKS_H
#define SU_CLI_RANKS_H

#include "nn/comm.h"
#include "cli/options.h"

/* Sets up messages on stderr (of rank 0 alone), the device and what connects it with the other ranks. device and
 * threads: as asked for on the command line. */
su_status su_cli_ranks_open(const char *device_name, int64_t threads, su_device **device, su_error *err);
/* Says what went wrong (once, where all ranks know it), leaves the ranks and closes the device. Returns the exit
 * code. Last of all: a rank that fails alone ends the others and, with MPI, this process. */
int su_cli_ranks_close(const su_command *command, su_device *device, su_status status, su_error *err);

#endif
