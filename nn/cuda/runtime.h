/* The CUDA runtime as the device sees it: one table of functions.
 *
 * runtime_cuda.c fills it with NVIDIA's; emulate/ with an emulator that runs kernels on the host, where the
 * n-th call can be made to fail. Nothing else in nn/cuda/ names a function of the runtime, so every error
 * path can be run without a GPU.
 *
 * Functions return 0 or one of the runtime's error codes; those that mean something to us have names here
 * (runtime_cuda.c checks their values against NVIDIA's header). Streams, events and graphs are opaque. */
#ifndef SU_NN_CUDA_RUNTIME_H
#define SU_NN_CUDA_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SU_CUDA_ALIGNED(n) alignas(n)
#else
#define SU_CUDA_ALIGNED(n) _Alignas(n)
#endif

enum {
    SU_CUDA_OK = 0,
    SU_CUDA_EVALUE = 1,
    SU_CUDA_EMEMORY = 2,   /* cudaErrorMemoryAllocation */
    SU_CUDA_EDRIVER = 35,  /* the driver is older than the runtime, or there is none */
    SU_CUDA_ENODEVICE = 100,
};

enum { SU_CUDA_TO_DEVICE = 1, SU_CUDA_TO_HOST = 2, SU_CUDA_ON_DEVICE = 3 };

typedef struct {
    char name[128];
    int major, minor; /* compute capability */
    int processors;   /* streaming multiprocessors */
    size_t memory;    /* bytes in all */
    size_t shared;    /* most shared memory of a block, with permission */
    size_t cache;     /* L2 */
} su_cuda_properties;

typedef struct {
    int x, y, z;
} su_cuda_size;

/* A matrix of bf16 that kernels copy boxes of (hopper.h): what the driver makes of it, or the emulator. */
typedef struct su_cuda_map {
    SU_CUDA_ALIGNED(64) uint64_t words[16];
} su_cuda_map;

/* How the emulator enters a kernel: call() with the values that args point to, `count` of these sizes. */
typedef struct {
    void (*call)(const void *kernel, void **args);
    const size_t *sizes;
    int count;
} su_cuda_invoke;

typedef struct {
    const char *name; /* "CUDA 13.0" */
    int (*device_count)(int *count);
    int (*use_device)(int number);
    int (*properties)(su_cuda_properties *p, int number);
    int (*versions)(int *driver, int *runtime); /* 1000 major + 10 minor; driver 0: there is none */
    int (*memory_info)(size_t *free, size_t *total);

    int (*allocate)(void **memory, size_t bytes);
    int (*release)(void *memory);
    int (*allocate_host)(void **memory, size_t bytes); /* page-locked */
    int (*release_host)(void *memory);
    int (*set)(void *memory, int byte, size_t bytes, void *stream);
    int (*copy)(void *to, const void *from, size_t bytes, int direction, void *stream);

    int (*stream_new)(void **stream);
    int (*stream_free)(void *stream);
    int (*stream_wait)(void *stream); /* the host waits; returns what went wrong in the stream, too */
    int (*event_new)(void **event, bool timed);
    int (*event_free)(void *event);
    int (*event_record)(void *event, void *stream);
    int (*event_wait)(void *event); /* the host waits */
    int (*event_hold)(void *event, void *stream); /* the stream waits */
    int (*event_between)(float *milliseconds, void *from, void *to);

    int (*launch)(const void *kernel, const su_cuda_invoke *invoke, su_cuda_size grid, su_cuda_size block, void **args,
                  size_t shared, void *stream);
    /* Between the two, what is launched, copied or set in the stream is kept and not carried out. record_end: ends it in
     * any case; *graph: all that, ready to run; NULL on failure. */
    int (*record_begin)(void *stream);
    int (*record_end)(void *stream, void **graph);
    int (*graph_run)(void *graph, void *stream);
    int (*graph_free)(void *graph);

    int (*allow_shared)(const void *kernel, size_t bytes); /* more than 48 KiB of dynamic shared memory */
    /* Of a matrix [rows][columns] of bf16 in device memory, 16-byte aligned, rows `stride` bytes apart (a multiple of 16): boxes of
     * box_rows (at most 256) x 64 columns, which arrive as tiles of hopper.h. The host alone. */
    int (*map)(su_cuda_map *map, const void *matrix, int64_t rows, int64_t columns, int64_t stride, int box_rows);

    const char *(*error_name)(int code); /* "cudaErrorMemoryAllocation" */
    const char *(*error_text)(int code); /* "out of memory" */
} su_cuda_runtime;

#endif
