/* The runtime table with NVIDIA's functions in it. */
#include "nn/cuda/runtime_cuda.h"
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

_Static_assert((int)cudaSuccess == SU_CUDA_OK && (int)cudaErrorInvalidValue == SU_CUDA_EVALUE &&
                   (int)cudaErrorMemoryAllocation == SU_CUDA_EMEMORY &&
                   (int)cudaErrorInsufficientDriver == SU_CUDA_EDRIVER &&
                   (int)cudaErrorNoDevice == SU_CUDA_ENODEVICE,
               "runtime.h's codes are NVIDIA's");
_Static_assert((int)cudaMemcpyHostToDevice == SU_CUDA_TO_DEVICE &&
                   (int)cudaMemcpyDeviceToHost == SU_CUDA_TO_HOST &&
                   (int)cudaMemcpyDeviceToDevice == SU_CUDA_ON_DEVICE,
               "runtime.h's directions are NVIDIA's");

/* The runtime keeps an error for cudaGetLastError too; nobody may find it there later and take it for his
 * own. */
static int code_of(cudaError_t error)
{
    if (error != cudaSuccess) (void)cudaGetLastError();
    return (int)error;
}

static int device_count(int *count)
{
    *count = 0;
    return code_of(cudaGetDeviceCount(count));
}

static int use_device(int number)
{
    return code_of(cudaSetDevice(number));
}

static int properties(su_cuda_properties *p, int number)
{
    struct cudaDeviceProp all;
    int code = code_of(cudaGetDeviceProperties(&all, number));
    if (code) return code;
    *p = (su_cuda_properties){.major = all.major,
                              .minor = all.minor,
                              .processors = all.multiProcessorCount,
                              .memory = all.totalGlobalMem,
                              .shared = all.sharedMemPerBlockOptin,
                              .cache = (size_t)all.l2CacheSize};
    snprintf(p->name, sizeof p->name, "%.127s", all.name);
    return SU_CUDA_OK;
}

static int versions(int *driver, int *runtime)
{
    *driver = *runtime = 0;
    int code = code_of(cudaDriverGetVersion(driver));
    return code ? code : code_of(cudaRuntimeGetVersion(runtime));
}

static int memory_info(size_t *free_bytes, size_t *total)
{
    return code_of(cudaMemGetInfo(free_bytes, total));
}

static int allocate(void **memory, size_t bytes)
{
    *memory = NULL;
    return code_of(cudaMalloc(memory, bytes));
}

static int release(void *memory)
{
    return code_of(cudaFree(memory));
}

static int allocate_host(void **memory, size_t bytes)
{
    *memory = NULL;
    return code_of(cudaMallocHost(memory, bytes));
}

static int release_host(void *memory)
{
    return code_of(cudaFreeHost(memory));
}

static int set(void *memory, int byte, size_t bytes, void *stream)
{
    return code_of(cudaMemsetAsync(memory, byte, bytes, stream));
}

static int copy(void *to, const void *from, size_t bytes, int direction, void *stream)
{
    return code_of(cudaMemcpyAsync(to, from, bytes, (enum cudaMemcpyKind)direction, stream));
}

/* Not in step with the legacy stream, which a library might use. */
static int stream_new(void **stream)
{
    cudaStream_t s = NULL;
    int code = code_of(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    *stream = s;
    return code;
}

static int stream_free(void *stream)
{
    return code_of(cudaStreamDestroy(stream));
}

static int stream_wait(void *stream)
{
    return code_of(cudaStreamSynchronize(stream));
}

/* Waiting threads sleep: they may be the loader's. */
static int event_new(void **event, bool timed)
{
    cudaEvent_t e = NULL;
    int code = code_of(cudaEventCreateWithFlags(&e, timed ? cudaEventDefault : cudaEventDisableTiming));
    *event = e;
    return code;
}

static int event_free(void *event)
{
    return code_of(cudaEventDestroy(event));
}

static int event_record(void *event, void *stream)
{
    return code_of(cudaEventRecord(event, stream));
}

static int event_wait(void *event)
{
    return code_of(cudaEventSynchronize(event));
}

static int event_hold(void *event, void *stream)
{
    return code_of(cudaStreamWaitEvent(stream, event, 0));
}

static int event_between(float *milliseconds, void *from, void *to)
{
    *milliseconds = 0;
    return code_of(cudaEventElapsedTime(milliseconds, from, to));
}

static int launch(const void *kernel, const su_cuda_invoke *invoke, su_cuda_size grid, su_cuda_size block,
                  void **args, size_t shared, void *stream)
{
    (void)invoke;
    const dim3 g = {(unsigned)grid.x, (unsigned)grid.y, (unsigned)grid.z};
    const dim3 b = {(unsigned)block.x, (unsigned)block.y, (unsigned)block.z};
    return code_of(cudaLaunchKernel(kernel, g, b, args, shared, stream));
}

/* Other threads, as the loader's, may take memory meanwhile. */
static int record_begin(void *stream)
{
    return code_of(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

static int record_end(void *stream, void **graph)
{
    cudaGraph_t kept = NULL;
    cudaGraphExec_t made = NULL;
    *graph = NULL;
    int code = code_of(cudaStreamEndCapture(stream, &kept));
    if (!code) code = code_of(cudaGraphInstantiate(&made, kept, 0));
    if (kept) (void)code_of(cudaGraphDestroy(kept));
    if (!code) *graph = made;
    return code;
}

static int graph_run(void *graph, void *stream)
{
    return code_of(cudaGraphLaunch(graph, stream));
}

static int graph_free(void *graph)
{
    return code_of(cudaGraphExecDestroy(graph));
}

static int allow_shared(const void *kernel, size_t bytes)
{
    return code_of(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

_Static_assert(sizeof(su_cuda_map) == sizeof(CUtensorMap), "runtime.h's map is the driver's");

/* The driver has no error code of the runtime's: whatever it refuses is an invalid value. */
static int map(su_cuda_map *to, const void *matrix, int64_t rows, int64_t columns, int64_t stride, int box_rows)
{
    typedef CUresult encode(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
                            const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    static _Atomic(void *) found;
    void *function = found;
    if (!function) {
        enum cudaDriverEntryPointQueryResult result;
        const int code = code_of(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                                  cudaEnableDefault, &result));
        if (code || result != cudaDriverEntryPointSuccess) return code ? code : SU_CUDA_EDRIVER;
        found = function;
    }
    const cuuint64_t sizes[2] = {(cuuint64_t)columns, (cuuint64_t)rows}, strides[1] = {(cuuint64_t)stride};
    const cuuint32_t box[2] = {64, (cuuint32_t)box_rows}, steps[2] = {1, 1};
    CUtensorMap made;
    const CUresult code = ((encode *)function)(&made, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)(uintptr_t)matrix, sizes,
                                               strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                               CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    memcpy(to, &made, sizeof made);
    return code == CUDA_SUCCESS ? SU_CUDA_OK : SU_CUDA_EVALUE;
}

static const char *error_name(int code)
{
    return cudaGetErrorName((cudaError_t)code);
}

static const char *error_text(int code)
{
    return cudaGetErrorString((cudaError_t)code);
}

const su_cuda_runtime su_nvidia_runtime = {
    .name = "CUDA",
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
    .event_free = event_free,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_hold = event_hold,
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
