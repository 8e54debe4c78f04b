#include "dicom/source.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct su_source {
    char *name;
    int fd;         /* negative: memory */
    uint8_t *bytes; /* all of memory, or the window of a file */
    uint64_t length, window_at;
    size_t window; /* bytes of the window that count */
};

static su_status make(const char *name, int fd, uint8_t *bytes, uint64_t length, su_source **source,
                      su_error *err)
{
    su_source *s = su_calloc(1, sizeof *s);
    if (s) *s = (su_source){.name = su_strdup(name), .fd = fd, .bytes = bytes, .length = length};
    if (!s || !s->name || !bytes) {
        if (s) su_free(s->name);
        su_free(s);
        su_free(bytes);
        return su_fail(err, SU_ENOMEM, "%s: no memory to open it", name);
    }
    *source = s;
    return SU_OK;
}

su_status su_source_open(const char *path, su_source **source, su_error *err)
{
    struct stat s;
    *source = NULL;
    /* Without O_NONBLOCK the opening of a pipe would wait for its other end. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? su_fail(err, SU_ENOTFOUND, "%s: there is no such file", path)
                   : su_fail(err, SU_EIO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        close(fd);
        return su_fail(err, SU_EIO, "%s: is no file", path);
    }
    su_status st = make(path, fd, su_alloc(SU_SOURCE_WINDOW, 1), (uint64_t)s.st_size, source, err);
    if (st) close(fd);
    return st;
}

su_status su_source_memory(const char *name, uint8_t *bytes, uint64_t length, su_source **source,
                           su_error *err)
{
    *source = NULL;
    return make(name, -1, bytes, length, source, err);
}

void su_source_close(su_source *s)
{
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    su_free(s->name);
    su_free(s->bytes);
    su_free(s);
}

const char *su_source_name(const su_source *s)
{
    return s->name;
}

uint64_t su_source_length(const su_source *s)
{
    return s->length;
}

/* All of it, or an errno; 0 with fewer bytes when the file has become shorter. */
static int read_fully(int fd, uint64_t offset, uint8_t *out, size_t length, size_t *got)
{
    for (*got = 0; *got < length;) {
        const ssize_t n = pread(fd, out + *got, length - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) break;
        *got += (size_t)n;
    }
    return 0;
}

const uint8_t *su_source_at(su_source *s, uint64_t offset, size_t length)
{
    if (length > SU_SOURCE_WINDOW || offset > s->length || length > s->length - offset) return NULL;
    if (s->fd < 0) return s->bytes + offset;
    if (offset < s->window_at || offset + length > s->window_at + s->window) {
        const uint64_t left = s->length - offset;
        s->window_at = offset;
        if (read_fully(s->fd, offset, s->bytes, left < SU_SOURCE_WINDOW ? (size_t)left : SU_SOURCE_WINDOW,
                       &s->window))
            s->window = 0;
        if (length > s->window) return NULL;
    }
    return s->bytes + (offset - s->window_at);
}

su_status su_source_read(su_source *s, uint64_t offset, void *out, size_t length, su_error *err)
{
    size_t got = 0;
    if (offset > s->length || length > s->length - offset)
        return su_fail_at(err, SU_EFORMAT, (int64_t)offset,
                          "%s: truncated: %zu bytes at byte %llu, where it has %llu", s->name, length,
                          (unsigned long long)offset, (unsigned long long)s->length);
    if (s->fd < 0) {
        if (length) memcpy(out, s->bytes + offset, length);
        return SU_OK;
    }
    const int failed = read_fully(s->fd, offset, out, length, &got);
    if (failed) return su_fail(err, SU_EIO, "%s: %s", s->name, strerror(failed));
    if (got < length) return su_fail(err, SU_EIO, "%s: it has become shorter while it was read", s->name);
    return SU_OK;
}
