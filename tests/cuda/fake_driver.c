/* As much of NVIDIA's driver as cuDNN asks for when it plans for a GPU that is described to it: a module "loads", its
 * kernels "are found"; everything else says CUDA_ERROR_STUB_LIBRARY, as the toolkit's own stub does. Built as
 * libcuda.so.1 in a folder of its own, for test_dnn alone. */
enum { STUB = 34 };

#define STUBBED(name)                                                                                                                      \
    int name(void);                                                                                                                        \
    int name(void) { return STUB; }

STUBBED(cuCtxGetCurrent)
STUBBED(cuCtxGetLimit)
STUBBED(cuCtxPopCurrent)
STUBBED(cuCtxPushCurrent)
STUBBED(cuDeviceGet)
STUBBED(cuDeviceGetCount)
STUBBED(cuDriverGetVersion)
STUBBED(cuGetErrorName)
STUBBED(cuGetErrorString)
STUBBED(cuInit)
STUBBED(cuKernelGetAttribute)
STUBBED(cuKernelSetAttribute)
STUBBED(cuLaunchCooperativeKernel)
STUBBED(cuLaunchKernel)
STUBBED(cuLaunchKernelEx)
STUBBED(cuLibraryLoadFromFile)
STUBBED(cuLibraryUnload)
STUBBED(cuLinkAddData)
STUBBED(cuLinkComplete)
STUBBED(cuLinkCreate)
STUBBED(cuLinkDestroy)
STUBBED(cuOccupancyMaxPotentialClusterSize)
STUBBED(cuStreamGetCtx)

int cuLibraryLoadData(void **library);
int cuLibraryLoadData(void **library)
{
    *library = (void *)library;
    return 0;
}

int cuLibraryGetKernel(void **kernel);
int cuLibraryGetKernel(void **kernel)
{
    *kernel = (void *)kernel;
    return 0;
}
