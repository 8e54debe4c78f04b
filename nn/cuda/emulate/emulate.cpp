/* Fibers, barriers, warps: see emulate.h.
 *
 * The scheduler is the launching thread. It gives control to one fiber after the other; a fiber gives it back
 * when it waits or ends. A warp operation is double buffered: a lane may come to the next one while others
 * have yet to read this one's words, but not to the one after. */
#include "nn/cuda/emulate/emulate.h"
#include "nn/cuda/emulate/host.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

emulate_index threadIdx, blockIdx, blockDim, gridDim;

namespace
{
enum { STACK = 256 << 10, MOST_THREADS = 1024, ARENA = 228 << 10, FENCE = 32, STATIC_MOST = 48 << 10, MOST_STORES = 4 };
enum state { READY, AT_WARP, AT_BLOCK, WAITING, ENDED };

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
};

struct tensor_copy {
    const su_cuda_map *map;
    const void *from;
    int column, row;
};

struct fiber {
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ucontext_t context;
#endif
    char *stack;
    state where;
    emulate_index index; /* of the thread that it runs */
    size_t shared;      /* bytes of static shared memory asked for so far */
    unsigned exchanges; /* so far: its parity chooses the buffer */
    int operation;      /* at a warp operation: which */
    copy *copies;       /* to shared memory, not yet waited for: [copy_count] of copy_room */
    int copy_count, copy_room;
    tensor_copy stores[MOST_STORES]; /* boxes of shared memory that are yet to be read, the oldest first */
    int store_count;
};

struct warp_buffer {
    emulate_words words[2][32];
};

struct machine {
    fiber *fibers;        /* [MOST_THREADS] */
    warp_buffer *buffers; /* [MOST_THREADS / 32] */
    unsigned char *arena; /* shared memory of the block that runs */
    size_t dynamic;       /* bytes of it that the launch asked for; they come first */
    size_t fences[64];    /* offsets of FENCE bytes that nobody writes */
    int fence_count;
    size_t used; /* by the last block */
    int now;              /* fiber that runs */
    int64_t events;           /* something happened for which a thread may have waited */
#if defined(__x86_64__)
    void *scheduler;
#else
    ucontext_t scheduler;
#endif
    const void *kernel;
    const su_cuda_invoke *invoke;
    void **args;
    bool reverse;
} m;

[[noreturn]] void stop(const char *what)
{
    fprintf(stderr, "emulated kernel %p, block (%u, %u, %u), thread %d: %s\n", m.kernel, blockIdx.x, blockIdx.y, blockIdx.z,
            m.now, what);
    abort();
}

#if defined(__x86_64__)
/* Saves what a called function must keep, and the stack pointer; takes the other's. */
extern "C" void su_emulate_switch(void **from, void *to);
__asm__(".text\n"
        ".globl su_emulate_switch\n"
        ".hidden su_emulate_switch\n"
        ".type su_emulate_switch, @function\n"
        "su_emulate_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size su_emulate_switch, . - su_emulate_switch\n");
#endif

void to_scheduler()
{
    fiber *f = &m.fibers[m.now];
#if defined(__x86_64__)
    su_emulate_switch(&f->stack_pointer, m.scheduler);
#else
    swapcontext(&f->context, &m.scheduler);
#endif
}

/* A fiber runs the kernel for its thread again and again, a block at a time. */
void live()
{
    for (;;) {
        m.invoke->call(m.kernel, m.args);
        if (m.fibers[m.now].copy_count) stop("a copy to shared memory that nobody waits for");
        if (m.fibers[m.now].store_count) stop("a copy from shared memory that nobody waits for");
        m.fibers[m.now].where = ENDED;
        to_scheduler();
    }
}

void resume(int t)
{
    m.now = t;
    fiber *f = &m.fibers[t];
    threadIdx = f->index;
#if defined(__x86_64__)
    su_emulate_switch(&m.scheduler, f->stack_pointer);
#else
    swapcontext(&m.scheduler, &f->context);
#endif
}

bool prepare_fiber(fiber *f)
{
    f->stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED) return false;
#if defined(__x86_64__)
    void **top = (void **)(void *)(f->stack + STACK);
    *--top = nullptr;       /* keeps the stack 16-byte aligned where live() begins */
    *--top = (void *)&live; /* where su_emulate_switch returns to */
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->stack_pointer = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, live, 0);
#endif
    return true;
}

bool prepare()
{
    if (m.fibers) return true;
    m.fibers = (fiber *)calloc(MOST_THREADS, sizeof *m.fibers);
    m.buffers = (warp_buffer *)calloc(MOST_THREADS / 32, sizeof *m.buffers);
    m.arena = (unsigned char *)aligned_alloc(1024, ARENA);
    m.used = ARENA;
    const char *order = getenv("SUTURE_EMULATE_ORDER");
    m.reverse = order && strcmp(order, "reverse") == 0;
    return m.fibers && m.buffers && m.arena;
}

/* Runs the lanes of a warp until all have ended or wait for the block. Between two warp operations each lane
 * runs once, so that all of them meet the next one or none does. */
void run_warp(int w)
{
    const int first = w * 32;
    for (;;) {
        int at_warp = 0, at_block = 0, waiting = 0, operation = 0;
        for (int i = 0; i < 32; i++) {
            const int t = first + (m.reverse ? 31 - i : i);
            fiber *f = &m.fibers[t];
            if (f->where == READY) resume(t);
            if (f->where == AT_WARP) {
                if (operation && f->operation != operation) stop("the lanes of a warp are at different operations");
                operation = f->operation;
                at_warp++;
            }
            at_block += f->where == AT_BLOCK;
            waiting += f->where == WAITING;
        }
        if (at_warp == 0 || waiting > 0) return;
        if (at_block > 0) stop("some lanes of a warp are at a barrier, others at a warp operation");
        if (at_warp < 32) stop("a lane has ended, and its warp is at a warp operation");
        for (int t = first; t < first + 32; t++) m.fibers[t].where = READY;
    }
}

void add_fence(size_t at)
{
    if (m.fence_count == (int)(sizeof m.fences / sizeof *m.fences)) stop("too many shared arrays");
    m.fences[m.fence_count++] = at;
    m.used = at + FENCE;
    if (m.used > ARENA) stop("more shared memory than a block may have");
}

void run_block(int threads)
{
    memset(m.arena, 0xff, m.used);
    m.fence_count = 0;
    add_fence(m.dynamic);
    for (int t = 0; t < threads; t++) {
        m.fibers[t].where = READY;
        m.fibers[t].shared = 0;
        m.fibers[t].exchanges = 0;
    }
    const int warps = threads / 32;
    for (;;) {
        const int64_t events = m.events;
        for (int i = 0; i < warps; i++) run_warp(m.reverse ? warps - 1 - i : i);
        int ended = 0, at_block = 0;
        for (int t = 0; t < threads; t++) {
            ended += m.fibers[t].where == ENDED;
            at_block += m.fibers[t].where == AT_BLOCK;
        }
        if (ended == threads) return;
        if (ended + at_block == threads) m.events++;
        if (m.events == events) stop("every thread waits for another");
        for (int t = 0; t < threads; t++)
            if (m.fibers[t].where == WAITING || (m.fibers[t].where == AT_BLOCK && ended + at_block == threads))
                m.fibers[t].where = READY;
    }
}

/* Whether a pack lies in what the block asked for, not in the room behind: a GPU faults there. */
bool in_shared(const void *pack)
{
    const size_t at = (size_t)((uintptr_t)pack - (uintptr_t)m.arena);
    const size_t arrays = (m.dynamic + FENCE + 127) / 128 * 128, end = m.fences[m.fence_count - 1];
    return at % 16 == 0 && at < ARENA && (at + 16 <= m.dynamic || (at >= arrays && at + 16 <= end));
}

void check_fences()
{
    for (int k = 0; k < m.fence_count; k++)
        for (size_t i = 0; i < FENCE; i++)
            if (m.arena[m.fences[k] + i] != 0xff) stop("something was written behind an array in shared memory");
}
} // namespace

void *emulate_dynamic_shared(void)
{
    return m.arena;
}

/* [dynamic][fence][array][fence][array][fence]... */
void *emulate_shared(size_t bytes)
{
    fiber *f = &m.fibers[m.now];
    size_t at = (m.dynamic + FENCE + 127) / 128 * 128 + f->shared;
    f->shared += (bytes + 15) / 16 * 16 + FENCE;
    if (f->shared > STATIC_MOST + 64 * FENCE) stop("more than 48 KiB of static shared memory");
    if (at + bytes > m.fences[m.fence_count - 1]) add_fence(at + bytes);
    return m.arena + at;
}

void __syncthreads(void)
{
    m.fibers[m.now].where = AT_BLOCK;
    to_scheduler();
}

const emulate_words *emulate_exchange(const emulate_words &own, uint32_t mask, int operation)
{
    fiber *f = &m.fibers[m.now];
    if (mask != 0xffffffffu) stop("a warp operation of some lanes only");
    unsigned parity = f->exchanges++ & 1;
    warp_buffer *b = &m.buffers[m.now / 32];
    b->words[parity][m.now % 32] = own;
    f->operation = operation;
    f->where = AT_WARP;
    to_scheduler();
    return b->words[parity];
}

void emulate_within(int64_t i, int64_t n)
{
    if (i < 0 || i >= n) stop("an index outside its array");
}

void emulate_copy(void *to, const void *from, bool real)
{
    fiber *f = &m.fibers[m.now];
    if (!in_shared(to) || (uintptr_t)from % 16)
        stop("a copy to what is not shared memory, or not aligned");
    if (f->copy_count == f->copy_room) {
        f->copy_room = f->copy_room ? 2 * f->copy_room : 64;
        f->copies = (copy *)realloc(f->copies, (size_t)f->copy_room * sizeof *f->copies);
        if (!f->copies) stop("no memory");
    }
    f->copies[f->copy_count++] = copy{to, real ? from : nullptr};
}

void emulate_copy_wait(void)
{
    fiber *f = &m.fibers[m.now];
    for (int i = 0; i < f->copy_count; i++) {
        if (f->copies[i].from)
            memcpy(f->copies[i].to, f->copies[i].from, 16);
        else
            memset(f->copies[i].to, 0, 16);
    }
    f->copy_count = 0;
}

static float half_of(uint32_t word, int which)
{
    uint32_t bits = which ? word & 0xffff0000u : word << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void emulate_load_matrices(uint32_t *words, const void *row, bool turned)
{
    if (!in_shared(row)) stop("a matrix row outside shared memory, or not aligned");
    emulate_words own = {};
    memcpy(own.w, &row, sizeof row);
    const emulate_words *all = emulate_exchange(own, 0xffffffffu, EMULATE_MATRIX_LOAD);
    const int l = m.now % 32;
    for (int i = 0; i < 4; i++) {
        uint16_t halves[2];
        for (int k = 0; k < 2; k++) {
            const int from = turned ? 2 * (l % 4) + k : l / 4, column = turned ? l / 4 : 2 * (l % 4) + k;
            const char *matrix_row;
            memcpy(&matrix_row, all[8 * i + from].w, sizeof matrix_row);
            memcpy(&halves[k], matrix_row + 2 * column, sizeof halves[k]);
        }
        words[i] = (uint32_t)halves[1] << 16 | halves[0];
    }
}

void emulate_multiply_add(float *d, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    emulate_words own = {{a[0], a[1], a[2], a[3], b0, b1}};
    const emulate_words *all = emulate_exchange(own, 0xffffffffu, EMULATE_MATRIX_PRODUCT);
    const int l = m.now % 32, g = l / 4, t = l % 4;
    for (int e = 0; e < 4; e++) {
        const int row = g + e / 2 * 8, column = 2 * t + e % 2;
        float sum = d[e];
        for (int k = 0; k < 16; k++) {
            const float x = half_of(all[row % 8 * 4 + k % 8 / 2].w[row / 8 + k / 8 * 2], k % 2);
            const float y = half_of(all[column * 4 + k % 8 / 2].w[4 + k / 8], k % 2);
            sum += x * y;
        }
        d[e] = sum;
    }
}

/* --- hopper.h --- */

/* A barrier's word: bit 63 the phase's parity, 42 .. 62 bytes that are due (and 2^20), 21 .. 41 arrivals that are, 0 .. 20 those of a
 * phase. */
enum { BYTES_AT = 42, LEFT_AT = 21, FIELD = (1 << 21) - 1, NO_BYTES = 1 << 20 };

static void settle(uint64_t *word, int64_t left, int64_t bytes)
{
    uint64_t parity = *word >> 63, expected = *word & FIELD;
    if (left < 0) stop("more arrivals at a barrier than it expects");
    if (bytes <= -NO_BYTES || bytes >= NO_BYTES) stop("too many bytes at a barrier");
    if (left == 0 && bytes == 0) parity ^= 1, left = (int64_t)expected;
    *word = parity << 63 | (uint64_t)(bytes + NO_BYTES) << BYTES_AT | (uint64_t)left << LEFT_AT | expected;
    m.events++;
}

static int64_t left_of(uint64_t word)
{
    return (int64_t)(word >> LEFT_AT & FIELD);
}
static int64_t bytes_of(uint64_t word)
{
    return (int64_t)(word >> BYTES_AT & FIELD) - NO_BYTES;
}

void emulate_arrivals_begin(uint64_t *word, int expected)
{
    *word = (uint64_t)NO_BYTES << BYTES_AT | (uint64_t)expected << LEFT_AT | (uint64_t)expected;
}

void emulate_arrive(uint64_t *word, int bytes)
{
    settle(word, left_of(*word) - 1, bytes_of(*word) + bytes);
}

void emulate_await(uint64_t *word, uint32_t parity)
{
    while (*word >> 63 == parity) {
        m.fibers[m.now].where = WAITING;
        to_scheduler();
    }
    m.events++;
}

uint32_t emulate_shared_address(const void *p)
{
    if (!in_shared(p)) stop("a matrix outside shared memory, or not aligned");
    return (uint32_t)((uintptr_t)p - (uintptr_t)m.arena);
}

void emulate_tensor_load(void *to, const su_cuda_map *map, int column, int row, uint64_t *word)
{
    const uint64_t *words = map->words;
    const int64_t rows = (int64_t)words[1], columns = (int64_t)words[2];
    const int count = (int)words[4];
    const uint32_t at = emulate_shared_address(to);
    if (at % 1024) stop("a tile that is not 1,024-byte aligned");
    emulate_shared_address((char *)to + (size_t)count * 128 - 16);
    for (int r = 0; r < count; r++)
        for (int c = 0; c < 64; c++) {
            uint16_t x = 0;
            if (row + r < rows && row + r >= 0 && column + c < columns && column + c >= 0)
                memcpy(&x, (const char *)words[0] + (size_t)(row + r) * words[3] + (size_t)(column + c) * 2, sizeof x);
            memcpy((char *)to + r * 128 + ((c / 8) ^ (r % 8)) * 16 + c % 8 * 2, &x, sizeof x);
        }
    settle(word, left_of(*word), bytes_of(*word) - count * 128);
}

void emulate_tensor_store(const su_cuda_map *map, int column, int row, const void *from)
{
    fiber *f = &m.fibers[m.now];
    if (emulate_shared_address(from) % 1024) stop("a tile that is not 1,024-byte aligned");
    if (f->store_count == MOST_STORES) stop("too many copies from shared memory at once");
    f->stores[f->store_count++] = {map, from, column, row};
}

void emulate_tensor_store_wait(int left)
{
    fiber *f = &m.fibers[m.now];
    while (f->store_count > left) {
        const tensor_copy s = f->stores[0];
        const uint64_t *words = s.map->words;
        const int64_t rows = (int64_t)words[1], columns = (int64_t)words[2];
        for (int r = 0; r < (int)words[4]; r++)
            for (int c = 0; c < 64; c++)
                if (s.row + r < rows && s.row + r >= 0 && s.column + c < columns && s.column + c >= 0)
                    memcpy((char *)words[0] + (size_t)(s.row + r) * words[3] + (size_t)(s.column + c) * 2,
                           (const char *)s.from + r * 128 + ((c / 8) ^ (r % 8)) * 16 + c % 8 * 2, 2);
        f->store_count--;
        memmove(f->stores, f->stores + 1, (size_t)f->store_count * sizeof *f->stores);
    }
}

/* Element [row][k] of a matrix in shared memory: eight rows a block of 1,024 bytes, address bits 4 .. 6 turned by 7 .. 9. */
static float element(uint32_t place, int row, int k)
{
    if (place >> 16 != 1) stop("a matrix that is not a tile");
    uint32_t at = (uint32_t)(place & 0x3fff) * 16 + (uint32_t)(row / 8 * 1024 + row % 8 * 128 + k * 2);
    at ^= (at >> 7 & 7) << 4;
    uint16_t x;
    memcpy(&x, m.arena + at, sizeof x);
    return half_of(x, 0);
}

/* The products of a thread's numbers, each in order; on a GPU the sixteen are added in one. */
void emulate_group_product(float *d, int tiles, uint32_t a, uint32_t b, bool add)
{
    const int t = m.now % 128, w = t / 32, g = t % 32 / 4, c = t % 4;
    float x[2][16];
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 16; k++) x[h][k] = element(a, 16 * w + g + 8 * h, k);
    for (int j = 0; j < tiles; j++)
        for (int e = 0; e < 2; e++) {
            float y[16];
            for (int k = 0; k < 16; k++) y[k] = element(b, 8 * j + 2 * c + e, k);
            for (int h = 0; h < 2; h++) {
                float sum = add ? d[4 * j + 2 * h + e] : 0.0f;
                for (int k = 0; k < 16; k++) sum += x[h][k] * y[k];
                d[4 * j + 2 * h + e] = sum;
            }
        }
}

/* B [tiles * 8, 16]^T, or turned, [16, tiles * 8]. */
void emulate_group_gather(float *d, int tiles, const uint32_t *a, uint32_t b, bool turned, bool add)
{
    const int t = m.now % 32, g = t / 4, c = t % 4;
    for (int j = 0; j < tiles; j++) {
        uint32_t words[2] = {0, 0};
        for (int i = 0; i < 4; i++) {
            const int k = 2 * c + i % 2 + i / 2 * 8, n = 8 * j + g;
            words[i / 2] |= (uint32_t)emulate_bf16(turned ? element(b, k, n) : element(b, n, k)) << 16 * (i % 2);
        }
        for (int e = 0; e < 4 && !add; e++) d[4 * j + e] = 0;
        emulate_multiply_add(d + 4 * j, a, words[0], words[1]);
    }
}

int su_emulate_launch(const void *kernel, const su_cuda_invoke *invoke, su_cuda_size grid, su_cuda_size block, void **args,
                      size_t shared)
{
    int threads = block.x * block.y * block.z;
    if (!prepare()) return SU_CUDA_EMEMORY;
    if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.y > 65535 || grid.z > 65535 || threads < 1 ||
        threads > MOST_THREADS || threads % 32 || shared > 227 << 10)
        return SU_CUDA_EVALUE; /* cudaErrorInvalidConfiguration on a GPU */
    for (int t = 0; t < threads; t++) {
        if (!m.fibers[t].stack && !prepare_fiber(&m.fibers[t])) return SU_CUDA_EMEMORY;
        m.fibers[t].index = {(unsigned)(t % block.x), (unsigned)(t / block.x % block.y), (unsigned)(t / block.x / block.y)};
    }
    m.kernel = kernel;
    m.invoke = invoke;
    m.args = args;
    m.dynamic = shared;
    gridDim = {(unsigned)grid.x, (unsigned)grid.y, (unsigned)grid.z};
    blockDim = {(unsigned)block.x, (unsigned)block.y, (unsigned)block.z};
    int64_t blocks = (int64_t)grid.x * grid.y * grid.z;
    for (int64_t i = 0; i < blocks; i++) {
        int64_t at = m.reverse ? blocks - 1 - i : i;
        blockIdx = {(unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y), (unsigned)(at / grid.x / grid.y)};
        run_block(threads);
        check_fences();
    }
    return SU_CUDA_OK;
}
