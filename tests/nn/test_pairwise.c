/* InfoNCE and L_CU against whole N x N matrices in double, differences, PyTorch, and their own promises. */
#include "tests/nn/golden.h"
#include "base/memory.h"
#include <malloc.h>

static const su_dtype types[] = {SU_DTYPE_F32, SU_DTYPE_F64};

static double tolerance_of(su_dtype type)
{
    if (type == SU_DTYPE_F64) return su_tolerance("nn.f64.pairs");
    return su_tolerance(check_other_device() ? "cuda.f32.pairs" : "nn.f32.pairs");
}

/* n unit rows that are floats' values */
static double *unit_rows(uint64_t seed, int64_t n, int64_t width)
{
    double *x = check_normal(seed, n * width, 1);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < width; k++) sum += x[i * width + k] * x[i * width + k];
        for (int64_t k = 0; k < width; k++) x[i * width + k] = (double)(float)(x[i * width + k] / sqrt(sum));
    }
    return x;
}

/* --- one call of either loss, with everything it reads and writes on the host */

typedef struct {
    int64_t n;
    int32_t width;
    int streams; /* 2 for InfoNCE */
    double *z[SU_MAX_STREAMS];
    double log_scale;  /* InfoNCE */
    su_centroids form; /* L_CU */
    bool cu, value_only;
    double weight, loss;                     /* loss: before and after */
    double *dz[SU_MAX_STREAMS], d_log_scale; /* dz NULL: from zeros */
} call;

static call new_call(bool cu, int streams, int64_t n, int32_t width)
{
    call c = {.n = n, .width = width, .streams = streams, .cu = cu, .weight = 1};
    for (int m = 0; m < streams; m++) c.z[m] = unit_rows((uint64_t)(100 * n + 10 * width + m), n, width);
    c.log_scale = log(1 / 0.07);
    return c;
}

static su_status run(su_device *d, call *c)
{
    int64_t count = c->n * c->width;
    void *z[SU_MAX_STREAMS], *dz[SU_MAX_STREAMS];
    double *zeros = check_zeros(count);
    su_error err = {0};
    for (int m = 0; m < c->streams; m++) {
        z[m] = check_upload(d, c->z[m], count);
        dz[m] = check_upload(d, c->dz[m] ? c->dz[m] : zeros, count);
    }
    void *loss = check_upload(d, &c->loss, 1), *scale = check_upload(d, &c->log_scale, 1);
    void *d_scale = check_upload(d, &c->d_log_scale, 1);
    su_status status = c->cu ? d->ops->cu(d, loss, c->value_only ? NULL : dz, (const void *const *)z,
                                          c->streams, c->form, c->weight, c->n, c->width, &err)
                             : d->ops->infonce(d, loss, c->value_only ? NULL : dz[0],
                                               c->value_only ? NULL : dz[1], c->value_only ? NULL : d_scale,
                                               z[0], z[1], scale, c->weight, c->n, c->width, &err);
    for (int m = 0; m < c->streams; m++) {
        check_take(d, z[m], 0);
        c->dz[m] = check_take(d, dz[m], count);
    }
    c->loss = *check_take(d, loss, 1);
    c->d_log_scale = *check_take(d, d_scale, 1);
    check_take(d, scale, 0);
    return status;
}

/* --- the formulas on whole matrices */

static double dot(const double *x, const double *y, int64_t width)
{
    double s = 0;
    for (int64_t k = 0; k < width; k++) s += x[k] * y[k];
    return s;
}

static void infonce_reference(call *c)
{
    int64_t n = c->n, width = c->width;
    double *s = check_zeros(n * n), *g = check_zeros(n * n), scale = exp(c->log_scale);
    long double total = 0, d_scale = 0; /* millions of like terms: plain sums would drift by 1e-11 */
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            s[i * n + j] = scale * dot(c->z[0] + i * width, c->z[1] + j * width, width);
    for (int direction = 0; direction < 2; direction++) /* rows, then columns */
        for (int64_t i = 0; i < n; i++) {
            int64_t first = direction ? i : i * n, step = direction ? n : 1;
            double most = -INFINITY;
            long double sum = 0;
            for (int64_t j = 0; j < n; j++) most = fmax(most, s[first + j * step]);
            for (int64_t j = 0; j < n; j++) sum += exp(s[first + j * step] - most);
            for (int64_t j = 0; j < n; j++)
                g[first + j * step] +=
                    (exp(s[first + j * step] - most) / (double)sum - (i == j)) / (2 * (double)n);
            total += (most - s[first + i * step] + log((double)sum)) / (2 * (double)n);
        }
    for (int m = 0; m < 2; m++) c->dz[m] = check_zeros(n * width);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            d_scale += g[i * n + j] * s[i * n + j];
            for (int64_t k = 0; k < width; k++) {
                c->dz[0][i * width + k] += scale * g[i * n + j] * c->z[1][j * width + k];
                c->dz[1][j * width + k] += scale * g[i * n + j] * c->z[0][i * width + k];
            }
        }
    c->loss = (double)total;
    c->d_log_scale = (double)d_scale;
}

static void cu_reference(call *c)
{
    int64_t n = c->n, width = c->width;
    bool normalised = c->form == SU_CENTROIDS_NORMALISED;
    double *u = check_zeros(n * width), *du = check_zeros(n * width), *length = check_zeros(n),
           *e = check_zeros(n * n);
    double most = -INFINITY;
    long double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int m = 0; m < c->streams; m++)
            for (int64_t k = 0; k < width; k++) u[i * width + k] += c->z[m][i * width + k] / c->streams;
        length[i] = sqrt(dot(u + i * width, u + i * width, width));
        for (int64_t k = 0; k < width && normalised; k++) u[i * width + k] /= fmax(length[i], 1e-12);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            for (int64_t k = 0; k < width; k++) {
                double apart = u[i * width + k] - u[j * width + k];
                e[i * n + j] -= 2 * apart * apart;
            }
            if (i != j) most = fmax(most, e[i * n + j]);
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            e[i * n + j] = i == j ? 0 : exp(e[i * n + j] - most);
            sum += e[i * n + j] / 2;
        }
    c->loss = most + log((double)sum * 2 / (double)n / (normalised ? (double)(n - 1) : 1));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < width; k++)
                du[i * width + k] -= 4 * e[i * n + j] / (double)sum * (u[i * width + k] - u[j * width + k]);
        double along = dot(u + i * width, du + i * width, width);
        for (int64_t k = 0; k < width && normalised; k++)
            du[i * width + k] =
                length[i] > 1e-12 ? (du[i * width + k] - along * u[i * width + k]) / length[i] : 0;
        for (int64_t k = 0; k < width; k++) du[i * width + k] /= c->streams;
    }
    for (int m = 0; m < c->streams; m++) c->dz[m] = check_copy(du, n * width);
}

/* Compares x with y relative to the largest |y|, or to `size` when that is more: what the terms of the sums
 * measure that cancel in y. */
static void check_sized(const char *what, double size, const double *x, const double *y, int64_t n,
                        double tolerance)
{
    double *a = check_zeros(n + 1), *b = check_zeros(n + 1);
    memcpy(a, x, (size_t)n * sizeof *a);
    memcpy(b, y, (size_t)n * sizeof *b);
    a[n] = b[n] = size;
    check_close(what, a, b, n + 1, tolerance);
}

static void check_call(su_dtype type, const call *got, const call *want)
{
    double tolerance = tolerance_of(type), scale = got->cu ? 1 : exp(got->log_scale);
    char what[96];
    for (int m = 0; m < got->streams; m++) {
        snprintf(what, sizeof what, "%s %lldx%d dz[%d]", got->cu ? "cu" : "infonce", (long long)got->n,
                 (int)got->width, m);
        check_sized(what, scale / (double)got->n, got->dz[m], want->dz[m], got->n * got->width, tolerance);
    }
    check_sized("loss", fmax(1, scale / 10), &got->loss, &want->loss, 1, tolerance);
    if (!got->cu) check_sized("d_log_scale", scale / 10, &got->d_log_scale, &want->d_log_scale, 1, tolerance);
}

/* Sizes below, at and above the tiles (64, 128 from 256 rows, 256 from 2,048), odd ones included. */
static const struct {
    int64_t n;
    int32_t width;
} shapes[] = {{2, 1},   {2, 512},  {3, 3},    {7, 64},  {7, 512},  {64, 3},   {65, 64},
              {255, 3}, {256, 64}, {257, 64}, {600, 1}, {600, 16}, {1025, 3}, {2049, 1}};

static void equals_reference(const call *c, const call *want)
{
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        call got = *c;
        assert_int_equal(run(d, &got), SU_OK);
        check_call(types[t], &got, want);
        su_device_close(d);
    }
    check_free_all();
}

static void infonce_equals_the_formula_on_the_whole_matrix(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int hot = 0; hot < 2; hot++) {
            call c = new_call(false, 2, shapes[i].n, shapes[i].width);
            if (hot) c.log_scale = (double)(float)log(100);
            call want = c;
            infonce_reference(&want);
            equals_reference(&c, &want);
        }
}

static void cu_equals_the_formula_on_the_whole_matrix(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int raw = 0; raw < 2; raw++)
            for (int streams = 2; streams <= (shapes[i].n == 7 ? SU_MAX_STREAMS : 3); streams++) {
                call c = new_call(true, streams, shapes[i].n, shapes[i].width);
                /* one coordinate: opposite unit rows would have centroids of exactly 0, tested below */
                for (int64_t k = 0; c.width == 1 && k < c.n; k++)
                    c.z[0][k] = (double)(float)(0.3 + 0.01 * (double)(k % 50));
                c.form = raw ? SU_CENTROIDS_RAW : SU_CENTROIDS_NORMALISED;
                call want = c;
                cu_reference(&want);
                equals_reference(&c, &want);
            }
}

/* --- differences */

typedef struct {
    su_device *d;
    call *c;
} probe;

static double value(void *context)
{
    probe *p = context;
    call c = *p->c;
    c.value_only = true;
    c.loss = 0;
    assert_int_equal(run(p->d, &c), SU_OK);
    return c.loss;
}

static void gradients_equal_differences_in_every_stream(void **state)
{
    static const struct {
        int64_t n;
        int32_t width;
    } small[] = {{2, 3}, {3, 64}, {7, 5}, {67, 3}};
    su_device *d = check_device(SU_DTYPE_F64, 1);
    (void)state;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        for (int kind = 0; kind < 5;
             kind++) { /* InfoNCE; L_CU normalised and raw with two and three streams */
            call c = new_call(kind > 0, kind > 2 ? 3 : 2, small[i].n, small[i].width), backward = c;
            c.form = backward.form = kind % 2 ? SU_CENTROIDS_RAW : SU_CENTROIDS_NORMALISED;
            c.weight = backward.weight = 1.75;
            assert_int_equal(run(d, &backward), SU_OK);
            for (int m = 0; m < c.streams; m++)
                check_gradient(kind ? "cu dz" : "infonce dz", value, &(probe){d, &c}, c.z[m], backward.dz[m],
                               c.n * c.width, su_tolerance("nn.difference"));
            if (kind == 0)
                check_gradient("d_log_scale", value, &(probe){d, &c}, &c.log_scale, &backward.d_log_scale, 1,
                               su_tolerance("nn.difference"));
            check_free_all();
        }
    su_device_close(d);
}

static void losses_and_gradients_equal_those_of_pytorch(void **state)
{
    su_safetensors *file = golden_open();
    int cases = 0;
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        for (int k = 0; golden_find(file, "infonce", k, "x"); k++, cases++) {
            const int64_t *shape = golden_find(file, "infonce", k, "x")->shape;
            call got = {.n = shape[0], .width = (int32_t)shape[1], .streams = 2, .weight = 1}, want = got;
            got.z[0] = golden_values(file, "infonce", k, "x");
            got.z[1] = golden_values(file, "infonce", k, "y");
            got.log_scale = *golden_values(file, "infonce", k, "log_scale");
            want.dz[0] = golden_values(file, "infonce", k, "dx");
            want.dz[1] = golden_values(file, "infonce", k, "dy");
            want.loss = *golden_values(file, "infonce", k, "loss");
            want.d_log_scale = *golden_values(file, "infonce", k, "d_log_scale");
            assert_int_equal(run(d, &got), SU_OK);
            check_call(types[t], &got, &want);
            check_free_all();
        }
        for (int k = 0; golden_find(file, "cu", k, "z"); k++, cases++) {
            const int64_t *shape = golden_find(file, "cu", k, "z")->shape;
            call got = {
                .streams = (int)shape[0], .n = shape[1], .width = (int32_t)shape[2], .weight = 1, .cu = true};
            call want = got;
            for (int m = 0; m < got.streams; m++) {
                got.z[m] = golden_values(file, "cu", k, "z") + m * got.n * got.width;
                want.dz[m] = golden_values(file, "cu", k, "dz") + m * got.n * got.width;
            }
            got.form = *golden_values(file, "cu", k, "raw") > 0 ? SU_CENTROIDS_RAW : SU_CENTROIDS_NORMALISED;
            want.loss = *golden_values(file, "cu", k, "loss");
            assert_int_equal(run(d, &got), SU_OK);
            check_call(types[t], &got, &want);
            check_free_all();
        }
        su_device_close(d);
    }
    assert_int_equal(cases, 2 * (4 + 18));
    su_safetensors_close(file);
}

/* --- promises of the contract */

static void weighted_losses_and_gradients_are_added_to_what_is_there(void **state)
{
    (void)state;
    for (size_t t = 0; t < 2; t++)
        for (int cu = 0; cu < 2; cu++) {
            su_device *d = check_device(types[t], 2);
            call plain = new_call(cu, 3 - !cu, 130, 12), added = plain;
            added.weight = 0.5;
            added.loss = 2;
            added.d_log_scale = 3;
            for (int m = 0; m < plain.streams; m++)
                added.dz[m] = check_normal(5 + (uint64_t)m, 130 * 12, 1e-2);
            call before = added;
            assert_int_equal(run(d, &plain), SU_OK);
            assert_int_equal(run(d, &added), SU_OK);
            for (int m = 0; m < plain.streams; m++)
                for (int64_t i = 0; i < 130 * 12; i++) plain.dz[m][i] = before.dz[m][i] + plain.dz[m][i] / 2;
            plain.loss = 2 + plain.loss / 2;
            plain.d_log_scale = 3 + plain.d_log_scale / 2;
            check_call(types[t], &added, &plain);
            check_free_all();
            su_device_close(d);
        }
}

static void value_only_gives_the_same_loss(void **state)
{
    su_device *d = check_device(SU_DTYPE_F32, 2);
    (void)state;
    for (int cu = 0; cu < 2; cu++) {
        call full = new_call(cu, 2, 200, 16), only = full;
        only.value_only = true;
        for (int m = 0; m < 2; m++) only.dz[m] = check_normal(9, 200 * 16, 1);
        call before = only;
        assert_int_equal(run(d, &full), SU_OK);
        assert_int_equal(run(d, &only), SU_OK);
        check_same_bits("loss", &only.loss, &full.loss, 1);
        for (int m = 0; m < 2; m++) check_same_bits("dz", only.dz[m], before.dz[m], 200 * 16);
        assert_true(only.d_log_scale == 0);
    }
    check_free_all();
    su_device_close(d);
}

static void any_number_of_threads_gives_the_same_bits(void **state)
{
    (void)state;
    for (int cu = 0; cu < 2; cu++) {
        call first = new_call(cu, 2, 600, 64);
        for (int threads = 1; threads <= 7; threads += 2) {
            su_device *d = check_device(SU_DTYPE_F32, threads);
            call c = new_call(cu, 2, 600, 64);
            assert_int_equal(run(d, &c), SU_OK);
            if (threads == 1) first = c;
            check_same_bits("loss", &c.loss, &first.loss, 1);
            check_same_bits("d_log_scale", &c.d_log_scale, &first.d_log_scale, 1);
            for (int m = 0; m < 2; m++) check_same_bits("dz", c.dz[m], first.dz[m], 600 * 64);
            su_device_close(d);
        }
        check_free_all();
    }
}

static void one_pair_has_no_infonce_and_no_cu(void **state)
{
    su_device *d = check_device(SU_DTYPE_F32, 1);
    call c = new_call(false, 2, 1, 8);
    (void)state;
    assert_int_equal(run(d, &c), SU_OK);
    assert_true(c.loss == 0 && c.d_log_scale == 0);
    for (int k = 0; k < 8; k++) assert_true(c.dz[0][k] == 0 && c.dz[1][k] == 0);
    c.cu = true;
    assert_int_equal(run(d, &c), SU_EINVAL);
    c.n = 0;
    assert_int_equal(run(d, &c), SU_EINVAL);
    c.cu = false;
    assert_int_equal(run(d, &c), SU_EINVAL);
    check_free_all();
    su_device_close(d);
}

static void check_finite(const call *c)
{
    assert_true(isfinite(c->loss) && isfinite(c->d_log_scale));
    for (int m = 0; m < c->streams; m++)
        for (int64_t i = 0; i < c->n * c->width; i++) assert_true(isfinite(c->dz[m][i]));
}

static void identical_embeddings_have_the_loss_of_chance(void **state)
{
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        for (int kind = 0; kind < 3; kind++) {
            call c = new_call(kind > 0, 2, 100, 16);
            c.log_scale = log(100);
            c.form = kind == 2 ? SU_CENTROIDS_RAW : SU_CENTROIDS_NORMALISED;
            for (int m = 0; m < 2; m++)
                for (int64_t i = 0; i < 100; i++) memcpy(c.z[m] + i * 16, c.z[0], 16 * sizeof(double));
            assert_int_equal(run(d, &c), SU_OK);
            check_finite(&c);
            double want[] = {1, kind == 0 ? log(100) : kind == 1 ? 0 : log(99)}, got[] = {1, c.loss};
            check_close("loss", got, want, 2, tolerance_of(types[t]));
            check_free_all();
        }
        su_device_close(d);
    }
}

static void a_centroid_at_zero_has_no_gradient_and_spoils_nothing(void **state)
{
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 1);
        call got = new_call(true, 2, 70, 16);
        for (int k = 0; k < 16; k++) got.z[1][3 * 16 + k] = -got.z[0][3 * 16 + k];
        call want = got;
        cu_reference(&want);
        assert_int_equal(run(d, &got), SU_OK);
        check_call(types[t], &got, &want);
        for (int k = 0; k < 16; k++) assert_true(got.dz[0][3 * 16 + k] == 0 && got.dz[1][3 * 16 + k] == 0);
        check_free_all();
        su_device_close(d);
    }
}

static void raw_centroids_far_apart_do_not_underflow(void **state)
{
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        su_device *d = check_device(types[t], 2);
        call got = new_call(true, 3, 150, 8);
        got.form = SU_CENTROIDS_RAW;
        for (int m = 0; m < 3; m++)
            for (int64_t i = 0; i < 150 * 8; i++) got.z[m][i] *= 64; /* exponents near -8,000 */
        call want = got;
        cu_reference(&want);
        assert_int_equal(run(d, &got), SU_OK);
        check_finite(&got);
        /* float32 keeps |mu|^2 of some thousands to 1e-4, and the loss is as exact as its exponents */
        double tolerance = t ? 1e-9 : 2e-2;
        check_close("loss", &got.loss, &want.loss, 1, t ? 1e-9 : 1e-5);
        check_close("dz", got.dz[0], want.dz[0], 150 * 8, tolerance);
        check_free_all();
        su_device_close(d);
    }
}

static void a_nan_embedding_makes_the_loss_nan(void **state)
{
    su_device *d = check_device(SU_DTYPE_F32, 2);
    (void)state;
    for (int cu = 0; cu < 2; cu++) {
        call c = new_call(cu, 2, 100, 16);
        c.z[1][77] = NAN;
        assert_int_equal(run(d, &c), SU_OK);
        assert_true(isnan(c.loss));
    }
    check_free_all();
    su_device_close(d);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    check_cpu_only();
    for (int cu = 0; cu < 2; cu++) {
        double *host = unit_rows(3, 300, 16), zero = 0;
        su_status status = SU_ENOMEM;
        int failures = 0;
        while (status != SU_OK) {
            su_device *d = check_device(SU_DTYPE_F32, 2);
            void *z[] = {check_upload(d, host, 300 * 16), check_upload(d, host, 300 * 16)};
            void *dz[] = {check_upload(d, host, 300 * 16), check_upload(d, host, 300 * 16)};
            void *loss = check_upload(d, &zero, 1);
            su_alloc_fail_after(failures + 1);
            status =
                cu ? d->ops->cu(d, loss, dz, (const void *const *)z, 2, SU_CENTROIDS_RAW, 1, 300, 16, NULL)
                   : d->ops->infonce(d, loss, dz[0], dz[1], NULL, z[0], z[1], loss, 1, 300, 16, NULL);
            su_alloc_fail_after(0);
            if (status != SU_OK) {
                assert_int_equal(status, SU_ENOMEM);
                assert_true(++failures < 50);
            }
            for (int m = 0; m < 2; m++) {
                d->ops->release(d, z[m]);
                d->ops->release(d, dz[m]);
            }
            d->ops->release(d, loss);
            su_device_close(d);
        }
        assert_true(failures >= 4); /* two of the loss's own at least, and each worker's tile */
        check_free_all();
    }
}

/* --- memory: the peak of the process, which Linux lets us reset */

static double peak_megabytes(void)
{
    char line[256];
    double kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf", &kilobytes) == 1) break;
    fclose(f);
    return kilobytes / 1024;
}

static bool reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return false;
    bool written = fputs("5", f) >= 0;
    return (fclose(f) == 0) && written;
}

/* 8,192 x 8,192 floats are 256 MB. Stated limit: 4 MB, and for L_CU two N x D matrices (4 MB here). */
static void memory_stays_at_a_tile_for_8192_pairs(void **state)
{
    const int64_t n = 8192, width = 64;
    (void)state;
    check_cpu_only();
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its shadow memory would be measured, not ours */
#endif
    su_device *d = check_device(SU_DTYPE_F32, 2);
    for (int cu = 0; cu < 2; cu++) {
        double *host = unit_rows(3, n, width), zero = 0, scale = 2;
        void *z[] = {check_upload(d, host, n * width), check_upload(d, host, n * width)};
        void *dz[] = {check_upload(d, host, n * width), check_upload(d, host, n * width)};
        void *loss = check_upload(d, &zero, 1), *log_scale = check_upload(d, &scale, 1);
        check_free_all();
        malloc_trim(0); /* memory that earlier tests gave back must not hide what is taken now */
        if (!reset_peak()) skip();
        double before = peak_megabytes();
        if (cu)
            assert_int_equal(d->ops->cu(d, loss, dz, (const void *const *)z, 2, SU_CENTROIDS_NORMALISED, 1, n,
                                        (int32_t)width, NULL),
                             SU_OK);
        else
            assert_int_equal(d->ops->infonce(d, loss, dz[0], dz[1], NULL, z[0], z[1], log_scale, 1, n,
                                             (int32_t)width, NULL),
                             SU_OK);
        double grown = peak_megabytes() - before;
        print_message("%s: peak grew by %.1f MB\n", cu ? "cu" : "infonce", grown);
        assert_true(grown < (cu ? 8 : 4));
        for (int m = 0; m < 2; m++) {
            check_take(d, z[m], 0);
            check_take(d, dz[m], 0);
        }
        check_take(d, loss, 0);
        check_take(d, log_scale, 0);
        check_free_all();
    }
    su_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(infonce_equals_the_formula_on_the_whole_matrix),
        cmocka_unit_test(cu_equals_the_formula_on_the_whole_matrix),
        cmocka_unit_test(gradients_equal_differences_in_every_stream),
        cmocka_unit_test(losses_and_gradients_equal_those_of_pytorch),
        cmocka_unit_test(weighted_losses_and_gradients_are_added_to_what_is_there),
        cmocka_unit_test(value_only_gives_the_same_loss),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(one_pair_has_no_infonce_and_no_cu),
        cmocka_unit_test(identical_embeddings_have_the_loss_of_chance),
        cmocka_unit_test(a_centroid_at_zero_has_no_gradient_and_spoils_nothing),
        cmocka_unit_test(raw_centroids_far_apart_do_not_underflow),
        cmocka_unit_test(a_nan_embedding_makes_the_loss_nan),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(memory_stays_at_a_tile_for_8192_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
