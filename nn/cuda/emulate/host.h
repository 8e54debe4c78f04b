/* The emulator as the host sees it: a runtime, and the products that a library would form. For tests only.
 *
 * Environment, read when a device opens:
 *   SUTURE_EMULATE_FAIL=N     the N-th call of the runtime fails (once); N+ : it and all later ones
 *   SUTURE_EMULATE_MEMORY=B   the emulated GPU has B bytes of memory (default: 64 GiB, on paper)
 *   SUTURE_EMULATE_PRODUCT=own  products by our own kernel instead of plain loops
 *   SUTURE_EMULATE_PROCESSORS=N  multiprocessors (default: 132): with few, a block of a persistent kernel has many tiles
 *   SUTURE_EMULATE_RECORD=begin|end|run  recordings cannot be begun, ended, or run
 *   SUTURE_EMULATE_ORDER=reverse  see emulate.h */
#ifndef SU_NN_CUDA_EMULATE_HOST_H
#define SU_NN_CUDA_EMULATE_HOST_H

#include "nn/cuda/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const su_cuda_runtime su_emulate_runtime;

/* Device memory (memory.c). It can be touched between open and close only; they nest. One thread at a time. */
void su_emulate_open(void);
void su_emulate_close(void);
/* Filled with NaN, 64-byte aligned; NULL: no room. */
void *su_emulate_take(size_t bytes);
/* Returns how many bytes it had. */
size_t su_emulate_give(void *memory);
/* Stop the program, named `who`, when bytes at this address are not one block's, or not the host's. */
void su_emulate_need_device(const char *who, const void *memory, size_t bytes);
void su_emulate_need_host(const char *who, const void *memory, size_t bytes);

/* Runs grid x block threads to their end. */
int su_emulate_launch(const void *kernel, const su_cuda_invoke *invoke, su_cuda_size grid, su_cuda_size block, void **args,
                      size_t shared);
/* Where a recording is being made, keeps the call run(what), with a copy of *what, for graph_run; false: there is none, and
 * the caller does it. */
bool su_emulate_keep(int (*run)(const void *what), const void *what, size_t bytes);
/* Calls so far in this process: kernels and products that were carried out as they were launched, those that were kept (and copies),
 * and recordings that were run. Tests find it by its name in the library. */
typedef struct {
    int64_t launched, kept, runs;
} su_emulate_counts;
su_emulate_counts su_emulate_counted(void);
/* Counts as a call of the runtime: 0, or the failure that is its turn. */
int su_emulate_call(void);

#ifdef __cplusplus
}
#endif

#endif
