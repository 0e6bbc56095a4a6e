namespace SamEngine.Compute;

/// <summary>What a backend runs on, as <c>sam doctor</c> prints it.</summary>
/// <param name="Name">Short name: "cpu", "cuda", "ilgpu".</param>
/// <param name="Device">The processor or GPU.</param>
/// <param name="InstructionSet">Kernels chosen: "avx512", "sm_90a", ...</param>
/// <param name="Threads">Threads it computes with; 0 where that has no meaning.</param>
public sealed record BackendInfo(string Name, string Device, string InstructionSet, int Threads);

/// <summary>Memory that a model will take of a backend that copies its weights.</summary>
/// <param name="Weights">Bytes of matrices and vectors.</param>
/// <param name="Cache">Bytes of keys and values.</param>
/// <param name="Workspace">Bytes of intermediate results of a large request.</param>
internal readonly record struct MemoryBudget(long Weights, long Cache, long Workspace)
{
    public long Total => checked(Weights + Cache + Workspace);
}

/// <summary>
/// A place to compute: it owns memory, lays out weights, and makes queues that run the operations of
/// <see cref="ComputeQueue"/>. Thread-safe; queues are not.
/// </summary>
internal abstract class Backend : IDisposable
{
    public abstract BackendInfo Info { get; }

    /// <summary>Type of activations between operations.</summary>
    public abstract ElementType ActivationType { get; }

    /// <summary>Whether the first use of an operation takes longer than the next, as code is still compiled: a model then runs a
    /// small request while it is loaded.</summary>
    public virtual bool WantsWarmUp => false;

    /// <summary>Why it can serve no further request; null while it can.</summary>
    public virtual string? Failure => null;

    /// <summary>Called before a model is loaded. By default nothing is checked: the system backs memory as it is used.</summary>
    /// <exception cref="BackendException">The model can't fit; the message has the numbers.</exception>
    public virtual void CheckBudget(MemoryBudget budget)
    {
    }

    /// <summary>Zero-filled memory.</summary>
    /// <exception cref="BackendException">Not enough memory; nothing was allocated.</exception>
    public abstract DeviceBuffer Allocate(ElementType type, long length, string label);

    /// <summary>Lays out a weight matrix, in place where the backend can.</summary>
    /// <exception cref="BackendException">Format not supported by this backend, or not enough memory.</exception>
    public abstract Weight LoadMatrix(MatrixSource source);

    public abstract KvCache CreateKvCache(KvCacheShape shape);

    public abstract ComputeQueue CreateQueue();

    /// <summary>A bias, gain or table of fp32 values as a [1, 1, length] view, uploaded at once.</summary>
    public TensorView LoadVector(string name, ReadOnlySpan<float> values) => LoadTable(name, values, 1, values.Length);

    /// <summary>A [1, rows, columns] fp32 table, uploaded at once.</summary>
    public TensorView LoadTable(string name, ReadOnlySpan<float> values, int rows, int columns)
    {
        var buffer = Allocate(ElementType.F32, (long)rows * columns, name);
        try
        {
            var view = buffer.View(rows, columns);
            using var queue = CreateQueue();
            queue.Upload(values, view);
            queue.Synchronize();
            return view;
        }
        catch
        {
            buffer.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}
