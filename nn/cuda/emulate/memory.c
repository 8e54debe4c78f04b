/* Device memory on the host: one reserved region that has no access rights but while a kernel, a copy or the
 * library runs. Whoever reads or writes it from the host directly dies, as on a machine with a GPU.
 *
 *     [gap][block][gap][block] ... [gap]        blocks ascending, a gap is at least GAP bytes
 *
 * AddressSanitizer knows which bytes are a block's, and calls a block leaked that is never released. */
#include "nn/cuda/emulate/host.h"
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGN = 64,
    GAP = 64,
    UNIT = 2 << 20,   /* rights change in these: a whole huge page */
    LARGE = 1 << 20,  /* blocks that give their pages back */
    POISON = 8 << 20, /* bytes of a block that begin as NaN */
};
static const size_t REGION = (size_t)256 << 30; /* of addresses */

typedef struct {
    size_t at, bytes;
    uintptr_t hidden; /* ~ the address of a byte on the heap that nothing else names: leaked if the block is */
} piece;

static struct {
    char *base;
    size_t reach; /* bytes from base on, whole UNITs, that have been used: what rights change for */
    piece *pieces;
    int64_t count, room;
    int open;
} region;

static _Noreturn void stop(const char *who, const char *what)
{
    fprintf(stderr, "emulated device memory: %s: %s\n", who, what);
    abort();
}

static void set_rights(int rights)
{
    if (region.reach && mprotect(region.base, region.reach, rights)) stop("mprotect", "refused");
}

void su_emulate_open(void)
{
    if (region.open++ == 0) set_rights(PROT_READ | PROT_WRITE);
}

void su_emulate_close(void)
{
    if (--region.open == 0) set_rights(PROT_NONE);
}

static size_t behind(const piece *p)
{
    return p->at + (p->bytes + ALIGN - 1) / ALIGN * ALIGN + GAP;
}

/* The region itself, and room for one more in the list. */
static bool prepare(void)
{
    if (!region.base) {
        void *base = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) return false;
        region.base = base;
        ASAN_POISON_MEMORY_REGION(region.base, GAP);
    }
    if (region.count < region.room) return true;
    int64_t room = region.room ? 2 * region.room : 64;
    piece *more = realloc(region.pieces, (size_t)room * sizeof *more);
    if (!more) return false;
    region.pieces = more;
    region.room = room;
    return true;
}

void *su_emulate_take(size_t bytes)
{
    if (bytes > REGION / 2 || !prepare()) return NULL;
    piece p = {.at = GAP, .bytes = bytes};
    int64_t i = 0; /* the first gap that is wide enough */
    for (; i < region.count && behind(&p) > region.pieces[i].at; i++) p.at = behind(&region.pieces[i]);
    if (behind(&p) > REGION) return NULL;
    void *byte = malloc(1);
    if (!byte) return NULL;
    p.hidden = ~(uintptr_t)byte;
    memmove(region.pieces + i + 1, region.pieces + i, (size_t)(region.count++ - i) * sizeof p);
    region.pieces[i] = p;
    if (behind(&p) > region.reach) region.reach = (behind(&p) + UNIT - 1) / UNIT * UNIT;
    char *memory = region.base + p.at;
    ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
    ASAN_POISON_MEMORY_REGION(memory + bytes, behind(&p) - p.at - bytes);
    su_emulate_open();
    memset(memory, 0xff, bytes < POISON ? bytes : POISON);
    su_emulate_close();
    return memory;
}

size_t su_emulate_give(void *memory)
{
    for (int64_t i = 0; i < region.count; i++) {
        piece p = region.pieces[i];
        if (region.base + p.at != memory) continue;
        free((void *)~p.hidden);
        ASAN_POISON_MEMORY_REGION(memory, p.bytes);
        if (p.bytes >= LARGE) {
            uintptr_t from = ((uintptr_t)memory + 4095) & ~(uintptr_t)4095;
            madvise((void *)from, ((uintptr_t)memory + p.bytes - from) & ~(uintptr_t)4095, MADV_DONTNEED);
        }
        memmove(region.pieces + i, region.pieces + i + 1, (size_t)(--region.count - i) * sizeof p);
        return p.bytes;
    }
    stop("release", "no block begins here");
}

/* Whether all the bytes lie in the region; stops when they are not of one block. */
static bool is_ours(const char *who, const void *memory, size_t bytes)
{
    const uintptr_t at = (uintptr_t)memory, base = (uintptr_t)region.base;
    if (!base || at + bytes <= base || at >= base + REGION) return false;
    for (int64_t i = 0; i < region.count; i++) {
        const uintptr_t first = base + region.pieces[i].at, last = first + region.pieces[i].bytes;
        if (at >= first && at <= last && bytes <= last - at) return true;
    }
    stop(who, "an address on the device where nothing is, or not that much");
}

void su_emulate_need_device(const char *who, const void *memory, size_t bytes)
{
    if (!is_ours(who, memory, bytes)) stop(who, "an address of the host where one of the device is due");
}

void su_emulate_need_host(const char *who, const void *memory, size_t bytes)
{
    if (is_ours(who, memory, bytes)) stop(who, "an address of the device where one of the host is due");
}
