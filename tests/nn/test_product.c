/* Matrix products at every level that this processor runs, against plain loops in double. */
#include "tests/nn/check.h"
#include "nn/cpu/internal.h"

/* The kernels' names carry their level; a test binary sees all of them. */
#define DECLARE(type, real, level)                                                                        \
    void su_cpu_gemm_##type##_##level(bool, bool, int64_t, int64_t, int64_t, real, const real *, int64_t, \
                                      const real *, int64_t, real, real *, int64_t);                      \
    void su_cpu_product_##type##_##level(int64_t, int64_t, int64_t, const real *, int64_t, int64_t,       \
                                         const real *, int64_t, real, bool, real *, int64_t);             \
    void su_cpu_transpose_##type##_##level(real *, int64_t, int64_t, const real *, int64_t, int64_t, int64_t);

typedef void gemm_f32(bool, bool, int64_t, int64_t, int64_t, float, const float *, int64_t, const float *,
                      int64_t, float, float *, int64_t);
typedef void gemm_f64(bool, bool, int64_t, int64_t, int64_t, double, const double *, int64_t, const double *,
                      int64_t, double, double *, int64_t);
typedef void product_f32(int64_t, int64_t, int64_t, const float *, int64_t, int64_t, const float *, int64_t,
                         float, bool, float *, int64_t);
typedef void transpose_f32(float *, int64_t, int64_t, const float *, int64_t, int64_t, int64_t);

typedef struct {
    const char *name;
    int lanes; /* floats a register */
    gemm_f32 *f32;
    gemm_f64 *f64;
    product_f32 *product;
    transpose_f32 *transpose;
} level;

#if defined(__x86_64__)
DECLARE(f32, float, v4)
DECLARE(f64, double, v4)
DECLARE(f32, float, v3)
DECLARE(f64, double, v3)
#endif
#if !defined(__AVX2__)
DECLARE(f32, float, base)
DECLARE(f64, double, base)
#endif

#define LEVEL(level, lanes)                                                                          \
    {                                                                                                \
#level, lanes, su_cpu_gemm_f32_##level, su_cpu_gemm_f64_##level, su_cpu_product_f32_##level, \
            su_cpu_transpose_f32_##level                                                             \
    }

static const level levels[] = {
    LEVEL(base, 4),
#if defined(__x86_64__)
    LEVEL(v3, 8),
    LEVEL(v4, 16),
#endif
};
enum { LEVELS = sizeof levels / sizeof *levels };

static bool runs(int i)
{
#if defined(__x86_64__)
    if (i == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (i == 2) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
#endif
    return i == 0;
}

static float *floats(const double *x, int64_t n)
{
    float *y = check_alloc(n, sizeof *y);
    for (int64_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}

static double *doubles(const float *x, int64_t n)
{
    double *y = check_zeros(n);
    for (int64_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}

static const int64_t shapes[][3] = {{1, 1, 1},    {1, 17, 3},    {5, 4, 300},    {6, 64, 256},
                                    {7, 65, 257}, {13, 100, 31}, {300, 70, 520}, {2, 3, 0}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Strides are longer than rows by 3, and what lies between must stay as it was. */
static void check_gemm(const level *l, int64_t m, int64_t n, int64_t k, bool ta, bool tb, double alpha,
                       double beta)
{
    int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 3, ldc = n + 3;
    int64_t sa = (ta ? k : m) * lda, sb = (tb ? n : k) * ldb, sc = m * ldc;
    double *a = check_normal(1, sa, 1), *b = check_normal(2, sb, 1), *c = check_normal(3, sc, 1);
    double *want = check_copy(c, sc);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t x = 0; x < k; x++)
                sum += a[ta ? x * lda + i : i * lda + x] * b[tb ? j * ldb + x : x * ldb + j];
            want[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * want[i * ldc + j]);
        }
    float *single = floats(c, sc);
    if (beta == 0) /* c is not read */
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) c[i * ldc + j] = NAN, single[i * ldc + j] = (float)NAN;
    l->f32(ta, tb, m, n, k, (float)alpha, floats(a, sa), lda, floats(b, sb), ldb, (float)beta, single, ldc);
    l->f64(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    check_close("gemm f32", doubles(single, sc), want, sc, su_tolerance("nn.f32"));
    check_close("gemm f64", c, want, sc, su_tolerance("nn.f64"));
    check_free_all();
}

static void gemm_equals_plain_loops(void **state)
{
    (void)state;
    const double factors[][2] = {{1, 0}, {1, 1}, {0.5, 0.25}};
    for (int i = 0; i < LEVELS; i++)
        for (int s = 0; runs(i) && s < SHAPES; s++)
            for (int variant = 0; variant < 12; variant++)
                check_gemm(&levels[i], shapes[s][0], shapes[s][1], shapes[s][2], variant & 1, variant & 2,
                           factors[variant / 4][0], factors[variant / 4][1]);
}

static void product_takes_any_strides_of_a(void **state)
{
    (void)state;
    for (int i = 0; i < LEVELS; i++)
        for (int s = 0; runs(i) && s < SHAPES; s++)
            for (int variant = 0; variant < 4; variant++) {
                bool transposed = variant & 1, add = variant & 2;
                int64_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
                int64_t lanes = levels[i].lanes, b_row = (n + lanes - 1) / lanes * lanes, c_row = n + 1;
                int64_t row = transposed ? 1 : k + 2, column = transposed ? m + 5 : 1;
                double *a = check_normal(4, (m + 5) * (k + 2), 1), *b = check_normal(5, k * b_row, 1);
                double *c = check_normal(6, m * c_row, 1), *want = check_copy(c, m * c_row);
                for (int64_t x = 0; x < m; x++)
                    for (int64_t j = 0; j < n; j++) {
                        double sum = 0;
                        for (int64_t y = 0; y < k; y++) sum += a[x * row + y * column] * b[y * b_row + j];
                        want[x * c_row + j] = 0.5 * sum + (add ? want[x * c_row + j] : 0);
                    }
                float *single = floats(c, m * c_row);
                levels[i].product(m, n, k, floats(a, (m + 5) * (k + 2)), row, column, floats(b, k * b_row),
                                  b_row, 0.5f, add, single, c_row);
                check_close("product", doubles(single, m * c_row), want, m * c_row, su_tolerance("nn.f32"));
                check_free_all();
            }
}

static void transpose_fills_up_with_zeros(void **state)
{
    (void)state;
    for (int i = 0; i < LEVELS; i++)
        for (int64_t rows = 1; runs(i) && rows < 12; rows++)
            for (int64_t columns = 1; columns < 12; columns++) {
                double *from = check_normal(7, rows * 13, 1), *want = check_zeros(columns * 18);
                float *to = check_alloc(columns * 18, sizeof *to);
                for (int64_t x = 0; x < columns * 18; x++) want[x] = to[x] = -1;
                for (int64_t j = 0; j < columns; j++)
                    for (int64_t x = 0; x < 16; x++) want[j * 18 + x] = x < rows ? from[x * 13 + j] : 0;
                levels[i].transpose(to, 18, 16, floats(from, rows * 13), 13, rows, columns);
                check_same_bits("transpose", doubles(to, columns * 18), want, columns * 18);
                check_free_all();
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_equals_plain_loops),
        cmocka_unit_test(product_takes_any_strides_of_a),
        cmocka_unit_test(transpose_fills_up_with_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
