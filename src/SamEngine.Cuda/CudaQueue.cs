using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>Enqueues kernels on a stream of its own. Values go up and down through pinned memory; a step allocates nothing
/// and waits once, for what it reads back.</summary>
internal sealed unsafe partial class CudaQueue : ComputeQueue
{
    private readonly CudaBackend _backend;
    private readonly StreamLoan _loan;
    private readonly nint _stream;
    private readonly List<PendingRead> _reads = [];
    private DeviceMemory? _scratch;
    private int _readBytes;
    private bool _disposed;

    public CudaQueue(CudaBackend backend, StreamLoan loan)
        : base(backend.ActivationType)
    {
        _backend = backend;
        _loan = loan;
        _stream = loan.Stream.Value;
    }

    public override void Synchronize()
    {
        EnterUnrecorded();
        try
        {
            _backend.Check(CudaDriver.cuStreamSynchronize(_stream));
            foreach (var read in _reads)
            {
                Deliver(read);
            }
        }
        finally
        {
            _reads.Clear();
            _readBytes = 0;
        }
    }

    /// <summary>The driver's handle, for measuring.</summary>
    internal nint Stream => _stream;

    public override TimeSpan Between(int from, int to)
    {
        Enter();
        float milliseconds;
        _backend.Check(CudaDriver.cuEventElapsedTime(&milliseconds, _loan.Marks[from].Value, _loan.Marks[to].Value));
        return TimeSpan.FromMilliseconds(milliseconds);
    }

    /// <summary>Waits for the stream, whatever becomes of it; only under the backend's gate.</summary>
    internal CudaStatus Drain() => _loan.Stream.IsClosed ? CudaStatus.Success : CudaDriver.cuStreamSynchronize(_stream);

    /// <summary>Pinned memory for at most <see cref="StagingRing.SegmentBytes"/> to <see cref="Send"/>.</summary>
    internal byte* Stage(int bytes)
    {
        EnterUnrecorded();
        return _loan.Staging.Take(bytes, _backend, _loan.Stream);
    }

    /// <summary>Enqueues the copy of what was staged.</summary>
    internal void Send(ReadOnlySpan<byte> staged, nint destination)
    {
        fixed (byte* source = staged)
        {
            _backend.Check(CudaDriver.cuMemcpyHtoDAsync_v2(destination, source, (nuint)staged.Length, _stream));
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (_disposed)
        {
            return;
        }
        _disposed = true;
        // What is still enqueued may use what goes now; that it failed was, or will be, told elsewhere.
        _ = _backend.Context.Enter();
        _ = Drain();
        DropRecordings();
        _scratch?.Dispose();
        _tickets?.Dispose();
        _backend.Return(this, _loan);
    }

    protected override void UploadCore(ReadOnlySpan<byte> values, TensorView destination)
    {
        int size = destination.Type.ByteSize();
        nint to = Pointer(destination);
        while (!values.IsEmpty)
        {
            // Four bytes a value on this side.
            int count = Math.Min(values.Length / 4, StagingRing.SegmentBytes / size);
            var staging = new Span<byte>(Stage(count * size), count * size);
            Narrow(values[..(count * 4)], destination.Type, staging);
            Send(staging, to);
            values = values[(count * 4)..];
            to += count * size;
        }
    }

    protected override void ReadBackCore(TensorView source, Span<byte> values)
    {
        Synchronize();
        int size = source.Type.ByteSize();
        nint from = Pointer(source);
        while (!values.IsEmpty)
        {
            int count = Math.Min(values.Length / 4, StagingRing.SegmentBytes / size);
            Receive(from, 0, count * size);
            _backend.Check(CudaDriver.cuStreamSynchronize(_stream));
            Widen(new ReadOnlySpan<byte>(_loan.Staging.ReadBack, count * size), source.Type, values[..(count * 4)]);
            values = values[(count * 4)..];
            from += count * size;
        }
    }

    protected override void EnqueueReadBackCore(TensorView source, Array values)
    {
        EnterUnrecorded();
        long bytes = source.Count * source.Type.ByteSize();
        if (_readBytes + bytes > StagingRing.SegmentBytes)
        {
            base.EnqueueReadBackCore(source, values);
            return;
        }
        Receive(Pointer(source), _readBytes, (int)bytes);
        _reads.Add(new PendingRead(_readBytes, (int)source.Count, source.Type, values));
        _readBytes += (int)bytes;
    }

    protected override void MarkCore(int number)
    {
        EnterUnrecorded();
        _backend.Check(CudaDriver.cuEventRecord(_loan.Marks[number].Value, _stream));
    }

    private static nint Pointer(TensorView view) =>
        ((CudaBuffer)view.Buffer).Pointer + (nint)(view.Offset * view.Type.ByteSize());

    private static void Narrow(ReadOnlySpan<byte> values, ElementType type, Span<byte> to)
    {
        var floats = MemoryMarshal.Cast<byte, float>(values);
        switch (type)
        {
            case ElementType.F16:
                TensorPrimitives.ConvertToHalf(floats, MemoryMarshal.Cast<byte, Half>(to));
                break;
            case ElementType.BF16:
                var narrow = MemoryMarshal.Cast<byte, ushort>(to);
                for (int i = 0; i < floats.Length; i++)
                {
                    narrow[i] = TensorData.ToBFloat16(floats[i]);
                }
                break;
            default:
                values.CopyTo(to);
                break;
        }
    }

    private static void Widen(ReadOnlySpan<byte> values, ElementType type, Span<byte> to)
    {
        var floats = MemoryMarshal.Cast<byte, float>(to);
        switch (type)
        {
            case ElementType.F16:
                TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(values), floats);
                break;
            case ElementType.BF16:
                var narrow = MemoryMarshal.Cast<byte, ushort>(values);
                for (int i = 0; i < floats.Length; i++)
                {
                    floats[i] = BitConverter.UInt32BitsToSingle((uint)narrow[i] << 16);
                }
                break;
            default:
                values.CopyTo(to);
                break;
        }
    }

    private void Deliver(in PendingRead read) => Widen(
        new ReadOnlySpan<byte>(_loan.Staging.ReadBack + read.Offset, read.Count * read.Type.ByteSize()), read.Type,
        MemoryMarshal.CreateSpan(ref MemoryMarshal.GetArrayDataReference(read.Values), read.Count * 4));

    private void Receive(nint source, int offset, int bytes) =>
        _backend.Check(CudaDriver.cuMemcpyDtoHAsync_v2(_loan.Staging.ReadBack + offset, source, (nuint)bytes, _stream));

    private void Enter()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _backend.Enter();
    }

    /// <summary>For what a recording could not repeat.</summary>
    private void EnterUnrecorded()
    {
        if (_isRecording)
        {
            throw new InvalidOperationException("a step that is recorded uploads, reads back or waits");
        }
        Enter();
    }

    /// <summary>Memory for what an operation keeps between its kernels. Grown to a power of two over the largest need seen,
    /// and kept: steps of a text that grows allocate nothing.</summary>
    private nint Scratch(long bytes)
    {
        if (_scratch is null || _scratch.ByteLength < bytes)
        {
            _scratch?.Dispose();
            _scratch = null;
            _scratch = _backend.AllocateBytes((long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)bytes), "scratch memory", 0);
        }
        return _scratch.Value;
    }

    private void Launch<TArguments>(CudaKernel kernel, LaunchShape shape, TArguments arguments)
        where TArguments : unmanaged
    {
        Enter();
        void* argument = &arguments;
        if ((_backend.Variants & CudaVariants.DependentLaunches) != 0)
        {
            LaunchDependent(kernel, shape, &argument);
            return;
        }
        var status = CudaDriver.cuLaunchKernel(kernel.Function, shape.GridX, shape.GridY, shape.GridZ, shape.Block, 1, 1,
            shape.SharedBytes, _stream, &argument, null);
        if (status != CudaStatus.Success)
        {
            throw _backend.Fail(status, nameof(CudaDriver.cuLaunchKernel), kernel.Name);
        }
        kernel.WasLaunched = true;
    }

    /// <summary>Values on their way into an array.</summary>
    private readonly record struct PendingRead(int Offset, int Count, ElementType Type, Array Values);
}

/// <summary>Blocks of a launch, threads of a block, dynamic shared memory of a block.</summary>
internal readonly record struct LaunchShape(uint GridX, uint Block, uint SharedBytes = 0, uint GridY = 1, uint GridZ = 1);
