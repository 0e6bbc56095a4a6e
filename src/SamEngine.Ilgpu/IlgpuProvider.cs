using System.Diagnostics.CodeAnalysis;
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
[RequiresDynamicCode("ILGPU generates code while it runs.")]
[RequiresUnreferencedCode("ILGPU reads the IL of its kernels.")]
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

    /// <summary>The GPU drivers, and what is wrong with those that do not start. Where none does, <see cref="Devices"/> has no
    /// GPU and need not be asked: without a driver's library this takes no time.</summary>
    public static IReadOnlyList<GpuDriver> Drivers => DriverLibraries.Probe();

    /// <summary>A provider for the first GPU that can be used; null where there is none. Where no GPU driver starts, ILGPU is
    /// not even loaded.</summary>
    /// <param name="problems">Why there is none, by driver or by GPU; else empty.</param>
    /// <returns>The provider, or null.</returns>
    public static IlgpuProvider? ForFirstGpu(out string problems) => ForFirstGpu(Drivers, () => Devices, out problems);

    /// <summary>As above, where these drivers were tried and, if one has started, these devices are found.</summary>
    internal static IlgpuProvider? ForFirstGpu(IReadOnlyList<GpuDriver> drivers, Func<IReadOnlyList<IlgpuDevice>> devices,
        out string problems)
    {
        var found = drivers.Select(d => $"{d.Library}: {d.Problem ?? "found no GPU"}");
        problems = "";
        if (drivers.Any(d => d.Problem is null))
        {
            var gpus = devices().Where(d => d.IsGpu).ToList();
            if (gpus.FirstOrDefault(d => d.Refusal is null) is { } gpu)
            {
                return new IlgpuProvider { Device = gpu.Number };
            }
            found = gpus.Count > 0 ? gpus.Select(d => $"device {d.Number}, {d.Name}: {d.Refusal}") : found;
        }
        problems = string.Join("; ", found);
        return null;
    }

    internal override Backend Create(SamModelOptions options)
    {
        if (options.InstructionSet is not null)
        {
            throw new RequestException(nameof(options.InstructionSet), "is an option of the native CPU backend; leave it out");
        }
        return new IlgpuBackend(Device, options.Threads);
    }
}

/// <summary>A GPU driver's library that was tried.</summary>
/// <param name="Library">Its name.</param>
/// <param name="Problem">Why it gives no GPU; null when it has started.</param>
public sealed record GpuDriver(string Library, string? Problem);

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
