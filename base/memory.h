/* Checked allocation and the growable buffer.
 *
 * Sizes are products of counts that often come from a file, so every allocator takes (count, size),
 * multiplies in 64 bits and returns NULL on overflow. For tests, su_alloc_fail_after() makes the n-th
 * allocation fail, which is how every error path is run. */
#ifndef SU_BASE_MEMORY_H
#define SU_BASE_MEMORY_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SU_ALIGN = 64 }; /* bytes; what su_alloc_aligned returns: a cache line, an AVX-512 register */

void *su_alloc(size_t count, size_t size);              /* not initialised; NULL on overflow or no memory */
void *su_calloc(size_t count, size_t size);             /* zeroed */
void *su_realloc(void *old, size_t count, size_t size); /* old stays valid when NULL is returned */
void *su_alloc_aligned(size_t count, size_t size);      /* SU_ALIGN-aligned, not initialised */
char *su_strdup(const char *s);
char *su_strndup(const char *s, size_t length);
void su_free(void *p); /* for all of the above; NULL is accepted */

/* Bytes of the host's memory that can be taken without swapping; SIZE_MAX: not known. */
size_t su_memory_available(void);

/* Test hook: the n-th allocation from now (1-based) and all later ones return NULL; 0 switches it off. */
void su_alloc_fail_after(int64_t n);

/* A byte buffer that grows by doubling up to a mandatory maximum. A failed append leaves the content as it
 * was and the buffer usable. data is always NUL-terminated (the NUL is not counted in length). */
typedef struct {
    char *data; /* owned */
    size_t length, capacity, max;
} su_buffer;

void su_buffer_init(su_buffer *b, size_t max);
void su_buffer_free(su_buffer *b); /* leaves an empty buffer with the same maximum */
void su_buffer_clear(su_buffer *b);
/* SU_ELIMIT, SU_ENOMEM */
su_status su_buffer_add(su_buffer *b, const void *data, size_t length, su_error *err);
su_status su_buffer_printf(su_buffer *b, su_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An arena: one block, planned once, handed out in SU_ALIGN-aligned pieces and reset as a whole.
 * With base == NULL it only measures: su_arena_take returns NULL and `used`/`peak` grow all the same, so the
 * planning pass and the real pass run the same code. */
typedef struct {
    char *base; /* not owned */
    size_t size, used, peak;
    bool measuring; /* true when base is NULL by intent */
    bool overflow;  /* a real pass asked for more than was planned: the caller reports a bug in the plan */
} su_arena;

void su_arena_measure(su_arena *a);
void su_arena_init(su_arena *a, void *base, size_t size);
void *su_arena_take(su_arena *a, size_t count, size_t size);
size_t su_arena_mark(const su_arena *a);
void su_arena_release(su_arena *a, size_t mark); /* forgets everything taken since su_arena_mark */

#endif
