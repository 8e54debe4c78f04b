/* Linear layers: products, with what stands before and behind them.
 *
 * The bias is added by the product. An activation is a pass of its own over the pre-activation, because the
 * library fuses only the tanh form of GELU and the models want the exact one. A bias gradient behind an activation
 * is formed by the activation's pass (act_backward), another by a pass of its own: cuBLASLt's epilogue for it is
 * a pass too, at two thirds of the speed (bench/LOG.md). */
#include "nn/cuda/kernel.h"
#include "nn/cuda/launch.h"
#include "nn/cuda/library.h"

void su_cuda_linear(su_device *d, void *y, void *pre, const void *x, const void *w, const void *b,
                    su_activation f, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_product p = {};
    p.a = x, p.b = w, p.c = pre ? pre : y, p.bias = b;
    p.tb = true;
    p.m = rows, p.n = out, p.k = in;
    p.lda = in, p.ldb = in, p.ldc = out;
    p.in = p.out = d->act;
    p.alpha = 1;
    su_cuda_multiply(c, &p);
    if (f != SU_ACT_NONE || (pre && pre != y)) su_cuda_activate(c, y, NULL, p.c, NULL, f, rows, out);
}

void su_cuda_linear_backward(su_device *d, void *dx, bool add, void *dw, void *db, const void *dy, const void *x,
                             const void *w, int64_t rows, int32_t out, int32_t in)
{
    su_cuda *c = su_cuda_of(d);
    if (rows <= 0) return;
    if (dx) {
        su_cuda_product p = {};
        p.a = dy, p.b = w, p.c = dx;
        p.m = rows, p.n = in, p.k = out;
        p.lda = out, p.ldb = in, p.ldc = in;
        p.in = p.out = d->act;
        p.add = add;
        p.alpha = 1;
        su_cuda_multiply(c, &p);
    }
    if (dw) {
        su_cuda_product p = {};
        p.a = dy, p.b = x, p.c = dw;
        p.ta = true;
        p.m = out, p.n = in, p.k = rows;
        p.lda = out, p.ldb = in, p.ldc = in;
        p.in = d->act, p.out = d->acc;
        p.add = true;
        p.alpha = 1;
        su_cuda_multiply(c, &p);
    }
    if (db) su_cuda_column_sums(c, (float *)db, dy, rows, out);
}
