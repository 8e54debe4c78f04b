/* Cases of tests/golden/losses.safetensors: groups of float64 tensors "kind.number/field". */
#ifndef SU_TESTS_NN_GOLDEN_H
#define SU_TESTS_NN_GOLDEN_H

#include "base/safetensors.h"
#include "tests/nn/check.h"

static su_safetensors *golden_open(void)
{
    su_safetensors *file = NULL;
    su_error err = {0};
    if (su_safetensors_open(SU_SOURCE_DIR "/tests/golden/losses.safetensors", &file, &err))
        fail_msg("%s", err.message);
    return file;
}

/* NULL when there is no such case; every field of a case that exists is asked for by its right name. */
static const su_tensor_view *golden_find(const su_safetensors *file, const char *kind, int number,
                                         const char *field)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%d/%s", kind, number, field);
    return su_safetensors_find(file, name);
}

/* The values of a field, copied (the map need not be aligned). */
static double *golden_values(const su_safetensors *file, const char *kind, int number, const char *field)
{
    const su_tensor_view *view = golden_find(file, kind, number, field);
    if (!view) fail_msg("losses.safetensors has no %s.%d/%s", kind, number, field);
    assert_int_equal(view->dtype, SU_DTYPE_F64);
    double *x = check_alloc((int64_t)view->bytes, 1);
    memcpy(x, view->data, view->bytes);
    return x;
}

#endif
