using System.Runtime.InteropServices;

namespace SamEngine.Cuda.Driver;

/// <summary>
/// The functions of the CUDA driver API that the backend uses, by their exported names. Every status goes through
/// <see cref="CudaErrors"/>. <see cref="CudaLibrary"/> finds the library.
/// </summary>
internal static unsafe partial class CudaDriver
{
    public const string Library = "cuda";

    /// <summary>A stream that does not wait for the default stream.</summary>
    public const uint StreamNonBlocking = 1;

    public const uint EventTiming = 0;
    public const uint EventDisableTiming = 2;

    /// <summary>Unsafe calls of other threads don't break a capture.</summary>
    public const int CaptureThreadLocal = 1;

    [LibraryImport(Library)]
    public static partial CudaStatus cuInit(uint flags);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDriverGetVersion(int* version);

    [LibraryImport(Library)]
    public static partial CudaStatus cuGetErrorName(CudaStatus status, byte** name);

    [LibraryImport(Library)]
    public static partial CudaStatus cuGetErrorString(CudaStatus status, byte** text);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDeviceGetCount(int* count);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDeviceGet(int* device, int ordinal);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDeviceGetName(byte* name, int length, int device);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDeviceGetAttribute(int* value, CudaDeviceAttribute attribute, int device);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDeviceTotalMem_v2(nuint* bytes, int device);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDevicePrimaryCtxRetain(nint* context, int device);

    [LibraryImport(Library)]
    public static partial CudaStatus cuDevicePrimaryCtxRelease_v2(int device);

    [LibraryImport(Library)]
    public static partial CudaStatus cuCtxSetCurrent(nint context);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemGetInfo_v2(nuint* free, nuint* total);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemAllocAsync(nint* pointer, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemFreeAsync(nint pointer, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemHostAlloc(nint* pointer, nuint bytes, uint flags);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemFreeHost(nint pointer);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemsetD8Async(nint destination, byte value, nuint count, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemcpyHtoDAsync_v2(nint destination, void* source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemcpyDtoHAsync_v2(void* destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuMemcpyDtoDAsync_v2(nint destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuStreamCreate(nint* stream, uint flags);

    [LibraryImport(Library)]
    public static partial CudaStatus cuStreamDestroy_v2(nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuStreamSynchronize(nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuStreamBeginCapture_v2(nint stream, int mode);

    [LibraryImport(Library)]
    public static partial CudaStatus cuStreamEndCapture(nint stream, nint* graph);

    [LibraryImport(Library)]
    public static partial CudaStatus cuGraphInstantiateWithFlags(nint* executable, nint graph, ulong flags);

    [LibraryImport(Library)]
    public static partial CudaStatus cuGraphLaunch(nint executable, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuGraphExecDestroy(nint executable);

    [LibraryImport(Library)]
    public static partial CudaStatus cuGraphDestroy(nint graph);

    [LibraryImport(Library)]
    public static partial CudaStatus cuEventCreate(nint* handle, uint flags);

    [LibraryImport(Library)]
    public static partial CudaStatus cuEventDestroy_v2(nint handle);

    [LibraryImport(Library)]
    public static partial CudaStatus cuEventRecord(nint handle, nint stream);

    [LibraryImport(Library)]
    public static partial CudaStatus cuEventSynchronize(nint handle);

    [LibraryImport(Library)]
    public static partial CudaStatus cuEventElapsedTime(float* milliseconds, nint start, nint end);

    [LibraryImport(Library)]
    public static partial CudaStatus cuModuleLoadData(nint* module, void* image);

    [LibraryImport(Library)]
    public static partial CudaStatus cuModuleUnload(nint module);

    [LibraryImport(Library)]
    public static partial CudaStatus cuModuleGetFunction(nint* function, nint module, byte* name);

    /// <summary>Since CUDA 12.4: look for it with <see cref="CudaLibrary.Has"/> first.</summary>
    [LibraryImport(Library)]
    public static partial CudaStatus cuFuncGetParamInfo(nint function, nuint index, nuint* offset, nuint* bytes);

    [LibraryImport(Library)]
    public static partial CudaStatus cuFuncSetAttribute(nint function, CudaFunctionAttribute attribute, int value);

    [LibraryImport(Library)]
    public static partial CudaStatus cuLaunchKernel(nint function, uint gridX, uint gridY, uint gridZ, uint blockX, uint blockY,
        uint blockZ, uint sharedBytes, nint stream, void** arguments, void** extra);

    [LibraryImport(Library)]
    public static partial CudaStatus cuLaunchKernelEx(CudaLaunchConfig* config, nint function, void** arguments, void** extra);

    /// <param name="map">128 bytes at a multiple of 64.</param>
    /// <param name="type">Of the elements.</param>
    /// <param name="rank">Dimensions, the contiguous one first.</param>
    /// <param name="data">Device memory at a multiple of 16.</param>
    /// <param name="sizes">Elements of each dimension.</param>
    /// <param name="strides">Bytes from one to the next, of each dimension but the first: multiples of 16.</param>
    /// <param name="box">Elements of a copy, of each dimension.</param>
    /// <param name="elementStrides">1 for each dimension.</param>
    /// <param name="interleave">0: none.</param>
    /// <param name="swizzle">3: of 128 bytes.</param>
    /// <param name="promotion">What is fetched into the second-level cache at least; 3: 256 bytes.</param>
    /// <param name="fill">What is outside; 0: zeros.</param>
    [LibraryImport(Library)]
    public static partial CudaStatus cuTensorMapEncodeTiled(void* map, CudaTensorMapType type, uint rank, nint data, ulong* sizes,
        ulong* strides, uint* box, uint* elementStrides, int interleave, int swizzle, int promotion, int fill);
}

/// <summary>CUresult; the values that the backend tells apart.</summary>
internal enum CudaStatus
{
    Success = 0,
    InvalidValue = 1,
    OutOfMemory = 2,
    NoDevice = 100,
    NotFound = 500,
}

/// <summary>CUdevice_attribute.</summary>
internal enum CudaDeviceAttribute
{
    MultiprocessorCount = 16,
    ComputeCapabilityMajor = 75,
    ComputeCapabilityMinor = 76,
    MemoryPoolsSupported = 115,
}

/// <summary>CUfunction_attribute.</summary>
internal enum CudaFunctionAttribute
{
    MaxDynamicSharedBytes = 8,
}
