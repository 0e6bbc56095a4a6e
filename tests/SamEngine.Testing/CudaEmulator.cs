using System.Runtime.InteropServices;

namespace SamEngine.Testing;

/// <summary>
/// The emulated CUDA driver (native/cuda-emulator): runs the kernels on the CPU behind the driver's functions. Also what
/// steers it: failures of chosen calls, the size of its memory, counters.
/// </summary>
public static unsafe partial class CudaEmulator
{
    /// <summary>Names the driver to SamEngine.Cuda.</summary>
    public const string Variable = "SAMENGINE_CUDA_DRIVER";

    public const int OutOfMemory = 2;
    public const int IllegalAddress = 700;
    public const int LaunchOutOfResources = 701;
    public const int LaunchFailed = 719;

    private const string Library = "samengine_cuda_emulator";

    static CudaEmulator() => NativeLibrary.SetDllImportResolver(typeof(CudaEmulator).Assembly,
        (name, _, _) => name == Library ? NativeLibrary.Load(Path) : 0);

    /// <summary>The library.</summary>
    public static string Path => System.IO.Path.Combine(AppContext.BaseDirectory, $"lib{Library}.so");

    /// <summary>What happened since the process began, and what lives now.</summary>
    public static CudaEmulatorCounters Counters
    {
        get
        {
            long* values = stackalloc long[7];
            _ = samEmulatorCounters(values);
            return new CudaEmulatorCounters(values[0], values[1], values[2], values[3], values[4], values[5], values[6]);
        }
    }

    /// <summary>Gives a status to a later call of a driver function, after some that still succeed.</summary>
    public static void Fail(string function, int status, int after = 0)
    {
        nint name = Marshal.StringToCoTaskMemUTF8(function);
        _ = samEmulatorFail((byte*)name, status, after);
        Marshal.FreeCoTaskMem(name);
    }

    /// <summary>Forgets failures and the fault that ended the device.</summary>
    public static void Reset() => _ = samEmulatorReset();

    /// <summary>Sets the size of the device's memory.</summary>
    public static void SetMemory(long bytes) => _ = samEmulatorSetMemory((ulong)bytes);

    /// <summary>Whether threads, and blocks, start from the last: a kernel that lacks a barrier often works in one order only.</summary>
    public static void Reverse(bool reversed) => _ = samEmulatorReverse(reversed ? 1 : 0);

    [LibraryImport(Library)]
    private static partial int samEmulatorReverse(int reversed);

    [LibraryImport(Library)]
    private static partial int samEmulatorFail(byte* function, int status, int after);

    [LibraryImport(Library)]
    private static partial int samEmulatorReset();

    [LibraryImport(Library)]
    private static partial int samEmulatorSetMemory(ulong bytes);

    [LibraryImport(Library)]
    private static partial int samEmulatorCounters(long* values);
}

/// <summary>Counts of the emulated driver.</summary>
/// <param name="Launches">Kernels run or enqueued.</param>
/// <param name="Copies">Copies between host and device.</param>
/// <param name="Allocations">Of device memory.</param>
/// <param name="Synchronizations">Times that the host waited.</param>
/// <param name="GraphLaunches">Recorded steps launched.</param>
/// <param name="Live">Device allocations that live now.</param>
/// <param name="LiveBytes">Their bytes.</param>
public readonly record struct CudaEmulatorCounters(long Launches, long Copies, long Allocations, long Synchronizations,
    long GraphLaunches, long Live, long LiveBytes);
