/* NVIDIA's runtime. */
#ifndef SU_NN_CUDA_RUNTIME_CUDA_H
#define SU_NN_CUDA_RUNTIME_CUDA_H

#include "nn/cuda/runtime.h"

extern const su_cuda_runtime su_nvidia_runtime;

#endif
