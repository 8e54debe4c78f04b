#include "base/dtype.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[SU_DTYPES] = {
    [SU_DTYPE_F64] = {"F64", 8},   [SU_DTYPE_F32] = {"F32", 4}, [SU_DTYPE_F16] = {"F16", 2},
    [SU_DTYPE_BF16] = {"BF16", 2}, [SU_DTYPE_I64] = {"I64", 8}, [SU_DTYPE_I32] = {"I32", 4},
    [SU_DTYPE_I16] = {"I16", 2},   [SU_DTYPE_I8] = {"I8", 1},   [SU_DTYPE_U64] = {"U64", 8},
    [SU_DTYPE_U32] = {"U32", 4},   [SU_DTYPE_U16] = {"U16", 2}, [SU_DTYPE_U8] = {"U8", 1},
    [SU_DTYPE_BOOL] = {"BOOL", 1},
};

size_t su_dtype_size(su_dtype dtype)
{
    return (unsigned)dtype < SU_DTYPES ? dtypes[dtype].size : 0;
}

const char *su_dtype_name(su_dtype dtype)
{
    return (unsigned)dtype < SU_DTYPES ? dtypes[dtype].name : "?";
}
