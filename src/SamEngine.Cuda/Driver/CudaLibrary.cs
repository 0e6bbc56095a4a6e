using System.Runtime.InteropServices;
using SamEngine.Compute.Cpu;

namespace SamEngine.Cuda.Driver;

/// <summary>
/// Finds the CUDA driver once, when it is first needed: the file that <c>SAMENGINE_CUDA_DRIVER</c> names, else where the
/// system looks for the driver. Every name tried is kept for <c>sam doctor</c>.
/// </summary>
internal static class CudaLibrary
{
    private const string Variable = "SAMENGINE_CUDA_DRIVER";

    /// <summary>CUDA 12.0: driver 525.60 on Linux, 527.41 on Windows.</summary>
    private const int LeastVersion = 12_000;

    private static readonly Lock Gate = new();
    private static readonly List<LibraryProbe> Tried = [];
    private static nint _handle;
    private static int _version;
    private static string? _failure;
    private static bool _attempted;

    /// <summary>What was tried so far, in order.</summary>
    public static IReadOnlyList<LibraryProbe> Probes
    {
        get
        {
            lock (Gate)
            {
                return [.. Tried];
            }
        }
    }

    /// <summary>Why the driver can't be used, or null. Loads and starts it.</summary>
    public static string? Failure
    {
        get
        {
            lock (Gate)
            {
                if (!_attempted)
                {
                    _attempted = true;
                    _failure = Load() ?? Start();
                }
                return _failure;
            }
        }
    }

    /// <summary>Whether a library was found, after <see cref="Failure"/> was asked for.</summary>
    public static bool IsLoaded => _handle != 0;

    /// <summary>CUDA version of the driver, 1000 * major + 10 * minor; 0 when there is none.</summary>
    public static int Version => _version;

    /// <summary>Loads and starts the driver if needed.</summary>
    /// <exception cref="BackendException">There is none, or it is too old.</exception>
    public static void Ensure()
    {
        if (Failure is { } failure)
        {
            throw new BackendException(CudaErrors.Backend, failure);
        }
    }

    /// <summary>Whether the driver has a function that older ones lack.</summary>
    public static bool Has(string function) => NativeLibrary.TryGetExport(_handle, function, out _);

    public static string VersionText(int version) => $"{version / 1000}.{version % 1000 / 10}";

    private static string? Set => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } set ? set : null;

    private static string? Load()
    {
        foreach (string name in Names())
        {
            try
            {
                _handle = NativeLibrary.Load(name);
                Tried.Add(new LibraryProbe(name, "loaded"));
                break;
            }
            catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
            {
                Tried.Add(new LibraryProbe(name, e is DllNotFoundException && !File.Exists(name) ? "not found" : e.Message));
            }
        }
        if (_handle == 0 && Set is not null)
        {
            return $"there is no CUDA driver where {Variable} points ({Tried[^1].Path}: {Tried[^1].Outcome}); correct the variable " +
                "or unset it, or compute with --backend cpu";
        }
        if (_handle == 0)
        {
            return $"there is no CUDA driver (tried {string.Join(", ", Tried.Select(p => p.Path))}); install NVIDIA's driver " +
                $"for CUDA {VersionText(LeastVersion)} or later (525 or later), or compute with --backend cpu";
        }
        NativeLibrary.SetDllImportResolver(typeof(CudaLibrary).Assembly, (name, _, _) => name == CudaDriver.Library ? _handle : 0);
        return null;
    }

    private static unsafe string? Start()
    {
        if (!Has(nameof(CudaDriver.cuDriverGetVersion)) || !Has(nameof(CudaDriver.cuGetErrorName)))
        {
            return $"{Tried[^1].Path} is not a CUDA driver: it has no {nameof(CudaDriver.cuDriverGetVersion)}" +
                (Set is null ? "" : $"; {Variable} points there");
        }
        int version;
        CudaErrors.Check(CudaDriver.cuDriverGetVersion(&version));
        _version = version;
        if (version < LeastVersion)
        {
            return $"the driver ({Tried[^1].Path}) is for CUDA {VersionText(version)}, expected {VersionText(LeastVersion)} or " +
                "later: update NVIDIA's driver to 525 or later";
        }
        var status = CudaDriver.cuInit(0);
        return status switch
        {
            CudaStatus.Success => null,
            CudaStatus.NoDevice => "the CUDA driver finds no GPU",
            _ => $"the CUDA driver does not start: cuInit gives {CudaErrors.Describe(status)}",
        };
    }

    private static IEnumerable<string> Names()
    {
        if (Set is { } set)
        {
            // An explicit choice is the only candidate: another file in its place would be a silent fallback.
            return [Path.GetFullPath(set)];
        }
        return OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so"];
    }
}
