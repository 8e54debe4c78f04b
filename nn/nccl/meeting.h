/* Where GPU ranks meet before NCCL knows them: rank 0 listens at MASTER_ADDR:MASTER_PORT, the others connect, and get
 * what they need to begin (NCCL's identifier). The connections stay: one that ends is how the others notice that a
 * rank is gone while they wait for it.
 *
 *     rank 0 ---- rank 1           a rank that ends is seen by rank 0; when rank 0 leaves, all see it
 *       | \------ rank 2
 *
 * Rank 0 listens at that address alone, where it is one of its host's, and no longer than until all have come. */
#ifndef SU_NN_NCCL_MEETING_H
#define SU_NN_NCCL_MEETING_H

#include "nn/comm.h"

typedef struct su_meeting su_meeting;

/* gift [size]: rank 0's; everybody else gets it. SU_EIO: somebody did not come within `seconds`, or the address cannot
 * be used; SU_EINVAL: the launch names no address. */
su_status su_meeting_open(const su_launch *launch, int seconds, void *gift, size_t size, su_meeting **meeting,
                          su_error *err);
void su_meeting_close(su_meeting *m);  /* NULL accepted */
bool su_meeting_broken(su_meeting *m); /* a rank has gone */

#endif
