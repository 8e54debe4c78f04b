/* Golden files of tests/golden/towers (see make_towers.py there), and models made from them. */
#ifndef SU_TESTS_ALIGN_GOLDEN_H
#define SU_TESTS_ALIGN_GOLDEN_H

#include "tests/nn/check.h"
#include "nn/params.h"

#define TOWERS SU_SOURCE_DIR "/tests/golden/towers/"

CHECK_UNUSED static void ok(su_status st, const su_error *err)
{
    if (st != SU_OK) fail_msg("%s", err->message);
}

CHECK_UNUSED static su_safetensors *golden_open(const char *path)
{
    su_safetensors *file = NULL;
    su_error err = {0};
    ok(su_safetensors_open(path, &file, &err), &err);
    return file;
}

static const su_tensor_view *golden_view(const su_safetensors *file, const char *front, const char *name)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", front, name);
    const su_tensor_view *view = su_safetensors_find(file, full);
    if (!view) fail_msg("the golden file has no %s", full);
    return view;
}

/* F32 or F64 as doubles; *n (may be NULL): how many. */
CHECK_UNUSED static double *golden_values(const su_safetensors *file, const char *front, const char *name,
                                          int64_t *n)
{
    const su_tensor_view *view = golden_view(file, front, name);
    assert_true(view->dtype == SU_DTYPE_F32 || view->dtype == SU_DTYPE_F64);
    int64_t count = (int64_t)(view->bytes / su_dtype_size(view->dtype));
    double *x = check_zeros(count);
    for (int64_t i = 0; i < count; i++) {
        float narrow;
        if (view->dtype == SU_DTYPE_F64) {
            memcpy(x + i, (const double *)view->data + i, sizeof *x);
        } else {
            memcpy(&narrow, (const float *)view->data + i, sizeof narrow);
            x[i] = (double)narrow;
        }
    }
    if (n) *n = count;
    return x;
}

/* I32 or U8 values, aligned. */
CHECK_UNUSED static void *golden_raw(const su_safetensors *file, const char *front, const char *name)
{
    const su_tensor_view *view = golden_view(file, front, name);
    void *x = check_alloc((int64_t)view->bytes, 1);
    memcpy(x, view->data, view->bytes);
    return x;
}

/* Every parameter of the table from the file, by name. */
CHECK_UNUSED static void golden_set(su_params *p, const su_safetensors *file)
{
    su_error err = {0};
    for (int64_t i = 0; i < p->count; i++) {
        int64_t n = 0;
        double *x = golden_values(file, "", p->items[i].name, &n);
        assert_int_equal(n, p->items[i].count);
        ok(su_params_set(p, i, x, &err), &err);
    }
    su_params_refresh(p);
}

CHECK_UNUSED static double *weight_values(const su_params *p, int64_t index)
{
    su_error err = {0};
    double *x = check_zeros(p->items[index].count);
    ok(su_params_get(p, index, x, &err), &err);
    return x;
}

CHECK_UNUSED static double *gradient_values(const su_params *p, int64_t index)
{
    const su_param *q = &p->items[index];
    su_device *d = p->device;
    double *x = check_zeros(q->count);
    if (d->acc == SU_DTYPE_F64) {
        d->ops->download(d, x, su_param_grad(p, index), (size_t)q->count * sizeof *x);
        return x;
    }
    float *narrow = check_alloc(q->count, sizeof *narrow);
    d->ops->download(d, narrow, su_param_grad(p, index), (size_t)q->count * sizeof *narrow);
    for (int64_t i = 0; i < q->count; i++) x[i] = (double)narrow[i];
    return x;
}

CHECK_UNUSED static void zero_gradients(su_params *p)
{
    p->device->ops->zero(p->device, p->grad, (size_t)p->learning * su_dtype_size(p->device->acc));
}

static double largest(const double *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
    return most;
}

/* Gradients against the file's "front" + name, relative to the tensor's largest. A key's bias moves all
 * scores of a query alike, so its gradient is zero but for rounding: it is measured against the query bias's. */
CHECK_UNUSED static void golden_gradients(const su_params *p, const su_safetensors *file, const char *front,
                                          double tolerance)
{
    for (int64_t i = 0; i < p->count; i++) {
        const char *name = p->items[i].name, *key = strstr(name, ".key.bias");
        int64_t n = 0;
        double *got = gradient_values(p, i), *want = golden_values(file, front, name, &n), scale = 1;
        assert_int_equal(n, p->items[i].count);
        if (key) {
            char query[512];
            snprintf(query, sizeof query, "%.*s.query.bias", (int)(key - name), name);
            scale = largest(golden_values(file, front, query, NULL), n) / (largest(want, n) + 1e-30);
        }
        check_close(name, got, want, n, tolerance * fmax(1, scale));
    }
}

#endif
