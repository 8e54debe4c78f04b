#include "eval/tiles.h"
#include <string.h>

/* The micro-kernel keeps a 6 x 8 block of sums in registers (12 of AVX2's 16) and walks k:
 *
 *            columns  [k][8]   one 64-byte load a step
 *   rows  r0 [k]  ->  s00 .. s07
 *         ..                        6 broadcasts, 6 multiply-adds of 8 lanes
 *         r5 [k]  ->  s50 .. s57
 *
 * Depth is cut into pieces whose rows and columns stay in the first-level cache together. */
enum { DEPTH_PIECE = 256 };

typedef double v8d __attribute__((vector_size(64)));
typedef float v8f __attribute__((vector_size(32)));

int64_t su_tile_stride(int64_t depth)
{
    return (depth + 7) / 8 * 8 + 8;
}

void su_tile_rows(double *tile, const su_rows *x, int64_t first, int64_t count, int32_t width)
{
    int64_t stride = su_tile_stride(width);
    for (int64_t r = 0; r < count; r++) {
        const float *row = x->row[first + r];
        double scale = x->scale[first + r], *to = tile + r * stride;
        for (int32_t k = 0; k < width; k++) to[k] = scale * (double)row[k];
    }
    for (int64_t r = count; r % SU_TILE_STEP_ROWS; r++)
        memset(tile + r * stride, 0, (size_t)width * sizeof *tile);
}

void su_tile_columns(double *tile, const su_rows *y, int64_t first, int64_t count, int32_t width)
{
    for (int64_t j = 0; j < count; j += SU_TILE_LANES) {
        double *group = tile + j * width;
        int64_t lanes = count - j < SU_TILE_LANES ? count - j : SU_TILE_LANES;
        if (lanes < SU_TILE_LANES) memset(group, 0, (size_t)width * SU_TILE_LANES * sizeof *group);
        for (int64_t lane = 0; lane < lanes; lane++) {
            const float *row = y->row[first + j + lane];
            double scale = y->scale[first + j + lane];
            for (int32_t k = 0; k < width; k++)
                group[(int64_t)k * SU_TILE_LANES + lane] = scale * (double)row[k];
        }
    }
}

static inline __attribute__((always_inline)) void dots(double *out, bool add, const double *rows,
                                                       int64_t row_count, int64_t stride,
                                                       const double *columns, int64_t column_count,
                                                       int64_t depth)
{
    for (int64_t piece = 0; piece < depth; piece += DEPTH_PIECE) {
        int64_t end = piece + DEPTH_PIECE < depth ? piece + DEPTH_PIECE : depth;
        bool keep = add || piece > 0;
        for (int64_t j = 0; j < column_count; j += SU_TILE_LANES) {
            const double *c = columns + j * depth;
            for (int64_t r = 0; r < row_count; r += SU_TILE_STEP_ROWS) {
                const double *x = rows + r * stride;
                double *to = out + r * SU_TILE_COLUMNS + j;
                v8d sum[SU_TILE_STEP_ROWS];
                for (int i = 0; i < SU_TILE_STEP_ROWS; i++) {
                    if (keep)
                        memcpy(&sum[i], to + i * SU_TILE_COLUMNS, sizeof sum[i]);
                    else
                        sum[i] = (v8d){0};
                }
                for (int64_t k = piece; k < end; k++) {
                    v8d y;
                    memcpy(&y, c + k * SU_TILE_LANES, sizeof y);
                    for (int i = 0; i < SU_TILE_STEP_ROWS; i++) sum[i] += x[i * stride + k] * y;
                }
                for (int i = 0; i < SU_TILE_STEP_ROWS; i++)
                    memcpy(to + i * SU_TILE_COLUMNS, &sum[i], sizeof sum[i]);
            }
        }
    }
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static void dots_avx2(double *out, bool add, const double *rows,
                                                          int64_t row_count, int64_t stride,
                                                          const double *columns, int64_t column_count,
                                                          int64_t depth)
{
    dots(out, add, rows, row_count, stride, columns, column_count, depth);
}

__attribute__((target("avx512f"))) static void dots_avx512(double *out, bool add, const double *rows,
                                                           int64_t row_count, int64_t stride,
                                                           const double *columns, int64_t column_count,
                                                           int64_t depth)
{
    dots(out, add, rows, row_count, stride, columns, column_count, depth);
}
#endif

void su_tile_dots(double *out, bool add, const double *rows, int64_t row_count, int64_t stride,
                  const double *columns, int64_t column_count, int64_t depth)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        dots_avx512(out, add, rows, row_count, stride, columns, column_count, depth);
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        dots_avx2(out, add, rows, row_count, stride, columns, column_count, depth);
        return;
    }
#endif
    dots(out, add, rows, row_count, stride, columns, column_count, depth);
}

double su_row_dot(const float *x, const float *y, int32_t width)
{
    v8d sum = {0};
    int32_t k = 0;
    for (; k + 8 <= width; k += 8) {
        v8f a, b;
        memcpy(&a, x + k, sizeof a);
        memcpy(&b, y + k, sizeof b);
        sum += __builtin_convertvector(a, v8d) * __builtin_convertvector(b, v8d);
    }
    double total = 0;
    for (int lane = 0; lane < 8; lane++) total += sum[lane];
    for (; k < width; k++) total += (double)x[k] * (double)y[k];
    return total;
}
