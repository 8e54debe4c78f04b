/* What kernels are written with. The same source compiles for the GPU (nvcc) and for the host, where
 * emulate/emulate.h gives threadIdx, barriers, shuffles and shared memory their meaning (see there).
 *
 * Rules, so that both hold:
 *   - blocks are whole warps; every thread of a warp takes part in every warp operation (mask: all lanes);
 *   - shared memory through SHARED and DYNAMIC_SHARED;
 *   - no atomics: sums are split by the problem's size and joined in a fixed order. But take_places, for what is
 *     sorted afterwards;
 *   - arithmetic in float (double where said), stored as T: float or bf16.
 *
 * Global memory is read and written 16 bytes at a time where width and addresses allow it: kernels take
 * V = elements a thread handles together, 1 or PACK<T>. */
#ifndef SU_NN_CUDA_KERNEL_H
#define SU_NN_CUDA_KERNEL_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define GRID_CONSTANT __grid_constant__ /* a parameter that is indexed where it lies */
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(type, name)                                                                           \
    extern __shared__ __align__(16) unsigned char su_dynamic_shared[];                                       \
    type *name = reinterpret_cast<type *>(su_dynamic_shared)
#define PRAGMA(text) _Pragma(#text)
#define UNROLL _Pragma("unroll")
#define UNROLL_BY(n) PRAGMA(unroll n) /* where the compiler's own choice spills */
#else
#include "nn/cuda/emulate/emulate.h"
#define DEVICE static inline
#define DEVICE_MEMBER inline
#define GRID_CONSTANT
#define UNROLL
#define UNROLL_BY(n)
#endif

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

/* --- numbers --- */

struct bf16 {
    uint16_t bits;
};

DEVICE float bits_float(uint32_t bits)
{
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
#endif
}

DEVICE uint32_t float_bits(float x)
{
#ifdef __CUDACC__
    return __float_as_uint(x);
#else
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
#endif
}

DEVICE float get(float x)
{
    return x;
}
DEVICE float get(bf16 x)
{
    return bits_float((uint32_t)x.bits << 16);
}

/* Two floats, rounded to nearest even, as bf16 in one word; `low` in the lower half, which comes first in memory. */
DEVICE uint32_t pack_bf16(float low, float high)
{
#ifdef __CUDACC__
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#else
    return (uint32_t)emulate_bf16(high) << 16 | emulate_bf16(low);
#endif
}

DEVICE void put(float &to, float x)
{
    to = x;
}
DEVICE void put(bf16 &to, float x)
{
#ifdef __CUDACC__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
#else
    to.bits = emulate_bf16(x);
#endif
}

/* x as T holds it */
template <class T> DEVICE float rounded(float x)
{
    T t;
    put(t, x);
    return get(t);
}

/* --- memory: V elements at once --- */

template <class T> constexpr int PACK = (int)(16 / sizeof(T));

template <int V> DEVICE void load(float (&x)[V], const float *from)
{
    if constexpr (V == 1) {
        x[0] = *from;
    } else if constexpr (V == 2) {
        const float2 v = *reinterpret_cast<const float2 *>(from);
        x[0] = v.x, x[1] = v.y;
    } else {
        UNROLL for (int i = 0; i < V; i += 4)
        {
            const float4 v = *reinterpret_cast<const float4 *>(from + i);
            x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
        }
    }
}
template <int V> DEVICE void load(float (&x)[V], const bf16 *from)
{
    if constexpr (V == 1) {
        x[0] = get(*from);
    } else if constexpr (V == 2) {
        const uint32_t word = *reinterpret_cast<const uint32_t *>(from);
        x[0] = bits_float(word << 16), x[1] = bits_float(word & 0xffff0000u);
    } else if constexpr (V == 4) {
        const uint2 v = *reinterpret_cast<const uint2 *>(from);
        const uint32_t words[2] = {v.x, v.y};
        UNROLL for (int i = 0; i < 2; i++)
        {
            x[2 * i] = bits_float(words[i] << 16);
            x[2 * i + 1] = bits_float(words[i] & 0xffff0000u);
        }
    } else {
        const uint4 v = *reinterpret_cast<const uint4 *>(from);
        const uint32_t words[4] = {v.x, v.y, v.z, v.w};
        UNROLL for (int i = 0; i < 4; i++)
        {
            x[2 * i] = bits_float(words[i] << 16);
            x[2 * i + 1] = bits_float(words[i] & 0xffff0000u);
        }
    }
}
template <int V> DEVICE void store(float *to, const float (&x)[V])
{
    if constexpr (V == 1) {
        *to = x[0];
    } else if constexpr (V == 2) {
        float2 v;
        v.x = x[0], v.y = x[1];
        *reinterpret_cast<float2 *>(to) = v;
    } else {
        UNROLL for (int i = 0; i < V; i += 4)
        {
            float4 v;
            v.x = x[i], v.y = x[i + 1], v.z = x[i + 2], v.w = x[i + 3];
            *reinterpret_cast<float4 *>(to + i) = v;
        }
    }
}
template <int V> DEVICE void store(bf16 *to, const float (&x)[V])
{
    if constexpr (V == 1) {
        put(*to, x[0]);
    } else if constexpr (V == 2) {
        *reinterpret_cast<uint32_t *>(to) = pack_bf16(x[0], x[1]);
    } else if constexpr (V == 4) {
        uint2 v;
        v.x = pack_bf16(x[0], x[1]), v.y = pack_bf16(x[2], x[3]);
        *reinterpret_cast<uint2 *>(to) = v;
    } else {
        uint4 v;
        v.x = pack_bf16(x[0], x[1]), v.y = pack_bf16(x[2], x[3]);
        v.z = pack_bf16(x[4], x[5]), v.w = pack_bf16(x[6], x[7]);
        *reinterpret_cast<uint4 *>(to) = v;
    }
}

/* The 128 bytes at an address will be read soon: brings them into the L2 cache. */
DEVICE void prefetch(const void *at)
{
#ifdef __CUDACC__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#else
    (void)at;
#endif
}

/* --- 2^x and 1/x by the special function unit, to 2^-22 of the result: for what is rounded to bf16, or comes from it --- */

static constexpr float LOG2_E = 1.44269504088896340736f, LN_2 = 0.69314718055994530942f;

DEVICE float power_of_two(float x)
{
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}
DEVICE float reciprocal(float x)
{
#ifdef __CUDACC__
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}

/* --- sums over lanes, warps, blocks; always in the same order, every thread gets the result --- */

DEVICE int lane_id()
{
    return (int)threadIdx.x % WARP;
}
DEVICE int warp_id()
{
    return (int)threadIdx.x / WARP;
}

template <class N> DEVICE N warp_sum(N x)
{
    UNROLL for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}
DEVICE float warp_max(float x) /* a NaN is passed over; sums carry it */
{
    UNROLL for (int step = WARP / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

/* room: a number a warp, shared. The barrier in front lets the same room be used again. */
template <class N> DEVICE N block_sum(N x, N *room)
{
    x = warp_sum(x);
    __syncthreads();
    if (lane_id() == 0) room[warp_id()] = x;
    __syncthreads();
    N total = room[0];
    for (int w = 1; w < (int)blockDim.x / WARP; w++) total += room[w];
    return total;
}
DEVICE float block_max(float x, float *room)
{
    x = warp_max(x);
    __syncthreads();
    if (lane_id() == 0) room[warp_id()] = x;
    __syncthreads();
    float most = room[0];
    for (int w = 1; w < (int)blockDim.x / WARP; w++) most = fmaxf(most, room[w]);
    return most;
}
enum { ROOM = 32 }; /* of block_sum and block_max: warps of the largest block */

/* n places behind those that have been taken: the first. Who gets which changes from run to run. */
DEVICE uint32_t take_places(uint32_t *counter, uint32_t n)
{
#ifdef __CUDACC__
    return atomicAdd(counter, n);
#else
    const uint32_t first = *counter;
    *counter += n;
    return first;
#endif
}

/* i is to be an index of an array [n]: the emulator stops the program where it is not. For arrays within larger blocks of memory. */
DEVICE void within(int64_t i, int64_t n)
{
#ifdef __CUDACC__
    (void)i, (void)n;
#else
    emulate_within(i, n);
#endif
}

/* The two numbers of a word of bf16. */
DEVICE float low_of(uint32_t w)
{
    return bits_float(w << 16);
}
DEVICE float high_of(uint32_t w)
{
    return bits_float(w & 0xffff0000u);
}

/* Lane t of four has word w[i] of row piece i, columns 2t and 2t + 1; receives the eight columns of piece t. */
DEVICE uint4 gathered(const uint32_t (&w)[4])
{
    const bool odd = lane_id() & 1, high = lane_id() & 2;
    uint32_t keep[2], got[2];
    UNROLL for (int i = 0; i < 2; i++)
    {
        keep[i] = odd ? w[2 * i + 1] : w[2 * i];
        got[i] = __shfl_xor_sync(ALL_LANES, odd ? w[2 * i] : w[2 * i + 1], 1);
    }
    /* Pieces t % 2 and 2 + t % 2, of the lanes of the pair in order. */
    const uint32_t low0 = odd ? got[0] : keep[0], low1 = odd ? keep[0] : got[0];
    const uint32_t high0 = odd ? got[1] : keep[1], high1 = odd ? keep[1] : got[1];
    const uint32_t x0 = __shfl_xor_sync(ALL_LANES, high ? low0 : high0, 2);
    const uint32_t x1 = __shfl_xor_sync(ALL_LANES, high ? low1 : high1, 2);
    uint4 v;
    v.x = high ? x0 : low0, v.y = high ? x1 : low1;
    v.z = high ? high0 : x0, v.w = high ? high1 : x1;
    return v;
}

/* --- random numbers: Philox4x32-10, the words of base/rng.c --- */

struct philox_key {
    uint32_t seed_low, seed_high, step, layer;
    uint64_t first;
};

struct philox_words {
    uint32_t w[4];
};

DEVICE philox_words philox(philox_key key, uint64_t counter)
{
    counter += key.first;
    uint32_t x0 = (uint32_t)counter, x1 = (uint32_t)(counter >> 32), x2 = key.step, x3 = key.layer;
    uint32_t k0 = key.seed_low, k1 = key.seed_high;
    UNROLL for (int round = 0; round < 10; round++)
    {
        const uint32_t h0 = __umulhi(0xD2511F53u, x0), l0 = 0xD2511F53u * x0;
        const uint32_t h1 = __umulhi(0xCD9E8D57u, x2), l1 = 0xCD9E8D57u * x2;
        x0 = h1 ^ x1 ^ k0;
        x1 = l1;
        x2 = h0 ^ x3 ^ k1;
        x3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return philox_words{{x0, x1, x2, x3}};
}

/* Dropout of one element: word element % 4 of block element / 4 is below p 2^32: see su_device's dropout. */
struct dropping {
    philox_key key;
    uint32_t below; /* 0: never */
    float scale;    /* 1/(1-p) */
};

DEVICE float drop_factor(const dropping &d, uint64_t element)
{
    const philox_words words = philox(d.key, element / 4);
    const int at = (int)(element % 4);
    const uint32_t w = at == 0 ? words.w[0] : at == 1 ? words.w[1] : at == 2 ? words.w[2] : words.w[3];
    return w < d.below ? 0.0f : d.scale;
}

#endif
