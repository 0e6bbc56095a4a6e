using ILGPU;
using ILGPU.Runtime;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>Zero-filled device memory of floats or integers.</summary>
internal sealed class IlgpuBuffer : DeviceBuffer
{
    private readonly MemoryBuffer _memory;

    public IlgpuBuffer(Accelerator accelerator, ElementType type, long length, string label)
        : base(type, length, label)
    {
        switch (type)
        {
            case ElementType.F32:
                _memory = accelerator.Allocate1D<float>(length);
                Floats.MemSetToZero();
                break;
            case ElementType.I32:
                _memory = accelerator.Allocate1D<int>(length);
                Ints.MemSetToZero();
                break;
            default:
                throw new BackendException("ilgpu", $"'{label}': {type} buffers are not used");
        }
        accelerator.Synchronize();
    }

    public ArrayView<float> Floats => ((MemoryBuffer1D<float, Stride1D.Dense>)_memory).View;

    public ArrayView<int> Ints => ((MemoryBuffer1D<int, Stride1D.Dense>)_memory).View;

    protected override void Dispose(bool disposing) => _memory.Dispose();
}

/// <summary>A weight matrix on the device: its parts one after the other; quantised parts are split into scales and
/// codes.</summary>
internal sealed class IlgpuWeight : Weight
{
    private readonly MemoryBuffer1D<byte, Stride1D.Dense> _data;
    private readonly MemoryBuffer1D<ushort, Stride1D.Dense> _scales;

    public IlgpuWeight(Accelerator accelerator, MatrixSource source)
        : base(source.Name, source.Format, source.Rows, source.Columns)
    {
        GroupSize = source.GroupSize;
        long scaleCount = GroupSize == 0 ? 0 : (long)Rows * (Columns / GroupSize);
        long dataBytes = source.Parts.Sum(p => p.ByteLength) - 2 * scaleCount;
        try
        {
            _data = accelerator.Allocate1D<byte>(dataBytes);
            _scales = accelerator.Allocate1D<ushort>(Math.Max(1, scaleCount));
        }
        catch (Exception e) when (e is OutOfMemoryException or AcceleratorException)
        {
            _data?.Dispose();
            throw new BackendException("ilgpu", $"not enough memory for '{source.Name}': {dataBytes} bytes");
        }
        Upload(source);
    }

    /// <summary>Columns that share a scale; 0 for the floating-point formats.</summary>
    public int GroupSize { get; }

    public override long OwnedBytes => _data.LengthInBytes + (GroupSize == 0 ? 0 : _scales.LengthInBytes);

    /// <summary>Elements, or codes.</summary>
    public ArrayView1D<byte, Stride1D.Dense> Data => _data.View;

    /// <summary>fp16 scales as their bits, [rows, columns / group].</summary>
    public ArrayView<ushort> Scales => _scales.View;

    protected override void Dispose(bool disposing)
    {
        _data.Dispose();
        _scales.Dispose();
    }

    private unsafe void Upload(MatrixSource source)
    {
        long dataAt = 0;
        long scaleAt = 0;
        foreach (var part in source.Parts)
        {
            byte* from = (byte*)part.Address;
            long scaleBytes = GroupSize == 0 ? 0 : QuantizedLayout.ScaleBytes(part.Rows, Columns, GroupSize);
            if (scaleBytes > 0)
            {
                _scales.View.SubView(scaleAt, scaleBytes / 2).CopyFromCPU(ref *(ushort*)from, scaleBytes / 2);
                scaleAt += scaleBytes / 2;
            }
            long bytes = part.ByteLength - scaleBytes;
            _data.View.SubView(dataAt, bytes).CopyFromCPU(ref *(from + scaleBytes), bytes);
            dataAt += bytes;
        }
    }
}
