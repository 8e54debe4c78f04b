/* The end of a linear layer, on values that are still in cache. */
#ifndef SU_NN_CPU_ACTIVATION_H
#define SU_NN_CPU_ACTIVATION_H

#include "nn/cpu/internal.h"

/* For n elements of one row: v = sum_i + bias_i (bias may be NULL); pre_i = v (pre may be NULL, or the same
 * as sum); y_i = f(v). y may be the same as sum. */
void su_cpu_finish_f32(float *y, float *pre, const float *sum, const float *bias, su_activation f, int64_t n);
void su_cpu_finish_f64(double *y, double *pre, const double *sum, const double *bias, su_activation f,
                       int64_t n);

#endif
