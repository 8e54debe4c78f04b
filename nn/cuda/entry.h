/* The door of the shared object that holds the CUDA device: one function, found by name at run time.
 *
 * `version` and `table` are the caller's SUTURE_VERSION and sizeof(su_device_ops): the object refuses those
 * that are not its own (SU_EMISMATCH), so that a program never calls through another version's table. */
#ifndef SU_NN_CUDA_ENTRY_H
#define SU_NN_CUDA_ENTRY_H

#include "nn/device.h"

#define SU_CUDA_ENTRY "su_cuda_open"

/* type: SU_DTYPE_BF16 or SU_DTYPE_F32. */
typedef su_status su_cuda_entry(const char *version, size_t table, int number, su_dtype type, int threads,
                                su_device **device, su_error *err);

#endif
