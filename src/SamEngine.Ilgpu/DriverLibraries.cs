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

    /// <summary>The libraries that can be loaded here; takes no time, and does not touch ILGPU.</summary>
    public static IEnumerable<string> Found()
    {
        foreach (string[] names in (string[][])[Cuda, OpenCL])
        {
            if (TryLoad(names, out string name, out nint handle))
            {
                NativeLibrary.Free(handle);
                yield return name;
            }
        }
    }

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
