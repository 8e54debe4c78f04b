/* Element-wise and row-wise operations against plain loops. */
#include "tests/nn/check.h"
#include "nn/cpu/philox.h"

static const su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};

static double tolerance_of(su_dtype type)
{
    return su_tolerance(type == SU_DTYPE_F32 ? "nn.f32" : "nn.f64");
}

static void add_adds_in_place_too(void **state)
{
    static const int64_t sizes[] = {1, 15, 1000, 65537, 200001};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < 5; s++) {
            su_device *d = check_device(types[t], 2);
            int64_t n = sizes[s];
            double *a = check_normal(1, n, 1), *b = check_normal(2, n, 1), *want = check_zeros(n);
            for (int64_t i = 0; i < n; i++) want[i] = a[i] + b[i];
            void *da = check_upload(d, a, n), *db = check_upload(d, b, n), *y = check_upload(d, NULL, n);
            d->ops->add(d, y, da, db, n);
            d->ops->add(d, da, da, db, n);
            check_close("y", check_take(d, y, n), want, n, tolerance_of(types[t]));
            check_close("a", check_take(d, da, n), want, n, tolerance_of(types[t]));
            check_take(d, db, 0);
            check_free_all();
            su_device_close(d);
        }
}

static void vector_philox_gives_the_words_of_the_scalar_one(void **state)
{
    su_rng_key key = {.seed = 0x123456789abcdef0, .step = 7, .layer = 0xfedcba98};
    (void)state;
    for (int64_t blocks = 1; blocks < 140; blocks += 23) {
        uint64_t first = 0xfffffff0; /* the low word of the counter wraps */
        uint32_t words[4 * 140], want[4];
        su_cpu_philox(key, first, blocks, words);
        for (int64_t b = 0; b < blocks; b++) {
            su_rng_block(key, first + (uint64_t)b, want);
            assert_memory_equal(words + 4 * b, want, sizeof want);
        }
    }
}

static void dropout_is_keyed_by_the_element_and_is_its_own_backward(void **state)
{
    const double p = 0.3;
    su_rng_key key = {.seed = 5, .step = 3, .layer = 11};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (int64_t n = 1; n < 200000; n = n * 7 + 2) {
            su_device *d = check_device(types[t], 2);
            double *x = check_normal(3, n, 1), *want = check_zeros(n);
            for (int64_t i = 0; i < n; i++) {
                uint32_t words[4];
                su_rng_block(key, (uint64_t)i / 4, words);
                want[i] = words[i % 4] < p * 0x1p32 ? 0 : x[i] / (1 - p);
            }
            void *dx = check_upload(d, x, n), *y = check_upload(d, NULL, n);
            d->ops->dropout(d, y, dx, p, key, n);
            d->ops->dropout(d, dx, dx, p, key, n); /* in place; and a gradient takes the same way */
            double *got = check_take(d, y, n);
            check_close("y", got, want, n, tolerance_of(types[t]));
            check_same_bits("in place", check_take(d, dx, n), got, n);
            if (n > 100000) {
                double dropped = 0;
                for (int64_t i = 0; i < n; i++) dropped += got[i] == 0;
                assert_true(fabs(dropped / (double)n - p) < 5 * sqrt(p * (1 - p) / (double)n));
            }
            check_free_all();
            su_device_close(d);
        }
}

static void dropout_of_nothing_copies(void **state)
{
    su_device *d = check_device(SU_DTYPE_F32, 1);
    double *x = check_normal(3, 100, 1);
    void *dx = check_upload(d, x, 100), *y = check_upload(d, NULL, 100);
    (void)state;
    d->ops->dropout(d, y, dx, 0, (su_rng_key){.seed = 1}, 100);
    d->ops->dropout(d, dx, dx, 0, (su_rng_key){.seed = 1}, 100);
    check_same_bits("y", check_take(d, y, 100), x, 100);
    check_same_bits("x", check_take(d, dx, 100), x, 100);
    check_free_all();
    su_device_close(d);
}

static void drop_path_keeps_or_drops_whole_samples(void **state)
{
    const int64_t samples = 40, sample = 37;
    su_rng_key key = {.seed = 5, .step = 3, .layer = 12};
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        double *x = check_normal(4, samples * sample, 1), *want = check_zeros(samples * sample);
        int kept = 0;
        for (int64_t b = 0; b < samples; b++) {
            bool keep = su_rng_uniform(key, (uint64_t)b) >= 0.4;
            kept += keep;
            for (int64_t i = 0; keep && i < sample; i++) want[b * sample + i] = x[b * sample + i] / 0.6;
        }
        assert_true(kept > 5 && kept < samples - 5);
        void *dx = check_upload(d, x, samples * sample), *y = check_upload(d, NULL, samples * sample);
        d->ops->drop_path(d, y, dx, 0.4, key, samples, sample);
        check_close("y", check_take(d, y, samples * sample), want, samples * sample, tolerance_of(types[t]));
        check_take(d, dx, 0);
        check_free_all();
        su_device_close(d);
    }
}

static void gather_reads_rows_and_scatter_add_is_its_transpose(void **state)
{
    static const int32_t widths[] = {1, 3, 64, 65, 200};
    const int64_t rows = 150, table_rows = 20; /* destinations repeat */
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < 5; s++) {
            int32_t width = widths[s], *index = check_alloc(rows, sizeof *index);
            double *table = check_normal(1, table_rows * width, 1), *y = check_normal(2, rows * width, 1);
            double *gathered = check_zeros(rows * width), *added = check_copy(y, rows * width);
            double *scattered = check_copy(table, table_rows * width);
            for (int64_t r = 0; r < rows; r++) {
                index[r] =
                    (int32_t)su_rng_below((su_rng_key){.seed = 9}, (uint64_t)r, (uint64_t)table_rows - 1);
                for (int64_t k = 0; k < width; k++) {
                    gathered[r * width + k] = table[index[r] * width + k];
                    added[r * width + k] += table[index[r] * width + k];
                    scattered[index[r] * width + k] += y[r * width + k];
                }
            }
            double *first = NULL;
            for (int threads = 1; threads <= 4; threads++) {
                su_device *d = check_device(types[t], threads);
                void *dt = check_upload(d, table, table_rows * width), *dy = check_upload(d, y, rows * width);
                void *out = check_upload(d, NULL, rows * width);
                int32_t *di = check_upload_int(d, index, rows);
                d->ops->gather(d, out, false, dt, di, rows, width);
                check_same_bits("gather", check_take(d, out, rows * width), gathered, rows * width);
                out = check_upload(d, y, rows * width);
                d->ops->gather(d, out, true, dt, di, rows, width);
                check_close("gather, add", check_take(d, out, rows * width), added, rows * width,
                            tolerance_of(types[t]));
                d->ops->scatter_add(d, dt, table_rows, threads % 2, dy, di, rows, width);
                double *got = check_take(d, dt, table_rows * width);
                check_close("scatter_add", got, scattered, table_rows * width, tolerance_of(types[t]));
                if (!first) first = got;
                check_same_bits("scatter_add of more threads", got, first, table_rows * width);
                check_take(d, dy, 0);
                d->ops->release(d, di);
                su_device_close(d);
            }
            check_free_all();
        }
}

static void scatter_writes_the_rows_that_are_listed_and_no_other(void **state)
{
    static const int32_t widths[] = {1, 3, 64, 65, 200};
    const int64_t rows = 150, table_rows = 331;
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < 5; s++) {
            su_device *d = check_device(types[t], 2);
            int32_t width = widths[s], *index = check_alloc(rows, sizeof *index);
            double *table = check_normal(1, table_rows * width, 1), *y = check_normal(2, rows * width, 1);
            void *dt = check_upload(d, table, table_rows * width), *dy = check_upload(d, y, rows * width);
            for (int64_t r = 0; r < rows; r++) {
                index[r] = (int32_t)(r * 7 % table_rows);
                memcpy(table + index[r] * width, y + r * width, (size_t)width * sizeof *y);
            }
            int32_t *di = check_upload_int(d, index, rows);
            d->ops->scatter(d, dt, dy, di, rows, width);
            check_same_bits("scatter", check_take(d, dt, table_rows * width), table, table_rows * width);
            check_take(d, dy, 0);
            d->ops->release(d, di);
            su_device_close(d);
            check_free_all();
        }
}

static void mean_pool_averages_the_tokens_that_are_there(void **state)
{
    const int32_t batch = 3, tokens = 9, first = 1, width = 37;
    static const int32_t lengths[] = {8, 1, 5};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (int all = 0; all < 2; all++) {
            su_device *d = check_device(types[t], 2);
            int64_t n = batch * tokens * width;
            double *x = check_normal(1, n, 1), *dy = check_normal(2, batch * width, 1);
            double *want = check_zeros(batch * width), *want_dx = check_zeros(n);
            for (int b = 0; b < batch; b++) {
                int length = all ? tokens - first : lengths[b];
                for (int i = first; i < first + length; i++)
                    for (int k = 0; k < width; k++) {
                        want[b * width + k] += x[(b * tokens + i) * width + k] / length;
                        want_dx[(b * tokens + i) * width + k] = dy[b * width + k] / length;
                    }
            }
            void *mx = check_upload(d, x, n), *my = check_upload(d, NULL, batch * width);
            void *mdy = check_upload(d, dy, batch * width), *mdx = check_upload(d, NULL, n);
            int32_t *ml = check_upload_int(d, all ? NULL : lengths, batch);
            d->ops->mean_pool(d, my, mx, ml, batch, tokens, first, width);
            d->ops->mean_pool_backward(d, mdx, mdy, ml, batch, tokens, first, width);
            check_close("y", check_take(d, my, batch * width), want, batch * width, tolerance_of(types[t]));
            check_close("dx", check_take(d, mdx, n), want_dx, n, tolerance_of(types[t]));
            check_take(d, mx, 0);
            check_take(d, mdy, 0);
            d->ops->release(d, ml);
            check_free_all();
            su_device_close(d);
        }
}

static void patches_are_cut_normalised_and_dropped_as_listed(void **state)
{
    static const int32_t keep[] = {0, 2, 3, 11, 1, 5, 6, 7};
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (int channels = 1; channels <= 4; channels++)
            for (int dropping = 0; dropping < 2; dropping++) {
                su_device *d = check_device(types[t], 2);
                su_patches p = {.batch = 2,
                                .channels = channels,
                                .height = 15,
                                .width = 20,
                                .patch = 5,
                                .mean = {0.485F, 0.456F, 0.406F, 0.5F},
                                .std = {0.229F, 0.224F, 0.225F, 0.25F},
                                .kept = dropping ? 4 : 12};
                int32_t *list = check_upload_int(d, dropping ? keep : NULL, 8);
                p.keep = list;
                int64_t pixels = 2 * 15 * 20 * channels, n = 2 * p.kept * channels * 25;
                uint8_t *images = check_alloc(pixels, 1);
                for (int64_t i = 0; i < pixels; i++) images[i] = (uint8_t)(i * 37 + i / 256);
                void *device_images = NULL, *out = check_upload(d, NULL, n);
                assert_int_equal(d->ops->alloc(d, (size_t)pixels, &device_images, NULL), SU_OK);
                d->ops->upload(d, device_images, images, (size_t)pixels);
                double *want = check_zeros(n);
                for (int64_t i = 0; i < n; i++) {
                    int64_t x = i % 5, y = i / 5 % 5, c = i / 25 % channels, r = i / 25 / channels;
                    int64_t b = r / p.kept, number = dropping ? keep[r] : r % p.kept;
                    int64_t row = number / 4 * 5 + y, column = number % 4 * 5 + x;
                    want[i] =
                        (images[((b * 15 + row) * 20 + column) * channels + c] / 255. - (double)p.mean[c]) /
                        (double)p.std[c];
                }
                d->ops->patches(d, out, device_images, &p);
                check_close("out", check_take(d, out, n), want, n, tolerance_of(types[t]));
                d->ops->release(d, device_images);
                d->ops->release(d, list);
                check_free_all();
                su_device_close(d);
            }
}

/* --- normalise */

typedef struct {
    su_device *d;
    double *x, *weight;
    int64_t rows;
    int32_t width;
} normalisation;

static double weighted_sum(void *context)
{
    normalisation *c = context;
    int64_t n = c->rows * c->width;
    void *x = check_upload(c->d, c->x, n), *z = check_upload(c->d, NULL, n),
         *norm = check_upload(c->d, NULL, c->rows);
    c->d->ops->normalise(c->d, z, norm, x, c->rows, c->width);
    double *got = check_take(c->d, z, n), sum = 0;
    for (int64_t i = 0; i < n; i++) sum += got[i] * c->weight[i];
    check_take(c->d, x, 0);
    check_take(c->d, norm, 0);
    return sum;
}

static void normalise_makes_unit_rows_with_the_gradient_of_differences(void **state)
{
    static const int32_t widths[] = {1, 3, 64, 513};
    const int64_t rows = 70;
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (size_t s = 0; s < 4; s++) {
            su_device *d = check_device(types[t], 2);
            int32_t width = widths[s];
            int64_t n = rows * width;
            normalisation c = {d, check_normal(1, n, 3), check_normal(2, n, 1), rows, width};
            double *want = check_zeros(n), *norms = check_zeros(rows);
            for (int64_t r = 0; r < rows; r++) {
                for (int64_t k = 0; k < width; k++) norms[r] += c.x[r * width + k] * c.x[r * width + k];
                norms[r] = sqrt(norms[r]);
                for (int64_t k = 0; k < width; k++) want[r * width + k] = c.x[r * width + k] / norms[r];
            }
            void *x = check_upload(d, c.x, n), *z = check_upload(d, NULL, n),
                 *norm = check_upload(d, NULL, rows);
            void *dz = check_upload(d, c.weight, n), *dx = check_upload(d, NULL, n);
            d->ops->normalise(d, z, norm, x, rows, width);
            d->ops->normalise_backward(d, dx, dz, z, norm, rows, width);
            check_close("z", check_take(d, z, n), want, n, tolerance_of(types[t]));
            check_close("norm", check_take(d, norm, rows), norms, rows, tolerance_of(types[t]));
            double *got = check_take(d, dx, n);
            if (types[t] == SU_DTYPE_F64)
                check_gradient("dx", weighted_sum, &c, c.x, got, n, su_tolerance("nn.difference"));
            check_take(d, x, 0);
            check_take(d, dz, 0);
            check_free_all();
            su_device_close(d);
        }
}

static void a_zero_row_normalises_to_zero_without_a_gradient(void **state)
{
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 1);
        double *x = check_zeros(7), *dz = check_normal(1, 7, 1), *zero = check_zeros(7);
        void *mx = check_upload(d, x, 7), *z = check_upload(d, NULL, 7), *norm = check_upload(d, NULL, 1);
        void *mdz = check_upload(d, dz, 7), *dx = check_upload(d, NULL, 7);
        d->ops->normalise(d, z, norm, mx, 1, 7);
        d->ops->normalise_backward(d, dx, mdz, z, norm, 1, 7);
        check_close("z", check_take(d, z, 7), zero, 7, 0);
        check_close("dx", check_take(d, dx, 7), zero, 7, 0);
        check_take(d, mx, 0);
        check_take(d, mdz, 0);
        check_take(d, norm, 0);
        check_free_all();
        su_device_close(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_adds_in_place_too),
        cmocka_unit_test(vector_philox_gives_the_words_of_the_scalar_one),
        cmocka_unit_test(dropout_is_keyed_by_the_element_and_is_its_own_backward),
        cmocka_unit_test(dropout_of_nothing_copies),
        cmocka_unit_test(drop_path_keeps_or_drops_whole_samples),
        cmocka_unit_test(gather_reads_rows_and_scatter_add_is_its_transpose),
        cmocka_unit_test(scatter_writes_the_rows_that_are_listed_and_no_other),
        cmocka_unit_test(mean_pool_averages_the_tokens_that_are_there),
        cmocka_unit_test(patches_are_cut_normalised_and_dropped_as_listed),
        cmocka_unit_test(normalise_makes_unit_rows_with_the_gradient_of_differences),
        cmocka_unit_test(a_zero_row_normalises_to_zero_without_a_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
