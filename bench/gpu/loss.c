/* The losses over all pairs of a batch, forward and backward: InfoNCE + L_CU on two streams of unit rows.
 *
 *     bench_gpu loss DEVICE N ROUNDS
 *
 * A round prints the loss and the norm of the gradient at the embeddings. */
#include "bench/gpu/bench.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DIM = 512 };

/* Row i of x is noise; of y the same and half as much again. */
static void fill(float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double xx = 0, yy = 0;
        for (int64_t k = 0; k < DIM; k++) {
            const uint64_t at = (uint64_t)(i * DIM + k);
            const float own = noise(2 * at);
            x[i * DIM + k] = own, y[i * DIM + k] = own + 1.5F * noise(2 * at + 1);
            xx += (double)own * (double)own, yy += (double)y[i * DIM + k] * (double)y[i * DIM + k];
        }
        for (int64_t k = 0; k < DIM; k++) {
            x[i * DIM + k] = (float)((double)x[i * DIM + k] / sqrt(xx));
            y[i * DIM + k] = (float)((double)y[i * DIM + k] / sqrt(yy));
        }
    }
}

int bench_loss(int argc, char **argv)
{
    su_device *d = NULL;
    su_error err = {0};
    if (argc != 5 || atoll(argv[3]) < 2) return usage("loss DEVICE N ROUNDS");
    check(su_device_open(argv[2], 0, &d, &err), &err);
    const int64_t n = atoll(argv[3]);
    const size_t rows = (size_t)(n * DIM) * sizeof(float);
    float *x = malloc(rows), *y = malloc(rows);
    if (!x || !y) return 1;
    fill(x, y, n);
    void *z[2] = {take(d, rows), take(d, rows)}, *dz[2] = {take(d, rows), take(d, rows)};
    float *numbers = take(d, 3 * sizeof(float)); /* log scale, its gradient, the loss */
    const float log_scale = logf(1 / 0.07F);
    d->ops->upload(d, z[0], x, rows);
    d->ops->upload(d, z[1], y, rows);
    d->ops->upload(d, numbers, &log_scale, sizeof log_scale);
    printf("plan %zu\n", 4 * rows + 3 * sizeof(float));
    for (int r = 0; r < atoi(argv[4]); r++) {
        float loss = 0;
        check(d->ops->sync(d, &err), &err);
        const double start = now();
        for (int k = 0; k < 2; k++) d->ops->zero(d, dz[k], rows);
        d->ops->zero(d, numbers + 1, 2 * sizeof(float));
        check(
            d->ops->infonce(d, numbers + 2, dz[0], dz[1], numbers + 1, z[0], z[1], numbers, 1, n, DIM, &err),
            &err);
        check(d->ops->cu(d, numbers + 2, dz, (const void *const *)z, 2, SU_CENTROIDS_NORMALISED, 1, n, DIM,
                         &err),
              &err);
        d->ops->download(d, &loss, numbers + 2, sizeof loss);
        check(d->ops->sync(d, &err), &err);
        const double seconds = now() - start;
        double a = 0, b = 0;
        d->ops->sum_squares(d, &a, dz[0], n * DIM);
        d->ops->sum_squares(d, &b, dz[1], n * DIM);
        told(seconds, (double)loss, sqrt(a + b));
    }
    return 0;
}
