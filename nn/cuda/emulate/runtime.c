/* The runtime on the host: a stream is always empty, a launch has ended when it returns.
 *
 * With SUTURE_EMULATE_COPIES=late, what a second stream copies to the device arrives only when somebody waits
 * for that stream: as late as a GPU may do it. */
#include "nn/cuda/emulate/host.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAUNCH_FAILURE = 719 };

static struct {
    int64_t calls, fail_at;
    bool fail_on;      /* all later ones too */
    size_t used, most; /* bytes of memory */
    int streams;       /* of the device that was opened last */
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

static void read_environment(void)
{
    const char *fail = getenv("SUTURE_EMULATE_FAIL"), *memory = getenv("SUTURE_EMULATE_MEMORY");
    char *end = NULL;
    state.calls = 0;
    state.fail_at = fail ? strtoll(fail, &end, 10) : 0;
    state.fail_on = end && *end == '+';
    state.streams = 0;
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
    (void)number;
    *p = (su_cuda_properties){.name = "emulated GPU",
                              .major = 9,
                              .minor = 0,
                              .processors = 132,
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
    int code = call(SU_CUDA_EMEMORY);
    if (!code && (bytes > state.most - state.used || !(*memory = su_emulate_take(bytes)))) code = SU_CUDA_EMEMORY;
    if (!code) state.used += bytes;
    return code;
}

static int release(void *memory)
{
    if (memory) state.used -= su_emulate_give(memory);
    return call(LAUNCH_FAILURE);
}

static int allocate_host(void **memory, size_t bytes)
{
    *memory = NULL;
    int code = call(SU_CUDA_EMEMORY);
    if (!code && !(*memory = malloc(bytes))) code = SU_CUDA_EMEMORY;
    return code;
}

static int release_host(void *memory)
{
    free(memory);
    return call(LAUNCH_FAILURE);
}

static int set(void *memory, int byte, size_t bytes, void *stream)
{
    (void)stream;
    int code = call(LAUNCH_FAILURE);
    if (code || !bytes) return code;
    su_emulate_need_device("set", memory, bytes);
    su_emulate_open();
    memset(memory, byte, bytes);
    su_emulate_close();
    return code;
}

static void carry_out(const transfer *t, int64_t count)
{
    su_emulate_open();
    for (int64_t i = 0; i < count; i++) memmove(t[i].to, t[i].from, t[i].bytes);
    su_emulate_close();
}

static int copy(void *to, const void *from, size_t bytes, int direction, void *stream)
{
    stream_state *s = stream;
    int code = call(LAUNCH_FAILURE);
    if (code || !bytes) return code;
    (direction == SU_CUDA_TO_HOST ? su_emulate_need_host : su_emulate_need_device)("copy to", to, bytes);
    (direction == SU_CUDA_TO_DEVICE ? su_emulate_need_host : su_emulate_need_device)("copy from", from, bytes);
    if (!s || !s->late || direction != SU_CUDA_TO_DEVICE) {
        transfer now = {to, from, bytes};
        carry_out(&now, 1);
        return SU_CUDA_OK;
    }
    transfer *more = realloc(s->waiting, (size_t)(s->count + 1) * sizeof *more);
    if (!more) return SU_CUDA_EMEMORY;
    s->waiting = more;
    s->waiting[s->count++] = (transfer){to, from, bytes};
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
    return call(LAUNCH_FAILURE);
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

static int launch(const void *kernel, su_cuda_invoke *invoke, su_cuda_size grid, su_cuda_size block,
                  void **args, size_t shared, void *stream)
{
    (void)stream;
    int code = call(LAUNCH_FAILURE);
    if (code) return code;
    su_emulate_open();
    code = su_emulate_launch(kernel, invoke, grid, block, args, shared);
    su_emulate_close();
    return code;
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
    .allow_shared = allow_shared,
    .map = map,
    .error_name = error_name,
    .error_text = error_text,
};
