/* The CUDA device: its memory, its stream, its failures, its table. */
#include "nn/cuda/internal.h"
#include "nn/cuda/library.h"
#include <stdio.h>
#include <string.h>

/* --- failures --- */

void su_cuda_fail(su_cuda *c, su_status status, const char *message)
{
    if (c->failed) return;
    c->failed = status;
    snprintf(c->message, sizeof c->message, "cuda:%d: %s", c->number, message);
}

static su_status status_of(int code)
{
    return code == SU_CUDA_EMEMORY ? SU_ENOMEM : SU_EIO;
}

bool su_cuda_check(su_cuda *c, int code, const char *what)
{
    if (code == SU_CUDA_OK) return true;
    char text[400];
    snprintf(text, sizeof text, "%s: %s (%s)", what, c->rt->error_text(code), c->rt->error_name(code));
    su_cuda_fail(c, status_of(code), text);
    return false;
}

static su_status cuda_sync(su_device *d, su_error *err)
{
    su_cuda *c = su_cuda_of(d);
    if (su_cuda_records(c, "waiting for the GPU")) return su_fail(err, c->failed, "%s", c->message);
    su_cuda_check(c, c->rt->stream_wait(c->stream), "waiting for the GPU");
    if (c->sending) su_cuda_check(c, c->rt->stream_wait(c->sender), "copying to the GPU");
    c->sending = false;
    if (!c->failed) return SU_OK;
    su_status status = su_fail(err, c->failed, "%s", c->message);
    c->failed = SU_OK;
    return status;
}

/* A thread has a device of its own in the runtime; ours may be called from any thread, one at a time. */
void su_cuda_here(su_cuda *c)
{
    static _Thread_local int here; /* its number + 1 */
    if (here == c->number + 1) return;
    if (su_cuda_check(c, c->rt->use_device(c->number), "choosing the GPU")) here = c->number + 1;
}

/* --- memory --- */

/* Room for one more in the list of blocks. */
static bool remember(su_cuda *c)
{
    if (c->block_count < c->block_room) return true;
    int64_t room = c->block_room ? 2 * c->block_room : 64;
    su_cuda_block *more = su_realloc(c->blocks, (size_t)room, sizeof *more);
    if (!more) return false;
    c->blocks = more;
    c->block_room = room;
    return true;
}

static su_status cuda_alloc(su_device *d, size_t bytes, void **memory, su_error *err)
{
    su_cuda *c = su_cuda_of(d);
    size_t free_bytes = 0, total = 0;
    *memory = NULL;
    if (!remember(c)) return su_fail(err, SU_ENOMEM, "no memory for the list of what is on the GPU");
    su_cuda_here(c);
    int code = c->rt->allocate(memory, bytes ? bytes : 1);
    if (code == SU_CUDA_OK) {
        c->blocks[c->block_count++] = (su_cuda_block){*memory, bytes};
        c->allocated += bytes;
        return SU_OK;
    }
    if (code != SU_CUDA_EMEMORY)
        return su_fail(err, SU_EIO, "cuda:%d: taking %.1f MB of memory: %s (%s)", c->number, (double)bytes / 1e6,
                       c->rt->error_text(code), c->rt->error_name(code));
    if (c->rt->memory_info(&free_bytes, &total) != SU_CUDA_OK) free_bytes = total = 0;
    return su_fail(err, SU_ENOMEM,
                   "cuda:%d (%s) has no %.1f MB left: %.1f of %.1f MB are free, this program holds %.1f MB", c->number,
                   c->properties.name, (double)bytes / 1e6, (double)free_bytes / 1e6, (double)total / 1e6,
                   (double)c->allocated / 1e6);
}

static void cuda_release(su_device *d, void *memory)
{
    su_cuda *c = su_cuda_of(d);
    if (!memory) return;
    su_cuda_here(c);
    for (int64_t i = 0; i < c->block_count; i++) {
        if (c->blocks[i].memory != memory) continue;
        c->allocated -= c->blocks[i].bytes;
        c->blocks[i] = c->blocks[--c->block_count];
        break;
    }
    su_cuda_check(c, c->rt->release(memory), "giving memory back");
}

static size_t cuda_room(su_device *d)
{
    su_cuda *c = su_cuda_of(d);
    size_t free_bytes = 0, total = 0;
    su_cuda_here(c);
    if (c->rt->memory_info(&free_bytes, &total) != SU_CUDA_OK) return SIZE_MAX;
    return free_bytes - free_bytes / 32;
}

static void cuda_zero(su_device *d, void *memory, size_t bytes)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_here(c);
    if (bytes) su_cuda_check(c, c->rt->set(memory, 0, bytes, c->stream), "filling memory with zeros");
}

static void cuda_copy(su_device *d, void *to, const void *from, size_t bytes)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_here(c);
    if (bytes && to != from)
        su_cuda_check(c, c->rt->copy(to, from, bytes, SU_CUDA_ON_DEVICE, c->stream), "copying on the GPU");
}

/* The next page-locked buffer, free again; NULL without one. */
static void *next_stage(su_cuda *c, int *number)
{
    int n = *number = c->stage_next;
    c->stage_next = (n + 1) % STAGES;
    if (!c->stage[n] && c->rt->allocate_host(&c->stage[n], STAGE_BYTES) != SU_CUDA_OK) return NULL;
    if (!c->stage_event[n] && c->rt->event_new(&c->stage_event[n], false) != SU_CUDA_OK) return NULL;
    if (c->stage_busy[n] && !su_cuda_check(c, c->rt->event_wait(c->stage_event[n]), "copying to the GPU")) return NULL;
    c->stage_busy[n] = false;
    return c->stage[n];
}

/* Through page-locked buffers: the caller may use its memory again at once, and the stream is not waited for. */
static void cuda_upload(su_device *d, void *to, const void *from_host, size_t bytes)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_here(c);
    if (su_cuda_records(c, "copying to the GPU")) return;
    const char *from = from_host;
    for (size_t at = 0; at < bytes;) {
        size_t part = bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES;
        int n;
        void *stage = next_stage(c, &n);
        if (!stage) { /* no page-locked memory: the runtime's own way, which may wait */
            su_cuda_check(c, c->rt->copy((char *)to + at, from + at, bytes - at, SU_CUDA_TO_DEVICE, c->stream),
                          "copying to the GPU");
            su_cuda_check(c, c->rt->stream_wait(c->stream), "copying to the GPU");
            return;
        }
        memcpy(stage, from + at, part);
        if (!su_cuda_check(c, c->rt->copy((char *)to + at, stage, part, SU_CUDA_TO_DEVICE, c->stream),
                           "copying to the GPU"))
            return;
        c->stage_busy[n] = su_cuda_check(c, c->rt->event_record(c->stage_event[n], c->stream), "copying to the GPU");
        if (!c->stage_busy[n]) c->rt->stream_wait(c->stream); /* the buffer is free again in any case */
        at += part;
    }
}

static su_status cuda_host_alloc(su_device *d, size_t bytes, void **memory, su_error *err)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_here(c);
    int code = c->rt->allocate_host(memory, bytes ? bytes : 1);
    if (code == SU_CUDA_OK) return SU_OK;
    *memory = NULL;
    return su_fail(err, status_of(code), "cuda:%d: taking %.1f MB of page-locked memory: %s (%s)", c->number,
                   (double)bytes / 1e6, c->rt->error_text(code), c->rt->error_name(code));
}

static void cuda_host_release(su_device *d, void *memory)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_here(c);
    if (memory) su_cuda_check(c, c->rt->release_host(memory), "giving page-locked memory back");
}

static void cuda_send(su_device *d, void *to, const void *from_host, size_t bytes)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_here(c);
    if (su_cuda_records(c, "copying to the GPU")) return;
    if (!bytes || (!c->sender && !su_cuda_check(c, c->rt->stream_new(&c->sender), "opening a stream"))) return;
    c->sending = true;
    su_cuda_check(c, c->rt->copy(to, from_host, bytes, SU_CUDA_TO_DEVICE, c->sender), "copying to the GPU");
}

static void cuda_download(su_device *d, void *to_host, const void *from, size_t bytes)
{
    su_cuda *c = su_cuda_of(d);
    su_cuda_here(c);
    if (!bytes) return;
    bool done = !su_cuda_records(c, "copying from the GPU") &&
                su_cuda_check(c, c->rt->copy(to_host, from, bytes, SU_CUDA_TO_HOST, c->stream), "copying from the GPU") &&
                su_cuda_check(c, c->rt->stream_wait(c->stream), "copying from the GPU");
    if (!done) memset(to_host, 0, bytes); /* defined, whatever the caller does before it asks sync */
}

void *su_cuda_scratch(su_cuda *c, size_t bytes)
{
    if (c->scratch && bytes <= c->scratch_bytes) return c->scratch;
    if (su_cuda_records(c, "taking memory for working buffers")) return NULL;
    su_cuda_here(c);
    su_cuda_check(c, c->rt->stream_wait(c->stream), "waiting for the GPU");
    if (c->scratch) {
        su_cuda_check(c, c->rt->release(c->scratch), "giving memory back");
        c->allocated -= c->scratch_bytes;
    }
    c->scratch = NULL;
    c->scratch_bytes = 0;
    size_t wanted = (bytes + SCRATCH_UNIT) / SCRATCH_UNIT * SCRATCH_UNIT;
    int code = c->rt->allocate(&c->scratch, wanted);
    if (code == SU_CUDA_EMEMORY) {
        char text[160];
        snprintf(text, sizeof text, "no memory for %.1f MB of working buffers; use a smaller batch", (double)wanted / 1e6);
        su_cuda_fail(c, SU_ENOMEM, text);
        return NULL;
    }
    if (!su_cuda_check(c, code, "taking memory for working buffers")) return NULL;
    c->scratch_bytes = wanted;
    c->allocated += wanted;
    return c->scratch;
}

su_status su_cuda_take(su_cuda *c, su_error *err, const char *what, int64_t n)
{
    su_status status = su_fail(err, c->failed, "%s over %lld samples: %s", what, (long long)n, c->message);
    c->failed = SU_OK;
    return status;
}

/* --- opening --- */

static void cuda_close(su_device *d)
{
    su_cuda *c = su_cuda_of(d);
    c->rt->use_device(c->number);
    if (c->stream) c->rt->stream_wait(c->stream);
    if (c->sender) c->rt->stream_wait(c->sender);
    if (c->library) c->library->close(c);
    for (int i = 0; i < STAGES; i++) {
        if (c->stage_event[i]) c->rt->event_free(c->stage_event[i]);
        if (c->stage[i]) c->rt->release_host(c->stage[i]);
    }
    if (c->scratch) c->rt->release(c->scratch);
    if (c->stream) c->rt->stream_free(c->stream);
    if (c->sender) c->rt->stream_free(c->sender);
    su_pool_free(c->device.pool);
    su_free(c->blocks);
    su_free(c);
}

static void fill_table(su_device_ops *t)
{
    *t = (su_device_ops){
        .name = "cuda",
        .alloc = cuda_alloc,
        .release = cuda_release,
        .zero = cuda_zero,
        .upload = cuda_upload,
        .download = cuda_download,
        .copy = cuda_copy,
        .convert = su_cuda_convert,
        .sync = cuda_sync,
        .room = cuda_room,
        .host_alloc = cuda_host_alloc,
        .host_release = cuda_host_release,
        .send = cuda_send,
        .linear = su_cuda_linear,
        .linear_add = su_cuda_linear_add,
        .linear_backward = su_cuda_linear_backward,
        .act_backward = su_cuda_act_backward,
        .linear_act_backward = su_cuda_linear_act_backward,
        .attention = su_cuda_attention,
        .attention_backward = su_cuda_attention_backward,
        .attend = su_cuda_attend,
        .norm = su_cuda_norm,
        .norm_backward = su_cuda_norm_backward,
        .add = su_cuda_add,
        .dropout = su_cuda_dropout,
        .drop_path = su_cuda_drop_path,
        .gather = su_cuda_gather,
        .scatter_add = su_cuda_scatter_add,
        .scatter = su_cuda_scatter,
        .mean_pool = su_cuda_mean_pool,
        .mean_pool_backward = su_cuda_mean_pool_backward,
        .patches = su_cuda_patches,
        .normalise = su_cuda_normalise,
        .normalise_backward = su_cuda_normalise_backward,
        .infonce = su_cuda_infonce,
        .atp = su_cuda_atp,
        .cu = su_cuda_cu,
        .cross_entropy = su_cuda_cross_entropy,
        .sum_squares = su_cuda_sum_squares,
        .adamw = su_cuda_adamw,
        .top_k = su_cuda_top_k,
        .largest = su_cuda_largest,
        .repeat = su_cuda_repeat,
        .forget = su_cuda_forget,
        .close = cuda_close,
    };
}

/* What stands between this machine and a GPU, in the words of someone who can change it. */
static su_status no_device(const su_cuda_runtime *rt, int code, int count, int number, su_error *err)
{
    int driver = 0, runtime = 0;
    if (rt->versions(&driver, &runtime) != SU_CUDA_OK) driver = 0;
    if (code == SU_CUDA_EDRIVER && driver == 0)
        return su_fail(err, SU_EUNSUPPORTED,
                       "cuda:%d: this machine has no NVIDIA driver (libcuda.so.1): install it, or use --device cpu", number);
    if (code == SU_CUDA_EDRIVER)
        return su_fail(err, SU_EUNSUPPORTED,
                       "cuda:%d: the NVIDIA driver supports CUDA %d.%d, this build needs %d.%d: update the driver, or use "
                       "--device cpu",
                       number, driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (code == SU_CUDA_ENODEVICE || (code == SU_CUDA_OK && count == 0))
        return su_fail(err, SU_EUNSUPPORTED,
                       "cuda:%d: the NVIDIA driver finds no GPU (is one visible? CUDA_VISIBLE_DEVICES can hide them); use "
                       "--device cpu",
                       number);
    if (code != SU_CUDA_OK)
        return su_fail(err, SU_EUNSUPPORTED, "cuda:%d: %s (%s)", number, rt->error_text(code), rt->error_name(code));
    if (count == 1)
        return su_fail(err, SU_EUNSUPPORTED, "cuda:%d: this machine has one GPU, cuda:0", number);
    return su_fail(err, SU_EUNSUPPORTED, "cuda:%d: this machine has %d GPUs, cuda:0 to cuda:%d", number, count, count - 1);
}

su_status su_cuda_new(const su_cuda_runtime *rt, const su_cuda_library *library, int number, su_dtype type, int threads,
                      su_device **device, su_error *err)
{
    *device = NULL;
    int count = 0, code = rt->device_count(&count);
    if (code != SU_CUDA_OK || number >= count) return no_device(rt, code, count, number, err);
    su_cuda *c = su_calloc(1, sizeof *c);
    if (!c) return su_fail(err, SU_ENOMEM, "no memory for the CUDA device");
    c->rt = rt;
    c->number = number;
    fill_table(&c->ops);
    c->device = (su_device){.ops = &c->ops, .act = type, .acc = SU_DTYPE_F32, .state = c};
    su_status status = su_pool_new(threads, &c->device.pool, err);
    if (!status) {
        su_cuda_check(c, rt->use_device(number), "opening the GPU");
        if (!c->failed) su_cuda_check(c, rt->properties(&c->properties, number), "asking what the GPU can do");
        if (!c->failed) su_cuda_check(c, rt->stream_new(&c->stream), "opening a stream");
        if (c->failed) status = su_fail(err, c->failed, "%s", c->message);
    }
    if (!status && c->properties.major < 8)
        status = su_fail(err, SU_EUNSUPPORTED,
                         "cuda:%d is a %s of compute capability %d.%d; Suture needs 8.0 (A100, RTX 30) or newer: use --device "
                         "cpu",
                         number, c->properties.name, c->properties.major, c->properties.minor);
    if (!status && library) {
        status = library->open(c, err);
        if (!status) c->library = library;
    }
    if (status) {
        cuda_close(&c->device);
        return status;
    }
    snprintf(c->device.description, sizeof c->device.description, "cuda:%d, %.60s, %.0f GB, %s%s", number,
             c->properties.name, (double)c->properties.memory / 1e9, type == SU_DTYPE_BF16 ? "bf16" : "float32",
             library ? "" : ", own kernels");
    *device = &c->device;
    return SU_OK;
}
