using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>Zero-filled device memory of floats or integers.</summary>
internal sealed class IlgpuBuffer : DeviceBuffer
{
    private readonly MemoryBuffer1D<float, Stride1D.Dense>? _floats;
    private readonly MemoryBuffer1D<int, Stride1D.Dense>? _ints;

    public IlgpuBuffer(IlgpuBackend backend, ElementType type, long length, string label)
        : base(type, length, label)
    {
        switch (type)
        {
            case ElementType.F32:
                _floats = backend.AllocateArray<float>(length, label);
                _floats.MemSetToZero();
                break;
            case ElementType.I32:
                _ints = backend.AllocateArray<int>(length, label);
                _ints.MemSetToZero();
                break;
            default:
                throw new BackendException("ilgpu", $"'{label}': {type} buffers are not used");
        }
        backend.Accelerator.Synchronize();
    }

    public ArrayView<float> Floats => _floats!.View;

    public ArrayView<int> Ints => _ints!.View;

    protected override void Dispose(bool disposing)
    {
        _floats?.Dispose();
        _ints?.Dispose();
    }
}

/// <summary>Keys and values on the device, each [layers, blocks * block size, width].</summary>
internal sealed class IlgpuKvCache : KvCache
{
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _memory;

    public IlgpuKvCache(IlgpuBackend backend, KvCacheShape shape)
        : base(shape)
    {
        _memory = backend.AllocateArray<float>(checked(shape.Elements * 2), "key/value cache");
        _memory.MemSetToZero();
        backend.Accelerator.Synchronize();
    }

    public override long ByteLength => checked(Shape.Elements * 2 * sizeof(float));

    public ArrayView<float> Keys => _memory.View.SubView(0, Shape.Elements);

    public ArrayView<float> Values => _memory.View.SubView(Shape.Elements, Shape.Elements);

    public CacheView Layer(int layer)
    {
        long elements = Shape.Elements / Shape.Layers;
        return new CacheView(Keys.SubView(layer * elements, elements), Values.SubView(layer * elements, elements), Shape.Heads,
            Shape.HeadDim, Shape.BlockSize);
    }

    protected override void Dispose(bool disposing) => _memory.Dispose();
}

/// <summary>A weight matrix on the device: its parts one after the other, quantised ones row by row (<see cref="WeightView"/>).</summary>
internal sealed class IlgpuWeight : Weight
{
    /// <summary>Rows of a quantised matrix are laid out anew on the host this many bytes at a time.</summary>
    private const int ChunkBytes = 1 << 24;

    private readonly MemoryBuffer1D<byte, Stride1D.Dense> _data;
    private readonly MemoryBuffer1D<ushort, Stride1D.Dense>? _scales;

    public IlgpuWeight(IlgpuBackend backend, MatrixSource source)
        : base(source.Name, source.Format, source.Rows, source.Columns)
    {
        bool quantized = source.Format.IsQuantized();
        int groups = quantized ? QuantizedLayout.Groups(Columns, source.GroupSize) : 1;
        int stride = quantized ? groups * source.GroupSize : Columns;
        long rowBytes = Format switch
        {
            WeightFormat.Q8 => stride,
            WeightFormat.Q4 => stride / 2,
            WeightFormat.F32 => (long)stride * sizeof(float),
            _ => (long)stride * sizeof(ushort),
        };
        _data = backend.AllocateArray<byte>(checked(Rows * rowBytes), source.Name);
        try
        {
            _scales = quantized ? backend.AllocateArray<ushort>((long)Rows * groups, source.Name) : null;
        }
        catch (BackendException)
        {
            _data.Dispose();
            throw;
        }
        var data = _data.View;
        View = new WeightView(
            Format == WeightFormat.F32 ? data.Cast<byte, float>() : default,
            Format is WeightFormat.F16 or WeightFormat.BF16 ? data.Cast<byte, ushort>() : default,
            quantized ? data : default, quantized ? _scales!.View : default,
            quantized ? data.Cast<byte, uint>() : default, backend.Levels, source.GroupSize, groups, stride);
        long at = 0;
        foreach (var part in source.Parts)
        {
            if (quantized)
            {
                UploadRows(part, at, source.GroupSize, groups, (int)rowBytes);
            }
            else
            {
                Upload(part, at * rowBytes);
            }
            at += part.Rows;
        }
        backend.Accelerator.Synchronize();
    }

    public WeightView View { get; }

    public override long OwnedBytes => _data.LengthInBytes + (_scales?.LengthInBytes ?? 0);

    protected override void Dispose(bool disposing)
    {
        _data.Dispose();
        _scales?.Dispose();
    }

    private unsafe void Upload(MatrixPart part, long at) => _data.View.SubView(at, part.ByteLength)
        .CopyFromCPU(ref *(byte*)part.Address, part.ByteLength);

    /// <summary>Row by row on the device: its kernels have no use for rows that are interleaved for vector registers.
    /// Given as spans, which ILGPU pins; arrays by reference it does not.</summary>
    private unsafe void UploadRows(MatrixPart part, long firstRow, int groupSize, int groups, int rowBytes)
    {
        sbyte[] levels = new sbyte[groups * groupSize];
        int chunk = Math.Clamp(ChunkBytes / rowBytes, 1, part.Rows);
        byte[] codes = new byte[chunk * rowBytes];
        ushort[] scales = new ushort[chunk * groups];
        for (int start = 0; start < part.Rows; start += chunk)
        {
            int count = Math.Min(chunk, part.Rows - start);
            for (int row = 0; row < count; row++)
            {
                QuantizedLayout.ReadRow((void*)part.Address, Format, part.Rows, Columns, groupSize, start + row, levels,
                    scales.AsSpan(row * groups, groups));
                var to = codes.AsSpan(row * rowBytes, rowBytes);
                if (Format == WeightFormat.Q8)
                {
                    MemoryMarshal.AsBytes(levels.AsSpan()).CopyTo(to);
                    continue;
                }
                for (int i = 0; i < to.Length; i++)
                {
                    to[i] = (byte)(QuantizedLayout.Levels.IndexOf(levels[2 * i]) | QuantizedLayout.Levels.IndexOf(levels[2 * i + 1]) << 4);
                }
            }
            _data.View.BaseView.SubView((firstRow + start) * rowBytes, (long)count * rowBytes)
                .CopyFromCPU(codes.AsSpan(0, count * rowBytes));
            _scales!.View.BaseView.SubView((firstRow + start) * groups, (long)count * groups)
                .CopyFromCPU(scales.AsSpan(0, count * groups));
        }
    }
}
