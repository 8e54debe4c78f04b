/* A table's random keys as kernels take them (host side). */
#ifndef SU_NN_CUDA_RANDOM_H
#define SU_NN_CUDA_RANDOM_H

#include "nn/cuda/internal.h"
#include "nn/cuda/kernel.h"

static inline philox_key philox_key_of(su_rng_key key)
{
    return philox_key{(uint32_t)key.seed, (uint32_t)(key.seed >> 32), key.step, key.layer, key.first};
}

static inline dropping dropping_of(double p, su_rng_key key)
{
    return dropping{philox_key_of(key), (uint32_t)(p * 0x1p32), (float)(1 / (1 - p))};
}

#endif
