/* What the ground floor's tests share: cmocka's headers, a folder that is removed afterwards, and the loop
 * that makes every allocation of a call fail in turn. */
#ifndef SU_TESTS_BASE_SCRATCH_H
#define SU_TESTS_BASE_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"
#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char scratch[64]; /* the folder, for the whole test program */

static inline int scratch_setup(void **state)
{
    (void)state;
    strcpy(scratch, "/tmp/suture-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_remove(const char *path, const struct stat *s, int type, struct FTW *walk)
{
    (void)s, (void)type, (void)walk;
    return remove(path);
}

static inline int scratch_teardown(void **state)
{
    (void)state;
    return nftw(scratch, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in the folder; eight of them are valid at a time. */
static inline const char *at(const char *name)
{
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, 256, "%s/%s", scratch, name);
    return path;
}

static inline void put_bytes(const char *path, const void *data, size_t length)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

static inline void put_text(const char *path, const char *text)
{
    put_bytes(path, text, strlen(text));
}

/* The whole file as a string; "" when it is not there. */
static inline const char *text_of(const char *path)
{
    static char text[65536];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = '\0';
    return text;
}

/* A device without space. Root gets one of its own in the folder, so that a writer gone wrong can never
 * replace the machine's; others could not replace it. Skips the test where none can be made. */
static inline const char *full_device(void)
{
    if (geteuid() != 0) return "/dev/full";
    const char *path = at("full-device");
    if (access(path, F_OK) != 0 && mknod(path, S_IFCHR | 0666, makedev(1, 7)) != 0) skip();
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) skip(); /* a file system that is mounted without devices */
    close(fd);
    return path;
}

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) fail_msg("\"%s\" does not contain \"%s\"", text, part);
}

static inline void *one_block(size_t size)
{
    return su_alloc(size, 1);
}

/* Runs `call` with its first, second, third ... allocation failing, until it gets through: each failure must
 * be reported with a status and a message. Jansson allocates through su_alloc meanwhile. Returns the number
 * of failures. */
static inline int fail_every_allocation(su_status (*call)(su_error *err))
{
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    json_set_alloc_funcs(one_block, su_free);
    int failures = 0;
    for (;; failures++) {
        su_error err = {0};
        su_alloc_fail_after(failures + 1);
        su_status st = call(&err);
        su_alloc_fail_after(0);
        if (st == SU_OK) break;
        assert_int_equal(st, err.code);
        assert_true(err.message[0] != '\0');
        assert_true(failures < 100000);
    }
    json_set_alloc_funcs(allocate, release);
    return failures;
}

#endif
