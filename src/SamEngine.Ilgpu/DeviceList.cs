using ILGPU;
using ILGPU.Backends.OpenCL;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;

namespace SamEngine.Ilgpu;

/// <summary>An ILGPU context with all devices: NVIDIA GPUs, OpenCL devices, the CPU accelerator.</summary>
internal sealed class DeviceList : IDisposable
{
    private readonly List<Device> _devices;

    /// <param name="threads">Threads of the CPU accelerator; 0: one per processor.</param>
    /// <exception cref="RequestException">The number of threads is negative.</exception>
    public DeviceList(int threads)
        : this(Simulated(threads))
    {
    }

    /// <summary>With another CPU accelerator than the default.</summary>
    public DeviceList(CPUDevice simulated)
    {
        DriverLibraries.Ensure();
        // All devices, so that a refused one can be named.
        Context = Context.Create(builder => builder.Cuda(_ => true).OpenCL(_ => true).CPU(simulated).EnableAlgorithms());
        _devices = [.. Context.GetCudaDevices(), .. Context.GetCLDevices(), .. Context.GetCPUDevices()];
        Descriptions = [.. _devices.Select((device, i) => Describe(device, i))];
    }

    public Context Context { get; }

    public IReadOnlyList<IlgpuDevice> Descriptions { get; }

    /// <summary>The device that is asked for, or the default one.</summary>
    /// <exception cref="BackendException">There is no such device, or it is refused.</exception>
    public Device Find(int? number)
    {
        if (number is null)
        {
            var gpu = Descriptions.FirstOrDefault(d => d.IsGpu && d.Refusal is null);
            return _devices[gpu?.Number ?? _devices.Count - 1];
        }
        if (number < 0 || number >= _devices.Count)
        {
            throw new BackendException("ilgpu", $"there is no device {number}, only 0 to {_devices.Count - 1}; 'sam doctor' lists them");
        }
        if (Descriptions[number.Value] is { Refusal: { } refusal } device)
        {
            throw new BackendException("ilgpu", $"device {number} ({device.Name}) can't be used: {refusal}");
        }
        return _devices[number.Value];
    }

    public void Dispose() => Context.Dispose();

    private static CPUDevice Simulated(int threads)
    {
        if (threads < 0)
        {
            throw new RequestException(nameof(SamModelOptions.Threads), $"is {threads}, expected 0 (all) or more");
        }
        // Every simulated thread is an operating-system thread, and two is the least ILGPU simulates.
        return new CPUDevice(2, 1, Math.Clamp((threads == 0 ? Environment.ProcessorCount : threads) / 2, 1, 512));
    }

    private static IlgpuDevice Describe(Device device, int number) => device switch
    {
        CudaDevice cuda => new IlgpuDevice(number, IlgpuDeviceKind.Cuda, cuda.Name, true, cuda.MemorySize,
            cuda.Architecture is null || cuda.InstructionSet is null
                ? $"its driver ({cuda.DriverVersion}) or architecture is not one that ILGPU knows" : null),
        CLDevice cl => new IlgpuDevice(number, IlgpuDeviceKind.OpenCL, cl.Name, cl.DeviceType.HasFlag(CLDeviceType.CL_DEVICE_TYPE_GPU),
            cl.MemorySize, Refusal(cl)),
        _ => new IlgpuDevice(number, IlgpuDeviceKind.Cpu, $"ILGPU's CPU accelerator, {device.MaxNumThreads} threads", false, 0, null),
    };

    private static string? Refusal(CLDevice device) =>
        device.CLStdVersion < CLBackend.MinimumVersion ? $"it has OpenCL C {device.CLStdVersion}, ILGPU needs {CLBackend.MinimumVersion}"
        : !device.Capabilities.GenericAddressSpace ? "it has no generic address space, which ILGPU needs"
        : !device.Capabilities.Float64 ? "it has no double precision, which the choice of tokens needs"
        : null;
}
