/* Kernels on the host: what CUDA C gives a kernel, for a plain C++ compiler.
 *
 * Every thread of a block is a fiber: it runs until it meets a barrier or a warp operation, then the next one
 * runs. So a kernel's index arithmetic, barriers and shared memory are those that the GPU will see, one
 * thread at a time and block after block. What the emulator insists on, the GPU would only punish:
 *
 *   - a warp operation is met by all 32 lanes, at the same place; a barrier by every thread that has not
 *     ended: else it names the kernel and stops the program;
 *   - shared memory is filled with NaN before each block, and has a fence behind every array;
 *   - vector loads and stores are aligned;
 *   - what is copied to shared memory in the background arrives when the thread waits for it;
 *   - device memory cannot be touched but by kernels, copies and the library (memory.c), and what these take as an
 *     address of the device is NULL or within a block of device memory;
 *   - SUTURE_EMULATE_ORDER=reverse runs the threads of a block, and the blocks of a grid, from the last to
 *     the first: a kernel whose result changes lacks a barrier.
 *
 * Not shown: anything about time, about warps that run at the same moment, or about the memory model. */
#ifndef SU_NN_CUDA_EMULATE_H
#define SU_NN_CUDA_EMULATE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#define __global__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct emulate_index {
    unsigned x, y, z;
};
extern emulate_index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

/* The n-th shared array that a thread asks for in a block is the same memory for all its threads. */
void *emulate_shared(size_t bytes);
void *emulate_dynamic_shared(void);
#define SHARED(type, name, count) type *const name = (type *)emulate_shared(sizeof(type) * (size_t)(count))
#define DYNAMIC_SHARED(type, name) type *const name = (type *)emulate_dynamic_shared()

void __syncthreads(void);
/* Gives 16 words of every lane of the warp to every lane: what all warp operations are made of. */
struct emulate_words {
    uint32_t w[16];
};
const emulate_words *emulate_exchange(const emulate_words &own, uint32_t mask, int operation);

enum { EMULATE_SHUFFLE = 1, EMULATE_BALLOT, EMULATE_REDUCE, EMULATE_SYNC, EMULATE_MATRIX_LOAD, EMULATE_MATRIX_PRODUCT };

template <class N> static inline N emulate_pick(uint32_t mask, N x, int from)
{
    static_assert(sizeof(N) <= sizeof(emulate_words), "a shuffled value is a number");
    emulate_words own = {};
    memcpy(own.w, &x, sizeof x);
    const emulate_words *all = emulate_exchange(own, mask, EMULATE_SHUFFLE);
    memcpy(&x, all[from & 31].w, sizeof x);
    return x;
}
template <class N> static inline N __shfl_sync(uint32_t mask, N x, int from)
{
    return emulate_pick(mask, x, from);
}
template <class N> static inline N __shfl_xor_sync(uint32_t mask, N x, int with)
{
    return emulate_pick(mask, x, (int)(threadIdx.x % 32) ^ with);
}
/* A lane that has no lane `up` below it keeps its own value. */
template <class N> static inline N __shfl_up_sync(uint32_t mask, N x, int up)
{
    int lane = (int)(threadIdx.x % 32);
    return emulate_pick(mask, x, lane >= up ? lane - up : lane);
}
static inline uint32_t __ballot_sync(uint32_t mask, bool vote)
{
    emulate_words own = {};
    own.w[0] = vote;
    const emulate_words *all = emulate_exchange(own, mask, EMULATE_BALLOT);
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= (uint32_t)(all[i].w[0] != 0) << i;
    return bits;
}
static inline uint32_t __reduce_or_sync(uint32_t mask, uint32_t x)
{
    emulate_words own = {};
    own.w[0] = x;
    const emulate_words *all = emulate_exchange(own, mask, EMULATE_REDUCE);
    for (int i = 0; i < 32; i++) x |= all[i].w[0];
    return x;
}
static inline void __syncwarp(uint32_t mask = 0xffffffffu)
{
    emulate_exchange(emulate_words{}, mask, EMULATE_SYNC);
}

static inline uint32_t __umulhi(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a * b >> 32);
}
static inline int __popc(uint32_t x)
{
    return __builtin_popcount(x);
}
static inline float rsqrtf(float x)
{
    return 1.0f / __builtin_sqrtf(x);
}
#define __expf(x) expf(x)
#define __logf(x) logf(x)
static inline float __fdividef(float a, float b)
{
    return a / b;
}

/* To nearest, ties to even; NaN as the GPU writes it. */
static inline uint16_t emulate_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* What a kernel is launched with: see launch.h. */
extern "C" void su_emulate_need_device(const char *who, const void *memory, size_t bytes);
template <class T> static inline void emulate_argument(const char *kernel, const T &x)
{
    if constexpr (std::is_pointer_v<T>)
        if (x) su_emulate_need_device(kernel, x, 0);
}

/* See kernel.h. */
void emulate_within(int64_t i, int64_t n);

/* Tensor cores: see tensor.h, which has the layouts. */
void emulate_load_matrices(uint32_t *words, const void *row, bool turned);
void emulate_multiply_add(float *d, const uint32_t *a, uint32_t b0, uint32_t b1);
/* 16 bytes to shared memory (zeros unless real), which arrive no sooner than at the thread's wait. */
void emulate_copy(void *to, const void *from, bool real);
void emulate_copy_wait(void);

/* What hopper.h needs; addresses of shared memory are offsets from its begin. A thread that waits gives control to the others;
 * where all wait the program ends. */
struct su_cuda_map;
void emulate_arrivals_begin(uint64_t *word, int expected);
void emulate_arrive(uint64_t *word, int bytes);
void emulate_await(uint64_t *word, uint32_t parity);
void emulate_tensor_load(void *to, const su_cuda_map *map, int column, int row, uint64_t *word);
/* Reads the box no sooner than at a wait of the thread. */
void emulate_tensor_store(const su_cuda_map *map, int column, int row, const void *from);
void emulate_tensor_store_wait(int left);
uint32_t emulate_shared_address(const void *p);
void emulate_group_product(float *d, int tiles, uint32_t a, uint32_t b, bool add); /* 8 columns of D a tile, four numbers of d */
void emulate_group_gather(float *d, int tiles, const uint32_t *a, uint32_t b, bool turned, bool add); /* A in registers */

#endif
