using System.Runtime.InteropServices;

namespace SamEngine.Compute.Cpu;

/// <summary>
/// The native CPU backend: fp32 activations, residuals, accumulation and keys/values; weights in any format, read in place.
/// Linear layers with quantised weights round their input to 8 bits, a scale for every group of columns; with bf16 weights
/// on "avx512-bf16" to bf16. A row's result depends neither on the number of threads nor on the rows beside it; with
/// quantised weights not on the instruction set either, but for the epilogue's GELU.
/// </summary>
internal sealed unsafe class CpuBackend : Backend
{
    private const int MostThreads = 1024;
    private const string IsaVariable = "SAM_CPU_ISA";
    private static readonly string[] IsaNames = ["scalar", "avx2", "avx512", "avx512-vnni", "avx512-bf16"];
    private readonly ContextHandle _context;

    /// <param name="threads">Threads to compute with; 0 takes one per processor.</param>
    /// <param name="instructionSet">One of "scalar", "avx2", "avx512", "avx512-vnni", "avx512-bf16"; null takes <c>SAM_CPU_ISA</c> or the best there is.</param>
    /// <exception cref="RequestException">A number of threads or an instruction set that is none.</exception>
    /// <exception cref="BackendException">No native library, or an instruction set this machine lacks.</exception>
    public CpuBackend(int threads = 0, string? instructionSet = null)
    {
        if (threads is < 0 or > MostThreads)
        {
            throw new RequestException(nameof(SamModelOptions.Threads), $"is {threads}, expected 0 (all) to {MostThreads}");
        }
        NativeLibraryLoader.Ensure();
        int count = threads == 0 ? Math.Min(Environment.ProcessorCount, MostThreads) : threads;
        string? wanted = instructionSet ?? Environment.GetEnvironmentVariable(IsaVariable);
        int isa = string.IsNullOrEmpty(wanted) ? NativeCpu.sam_cpu_best_isa()
            : Array.FindIndex(IsaNames, n => n.Equals(wanted, StringComparison.OrdinalIgnoreCase));
        if (isa < 0)
        {
            throw new RequestException(instructionSet is null ? $"environment variable {IsaVariable}" : nameof(SamModelOptions.InstructionSet),
                $"is '{wanted}', expected one of: {string.Join(", ", IsaNames)}");
        }
        nint context;
        var status = NativeCpu.sam_cpu_create(isa, count, &context);
        if (status != NativeCpu.Status.Ok)
        {
            throw new BackendException("cpu", status == NativeCpu.Status.Unsupported
                ? $"this machine has no {IsaNames[isa]}{(instructionSet is null ? $", which {IsaVariable} asks for" : "")}; its best is {IsaNames[NativeCpu.sam_cpu_best_isa()]}"
                : $"can't start {count} threads: {(status == NativeCpu.Status.OutOfMemory ? "the system gives no more; ask for fewer" : status)}");
        }
        _context = new ContextHandle(context);
        Info = new BackendInfo("cpu", CpuName(), IsaNames[isa], count);
    }

    /// <summary>The instruction sets this machine can run, slowest first.</summary>
    public static IReadOnlyList<string> InstructionSets
    {
        get
        {
            NativeLibraryLoader.Ensure();
            return IsaNames[..(NativeCpu.sam_cpu_best_isa() + 1)];
        }
    }

    public override BackendInfo Info { get; }

    public override ElementType ActivationType => ElementType.F32;

    internal nint Context
    {
        get
        {
            ObjectDisposedException.ThrowIf(_context.IsClosed, this);
            return _context.DangerousGetHandle();
        }
    }

    public override DeviceBuffer Allocate(ElementType type, long length, string label) => type is ElementType.F32 or ElementType.I32
        ? new CpuBuffer(type, length, label)
        : throw new BackendException("cpu", $"'{label}': {type} buffers are not used on the CPU");

    public override Weight LoadMatrix(MatrixSource source) => new CpuWeight(source);

    public override KvCache CreateKvCache(KvCacheShape shape) => new CpuKvCache(shape);

    public override ComputeQueue CreateQueue() => new CpuQueue(this);

    protected override void Dispose(bool disposing) => _context.Dispose();

    private static string CpuName()
    {
        try
        {
            if (OperatingSystem.IsLinux())
            {
                string? line = File.ReadLines("/proc/cpuinfo")
                    .FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
                if (line is not null)
                {
                    return line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
                }
            }
        }
        catch (IOException)
        {
            // The name is for people only.
        }
        return RuntimeInformation.ProcessArchitecture.ToString();
    }

    private sealed class ContextHandle : SafeHandle
    {
        public ContextHandle(nint context)
            : base(0, ownsHandle: true)
        {
            SetHandle(context);
        }

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle()
        {
            NativeCpu.sam_cpu_destroy(handle);
            return true;
        }
    }
}
