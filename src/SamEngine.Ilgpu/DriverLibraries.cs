using System.Reflection;
using System.Runtime.InteropServices;
using ILGPU;

namespace SamEngine.Ilgpu;

/// <summary>Where the GPU drivers are. On Linux ILGPU asks for <c>libcuda.so</c> and <c>libOpenCL.so</c>, which only development
/// packages install; drivers install <c>libcuda.so.1</c> and <c>libOpenCL.so.1</c>. <see cref="Ensure"/> resolves the one to the
/// other, once, before ILGPU is first used.</summary>
internal static class DriverLibraries
{
    private static readonly Lock Gate = new();
    private static bool _done;

    private static string[] Cuda { get; } = OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so"];

    private static string[] OpenCL { get; } = OperatingSystem.IsWindows() ? ["OpenCL.dll"] : ["libOpenCL.so.1", "libOpenCL.so"];

    /// <summary>Loads each driver's library and starts it, without touching ILGPU.</summary>
    public static GpuDriver[] Probe() => [Probe(Cuda, CudaProblem), Probe(OpenCL, OpenCLProblem)];

    public static void Ensure()
    {
        lock (Gate)
        {
            if (_done)
            {
                return;
            }
            _done = true;
            if (Directory.Exists("/usr/lib/wsl/lib"))
            {
                // There ILGPU sets a resolver itself, and a second one is refused.
                return;
            }
            try
            {
                NativeLibrary.SetDllImportResolver(typeof(Context).Assembly, Resolve);
            }
            catch (InvalidOperationException)
            {
                // The application has set a resolver of its own on ILGPU's assembly; its choice counts.
            }
        }
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path) =>
        OperatingSystem.IsLinux() && NamesOf(name) is { } names && TryLoad(names, out _, out nint handle) ? handle : 0;

    private static string[]? NamesOf(string name) => name switch
    {
        "cuda" => Cuda,
        "OpenCL" or "opencl" => OpenCL,
        _ => null,
    };

    private static GpuDriver Probe(string[] names, Func<nint, string?> problem)
    {
        if (!TryLoad(names, out string name, out nint handle))
        {
            return new GpuDriver(names[0], "not there");
        }
        try
        {
            return new GpuDriver(name, problem(handle));
        }
        finally
        {
            NativeLibrary.Free(handle);
        }
    }

    private static unsafe string? CudaProblem(nint library)
    {
        if (!NativeLibrary.TryGetExport(library, "cuInit", out nint address))
        {
            return "has no cuInit: not the CUDA driver";
        }
        int status = ((delegate* unmanaged<uint, int>)address)(0);
        if (status == 0)
        {
            return null;
        }
        byte* text = null;
        string name = NativeLibrary.TryGetExport(library, "cuGetErrorName", out address)
            && ((delegate* unmanaged<int, byte**, int>)address)(status, &text) == 0 && text is not null
            ? Marshal.PtrToStringUTF8((nint)text) + ", " : "";
        return $"cuInit failed ({name}error {status})";
    }

    private static unsafe string? OpenCLProblem(nint library)
    {
        if (!NativeLibrary.TryGetExport(library, "clGetPlatformIDs", out nint address))
        {
            return "has no clGetPlatformIDs: not OpenCL";
        }
        uint platforms = 0;
        int status = ((delegate* unmanaged<uint, void*, uint*, int>)address)(0, null, &platforms);
        // The loader of drivers says so where it has none to load.
        const int PlatformNotFound = -1001;
        return status == PlatformNotFound || (status == 0 && platforms == 0) ? "finds no driver (OpenCL platform)"
            : status != 0 ? $"clGetPlatformIDs failed (error {status})" : null;
    }

    private static bool TryLoad(string[] names, out string found, out nint handle)
    {
        foreach (string name in names)
        {
            if (NativeLibrary.TryLoad(name, out handle))
            {
                found = name;
                return true;
            }
        }
        found = "";
        handle = 0;
        return false;
    }
}
