using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>
/// Backend that compiles kernels written in C# for whatever device ILGPU finds; fp32 activations and accumulation. So far
/// RMSNorm, linear layers in every weight format, and group pooling run on it, on ILGPU's CPU accelerator; any other
/// operation is refused by name.
/// </summary>
internal sealed class IlgpuBackend : Backend
{
    private readonly Context _context;

    /// <summary>Opens ILGPU's CPU accelerator: one multiprocessor of 4 warps of 4 threads. Every simulated thread is an
    /// operating-system thread, so a small device is the fastest.</summary>
    public IlgpuBackend()
    {
        CudaLibrary.Ensure();
        _context = Context.Create(builder => builder.CPU(new CPUDevice(4, 4, 1)).EnableAlgorithms());
        Accelerator = _context.GetCPUDevice(0).CreateCPUAccelerator(_context, CPUAcceleratorMode.Parallel);
        Kernels = new IlgpuKernels(Accelerator);
        Info = new BackendInfo("ilgpu", Accelerator.Name, Accelerator.AcceleratorType.ToString().ToLowerInvariant(),
            Accelerator.MaxNumThreads);
    }

    public override BackendInfo Info { get; }

    public override ElementType ActivationType => ElementType.F32;

    internal Accelerator Accelerator { get; }

    internal IlgpuKernels Kernels { get; }

    public override DeviceBuffer Allocate(ElementType type, long length, string label)
    {
        try
        {
            return new IlgpuBuffer(Accelerator, type, length, label);
        }
        catch (Exception e) when (e is OutOfMemoryException or AcceleratorException)
        {
            throw new BackendException("ilgpu", $"not enough memory for '{label}': {length} elements of {type}");
        }
    }

    public override Weight LoadMatrix(MatrixSource source) => new IlgpuWeight(Accelerator, source);

    public override KvCache CreateKvCache(KvCacheShape shape) => throw Missing("the key/value cache");

    public override ComputeQueue CreateQueue() => new IlgpuQueue(this);

    internal static BackendException Missing(string what) =>
        new("ilgpu", $"{what} is not implemented yet; use the CPU backend");

    protected override void Dispose(bool disposing)
    {
        Accelerator.Dispose();
        _context.Dispose();
    }
}
