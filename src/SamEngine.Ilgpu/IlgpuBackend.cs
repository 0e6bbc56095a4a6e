using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>
/// Backend that compiles kernels written in C# for whatever device ILGPU finds; fp32 activations, accumulation and keys/values,
/// weights in any format, widened as they are read.
/// </summary>
internal sealed class IlgpuBackend : Backend
{
    private const int GroupSize = 128;

    /// <summary>Groups of a launch on a GPU; more work items than threads share them.</summary>
    private const int MostGroups = 4096;

    private readonly DeviceList _devices;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _levels;

    /// <summary>Opens a device and compiles the kernels for it.</summary>
    /// <param name="device">Its number in <see cref="IlgpuProvider.Devices"/>; null takes the first usable GPU, else the CPU
    /// accelerator.</param>
    /// <param name="threads">Threads of the CPU accelerator; 0 takes one per processor.</param>
    /// <exception cref="BackendException">There is no such device, or it can't be used.</exception>
    public IlgpuBackend(int? device = null, int threads = 0)
        : this(new DeviceList(threads), device, groups: null)
    {
    }

    /// <param name="devices">Where to look; the backend's from now on.</param>
    /// <param name="device">As above.</param>
    /// <param name="groups">Whether to take the kernels with barriers; null: on GPUs.</param>
    internal IlgpuBackend(DeviceList devices, int? device, bool? groups)
    {
        _devices = devices;
        try
        {
            var found = _devices.Find(device);
            Accelerator = found is CPUDevice cpu ? cpu.CreateCPUAccelerator(_devices.Context, CPUAcceleratorMode.Parallel)
                : found.CreateAccelerator(_devices.Context);
            _levels = AllocateArray<float>(QuantizedLayout.Levels.Length, "levels");
            float[] levels = [.. QuantizedLayout.Levels];
            _levels.View.CopyFromCPU(levels);
            Loader = new KernelLoader(Accelerator);
            Kernels = new IlgpuKernels(Loader);
            RowKernels = groups ?? Accelerator.AcceleratorType != AcceleratorType.CPU
                ? new GroupRowKernels(Loader, Kernels, Workers, SquareGroup(Accelerator.MaxNumThreadsPerGroup))
                : new ThreadRowKernels(Loader, Kernels, Workers);
        }
        catch (Exception e)
        {
            Accelerator?.Dispose();
            _devices.Dispose();
            throw e is SamException ? e : new BackendException("ilgpu", $"the device can't be opened: {e.Message}", inner: e);
        }
        bool simulated = Accelerator.AcceleratorType == AcceleratorType.CPU;
        Info = new BackendInfo("ilgpu", simulated ? "ILGPU's CPU accelerator" : Accelerator.Name,
            Accelerator.AcceleratorType.ToString().ToLowerInvariant(), simulated ? Accelerator.MaxNumThreads : 0);
    }

    public override BackendInfo Info { get; }

    public override ElementType ActivationType => ElementType.F32;

    /// <summary>ILGPU compiles kernels when they are loaded; what launches them, and on the CPU accelerator they themselves, are
    /// compiled by .NET when they first run.</summary>
    public override bool WantsWarmUp => true;

    internal Accelerator Accelerator { get; }

    internal IlgpuKernels Kernels { get; }

    internal RowKernels RowKernels { get; }

    /// <summary>Knows what was compiled.</summary>
    internal KernelLoader Loader { get; }

    /// <summary>The levels of Q4 as floats.</summary>
    internal ArrayView<float> Levels => _levels.View;

    public override DeviceBuffer Allocate(ElementType type, long length, string label) => new IlgpuBuffer(this, type, length, label);

    public override Weight LoadMatrix(MatrixSource source) => new IlgpuWeight(this, source);

    public override KvCache CreateKvCache(KvCacheShape shape) => new IlgpuKvCache(this, shape);

    public override ComputeQueue CreateQueue() => new IlgpuQueue(this);

    /// <summary>Launch of threads that share <paramref name="items"/> work items.</summary>
    internal KernelConfig Workers(long items) => Accelerator.AcceleratorType == AcceleratorType.CPU
        ? new KernelConfig(Accelerator.NumMultiprocessors, Accelerator.WarpSize)
        : new KernelConfig((int)Math.Clamp((items + GroupSize - 1) / GroupSize, 1, MostGroups), GroupSize);

    /// <summary>Device memory as it comes.</summary>
    /// <exception cref="BackendException">There is not enough.</exception>
    internal MemoryBuffer1D<T, Stride1D.Dense> AllocateArray<T>(long length, string label)
        where T : unmanaged
    {
        try
        {
            Accelerator.Bind();
            return Accelerator.Allocate1D<T>(length);
        }
        catch (Exception e) when (e is OutOfMemoryException or AcceleratorException)
        {
            throw new BackendException("ilgpu", $"not enough memory for '{label}': {length} elements of {typeof(T).Name}", inner: e);
        }
    }

    /// <summary>The largest group that <see cref="GroupReduction"/> knows and the device allows.</summary>
    /// <exception cref="BackendException">It allows none.</exception>
    private static int SquareGroup(int most) => most >= 256 ? 256 : most >= 64 ? 64 : most >= 16 ? 16
        : throw new BackendException("ilgpu", $"the device allows groups of {most} threads, the kernels need 16");

    protected override void Dispose(bool disposing)
    {
        _levels.Dispose();
        Accelerator.Dispose();
        _devices.Dispose();
    }
}
