using System.Runtime.CompilerServices;
using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>
/// Backend on one NVIDIA GPU, with the kernels of kernels/ and nothing but the driver beneath. Activations, keys and values
/// are fp16, bf16 or fp32; sums are fp32. A call of a queue that fails makes the backend unusable, as nobody knows what it
/// left behind; too little memory does not.
/// </summary>
internal sealed unsafe class CudaBackend : Backend
{
    private const string Remedy = "use smaller weights (Q8, Q4) or fewer KvCacheTokens, or end what else uses the GPU";

    /// <summary>What programmatic dependent launches need: the instruction that waits, and graphs that keep such launches.</summary>
    private const int DependentCapability = 90;
    private const int DependentVersion = 12_030;

    private readonly CudaStream _memoryStream;
    private readonly Stack<StreamLoan> _idle = [];
    private readonly List<CudaQueue> _queues = [];
    private readonly KernelImage? _image;
    private string? _failure;
    private int _frees;

    /// <param name="device">Its number in <see cref="CudaProvider.Devices"/>; null takes the first usable one.</param>
    /// <param name="activationType">F16, BF16 or F32.</param>
    /// <param name="variants">What <see cref="Variants"/> is at first.</param>
    /// <exception cref="BackendException">There is no such device, or it can't be used.</exception>
    public CudaBackend(int? device, ElementType activationType, CudaVariants variants = CudaVariants.None)
    {
        var found = Find(CudaDevice.All(), device);
        ActivationType = activationType;
        Context = new CudaContext(CudaDevice.Handle(found.Number));
        try
        {
            CudaErrors.Check(Context.Enter());
            _memoryStream = new CudaStream(Context);
            Multiprocessors = CudaDevice.Attribute(found.Number, CudaDeviceAttribute.MultiprocessorCount);
            _image = KernelImages.For(found.ComputeCapability);
            Kernels = new CudaKernels(Context, _image is null ? [0] : KernelImages.Read(_image, CudaKernels.Suffix(activationType)), activationType);
            Variants = variants;
        }
        catch
        {
            Dispose(true);
            throw;
        }
        Info = new BackendInfo(CudaErrors.Backend, found.Name,
            $"{activationType.ToString().ToLowerInvariant()}, {found.Kernels}", 0);
    }

    public override BackendInfo Info { get; }

    public override ElementType ActivationType { get; }

    public override string? Failure => _failure;

    internal CudaContext Context { get; }

    internal CudaKernels Kernels { get; } = null!;

    internal int Multiprocessors { get; }

    /// <summary>How launches from now on are made, where their shapes allow it.</summary>
    /// <exception cref="BackendException">The device can't.</exception>
    internal CudaVariants Variants
    {
        get;
        set => field = Refusal(value) is { } refusal ? throw new BackendException(CudaErrors.Backend, refusal) : value;
    }

    /// <summary>Held while a step is recorded, and by whatever would break a recording.</summary>
    internal Lock Gate { get; } = new();

    /// <summary>Grows whenever memory is freed: recordings made before may name memory that is gone.</summary>
    internal int Frees => Volatile.Read(ref _frees);

    public override void CheckBudget(MemoryBudget budget)
    {
        Enter();
        var (free, total) = Memory();
        if (budget.Total > free)
        {
            throw new BackendException(CudaErrors.Backend, $"the model does not fit: {Size(budget.Weights)} of weights, " +
                $"{Size(budget.Cache)} of keys and values and about {Size(budget.Workspace)} of workspace are {Size(budget.Total)}, " +
                $"{Size(free)} of {Size(total)} are free on {Info.Device}; {Remedy}");
        }
    }

    public override DeviceBuffer Allocate(ElementType type, long length, string label) => new CudaBuffer(this, type, length, label);

    public override Weight LoadMatrix(MatrixSource source) => new CudaWeight(this, source);

    public override KvCache CreateKvCache(KvCacheShape shape) => new CudaKvCache(this, shape);

    public override ComputeQueue CreateQueue() => OpenQueue();

    /// <summary>Why the device can't compute so; null when it can.</summary>
    internal string? Refusal(CudaVariants variants)
    {
        string kernels = _image?.ToString() ?? "the driver's own";
        if ((variants & CudaVariants.Wgmma) != 0 && Kernels.LinearWgmma is null)
        {
            return $"{CudaVariants.Wgmma} needs the kernels for sm_90a and activations of 16 bits; these are {kernels}, {ActivationType}";
        }
        if ((variants & CudaVariants.DependentLaunches) == 0)
        {
            return null;
        }
        // Others would not wait for the kernel in front of them.
        return _image?.Capability < DependentCapability && !KernelImages.DriverHasKernels
                ? $"{CudaVariants.DependentLaunches} needs kernels for compute capability 9.0 or later; these are {kernels}"
            : CudaLibrary.Version < DependentVersion
                ? $"{CudaVariants.DependentLaunches} needs a driver for CUDA {CudaLibrary.VersionText(DependentVersion)} or later, this one is for " +
                    CudaLibrary.VersionText(CudaLibrary.Version)
            : null;
    }

    /// <summary>A queue by its own type.</summary>
    internal CudaQueue OpenQueue()
    {
        Enter();
        lock (Gate)
        {
            if (!_idle.TryPop(out var loan))
            {
                loan = new StreamLoan(Context);
            }
            var queue = new CudaQueue(this, loan);
            _queues.Add(queue);
            return queue;
        }
    }

    /// <summary>Takes a queue's stream back; a disposed backend has no use for it.</summary>
    internal void Return(CudaQueue queue, StreamLoan loan)
    {
        lock (Gate)
        {
            _queues.Remove(queue);
            if (Context.IsClosed)
            {
                loan.Dispose();
            }
            else
            {
                _idle.Push(loan);
            }
        }
    }

    /// <summary>To be called first by everything that calls the driver.</summary>
    /// <exception cref="BackendException">The backend has failed before.</exception>
    internal void Enter()
    {
        ObjectDisposedException.ThrowIf(Context.IsClosed, this);
        ThrowIfFailed();
        Check(Context.Enter());
    }

    internal void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            throw new BackendException(CudaErrors.Backend, failure, isFatal: true);
        }
    }

    /// <summary>An error ends the backend's usefulness.</summary>
    /// <exception cref="BackendException">The status is an error.</exception>
    internal void Check(CudaStatus status, [CallerArgumentExpression(nameof(status))] string call = "")
    {
        if (status != CudaStatus.Success)
        {
            throw Fail(status, call);
        }
    }

    internal BackendException Fail(CudaStatus status, string call, string? what = null)
    {
        var error = CudaErrors.Failed(status, call, what, isFatal: true);
        // The first failure is the cause; later ones are its echo.
        Interlocked.CompareExchange(ref _failure, $"it failed before and can serve no further request: {error.Message}", null);
        return error;
    }

    /// <summary>Device memory filled with a byte.</summary>
    /// <exception cref="BackendException">There is not enough; nothing was allocated.</exception>
    internal DeviceMemory AllocateBytes(long bytes, string label, byte fill)
    {
        Enter();
        BreakRecording();
        nint pointer;
        var status = CudaDriver.cuMemAllocAsync(&pointer, (nuint)bytes, _memoryStream.Value);
        if (status == CudaStatus.OutOfMemory)
        {
            var (free, total) = Memory();
            throw new BackendException(CudaErrors.Backend, $"not enough memory for '{label}': {Size(bytes)} wanted, {Size(free)} of " +
                $"{Size(total)} free on {Info?.Device}; {Remedy}");
        }
        Check(status, nameof(CudaDriver.cuMemAllocAsync));
        var memory = new DeviceMemory(this, pointer, bytes);
        try
        {
            Check(CudaDriver.cuMemsetD8Async(pointer, fill, (nuint)bytes, _memoryStream.Value));
            // Queues have streams of their own.
            Check(CudaDriver.cuStreamSynchronize(_memoryStream.Value));
            return memory;
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>Gives memory back once nothing enqueued can use it any more. What outlives the backend goes by the default
    /// stream: finalizers come in any order, and may not throw.</summary>
    internal CudaStatus Free(nint pointer)
    {
        lock (Gate)
        {
            BreakRecording();
            foreach (var queue in _queues)
            {
                // An error is the queue's own to report.
                _ = queue.Drain();
            }
            Interlocked.Increment(ref _frees);
            // Memory may outlive the backend; the context outlives both. 0 is the default stream.
            nint stream = _memoryStream.IsClosed ? 0 : _memoryStream.Value;
            var status = CudaDriver.cuMemFreeAsync(pointer, stream);
            // Unused memory of the pool goes back to the system when a stream is waited for.
            return status != CudaStatus.Success ? status : CudaDriver.cuStreamSynchronize(stream);
        }
    }

    /// <summary>A step that allocates or frees can't be recorded: it starts anew, unrecorded. Only the recording thread comes
    /// here while a recording lasts.</summary>
    private void BreakRecording()
    {
        lock (Gate)
        {
            foreach (var queue in _queues)
            {
                queue.BreakRecording();
            }
        }
    }

    internal (long Free, long Total) Memory()
    {
        nuint free;
        nuint total;
        Check(CudaDriver.cuMemGetInfo_v2(&free, &total));
        return ((long)free, (long)total);
    }

    internal static string Size(long bytes) => bytes >= 1L << 30
        ? FormattableString.Invariant($"{bytes / (double)(1L << 30):0.00} GiB")
        : FormattableString.Invariant($"{bytes / (double)(1L << 20):0.00} MiB");

    protected override void Dispose(bool disposing)
    {
        lock (Gate)
        {
            while (_idle.TryPop(out var loan))
            {
                loan.Dispose();
            }
            _memoryStream?.Dispose();
        }
        Kernels?.Dispose();
        Context?.Dispose();
    }

    private static CudaDevice Find(IReadOnlyList<CudaDevice> devices, int? number)
    {
        if (number is { } wanted)
        {
            return wanted < 0 || wanted >= devices.Count
                ? throw new BackendException(CudaErrors.Backend, $"there is no device {wanted}, only 0 to {devices.Count - 1}; 'sam doctor' lists them")
                : devices[wanted] is { Refusal: { } refusal } device
                    ? throw new BackendException(CudaErrors.Backend, $"device {wanted} ({device.Name}) can't be used: {refusal}")
                    : devices[wanted];
        }
        return devices.FirstOrDefault(d => d.Refusal is null) ?? throw new BackendException(CudaErrors.Backend, devices.Count == 0
            ? "the CUDA driver finds no GPU"
            : "no GPU can be used: " + string.Join("; ", devices.Select(d => $"device {d.Number} ({d.Name}): {d.Refusal}")));
    }
}
