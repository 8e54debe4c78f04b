/* Small matrix products on the calling thread, for operands that are in cache and used once or twice: no
 * packing.
 *
 *   c[i][j] = alpha sum_l a[i a_row + l a_col] b[l b_row + j]    (+= when add),    i < m, j < n, l < k
 *
 * Any strides for a, so that it may be a transpose. b is read in whole lanes: its rows must be readable up to
 * n rounded up to 64 bytes (what is read beyond n does not matter). c is written for j < n only. The sum runs
 * over l in order. */
#ifndef SU_NN_CPU_PRODUCT_H
#define SU_NN_CPU_PRODUCT_H

#include "nn/cpu/internal.h"

void su_cpu_product_f32(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col,
                        const float *b, int64_t b_row, float alpha, bool add, float *c, int64_t c_row);
void su_cpu_product_f64(int64_t m, int64_t n, int64_t k, const double *a, int64_t a_row, int64_t a_col,
                        const double *b, int64_t b_row, double alpha, bool add, double *c, int64_t c_row);

/* to[j][i] = from[i][j] for i < rows, j < columns; to's rows are filled with zeros up to to_row. */
void su_cpu_transpose_f32(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows,
                          int64_t columns);
void su_cpu_transpose_f64(double *to, int64_t to_row, const double *from, int64_t from_row, int64_t rows,
                          int64_t columns);

#endif
