#include "base/memory.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t su_memory_available(void)
{
    char line[256];
    unsigned long long kib = 0;
    bool found = false;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && !found && fgets(line, sizeof line, file))
        found = sscanf(line, "MemAvailable: %llu", &kib) == 1;
    if (file) fclose(file);
    return found ? (size_t)kib * 1024 : SIZE_MAX;
}

/* --- allocation --------------------------------------------------------------------------------------- */

static _Atomic bool failing;         /* the test hook is on */
static _Atomic int64_t before_fault; /* allocations that still succeed */

void su_alloc_fail_after(int64_t n)
{
    atomic_store(&failing, false);
    atomic_store(&before_fault, n - 1);
    atomic_store(&failing, n > 0);
}

/* Bytes of count items, at least 1 so that an empty array is not mistaken for a failure. */
static bool granted(size_t count, size_t size, size_t *bytes)
{
    if (__builtin_mul_overflow(count, size, bytes) || *bytes > PTRDIFF_MAX) return false;
    if (*bytes == 0) *bytes = 1;
    if (!atomic_load_explicit(&failing, memory_order_relaxed)) return true;
    return atomic_fetch_sub(&before_fault, 1) > 0;
}

void *su_alloc(size_t count, size_t size)
{
    size_t bytes;
    return granted(count, size, &bytes) ? malloc(bytes) : NULL;
}

void *su_calloc(size_t count, size_t size)
{
    size_t bytes;
    return granted(count, size, &bytes) ? calloc(1, bytes) : NULL;
}

void *su_realloc(void *old, size_t count, size_t size)
{
    size_t bytes;
    return granted(count, size, &bytes) ? realloc(old, bytes) : NULL;
}

void *su_alloc_aligned(size_t count, size_t size)
{
    size_t bytes;
    if (!granted(count, size, &bytes)) return NULL;
    return aligned_alloc(SU_ALIGN, (bytes + SU_ALIGN - 1) / SU_ALIGN * SU_ALIGN);
}

static char *copy_text(const char *s, size_t n)
{
    char *copy = su_alloc(n + 1, 1);
    if (!copy) return NULL;
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *su_strdup(const char *s)
{
    return copy_text(s, strlen(s));
}

char *su_strndup(const char *s, size_t length)
{
    const char *end = memchr(s, '\0', length);
    return copy_text(s, end ? (size_t)(end - s) : length);
}

void su_free(void *p)
{
    free(p);
}

/* --- buffer ------------------------------------------------------------------------------------------- */

/* capacity counts allocated bytes, the NUL included; 0 means that data is this shared empty string. */
static char nothing[1];

void su_buffer_init(su_buffer *b, size_t max)
{
    *b = (su_buffer){.data = nothing, .max = max < PTRDIFF_MAX ? max : PTRDIFF_MAX - 1};
}

void su_buffer_free(su_buffer *b)
{
    if (b->capacity) su_free(b->data);
    su_buffer_init(b, b->max);
}

void su_buffer_clear(su_buffer *b)
{
    b->length = 0;
    if (b->capacity) b->data[0] = '\0';
}

static su_status reserve(su_buffer *b, size_t more, su_error *err)
{
    if (more > b->max - b->length)
        return su_fail(err, SU_ELIMIT, "more than %zu bytes, the limit here", b->max);
    size_t need = b->length + more + 1;
    if (need <= b->capacity) return SU_OK;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < need) capacity = capacity <= PTRDIFF_MAX / 2 ? capacity * 2 : need;
    if (capacity > b->max + 1) capacity = b->max + 1;
    char *data = su_realloc(b->capacity ? b->data : NULL, capacity, 1);
    if (!data) return su_fail(err, SU_ENOMEM, "no memory for a buffer of %zu bytes", capacity);
    if (!b->capacity) data[0] = '\0';
    b->data = data;
    b->capacity = capacity;
    return SU_OK;
}

su_status su_buffer_add(su_buffer *b, const void *data, size_t length, su_error *err)
{
    if (!length) return SU_OK;
    su_status st = reserve(b, length, err);
    if (st) return st;
    memcpy(b->data + b->length, data, length);
    b->length += length;
    b->data[b->length] = '\0';
    return SU_OK;
}

su_status su_buffer_printf(su_buffer *b, su_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) return su_fail(err, SU_EINVAL, "a text could not be formatted");
    su_status st = reserve(b, (size_t)n, err);
    if (st || !n) return st;
    va_start(args, format);
    vsnprintf(b->data + b->length, (size_t)n + 1, format, args);
    va_end(args);
    b->length += (size_t)n;
    return SU_OK;
}

/* --- arena -------------------------------------------------------------------------------------------- */

void su_arena_measure(su_arena *a)
{
    *a = (su_arena){.measuring = true};
}

void su_arena_init(su_arena *a, void *base, size_t size)
{
    *a = (su_arena){.base = base, .size = size};
}

void *su_arena_take(su_arena *a, size_t count, size_t size)
{
    size_t bytes, end;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX ||
        __builtin_add_overflow(a->used, (bytes + SU_ALIGN - 1) / SU_ALIGN * SU_ALIGN, &end)) {
        a->overflow = true;
        return NULL;
    }
    if (!a->measuring && end > a->size) {
        a->overflow = true;
        return NULL;
    }
    char *piece = a->measuring ? NULL : a->base + a->used;
    a->used = end;
    if (end > a->peak) a->peak = end;
    return piece;
}

size_t su_arena_mark(const su_arena *a)
{
    return a->used;
}

void su_arena_release(su_arena *a, size_t mark)
{
    a->used = mark;
}
