using SamEngine.Compute;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>
/// Pinned memory through which a stream's uploads and read-backs go. Uploads take turns in a ring of segments: the host
/// goes on while the device still reads, and waits only when it comes round to a segment that is not read yet. Nothing is
/// allocated after construction. Not thread-safe.
/// </summary>
internal sealed unsafe class StagingRing : IDisposable
{
    /// <summary>Most bytes that one piece of an upload, or of a read-back, can have.</summary>
    public const int SegmentBytes = 1 << 20;

    private const int Segments = 4;
    private const int Alignment = 256;

    private readonly PinnedMemory _memory;
    private readonly CudaEvent[] _read = new CudaEvent[Segments];
    private readonly bool[] _pending = new bool[Segments];
    private int _segment;
    private int _used;

    public StagingRing(CudaContext context)
    {
        _memory = new PinnedMemory(context, (Segments + 1) * SegmentBytes);
        try
        {
            for (int i = 0; i < Segments; i++)
            {
                _read[i] = new CudaEvent(context, CudaDriver.EventDisableTiming);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Where read-backs arrive: <see cref="SegmentBytes"/> behind the ring.</summary>
    public byte* ReadBack => _memory.Pointer + (long)Segments * SegmentBytes;

    /// <summary>Room for a piece that the stream will read next.</summary>
    public byte* Take(int bytes, CudaBackend backend, CudaStream stream)
    {
        int taken = (bytes + Alignment - 1) / Alignment * Alignment;
        if (_used + taken > SegmentBytes)
        {
            backend.Check(CudaDriver.cuEventRecord(_read[_segment].Value, stream.Value));
            _pending[_segment] = true;
            _segment = (_segment + 1) % Segments;
            _used = 0;
            if (_pending[_segment])
            {
                backend.Check(CudaDriver.cuEventSynchronize(_read[_segment].Value));
                _pending[_segment] = false;
            }
        }
        byte* room = _memory.Pointer + (long)_segment * SegmentBytes + _used;
        _used += taken;
        return room;
    }

    public void Dispose()
    {
        foreach (var read in _read)
        {
            read?.Dispose();
        }
        _memory.Dispose();
    }
}

/// <summary>A stream, its pinned memory and its marks: made once, lent to one queue at a time.</summary>
internal sealed class StreamLoan : IDisposable
{
    public StreamLoan(CudaContext context)
    {
        try
        {
            Stream = new CudaStream(context);
            Staging = new StagingRing(context);
            for (int i = 0; i < Marks.Length; i++)
            {
                Marks[i] = new CudaEvent(context, CudaDriver.EventTiming);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public CudaStream Stream { get; } = null!;

    public StagingRing Staging { get; } = null!;

    public CudaEvent[] Marks { get; } = new CudaEvent[ComputeQueue.Marks];

    public void Dispose()
    {
        foreach (var mark in Marks)
        {
            mark?.Dispose();
        }
        Staging?.Dispose();
        Stream?.Dispose();
    }
}
