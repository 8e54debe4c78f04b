/* Vectorised exp for both types: see math.inc. */
#ifndef SU_NN_CPU_MATH_H
#define SU_NN_CPU_MATH_H

#include "nn/cpu/internal.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* real as an unsigned integer of the same size, its exponent's place and bias; ln 2 = HI + LO with n HI
 * exact. */
#include "nn/cpu/f32.h"
typedef uint32_t F(bits) __attribute__((vector_size(SU_CPU_LANE_BYTES), may_alias));
typedef int32_t F(ints) __attribute__((vector_size(SU_CPU_LANE_BYTES)));
enum { F(MANTISSA) = 23, F(BIAS) = 127 };
static const float F(LN2_HI) = 0.693359375F, F(LN2_LO) = -2.12194440e-4F, F(ROUND) = 0x1.8p23F,
                   F(EXP_LOW) = -104, F(EXP_HIGH) = 89;
#include "nn/cpu/math.inc"

#include "nn/cpu/f64.h"
typedef uint64_t F(bits) __attribute__((vector_size(SU_CPU_LANE_BYTES)));
typedef int64_t F(ints) __attribute__((vector_size(SU_CPU_LANE_BYTES)));
enum { F(MANTISSA) = 52, F(BIAS) = 1023 };
static const double F(LN2_HI) = 0x1.62e42fee00000p-1, F(LN2_LO) = 0x1.a39ef35793c76p-33, F(ROUND) = 0x1.8p52,
                    F(EXP_LOW) = -746, F(EXP_HIGH) = 711;
#include "nn/cpu/math.inc"

#endif
