#include "base/npy.h"
#include "base/file.h"
#include "base/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct su_npy_writer {
    su_writer *file;
    uint64_t wanted, added;
};

enum { ALIGN = 64, PREFIX = 10 };

/* The header with its spaces; its length makes the data begin at a multiple of 64. */
static su_status make_header(const char *type, int rank, const int64_t *shape, char header[512],
                             su_error *err)
{
    int used = snprintf(header, 512, "{'descr': '%.8s', 'fortran_order': False, 'shape': (", type);
    for (int i = 0; i < rank; i++)
        used += snprintf(header + used, 512 - (size_t)used, "%lld,", (long long)shape[i]);
    used += snprintf(header + used, 512 - (size_t)used, "), }");
    if (used > 512 - 2 * ALIGN) return su_fail(err, SU_EINVAL, ".npy: a header of %d bytes", used);
    while ((PREFIX + used + 1) % ALIGN) header[used++] = ' ';
    header[used++] = '\n';
    header[used] = '\0';
    return SU_OK;
}

su_status su_npy_open(const char *path, const char *type, int rank, const int64_t *shape, su_npy_writer **w,
                      su_error *err)
{
    char header[512];
    *w = NULL;
    const long size = strlen(type) == 3 ? strtol(type + 2, NULL, 10) : 0;
    uint64_t wanted = (uint64_t)size;
    if (size < 1 || rank < 1 || rank > SU_NPY_WRITE_RANK)
        return su_fail(err, SU_EINVAL, ".npy: type '%s', rank %d", type, rank);
    for (int i = 0; i < rank; i++)
        if (shape[i] < 1 || __builtin_mul_overflow(wanted, (uint64_t)shape[i], &wanted))
            return su_fail(err, SU_EINVAL, ".npy: a shape of %lld", (long long)shape[i]);
    su_status st = make_header(type, rank, shape, header, err);
    if (st) return st;
    su_npy_writer *made = su_calloc(1, sizeof *made);
    if (!made) return su_fail(err, SU_ENOMEM, "%s: no memory to write it", path);
    made->wanted = wanted;
    const size_t length = strlen(header);
    const uint8_t prefix[PREFIX] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)(length & 0xff), (uint8_t)(length >> 8)};
    st = su_writer_open(path, &made->file, err);
    if (!st) st = su_writer_add(made->file, prefix, sizeof prefix, err);
    if (!st) st = su_writer_add(made->file, header, length, err);
    if (st)
        su_npy_abort(made);
    else
        *w = made;
    return st;
}

su_status su_npy_add(su_npy_writer *w, const void *data, size_t bytes, su_error *err)
{
    w->added += bytes;
    return su_writer_add(w->file, data, bytes, err);
}

su_status su_npy_commit(su_npy_writer *w, su_error *err)
{
    su_status st = SU_OK;
    if (w->added != w->wanted) {
        st = su_fail(err, SU_EINVAL, ".npy: %llu bytes of data, where the shape says %llu",
                     (unsigned long long)w->added, (unsigned long long)w->wanted);
        su_npy_abort(w);
        return st;
    }
    st = su_writer_commit(w->file, err);
    su_free(w);
    return st;
}

void su_npy_abort(su_npy_writer *w)
{
    if (!w) return;
    su_writer_abort(w->file);
    su_free(w);
}
