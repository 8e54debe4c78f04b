/* Whole files in, atomic files out.
 *
 * A map raises SIGBUS when another process shortens the file under it; files that Suture writes are only ever
 * replaced by rename, never shortened, so a reader's map stays whole. */
#include "base/file.h"
#include "base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- names -------------------------------------------------------------------------------------------- */

const char *su_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *su_path_join(const char *folder, const char *name)
{
    if (name[0] == '/' || folder[0] == '\0') return su_strdup(name);
    size_t a = strlen(folder), b = strlen(name);
    bool slash = folder[a - 1] != '/';
    char *path = su_alloc(a + slash + b + 1, 1);
    if (!path) return NULL;
    memcpy(path, folder, a);
    if (slash) path[a] = '/';
    memcpy(path + a + slash, name, b + 1);
    return path;
}

bool su_file_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

bool su_is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

/* The folder part of a path, "." when it has none; freed with su_free. */
static char *folder_of(const char *path)
{
    const char *name = su_path_name(path);
    if (name == path) return su_strdup(".");
    if (name == path + 1) return su_strdup("/");
    return su_strndup(path, (size_t)(name - path) - 1);
}

static su_status no_memory(const char *path, su_error *err)
{
    return su_fail(err, SU_ENOMEM, "%s: no memory", path);
}

/* --- reading ------------------------------------------------------------------------------------------ */

static su_status open_failed(const char *path, int error, su_error *err)
{
    if (error == ENOENT || error == ENOTDIR) return su_fail(err, SU_ENOTFOUND, "%s: no such file", path);
    if (error == EACCES)
        return su_fail(err, SU_EIO, "%s: no permission to read it; see 'ls -l' for its owner", path);
    return su_fail(err, SU_EIO, "%s: cannot be opened: %s", path, strerror(error));
}

su_status su_file_read(const char *path, size_t max, char **data, size_t *length, su_error *err)
{
    *data = NULL;
    *length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return open_failed(path, errno, err);
    struct stat s;
    su_status st = SU_OK;
    if (fstat(fd, &s) != 0) st = su_fail(err, SU_EIO, "%s: %s", path, strerror(errno));
    if (!st && S_ISDIR(s.st_mode)) st = su_fail(err, SU_EIO, "%s: is a folder, not a file", path);
    if (!st && S_ISREG(s.st_mode) && (uint64_t)s.st_size > max)
        st = su_fail(err, SU_ELIMIT, "%s: has %lld bytes, more than the limit of %zu", path,
                     (long long)s.st_size, max);
    /* The size is only a first guess: pipes and /proc files say 0, and a file may grow while it is read. */
    size_t capacity = !st && s.st_size > 0 ? (size_t)s.st_size + 1 : 4096, used = 0;
    char *text = st ? NULL : su_alloc(capacity, 1);
    if (!st && !text) st = no_memory(path, err);
    while (!st) {
        if (used + 1 == capacity) {
            size_t larger = capacity <= SIZE_MAX / 2 ? capacity * 2 : SIZE_MAX;
            char *more = su_realloc(text, larger, 1);
            if (!more) {
                st = no_memory(path, err);
                break;
            }
            text = more;
            capacity = larger;
        }
        ssize_t n = read(fd, text + used, capacity - used - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = su_fail(err, SU_EIO, "%s: cannot be read: %s", path, strerror(errno));
        if (n <= 0) break;
        used += (size_t)n;
        if (used > max) st = su_fail(err, SU_ELIMIT, "%s: has more than %zu bytes, the limit", path, max);
    }
    close(fd);
    if (st) {
        su_free(text);
        return st;
    }
    text[used] = '\0';
    *data = text;
    *length = used;
    return SU_OK;
}

su_status su_map_open(const char *path, su_map *map, su_error *err)
{
    static const uint8_t nothing[1];
    *map = (su_map){0};
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* opening a pipe would wait for its writer */
    if (fd < 0) return open_failed(path, errno, err);
    struct stat s;
    su_status st = SU_OK;
    if (fstat(fd, &s) != 0)
        st = su_fail(err, SU_EIO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(s.st_mode))
        st = su_fail(err, SU_EIO, "%s: is %s, not a file", path,
                     S_ISDIR(s.st_mode) ? "a folder" : "a device or pipe");
    if (!st && s.st_size == 0) map->data = nothing; /* an empty map is refused by mmap */
    if (!st && s.st_size > 0) {
        void *p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            st = su_fail(err, errno == ENOMEM ? SU_ENOMEM : SU_EIO, "%s: cannot be mapped: %s", path,
                         strerror(errno));
        else
            *map = (su_map){.data = p, .length = (size_t)s.st_size};
    }
    close(fd);
    return st;
}

void su_map_close(su_map *map)
{
    if (map->length) munmap((void *)(uintptr_t)map->data, map->length);
    *map = (su_map){0};
}

/* --- writing ------------------------------------------------------------------------------------------ */

enum { WRITER_BUFFER = 1 << 16 };

struct su_writer {
    int fd;
    bool in_place; /* a device or a pipe: nothing to rename */
    char *path;    /* symbolic links resolved, so that the link survives */
    char *folder;  /* of path */
    char *temporary;
    su_status failed; /* the first failure: a commit must not make half a file whole */
    size_t used;
    char buffer[WRITER_BUFFER];
};

/* What an errno means to the one who asked for the file, and what to do about it. */
static su_status write_failed(const su_writer *w, const char *path, int error, su_error *err)
{
    const char *folder = w && w->folder ? w->folder : ".";
    switch (error) {
    case ENOSPC:
        return su_fail(err, SU_EIO, "%s: no space left on the device: free some, or write to another one",
                       path);
    case EDQUOT:
        return su_fail(err, SU_EIO, "%s: the disk quota is used up: free some space, or write elsewhere",
                       path);
    case EFBIG:
        return su_fail(err, SU_EIO, "%s: the file system or 'ulimit -f' allows no file this large", path);
    case EROFS:
        return su_fail(err, SU_EIO, "%s: the file system of %s is read-only: write to another folder", path,
                       folder);
    case EACCES:
    case EPERM:
        return su_fail(err, SU_EIO,
                       "%s: no permission to write in %s: change its permissions or write elsewhere", path,
                       folder);
    case ENOENT:
    case ENOTDIR:
        return su_fail(err, SU_ENOTFOUND, "%s: there is no folder %s: make it first", path, folder);
    case ENAMETOOLONG:
        return su_fail(err, SU_EIO, "%s: the name is too long: choose a shorter one", path);
    default:
        return su_fail(err, SU_EIO, "%s: cannot be written: %s", path, strerror(error));
    }
}

static void writer_free(su_writer *w)
{
    if (w->fd >= 0) close(w->fd);
    su_free(w->path);
    su_free(w->folder);
    su_free(w->temporary);
    su_free(w);
}

/* Fills w->path, following a symbolic link to where it points. */
static su_status resolve(su_writer *w, const char *path, su_error *err)
{
    struct stat s;
    if (lstat(path, &s) == 0 && S_ISLNK(s.st_mode)) {
        char real[PATH_MAX];
        if (!realpath(path, real)) {
            /* A pipe that a shell passes as /dev/fd/N has no name to resolve to; it is opened in place. */
            if (stat(path, &s) != 0) return su_fail(err, SU_EIO, "%s: is a symbolic link to nothing", path);
            w->path = su_strdup(path);
        } else {
            w->path = su_strdup(real);
        }
    } else {
        w->path = su_strdup(path);
    }
    return w->path ? SU_OK : no_memory(path, err);
}

static const char mark[] = ".tmp-";

/* Removes the temporary files of killed writers of this name: those that nobody holds a lock on. */
static void remove_orphans(const su_writer *w)
{
    const char *name = su_path_name(w->path);
    size_t length = strlen(name);
    DIR *dir = opendir(w->folder);
    for (struct dirent *e = NULL; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, name, length) != 0 || strncmp(e->d_name + length, mark, sizeof mark - 1) != 0)
            continue;
        int fd = openat(dirfd(dir), e->d_name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(dirfd(dir), e->d_name, 0);
        close(fd);
    }
    if (dir) closedir(dir);
}

static su_status open_temporary(su_writer *w, su_error *err)
{
    static _Atomic unsigned serial; /* two writers of one process never share a temporary file */
    size_t room = strlen(w->path) + 48;
    w->temporary = su_alloc(room, 1);
    if (!w->temporary) return no_memory(w->path, err);
    snprintf(w->temporary, room, "%s%s%ld-%u", w->path, mark, (long)getpid(), atomic_fetch_add(&serial, 1));
    remove_orphans(w);
    for (;;) {
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (w->fd < 0) return write_failed(w, w->path, errno, err);
        flock(w->fd, LOCK_EX | LOCK_NB);
        struct stat s;
        if (fstat(w->fd, &s) != 0 || s.st_nlink > 0) return SU_OK;
        close(w->fd); /* taken for an orphan before it was locked */
    }
}

su_status su_writer_open(const char *path, su_writer **writer, su_error *err)
{
    *writer = NULL;
    su_writer *w = su_alloc(1, sizeof *w);
    if (!w) return no_memory(path, err);
    w->fd = -1;
    w->in_place = false;
    w->path = w->folder = w->temporary = NULL;
    w->failed = SU_OK;
    w->used = 0;
    struct stat s;
    su_status st = resolve(w, path, err);
    if (!st && !(w->folder = folder_of(w->path))) st = no_memory(path, err);
    if (!st && stat(w->path, &s) == 0 && !S_ISREG(s.st_mode)) {
        if (S_ISDIR(s.st_mode)) {
            st = su_fail(err, SU_EIO, "%s: is a folder, where a file should be written", path);
        } else {
            w->in_place = true;
            w->fd = open(w->path, O_WRONLY | O_CLOEXEC);
            if (w->fd < 0) st = write_failed(w, path, errno, err);
        }
    } else if (!st) {
        st = open_temporary(w, err);
    }
    if (st) {
        writer_free(w);
        return st;
    }
    *writer = w;
    return SU_OK;
}

static su_status put(su_writer *w, const char *data, size_t length, su_error *err)
{
    while (length) {
        ssize_t n = write(w->fd, data, length < (1u << 30) ? length : (1u << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return w->failed = write_failed(w, w->path, errno, err);
        data += n;
        length -= (size_t)n;
    }
    return SU_OK;
}

static su_status flush(su_writer *w, su_error *err)
{
    size_t n = w->used;
    w->used = 0;
    return put(w, w->buffer, n, err);
}

static su_status failed_before(const su_writer *w, su_error *err)
{
    return su_fail(err, w->failed, "%s: was not written, because an earlier write failed", w->path);
}

su_status su_writer_add(su_writer *w, const void *data, size_t length, su_error *err)
{
    if (w->failed) return failed_before(w, err);
    if (!length) return SU_OK;
    if (length > WRITER_BUFFER - w->used) {
        su_status st = flush(w, err);
        if (st) return st;
    }
    if (length >= WRITER_BUFFER) return put(w, data, length, err);
    memcpy(w->buffer + w->used, data, length);
    w->used += length;
    return SU_OK;
}

su_status su_writer_printf(su_writer *w, su_error *err, const char *format, ...)
{
    char small[1024], *text = small;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n < 0) return w->failed = su_fail(err, SU_EINVAL, "%s: a text could not be formatted", w->path);
    if ((size_t)n >= sizeof small) {
        text = su_alloc((size_t)n + 1, 1);
        if (!text) return w->failed = no_memory(w->path, err);
        va_start(args, format);
        vsnprintf(text, (size_t)n + 1, format, args);
        va_end(args);
    }
    su_status st = su_writer_add(w, text, (size_t)n, err);
    if (text != small) su_free(text);
    return st;
}

/* Some network and FUSE file systems cannot sync a folder and say EINVAL; their rename is as good as they
 * get. */
static su_status sync_folder(const su_writer *w, su_error *err)
{
    int fd = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) return SU_OK; /* a folder that may be written but not listed */
    if (fd < 0) return write_failed(w, w->path, errno, err);
    su_status st = SU_OK;
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP) st = write_failed(w, w->path, errno, err);
    close(fd);
    return st;
}

su_status su_writer_commit(su_writer *w, su_error *err)
{
    su_status st = w->failed ? failed_before(w, err) : flush(w, err);
    if (!st && w->in_place) {
        int fd = w->fd;
        w->fd = -1;
        if (close(fd) != 0) st = write_failed(w, w->path, errno, err);
    } else if (!w->in_place) {
        /* After the fsync a close has nothing left to fail at; it comes last, because it gives up the lock. */
        if (!st && fsync(w->fd) != 0) st = write_failed(w, w->path, errno, err);
        if (!st && rename(w->temporary, w->path) != 0) st = write_failed(w, w->path, errno, err);
        if (st)
            unlink(w->temporary);
        else
            st = sync_folder(w, err);
    }
    writer_free(w);
    return st;
}

void su_writer_abort(su_writer *w)
{
    if (!w) return;
    if (!w->in_place) unlink(w->temporary);
    writer_free(w);
}

su_status su_file_write(const char *path, const void *data, size_t length, su_error *err)
{
    su_writer *w;
    su_status st = su_writer_open(path, &w, err);
    if (st) return st;
    st = su_writer_add(w, data, length, err);
    if (st) {
        su_writer_abort(w);
        return st;
    }
    return su_writer_commit(w, err);
}

su_status su_mkdirs(const char *path, su_error *err)
{
    char *part = su_strdup(path);
    if (!part) return no_memory(path, err);
    su_status st = SU_OK;
    size_t length = strlen(part);
    for (size_t i = 1; i <= length && !st; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        char kept = part[i];
        part[i] = '\0';
        int error = mkdir(part, 0777) != 0 ? errno : 0;
        if (error && !su_is_folder(part)) {
            if (error == EEXIST || error == ENOTDIR)
                st = su_fail(err, SU_EIO, "%s: cannot be made, because %s is a file", path, part);
            else if (error == EACCES || error == EPERM)
                st = su_fail(err, SU_EIO, "%s: no permission to make this folder", part);
            else if (error == EROFS)
                st = su_fail(err, SU_EIO, "%s: the file system is read-only: choose another folder", part);
            else
                st = su_fail(err, SU_EIO, "%s: the folder cannot be made: %s", part, strerror(error));
        }
        part[i] = kept;
    }
    su_free(part);
    return st;
}

su_status su_folder_lock(const char *path, const char *what, int *lock, su_error *err)
{
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) return su_fail(err, SU_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return SU_OK;
    su_folder_unlock(*lock);
    *lock = -1;
    return su_fail(err, SU_EIO, "%s: another process is writing it now (%s): wait for it, or end it", path,
                   what);
}

void su_folder_unlock(int lock)
{
    if (lock >= 0) close(lock);
}
