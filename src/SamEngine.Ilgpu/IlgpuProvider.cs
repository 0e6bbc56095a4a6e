using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>
/// Computes through ILGPU: on NVIDIA GPUs, on OpenCL GPUs, or on ILGPU's CPU accelerator, which simulates a GPU for tests and is
/// many times slower than the native CPU backend. ILGPU generates code while it runs: applications that are trimmed or
/// compiled ahead of time can't use it.
/// <code>
/// using var model = await SamModel.LoadAsync(folder, new() { BackendProvider = new IlgpuProvider() });
/// </code>
/// </summary>
public sealed class IlgpuProvider : BackendProvider
{
    /// <summary>A <see cref="IlgpuDevice.Number"/>; null takes the first usable GPU, and where there is none the CPU
    /// accelerator. <see cref="SamModelInfo.Backend"/> says which it was.</summary>
    public int? Device { get; init; }

    /// <summary>Every device that ILGPU finds, those that can't be used with the reason; the CPU accelerator is the last. Opens the
    /// GPU drivers: takes a moment.</summary>
    public static IReadOnlyList<IlgpuDevice> Devices
    {
        get
        {
            using var devices = new DeviceList(threads: 0);
            return devices.Descriptions;
        }
    }

    /// <summary>Names of the GPU drivers' libraries that are there (CUDA's, OpenCL's), without asking them anything: takes no
    /// time. Where there is none, <see cref="Devices"/> has no GPU.</summary>
    public static IReadOnlyList<string> DriverLibraries => [.. Ilgpu.DriverLibraries.Found()];

    internal override Backend Create(SamModelOptions options)
    {
        if (options.InstructionSet is not null)
        {
            throw new RequestException(nameof(options.InstructionSet), "is an option of the native CPU backend; leave it out");
        }
        return new IlgpuBackend(Device, options.Threads);
    }
}

/// <summary>What kind of device ILGPU computes on.</summary>
public enum IlgpuDeviceKind
{
    /// <summary>An NVIDIA GPU, through its driver.</summary>
    Cuda,

    /// <summary>An OpenCL device.</summary>
    OpenCL,

    /// <summary>ILGPU's simulation of a GPU.</summary>
    Cpu,
}

/// <summary>A device that ILGPU found.</summary>
/// <param name="Number">What selects it: <see cref="IlgpuProvider.Device"/>, <c>--device</c>.</param>
/// <param name="Kind">How it is reached.</param>
/// <param name="Name">As the driver calls it.</param>
/// <param name="IsGpu">False for processors.</param>
/// <param name="MemoryBytes">Device memory; 0 for the CPU accelerator.</param>
/// <param name="Refusal">Why it can't be used; null when it can.</param>
public sealed record IlgpuDevice(int Number, IlgpuDeviceKind Kind, string Name, bool IsGpu, long MemoryBytes, string? Refusal);
