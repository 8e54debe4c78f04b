/* Inside the CUDA device: what its files share. Nothing outside nn/cuda/ includes this but its own tests.
 *
 *   device.c        opening, memory, failures, the table
 *   record.c        sequences of operations that are launched as one
 *   NOUN.cu         a noun's kernels, and the operations of the table that launch them
 *   product.*       matrix products: the interface, and our own kernel, which any shape can fall back on
 *   library.h       cuBLASLt and cuDNN as the device sees them; lt.c and cudnn.c fill it
 *   runtime.h       the CUDA runtime as the device sees it
 *   kernel.h        what kernels are written with
 *   emulate/        the runtime, and kernels, on the host, for tests: see emulate/emulate.h
 *
 * Everything runs in one stream, in order, but for what `send` copies. An operation that cannot be launched records that, and the next
 * su_device sync returns it. */
#ifndef SU_NN_CUDA_INTERNAL_H
#define SU_NN_CUDA_INTERNAL_H

#include "nn/cuda/runtime.h"
#ifdef __cplusplus
extern "C" {
#endif
#include "base/memory.h"
#include "nn/device.h"

typedef struct su_cuda su_cuda;
typedef struct su_cuda_library su_cuda_library;

enum {
    STAGES = 4,             /* page-locked buffers through which uploads go */
    STAGE_BYTES = 4 << 20,  /* of each */
    SCRATCH_UNIT = 1 << 20, /* scratch memory grows in these */
    SCRATCH_ALIGN = 256,
};

typedef struct {
    void *memory;
    size_t bytes;
} su_cuda_block;

struct su_cuda {
    su_device device;
    su_device_ops ops;
    const su_cuda_runtime *rt;
    const su_cuda_library *library; /* NULL: own kernels only */
    void *products, *attentions;    /* the library's own state */
    void *stream, *sender; /* sender: where send copies; NULL before its first call */
    bool sending;
    int number;
    su_cuda_properties properties;
    size_t allocated; /* bytes of device memory that are ours */
    su_cuda_block *blocks;
    int64_t block_count, block_room;
    void *scratch;
    size_t scratch_bytes;
    void *stage[STAGES], *stage_event[STAGES];
    bool stage_busy[STAGES];
    int stage_next;
    bool recording;   /* launches are recorded, not carried out */
    su_status failed; /* the first failure since the last sync */
    char message[512];
};

static inline su_cuda *su_cuda_of(su_device *d)
{
    return (su_cuda *)d->state;
}

/* runtime and library are borrowed; library may be NULL. */
su_status su_cuda_new(const su_cuda_runtime *runtime, const su_cuda_library *library, int number, su_dtype type,
                      int threads, su_device **device, su_error *err);

/* Makes the device the one of the calling thread. */
void su_cuda_here(su_cuda *c);
/* Records a failure of the runtime (code) while `what` was done. Returns whether there was none. */
bool su_cuda_check(su_cuda *c, int code, const char *what);
void su_cuda_fail(su_cuda *c, su_status status, const char *message);

/* For what a recording cannot hold: copies from and to the host, waiting, taking memory. Whether one is being made; then
 * it is given up (a failure is recorded), and the caller does nothing. */
bool su_cuda_records(su_cuda *c, const char *what);

/* Scratch memory of the operation that runs, SCRATCH_ALIGN-aligned, not initialised; it is the same memory
 * for the next operation. NULL without memory: the failure is recorded. Take all that an operation needs at
 * once. */
void *su_cuda_scratch(su_cuda *c, size_t bytes);
/* For an operation over n samples that returns a status: scratch memory was refused. */
su_status su_cuda_take(su_cuda *c, su_error *err, const char *what, int64_t n);
/* The bytes of n elements, rounded up so that what follows is aligned. */
static inline size_t su_cuda_room(int64_t n, size_t size)
{
    return ((size_t)n * size + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

static inline int64_t su_cuda_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t su_cuda_parts(int64_t n, int64_t part)
{
    return (n + part - 1) / part;
}

/* Whether rows of n elements of `size` bytes can be handled in 16-byte packs at these addresses. */
static inline bool su_cuda_packs(int64_t n, size_t size, const void *a, const void *b, const void *c)
{
    return (size_t)n * size % 16 == 0 && (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) & 15) == 0;
}

#include "nn/cuda/ops.h"

#ifdef __cplusplus
}
#endif
#endif
