using System.Reflection;
using System.Runtime.InteropServices;
using ILGPU;

namespace SamEngine.Ilgpu;

/// <summary>ILGPU asks for <c>libcuda.so</c>, which only development packages install; drivers install
/// <c>libcuda.so.1</c>. This resolves the one to the other, once, before ILGPU is first used.</summary>
internal static class CudaLibrary
{
    private static readonly Lock Gate = new();
    private static bool _done;

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
        OperatingSystem.IsLinux() && name is "cuda" or "libcuda" or "libcuda.so"
            && (NativeLibrary.TryLoad("libcuda.so.1", out nint handle) || NativeLibrary.TryLoad("libcuda.so", out handle))
            ? handle
            : 0;
}
