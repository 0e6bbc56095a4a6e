using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>Type of activations, keys and values on the GPU. Sums are always fp32.</summary>
public enum CudaActivationType
{
    /// <summary>IEEE half precision.</summary>
    F16,

    /// <summary>bfloat16: less precise than half precision, cannot overflow.</summary>
    BF16,

    /// <summary>32-bit: without tensor cores and several times slower, for exactness.</summary>
    F32,
}

/// <summary>
/// Computes on NVIDIA GPUs (compute capability 8.0 or later) through the CUDA driver, which is all it needs: no toolkit.
/// <code>
/// using var model = await SamModel.LoadAsync(folder, new() { BackendProvider = new CudaProvider() });
/// </code>
/// </summary>
public sealed class CudaProvider : BackendProvider
{
    /// <summary>A <see cref="CudaDevice.Number"/>; null takes the first usable GPU. <see cref="SamModelInfo.Backend"/> says which
    /// it was.</summary>
    public int? Device { get; init; }

    /// <summary>Type of activations, keys and values.</summary>
    public CudaActivationType ActivationType { get; init; } = CudaActivationType.F16;

    /// <summary>For tests and the bench.</summary>
    internal CudaVariants Variants { get; init; }

    /// <summary>Why there is no CUDA here: no driver, one too old, no GPU; null when there is. Loads the driver.</summary>
    public static string? DriverFailure => CudaLibrary.Failure;

    /// <summary>Whether a driver's library was found, usable or not.</summary>
    public static bool HasDriver => CudaLibrary.Failure is null || CudaLibrary.IsLoaded;

    /// <summary>CUDA version of the driver, such as "12.4"; empty when there is none.</summary>
    public static string DriverVersion => CudaLibrary.Failure is null ? CudaLibrary.VersionText(CudaLibrary.Version) : "";

    /// <summary>Where a driver was looked for.</summary>
    public static IReadOnlyList<LibraryProbe> DriverProbes => CudaLibrary.Probes;

    /// <summary>The kernels that the build embedded, such as "PTX sm_80".</summary>
    public static IReadOnlyList<string> Kernels => [.. KernelImages.All.Select(i => i.ToString())];

    /// <summary>Every GPU of the driver, those that can't be used with the reason.</summary>
    /// <exception cref="BackendException">There is no usable driver.</exception>
    public static IReadOnlyList<CudaDevice> Devices => CudaDevice.All();

    internal override Backend Create(SamModelOptions options)
    {
        if (options.InstructionSet is not null)
        {
            throw new RequestException(nameof(options.InstructionSet), "is an option of the native CPU backend; leave it out");
        }
        return new CudaBackend(Device, ActivationType switch
        {
            CudaActivationType.F16 => ElementType.F16,
            CudaActivationType.BF16 => ElementType.BF16,
            CudaActivationType.F32 => ElementType.F32,
            _ => throw new RequestException(nameof(ActivationType), $"is {ActivationType}, expected F16, BF16 or F32"),
        }, Variants);
    }
}
