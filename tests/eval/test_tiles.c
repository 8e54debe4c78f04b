/* The tile kernel against plain loops, for extents around every edge of its blocks. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data.h"
#include "tests/tolerance.h"
#include <string.h>

static double plain(const su_rows *x, int64_t i, const su_rows *y, int64_t j, int32_t width)
{
    double sum = 0;
    for (int32_t k = 0; k < width; k++)
        sum += (x->scale[i] * (double)x->row[i][k]) * (y->scale[j] * (double)y->row[j][k]);
    return sum;
}

static void check(int64_t rows, int64_t columns, int32_t width)
{
    int64_t stride = su_tile_stride(width);
    float *zx = make_stream(0, rows + 2, width), *zy = make_stream(1, columns + 3, width);
    su_rows x = make_rows(zx, rows + 2, width, true), y = make_rows(zy, columns + 3, width, true);
    double *tx = su_alloc_aligned((size_t)(SU_TILE_ROWS * stride), sizeof(double));
    double *ty = su_alloc_aligned((size_t)(SU_TILE_COLUMNS * width), sizeof(double));
    double *dots = su_alloc_aligned(SU_TILE_ROWS * SU_TILE_COLUMNS, sizeof(double));
    su_tile_rows(tx, &x, 2, rows, width);
    su_tile_columns(ty, &y, 3, columns, width);
    for (int pass = 1; pass <= 2; pass++) { /* the second pass adds */
        su_tile_dots(dots, pass == 2, tx, rows, stride, ty, columns, width);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < columns; j++)
                assert_true(fabs(dots[r * SU_TILE_COLUMNS + j] - pass * plain(&x, r + 2, &y, j + 3, width)) <=
                            su_tolerance("eval.f64"));
    }
    su_free(zx);
    su_free(zy);
    su_free(tx);
    su_free(ty);
    su_free(dots);
    free_rows(x);
    free_rows(y);
}

static void tiles_equal_plain_loops(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 5, 6, 7, 191, 192}, columns[] = {1, 7, 8, 9, 63, 64};
    static const int32_t widths[] = {1, 2, 7, 8, 9, 255, 256, 257, 520};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
            for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) check(rows[r], columns[c], widths[w]);
}

static void a_score_depends_on_its_two_vectors_only(void **state)
{
    (void)state;
    enum { WIDTH = 515 };
    int64_t stride = su_tile_stride(WIDTH);
    float *z = make_stream(0, 2, WIDTH);
    const float *row[SU_TILE_ROWS];
    double scale[SU_TILE_ROWS];
    for (int i = 0; i < SU_TILE_ROWS; i++) {
        row[i] = z + (i % 2) * WIDTH;
        scale[i] = i % 2 ? 0.3 : 0.7;
    }
    su_rows x = {row, scale};
    double *tx = su_alloc_aligned((size_t)(SU_TILE_ROWS * stride), sizeof(double));
    double *ty = su_alloc_aligned(SU_TILE_COLUMNS * WIDTH, sizeof(double));
    double *dots = su_alloc_aligned(SU_TILE_ROWS * SU_TILE_COLUMNS, sizeof(double));
    su_tile_rows(tx, &x, 0, SU_TILE_ROWS, WIDTH);
    su_tile_columns(ty, &x, 0, SU_TILE_COLUMNS, WIDTH);
    su_tile_dots(dots, false, tx, SU_TILE_ROWS, stride, ty, SU_TILE_COLUMNS, WIDTH);
    for (int r = 0; r < SU_TILE_ROWS; r++)
        for (int j = 0; j < SU_TILE_COLUMNS; j++)
            assert_memory_equal(&dots[r * SU_TILE_COLUMNS + j], &dots[(r % 2) * SU_TILE_COLUMNS + j % 2],
                                sizeof(double));
    su_free(z);
    su_free(tx);
    su_free(ty);
    su_free(dots);
}

static void row_dot_equals_plain_loop(void **state)
{
    (void)state;
    for (int32_t width = 1; width < 40; width++) {
        float *zx = make_stream(0, 1, width), *zy = make_stream(1, 1, width);
        double sum = 0, size = 0;
        for (int32_t k = 0; k < width; k++) {
            sum += (double)zx[k] * (double)zy[k];
            size += fabs((double)zx[k] * (double)zy[k]);
        }
        assert_true(fabs(su_row_dot(zx, zy, width) - sum) <= su_tolerance("eval.f64") * size);
        su_free(zx);
        su_free(zy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_equal_plain_loops),
        cmocka_unit_test(a_score_depends_on_its_two_vectors_only),
        cmocka_unit_test(row_dot_equals_plain_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
