#include "eval/matrix.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/safetensors.h"
#include "eval/npy.h"
#include <stdio.h>
#include <string.h>

enum { WIDTH_MAX = 65536 };

static su_status matrix_new(const char *path, int rank, const int64_t *shape, su_matrix *matrix,
                            su_error *err)
{
    if (rank != 2)
        return su_fail(err, SU_EMISMATCH, "%s: an array of %d dimensions; embeddings are [samples, width]",
                       path, rank);
    if (shape[0] < 1 || shape[1] < 1 || shape[1] > WIDTH_MAX)
        return su_fail(err, SU_ELIMIT,
                       "%s: shape [%lld, %lld]; embeddings have 1 sample at least and a width of 1 to %d",
                       path, (long long)shape[0], (long long)shape[1], (int)WIDTH_MAX);
    matrix->rows = shape[0];
    matrix->width = (int32_t)shape[1];
    matrix->data = su_alloc((size_t)shape[0], (size_t)shape[1] * sizeof(float));
    if (!matrix->data)
        return su_fail(err, SU_ENOMEM, "%s: no memory for [%lld, %lld]", path, (long long)shape[0],
                       (long long)shape[1]);
    return SU_OK;
}

static su_status read_npy(const char *path, const su_map *map, su_matrix *matrix, su_error *err)
{
    su_npy npy;
    su_status status = su_npy_parse(map->data, map->length, path, &npy, err);
    if (status) return status;
    if (npy.kind != 'f')
        return su_fail(err, SU_EUNSUPPORTED, "%s: whole numbers; embeddings are float16, float32 or float64",
                       path);
    status = matrix_new(path, npy.rank, npy.shape, matrix, err);
    if (status) return status;
    if (npy.fortran) {
        for (int64_t k = 0; k < matrix->width; k++)
            for (int64_t i = 0; i < matrix->rows; i++)
                matrix->data[i * matrix->width + k] = (float)su_npy_double(&npy, k * matrix->rows + i);
    } else {
        for (int64_t i = 0; i < npy.count; i++) matrix->data[i] = (float)su_npy_double(&npy, i);
    }
    return SU_OK;
}

/* ": 'a', 'b', 'c', ..." for a message. */
static void list_tensors(const su_safetensors *file, char *text, size_t size)
{
    size_t length = 0;
    text[0] = 0;
    for (int64_t i = 0; i < su_safetensors_count(file) && length < size; i++) {
        int more = i == 8 ? snprintf(text + length, size - length, ", ...")
                          : snprintf(text + length, size - length, "%s '%.64s'", i ? "," : ":",
                                     su_safetensors_at(file, i)->name);
        length += (size_t)more;
        if (i == 8) break;
    }
}

static su_status choose_tensor(const su_safetensors *file, const char *path, const char *tensor,
                               const char *stream, const su_tensor_view **view, su_error *err)
{
    const char *wanted = tensor ? tensor : stream;
    char names[640];
    *view = wanted ? su_safetensors_find(file, wanted) : NULL;
    if (!*view && !tensor && su_safetensors_count(file) == 1) *view = su_safetensors_at(file, 0);
    if (*view) return SU_OK;
    list_tensors(file, names, sizeof names);
    if (tensor) return su_fail(err, SU_ENOTFOUND, "%s: no tensor '%s'; there are%s", path, tensor, names);
    return su_fail(err, SU_ENOTFOUND, "%s: which tensor? Write FILE:NAME; there are%s", path, names);
}

static su_status read_tensor(const su_tensor_view *v, const char *path, su_matrix *matrix, su_error *err)
{
    if (v->dtype != SU_DTYPE_F32 && v->dtype != SU_DTYPE_F16 && v->dtype != SU_DTYPE_BF16 &&
        v->dtype != SU_DTYPE_F64)
        return su_fail(err, SU_EUNSUPPORTED, "%s: tensor '%s' is %s; embeddings are F16, BF16, F32 or F64",
                       path, v->name, su_dtype_name(v->dtype));
    if (strlen(v->name) >= SU_MATRIX_NAME)
        return su_fail(err, SU_ELIMIT, "%s: a tensor name of more than %d bytes", path, SU_MATRIX_NAME - 1);
    su_status status = matrix_new(path, v->rank, v->shape, matrix, err);
    if (status) return status;
    strcpy(matrix->tensor, v->name);
    size_t size = su_dtype_size(v->dtype);
    for (int64_t i = 0; i < matrix->rows * matrix->width; i++) {
        const char *from = (const char *)v->data + (size_t)i * size;
        double wide;
        uint32_t bits;
        uint16_t half;
        switch (v->dtype) {
        case SU_DTYPE_F64:
            memcpy(&wide, from, sizeof wide);
            matrix->data[i] = (float)wide;
            break;
        case SU_DTYPE_F16:
            memcpy(&half, from, sizeof half);
            matrix->data[i] = su_half_to_float(half);
            break;
        case SU_DTYPE_BF16:
            memcpy(&half, from, sizeof half);
            bits = (uint32_t)half << 16;
            memcpy(&matrix->data[i], &bits, sizeof bits);
            break;
        default:
            memcpy(&matrix->data[i], from, sizeof(float));
        }
    }
    return SU_OK;
}

static su_status read_safetensors(const char *path, const char *tensor, const char *stream, su_matrix *matrix,
                                  su_error *err)
{
    su_safetensors *file;
    const su_tensor_view *view;
    su_status status = su_safetensors_open(path, &file, err);
    if (status) return status;
    status = su_safetensors_verify(file, err);
    if (!status) status = choose_tensor(file, path, tensor, stream, &view, err);
    if (!status) status = read_tensor(view, path, matrix, err);
    su_safetensors_close(file);
    return status;
}

su_status su_matrix_read(const char *path, const char *tensor, const char *stream, su_matrix *matrix,
                         su_error *err)
{
    *matrix = (su_matrix){0};
    su_map map;
    su_status status = su_map_open(path, &map, err);
    if (status) return status;
    bool npy = su_npy_is(map.data, map.length);
    if (npy && tensor)
        status = su_fail(err, SU_EINVAL, "%s: an .npy file holds one array; leave ':%s' out", path, tensor);
    else if (npy)
        status = read_npy(path, &map, matrix, err);
    su_map_close(&map);
    if (!npy) status = read_safetensors(path, tensor, stream, matrix, err);
    if (status) su_matrix_free(matrix);
    return status;
}

void su_matrix_free(su_matrix *matrix)
{
    su_free(matrix->data);
    *matrix = (su_matrix){0};
}
