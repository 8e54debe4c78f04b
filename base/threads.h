/* A pool of threads for data-parallel loops.
 *
 * Work is given as a number of TASKS chosen by the caller from the problem's size, never from the number of
 * threads; a task's result must not depend on which thread runs it. Under that rule (kept everywhere in
 * Suture) results are the same bits for any thread count. */
#ifndef SU_BASE_THREADS_H
#define SU_BASE_THREADS_H

#include "base/error.h"
#include <stdint.h>

typedef struct su_pool su_pool;

/* task: 0 .. tasks-1; worker: 0 .. su_pool_workers()-1, to index per-thread scratch memory. */
typedef void su_task(void *context, int64_t task, int worker);

/* threads 0: one per core that this process may use. */
su_status su_pool_new(int threads, su_pool **pool, su_error *err);
void su_pool_free(su_pool *pool);
int su_pool_workers(const su_pool *pool); /* the caller's thread counts as one; 1 for a NULL pool */

/* Runs all tasks and returns when the last one has ended. The calling thread works too. A NULL pool runs them
 * in order on the caller. Not reentrant: a task must not call su_pool_run on the same pool, nor may two
 * threads at the same time. */
void su_pool_run(su_pool *pool, int64_t tasks, su_task *task, void *context);

int su_cpu_count(void); /* cores this process may use (affinity mask, cgroup quota), at least 1 */

#endif
