/* The runtime on the host: a stream is always empty, a launch has ended when it returns.
 *
 * A recording is a list of calls with copies of their arguments. What CUDA forbids while one is made (waiting, taking
 * and giving back memory) fails, and spoils it.
 *
 * With SUTURE_EMULATE_COPIES=late, what a second stream copies to the device arrives only when somebody waits
 * for that stream: as late as a GPU may do it. */
#include "nn/cuda/emulate/host.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAUNCH_FAILURE = 719, NOT_IN_RECORDINGS = 900, SPOILED = 901 };

/* A call that a recording keeps. */
typedef struct {
    int (*run)(const void *what);
    void *what;
} kept_call;

typedef struct {
    kept_call *calls;
    int64_t count, room;
    bool spoiled; /* by a call that a recording cannot hold */
} recording;

static struct {
    int64_t calls, fail_at;
    bool fail_on;      /* all later ones too */
    size_t used, most; /* bytes of memory */
    int streams;       /* of the device that was opened last */
    const char *fails; /* what always fails, of recordings */
    recording *made;   /* the recording that is being made, of */
    void *recorded;    /* this stream */
    su_emulate_counts counts;
} state = {.most = (size_t)64 << 30};

typedef struct {
    void *to;
    const void *from;
    size_t bytes;
} transfer;

typedef struct {
    bool late;
    transfer *waiting;
    int64_t count;
} stream_state;

static int call(int failure)
{
    int64_t n = ++state.calls;
    return state.fail_at && (n == state.fail_at || (state.fail_on && n > state.fail_at)) ? failure
                                                                                         : SU_CUDA_OK;
}

int su_emulate_call(void)
{
    return call(LAUNCH_FAILURE);
}

/* As call, of what spoils a recording. */
static int call_outside(int failure)
{
    if (state.made) state.made->spoiled = true;
    return state.made ? NOT_IN_RECORDINGS : call(failure);
}

__attribute__((visibility("default"))) su_emulate_counts su_emulate_counted(void)
{
    return state.counts;
}

bool su_emulate_keep(int (*run)(const void *what), const void *what, size_t bytes)
{
    recording *r = state.made;
    if (!r) {
        state.counts.launched++;
        return false;
    }
    if (r->count == r->room) {
        const int64_t room = r->room ? 2 * r->room : 64;
        kept_call *more = realloc(r->calls, (size_t)room * sizeof *more);
        if (!more) abort();
        r->calls = more;
        r->room = room;
    }
    void *copy = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!copy) abort();
    memcpy(copy, what, bytes);
    r->calls[r->count++] = (kept_call){run, copy};
    state.counts.kept++;
    return true;
}

static void read_environment(void)
{
    const char *fail = getenv("SUTURE_EMULATE_FAIL"), *memory = getenv("SUTURE_EMULATE_MEMORY");
    char *end = NULL;
    state.calls = 0;
    state.fail_at = fail ? strtoll(fail, &end, 10) : 0;
    state.fail_on = end && *end == '+';
    state.streams = 0;
    state.fails = getenv("SUTURE_EMULATE_RECORD");
    state.most = memory ? (size_t)strtoull(memory, NULL, 10) : (size_t)64 << 30;
}

static int device_count(int *count)
{
    read_environment();
    *count = 1;
    return call(SU_CUDA_ENODEVICE);
}

static int use_device(int number)
{
    return call(number == 0 ? LAUNCH_FAILURE : SU_CUDA_EVALUE);
}

static int properties(su_cuda_properties *p, int number)
{
    const char *processors = getenv("SUTURE_EMULATE_PROCESSORS");
    (void)number;
    *p = (su_cuda_properties){.name = "emulated GPU",
                              .major = 9,
                              .minor = 0,
                              .processors = processors ? atoi(processors) : 132,
                              .memory = state.most,
                              .shared = 227 << 10,
                              .cache = 50 << 20};
    return call(LAUNCH_FAILURE);
}

static int versions(int *driver, int *runtime)
{
    *driver = *runtime = 13000;
    return call(LAUNCH_FAILURE);
}

static int memory_info(size_t *free_bytes, size_t *total)
{
    *free_bytes = state.most - state.used;
    *total = state.most;
    return call(LAUNCH_FAILURE);
}

static int allocate(void **memory, size_t bytes)
{
    *memory = NULL;
    int code = call_outside(SU_CUDA_EMEMORY);
    if (!code && (bytes > state.most - state.used || !(*memory = su_emulate_take(bytes)))) code = SU_CUDA_EMEMORY;
    if (!code) state.used += bytes;
    return code;
}

static int release(void *memory)
{
    if (state.made) return call_outside(LAUNCH_FAILURE);
    if (memory) state.used -= su_emulate_give(memory);
    return call(LAUNCH_FAILURE);
}

static int allocate_host(void **memory, size_t bytes)
{
    *memory = NULL;
    int code = call_outside(SU_CUDA_EMEMORY);
    if (!code && !(*memory = malloc(bytes))) code = SU_CUDA_EMEMORY;
    return code;
}

static int release_host(void *memory)
{
    free(memory);
    return call(LAUNCH_FAILURE);
}

typedef struct {
    void *memory;
    int byte;
    size_t bytes;
} filling;

static int fill(const void *what)
{
    const filling *f = what;
    su_emulate_need_device("set", f->memory, f->bytes);
    su_emulate_open();
    memset(f->memory, f->byte, f->bytes);
    su_emulate_close();
    return SU_CUDA_OK;
}

static bool keeps(const void *stream)
{
    return state.made && stream == state.recorded;
}

static int set(void *memory, int byte, size_t bytes, void *stream)
{
    const filling f = {memory, byte, bytes};
    int code = call(LAUNCH_FAILURE);
    if (code || !bytes || (keeps(stream) && su_emulate_keep(fill, &f, sizeof f))) return code;
    return fill(&f);
}

static void carry_out(const transfer *t, int64_t count)
{
    su_emulate_open();
    for (int64_t i = 0; i < count; i++) memmove(t[i].to, t[i].from, t[i].bytes);
    su_emulate_close();
}

static int transfer_again(const void *what)
{
    carry_out(what, 1);
    return SU_CUDA_OK;
}

static int copy(void *to, const void *from, size_t bytes, int direction, void *stream)
{
    stream_state *s = stream;
    int code = call(LAUNCH_FAILURE);
    if (code || !bytes) return code;
    (direction == SU_CUDA_TO_HOST ? su_emulate_need_host : su_emulate_need_device)("copy to", to, bytes);
    (direction == SU_CUDA_TO_DEVICE ? su_emulate_need_host : su_emulate_need_device)("copy from", from, bytes);
    const transfer now = {to, from, bytes};
    if (keeps(stream) && su_emulate_keep(transfer_again, &now, sizeof now)) return SU_CUDA_OK;
    if (!s || !s->late || direction != SU_CUDA_TO_DEVICE) {
        carry_out(&now, 1);
        return SU_CUDA_OK;
    }
    transfer *more = realloc(s->waiting, (size_t)(s->count + 1) * sizeof *more);
    if (!more) return SU_CUDA_EMEMORY;
    s->waiting = more;
    s->waiting[s->count++] = now;
    return SU_CUDA_OK;
}

static int stream_new(void **stream)
{
    const char *copies = getenv("SUTURE_EMULATE_COPIES");
    int code = call(SU_CUDA_EMEMORY);
    stream_state *s = code ? NULL : calloc(1, sizeof *s);
    *stream = s;
    if (!s) return code ? code : SU_CUDA_EMEMORY;
    s->late = state.streams++ > 0 && copies && !strcmp(copies, "late");
    return SU_CUDA_OK;
}

static int stream_free(void *stream)
{
    stream_state *s = stream;
    if (s) free(s->waiting);
    free(s);
    return call(LAUNCH_FAILURE);
}

static int stream_wait(void *stream)
{
    stream_state *s = stream;
    if (keeps(stream)) return call_outside(LAUNCH_FAILURE);
    if (s) carry_out(s->waiting, s->count), s->count = 0;
    return call(LAUNCH_FAILURE);
}

static int new_object(void **object)
{
    *object = NULL;
    int code = call(SU_CUDA_EMEMORY);
    if (!code && !(*object = malloc(1))) code = SU_CUDA_EMEMORY;
    return code;
}

static int free_object(void *object)
{
    free(object);
    return call(LAUNCH_FAILURE);
}

static int wait(void *object)
{
    (void)object;
    return call_outside(LAUNCH_FAILURE);
}

static int event_new(void **event, bool timed)
{
    (void)timed;
    return new_object(event);
}

static int event_with_stream(void *event, void *stream)
{
    (void)event, (void)stream;
    return call(LAUNCH_FAILURE);
}

/* What was measured later took less time: a choice by the clock meets every candidate. */
static int event_between(float *milliseconds, void *from, void *to)
{
    static float clock = 1e6F;
    (void)from, (void)to;
    *milliseconds = clock *= 0.999F;
    return call(LAUNCH_FAILURE);
}

/* A launch with its arguments, one after the other. */
enum { ARGUMENTS = 24, ARGUMENT_BYTES = 4096 };
typedef struct {
    const void *kernel;
    const su_cuda_invoke *invoke;
    su_cuda_size grid, block;
    size_t shared, at[ARGUMENTS];
    _Alignas(64) unsigned char bytes[ARGUMENT_BYTES];
} launching;

static int launch_again(const void *what)
{
    const launching *l = what;
    void *args[ARGUMENTS];
    for (int i = 0; i < l->invoke->count; i++) args[i] = (void *)(uintptr_t)(l->bytes + l->at[i]);
    su_emulate_open();
    int code = su_emulate_launch(l->kernel, l->invoke, l->grid, l->block, args, l->shared);
    su_emulate_close();
    return code;
}

static int launch(const void *kernel, const su_cuda_invoke *invoke, su_cuda_size grid, su_cuda_size block,
                  void **args, size_t shared, void *stream)
{
    int code = call(LAUNCH_FAILURE);
    if (code) return code;
    launching l = {.kernel = kernel, .invoke = invoke, .grid = grid, .block = block, .shared = shared};
    size_t end = 0;
    for (int i = 0; i < invoke->count; i++) {
        const size_t from = (end + 63) / 64 * 64; /* no type wants more */
        end = from + invoke->sizes[i];
        if (i == ARGUMENTS || end > sizeof l.bytes) abort();
        l.at[i] = from;
        memcpy(l.bytes + l.at[i], args[i], invoke->sizes[i]);
    }
    if (state.made && !keeps(stream)) abort(); /* a kernel beside a recording: nobody does that */
    return su_emulate_keep(launch_again, &l, sizeof l) ? SU_CUDA_OK : launch_again(&l);
}

static bool refuses(const char *part)
{
    return state.fails && !strcmp(state.fails, part);
}

static int record_begin(void *stream)
{
    int code = refuses("begin") ? NOT_IN_RECORDINGS : call(NOT_IN_RECORDINGS);
    if (code || state.made) return code ? code : NOT_IN_RECORDINGS;
    state.made = calloc(1, sizeof *state.made);
    state.recorded = stream;
    return state.made ? SU_CUDA_OK : SU_CUDA_EMEMORY;
}

static void discard(recording *r)
{
    for (int64_t i = 0; i < r->count; i++) free(r->calls[i].what);
    free(r->calls);
    free(r);
}

static int record_end(void *stream, void **graph)
{
    recording *r = state.made;
    int code = refuses("end") ? SU_CUDA_EMEMORY : call(SU_CUDA_EMEMORY);
    *graph = NULL;
    if (!r || stream != state.recorded) return SU_CUDA_EVALUE;
    state.made = NULL;
    if (!code && r->spoiled) code = SPOILED;
    if (code)
        discard(r);
    else
        *graph = r;
    return code;
}

static int graph_run(void *graph, void *stream)
{
    const recording *r = graph;
    (void)stream;
    int code = refuses("run") ? LAUNCH_FAILURE : call(LAUNCH_FAILURE);
    state.counts.runs += !code;
    for (int64_t i = 0; i < r->count && !code; i++) code = r->calls[i].run(r->calls[i].what);
    return code;
}

static int graph_free(void *graph)
{
    discard(graph);
    return call(LAUNCH_FAILURE);
}

static int allow_shared(const void *kernel, size_t bytes)
{
    (void)kernel;
    int code = call(LAUNCH_FAILURE);
    return code ? code : bytes > 227 << 10 ? SU_CUDA_EVALUE : SU_CUDA_OK;
}

/* As the driver refuses, so do we. Words: the matrix, its sizes, its stride, the box: see emulate.cpp. */
static int map(su_cuda_map *to, const void *matrix, int64_t rows, int64_t columns, int64_t stride, int box_rows)
{
    int code = call(SU_CUDA_EVALUE);
    if (code) return code;
    if ((uintptr_t)matrix % 16 || stride % 16 || stride < 2 * columns || rows < 1 || columns < 1 || box_rows < 1 ||
        box_rows > 256 || rows >> 32 || columns >> 32)
        return SU_CUDA_EVALUE;
    su_emulate_need_device("map of a matrix", matrix, (size_t)((rows - 1) * stride + 2 * columns));
    *to = (su_cuda_map){.words = {(uint64_t)(uintptr_t)matrix, (uint64_t)rows, (uint64_t)columns, (uint64_t)stride, (uint64_t)box_rows}};
    return SU_CUDA_OK;
}

static const char *error_name(int code)
{
    return code == SU_CUDA_EMEMORY     ? "cudaErrorMemoryAllocation"
           : code == SU_CUDA_EVALUE    ? "cudaErrorInvalidValue"
           : code == SU_CUDA_ENODEVICE ? "cudaErrorNoDevice"
           : code == SU_CUDA_EDRIVER   ? "cudaErrorInsufficientDriver"
                                       : "cudaErrorLaunchFailure";
}

static const char *error_text(int code)
{
    return code == SU_CUDA_EMEMORY     ? "out of memory"
           : code == SU_CUDA_EVALUE    ? "invalid argument"
           : code == SU_CUDA_ENODEVICE ? "no CUDA-capable device is detected"
           : code == SU_CUDA_EDRIVER   ? "CUDA driver version is insufficient for CUDA runtime version"
                                       : "unspecified launch failure";
}

const su_cuda_runtime su_emulate_runtime = {
    .name = "emulator",
    .device_count = device_count,
    .use_device = use_device,
    .properties = properties,
    .versions = versions,
    .memory_info = memory_info,
    .allocate = allocate,
    .release = release,
    .allocate_host = allocate_host,
    .release_host = release_host,
    .set = set,
    .copy = copy,
    .stream_new = stream_new,
    .stream_free = stream_free,
    .stream_wait = stream_wait,
    .event_new = event_new,
    .event_free = free_object,
    .event_record = event_with_stream,
    .event_wait = wait,
    .event_hold = event_with_stream,
    .event_between = event_between,
    .launch = launch,
    .record_begin = record_begin,
    .record_end = record_end,
    .graph_run = graph_run,
    .graph_free = graph_free,
    .allow_shared = allow_shared,
    .map = map,
    .error_name = error_name,
    .error_text = error_text,
};
