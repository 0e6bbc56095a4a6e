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

/// <summary>A weight matrix on the device: its parts one after the other.</summary>
internal sealed class IlgpuWeight : Weight
{
    private readonly MemoryBuffer1D<byte, Stride1D.Dense> _data;
    private readonly MemoryBuffer1D<ushort, Stride1D.Dense> _scales;

    public IlgpuWeight(Accelerator accelerator, MatrixSource source)
        : base(source.Name, source.Format, source.Rows, source.Columns)
    {
        GroupSize = source.GroupSize;
        long scaleCount = GroupSize == 0 ? 0 : (long)Rows * QuantizedLayout.Groups(Columns, GroupSize);
        long dataBytes = GroupSize == 0 ? source.Parts.Sum(p => p.ByteLength) : scaleCount * GroupSize;
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

    /// <summary>Elements; quantised: [rows, groups * group] levels, signed bytes for Q8 and Q4 alike.</summary>
    public ArrayView1D<byte, Stride1D.Dense> Data => _data.View;

    /// <summary>fp16 scales as their bits, [rows, groups].</summary>
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
            if (GroupSize == 0)
            {
                _data.View.SubView(dataAt, part.ByteLength).CopyFromCPU(ref *(byte*)part.Address, part.ByteLength);
                dataAt += part.ByteLength;
                continue;
            }
            // Row by row on the device: its kernels have no use for rows that are interleaved for vector registers.
            int groups = QuantizedLayout.Groups(Columns, GroupSize);
            byte[] levels = new byte[groups * GroupSize];
            ushort[] scales = new ushort[groups];
            for (int row = 0; row < part.Rows; row++)
            {
                QuantizedLayout.ReadRow((void*)part.Address, Format, part.Rows, Columns, GroupSize, row,
                    System.Runtime.InteropServices.MemoryMarshal.Cast<byte, sbyte>(levels.AsSpan()), scales);
                _data.View.SubView(dataAt, levels.Length).CopyFromCPU(levels);
                _scales.View.SubView(scaleAt, groups).CopyFromCPU(scales);
                dataAt += levels.Length;
                scaleAt += groups;
            }
        }
    }
}
