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

    private readonly Context _context;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _levels;

    /// <summary>Opens ILGPU's CPU accelerator. Every simulated thread is an operating-system thread, and two is the least it
    /// simulates: a multiprocessor of two threads for every two processors.</summary>
    /// <param name="threads">Threads to compute with; 0 takes one per processor.</param>
    public IlgpuBackend(int threads = 0)
    {
        CudaLibrary.Ensure();
        int multiprocessors = Math.Max(1, (threads == 0 ? Environment.ProcessorCount : threads) / 2);
        _context = Context.Create(builder => builder.CPU(new CPUDevice(2, 1, multiprocessors)).EnableAlgorithms());
        Accelerator = _context.GetCPUDevice(0).CreateCPUAccelerator(_context, CPUAcceleratorMode.Parallel);
        _levels = AllocateArray<float>(QuantizedLayout.Levels.Length, "levels");
        float[] levels = [.. QuantizedLayout.Levels];
        _levels.View.CopyFromCPU(levels);
        Kernels = new IlgpuKernels(Accelerator);
        Info = new BackendInfo("ilgpu", Accelerator.Name, Accelerator.AcceleratorType.ToString().ToLowerInvariant(),
            Accelerator.MaxNumThreads);
    }

    public override BackendInfo Info { get; }

    public override ElementType ActivationType => ElementType.F32;

    internal Accelerator Accelerator { get; }

    internal IlgpuKernels Kernels { get; }

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

    protected override void Dispose(bool disposing)
    {
        _levels.Dispose();
        Accelerator.Dispose();
        _context.Dispose();
    }
}
