using System.Runtime.InteropServices;
using SamEngine.Compute;

namespace SamEngine.Testing.Reference;

/// <summary>
/// Every operation written down plainly: double accumulation, memory of its own, no speed. The oracle of the conformance
/// suite. What a real device would only misbehave over is an error here: a buffer used after its end, a key or value read
/// before it was written.
/// </summary>
/// <param name="activationType">Type that activations have on the backend under test: values are rounded to it when they are
/// uploaded, and nowhere else.</param>
internal sealed class ReferenceBackend(ElementType activationType = ElementType.F32) : Backend
{
    public override BackendInfo Info { get; } = new("reference", "C#", "none", 1);

    public override ElementType ActivationType => activationType;

    public override DeviceBuffer Allocate(ElementType type, long length, string label) =>
        new ReferenceBuffer(type, length, label);

    public override Weight LoadMatrix(MatrixSource source) => new ReferenceWeight(source);

    public override KvCache CreateKvCache(KvCacheShape shape) => new ReferenceKvCache(shape);

    public override ComputeQueue CreateQueue() => new ReferenceQueue(activationType);

    protected override void Dispose(bool disposing)
    {
    }
}

/// <summary>Device memory of the reference: an array per type that no view can reach past its life.</summary>
internal sealed class ReferenceBuffer(ElementType type, long length, string label) : DeviceBuffer(type, length, label)
{
    private float[]? _floats = type == ElementType.I32 ? null : new float[length];
    private int[]? _ints = type == ElementType.I32 ? new int[length] : null;
    private bool _disposed;

    public float[] Floats => _disposed ? throw new ObjectDisposedException(Label) : _floats!;

    public int[] Ints => _disposed ? throw new ObjectDisposedException(Label) : _ints!;

    protected override void Dispose(bool disposing)
    {
        _disposed = true;
        _floats = null;
        _ints = null;
    }
}

/// <summary>A matrix widened to floats, in a copy.</summary>
internal sealed class ReferenceWeight : Weight
{
    public ReferenceWeight(MatrixSource source)
        : base(source.Name, source.Format, source.Rows, source.Columns)
    {
        Values = new float[(long)source.Rows * source.Columns];
        int row = 0;
        foreach (var part in source.Parts)
        {
            Widen(source, part, Values.AsSpan(row * source.Columns, part.Rows * source.Columns));
            row += part.Rows;
        }
    }

    public float[] Values { get; }

    public override long OwnedBytes => Values.LongLength * sizeof(float);

    protected override void Dispose(bool disposing)
    {
    }

    private static unsafe void Widen(MatrixSource source, MatrixPart part, Span<float> values)
    {
        var bytes = new ReadOnlySpan<byte>((void*)part.Address, (int)part.ByteLength);
        var singles = MemoryMarshal.Cast<byte, float>(bytes);
        var halves = MemoryMarshal.Cast<byte, Half>(bytes);
        var words = MemoryMarshal.Cast<byte, ushort>(bytes);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = source.Format switch
            {
                WeightFormat.F32 => singles[i],
                WeightFormat.F16 => (float)halves[i],
                WeightFormat.BF16 => BitConverter.UInt32BitsToSingle((uint)words[i] << 16),
                _ => QuantizedLayout.Value(bytes, source.Format, part.Rows, source.Columns, source.GroupSize,
                    i / source.Columns, i % source.Columns),
            };
        }
    }
}

/// <summary>Keys and values with a mark for every slot that was written.</summary>
internal sealed class ReferenceKvCache(KvCacheShape shape) : KvCache(shape)
{
    public float[] Keys { get; } = new float[shape.Elements];

    public float[] Values { get; } = new float[shape.Elements];

    public bool[] Written { get; } = new bool[shape.Layers * shape.Blocks * shape.BlockSize];

    public override long ByteLength => Shape.Elements * 2 * sizeof(float);

    /// <summary>Slot number over all layers.</summary>
    public int Slot(int layer, int slot) => layer * Shape.Blocks * Shape.BlockSize + slot;

    protected override void Dispose(bool disposing)
    {
    }
}
