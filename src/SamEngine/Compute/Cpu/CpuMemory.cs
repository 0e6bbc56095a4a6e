using System.Runtime.InteropServices;

namespace SamEngine.Compute.Cpu;

/// <summary>Zero-filled, 64-byte aligned memory. Pages are backed when first touched.</summary>
internal sealed unsafe class CpuMemory : SafeHandle
{
    private const int Slack = 64;
    private readonly long _byteLength;

    public CpuMemory(long byteLength, string label)
        : base(0, ownsHandle: true)
    {
        _byteLength = byteLength;
        try
        {
            // calloc leaves untouched pages unbacked; the extra bytes make room to align.
            SetHandle((nint)NativeMemory.AllocZeroed(checked((nuint)byteLength + Slack)));
        }
        catch (OutOfMemoryException e)
        {
            throw new BackendException("cpu", $"not enough memory for '{label}': {byteLength} bytes", inner: e);
        }
        byte* end = Pointer + byteLength;
        NativeCpu.sam_cpu_guard(end, (byte*)handle + byteLength + Slack - end);
        GC.AddMemoryPressure(byteLength);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>First byte, aligned to 64.</summary>
    public byte* Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return (byte*)((handle + 63) & ~(nint)63);
        }
    }

    protected override bool ReleaseHandle()
    {
        NativeMemory.Free((void*)handle);
        GC.RemoveMemoryPressure(_byteLength);
        return true;
    }
}

internal sealed unsafe class CpuBuffer(ElementType type, long length, string label)
    : DeviceBuffer(type, length, label)
{
    private readonly CpuMemory _memory = new(checked(length * type.ByteSize()), label);

    public byte* Pointer => _memory.Pointer;

    protected override void Dispose(bool disposing) => _memory.Dispose();
}

internal sealed unsafe class CpuKvCache : KvCache
{
    private readonly CpuMemory _memory;
    private readonly CpuMemory _descriptor;

    public CpuKvCache(KvCacheShape shape)
        : base(shape)
    {
        _memory = new CpuMemory(ByteLength, "key/value cache");
        _descriptor = new CpuMemory(sizeof(NativeCpu.Cache), "key/value cache");
        *Native = new NativeCpu.Cache
        {
            Keys = (float*)_memory.Pointer,
            Values = (float*)_memory.Pointer + shape.Elements,
            Layers = shape.Layers,
            Heads = shape.Heads,
            HeadDim = shape.HeadDim,
            BlockSize = shape.BlockSize,
            Blocks = shape.Blocks,
        };
    }

    public override long ByteLength => checked(Shape.Elements * 2 * sizeof(float));

    public NativeCpu.Cache* Native => (NativeCpu.Cache*)_descriptor.Pointer;

    protected override void Dispose(bool disposing)
    {
        _memory.Dispose();
        _descriptor.Dispose();
    }
}

/// <summary>A matrix read where the checkpoint has it.</summary>
internal sealed unsafe class CpuWeight : Weight
{
    private readonly CpuMemory _descriptor;
    private readonly object[] _owners;

    public CpuWeight(MatrixSource source)
        : base(source.Name, source.Format, source.Rows, source.Columns)
    {
        _owners = [.. source.Parts.Select(p => p.Owner)];
        _descriptor = new CpuMemory(sizeof(NativeCpu.WeightMatrix) + (long)sizeof(NativeCpu.Part) * source.Parts.Count,
            source.Name);
        var parts = (NativeCpu.Part*)(Native + 1);
        for (int i = 0; i < source.Parts.Count; i++)
        {
            parts[i] = new NativeCpu.Part { Data = (void*)source.Parts[i].Address, Rows = source.Parts[i].Rows };
        }
        *Native = new NativeCpu.WeightMatrix
        {
            Parts = parts,
            PartCount = source.Parts.Count,
            Rows = source.Rows,
            Columns = source.Columns,
            Format = (int)source.Format,
            GroupSize = source.GroupSize,
        };
    }

    public override long OwnedBytes => 0;

    public NativeCpu.WeightMatrix* Native => (NativeCpu.WeightMatrix*)_descriptor.Pointer;

    protected override void Dispose(bool disposing)
    {
        _descriptor.Dispose();
        GC.KeepAlive(_owners);
    }
}
