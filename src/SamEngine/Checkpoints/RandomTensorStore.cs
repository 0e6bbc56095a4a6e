using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using SamEngine.Compute;
using SamEngine.Model;

namespace SamEngine.Checkpoints;

/// <summary>
/// Random weights of any dimensions in memory, for benchmarks of shapes whose files would take minutes to write: tensors of
/// one kind, shape and format share their values, so that a model of 7 billion weights takes a few hundred megabytes here.
/// Deterministic for a seed, of <see cref="RandomModelWriter"/>'s deviations, never zeros.
/// </summary>
internal sealed unsafe class RandomTensorStore : TensorStore
{
    private const int PieceElements = 1 << 16;
    private readonly Dictionary<string, (long[] Shape, TensorDType DType)> _tensors;
    private readonly Dictionary<(string Kind, string Shape, TensorDType DType), Block> _blocks = [];
    private readonly int _groupSize;
    private readonly ulong _seed;

    /// <param name="config">Dimensions.</param>
    /// <param name="formats">Of the matrices, by part; fp16 where a part has none. Vectors and small tables are fp32.</param>
    /// <param name="seed">Of the values.</param>
    public RandomTensorStore(SamConfig config, WeightFormats formats, ulong seed)
        : base("random weights")
    {
        formats.CheckGroupSize();
        _groupSize = formats.GroupSize;
        _seed = seed;
        _tensors = RandomModelWriter.Tensors(config).ToDictionary(t => t.Name, t => (t.Shape,
            IsMatrix(t.Name, t.Shape) ? DTypeOf(formats.Of(t.Name), t.Shape) : TensorDType.F32), StringComparer.Ordinal);
        Names = [.. _tensors.Keys.Order(StringComparer.Ordinal)];
    }

    public override IReadOnlyCollection<string> Names { get; }

    public override bool TryGet(string name, [NotNullWhen(true)] out TensorData? tensor)
    {
        if (!_tensors.TryGetValue(name, out var entry))
        {
            tensor = null;
            return false;
        }
        var (shape, type) = entry;
        var key = (RandomModelWriter.KindOf(name, shape), string.Join('x', shape), type);
        if (!_blocks.TryGetValue(key, out var block))
        {
            block = Make(name, shape, type, (uint)_blocks.Count);
            _blocks.Add(key, block);
        }
        tensor = new TensorData(name, type, shape, block.Address, block.Length, block, type.IsQuantized() ? _groupSize : 0);
        return true;
    }

    protected override void Dispose(bool disposing)
    {
        foreach (var block in _blocks.Values)
        {
            block.Dispose();
        }
        _blocks.Clear();
    }

    private static bool IsMatrix(string name, long[] shape) => shape.Length >= 2 && shape[0] > 1
        && !name.EndsWith("position_embeddings.weight", StringComparison.Ordinal);

    /// <summary>Rows that are no whole number of groups stay fp16: what fills a group up must be zeros.</summary>
    private TensorDType DTypeOf(WeightFormat? format, long[] shape) => format switch
    {
        WeightFormat.F32 => TensorDType.F32,
        WeightFormat.BF16 => TensorDType.BF16,
        WeightFormat.Q8 or WeightFormat.Q4 when shape.Skip(1).Aggregate((a, b) => a * b) % _groupSize == 0 =>
            format == WeightFormat.Q8 ? TensorDType.Q8 : TensorDType.Q4,
        _ => TensorDType.F16,
    };

    private Block Make(string name, long[] shape, TensorDType type, uint number)
    {
        long count = shape.Aggregate(1L, (a, b) => checked(a * b));
        if (type.IsQuantized())
        {
            return MakeQuantized(shape, type, number);
        }
        var block = new Block(count * type.ByteSize());
        Parallel.For(0, (count + PieceElements - 1) / PieceElements, piece =>
        {
            long at = piece * PieceElements;
            int n = (int)Math.Min(PieceElements, count - at);
            float[] values = new float[n];
            RandomModelWriter.Fill(values, name, shape, _seed, number, at);
            byte[] encoded = new byte[n * 4];
            RandomModelWriter.Encode(values, type, encoded).CopyTo(block.Span(at * type.ByteSize(), n * type.ByteSize()));
        });
        return block;
    }

    /// <summary>Random levels under one scale, that of deviation 1 / sqrt(columns).</summary>
    private Block MakeQuantized(long[] shape, TensorDType type, uint number)
    {
        var format = type == TensorDType.Q8 ? WeightFormat.Q8 : WeightFormat.Q4;
        int rows = checked((int)shape[0]);
        int columns = checked((int)shape.Skip(1).Aggregate(1L, (a, b) => a * b));
        var block = new Block(QuantizedLayout.ByteLength(format, rows, columns, _groupSize));
        long scaleBytes = QuantizedLayout.ScaleBytes(rows, columns, _groupSize);
        double spread = 0;
        for (int i = 0; i < 16; i++)
        {
            // Levels -127..127 of Q8 are all as likely as each other.
            double level = format == WeightFormat.Q8 ? 127 * (i - 7.5) / 7.5 : QuantizedLayout.Levels[i];
            spread += level * level / 16;
        }
        var scale = (Half)(1 / (QuantizedLayout.ScaleUnit * Math.Sqrt(spread * columns)));
        MemoryMarshal.Cast<byte, Half>(block.Span(0, checked((int)scaleBytes))).Fill(scale);
        long codes = block.Length - scaleBytes;
        Parallel.For(0, (codes + PieceElements - 1) / PieceElements, piece =>
        {
            long at = piece * PieceElements;
            var span = block.Span(scaleBytes + at, (int)Math.Min(PieceElements, codes - at));
            new Random(HashCode.Combine(_seed, number, piece)).NextBytes(span);
            if (format == WeightFormat.Q8)
            {
                // Code 0 would be level -128, which the layout does not have.
                span.Replace((byte)0, (byte)128);
            }
        });
        return block;
    }

    private sealed class Block(long length) : IDisposable
    {
        private void* _memory = NativeMemory.AlignedAlloc((nuint)length, 64);

        ~Block() => Free();

        public long Length { get; } = length;

        public nint Address => (nint)_memory;

        public Span<byte> Span(long start, int count) => start >= 0 && count >= 0 && start <= Length - count
            ? new((byte*)_memory + start, count)
            : throw new ArgumentOutOfRangeException(nameof(start), $"{start}+{count} of {Length} bytes");

        public void Dispose()
        {
            Free();
            GC.SuppressFinalize(this);
        }

        private void Free()
        {
            NativeMemory.AlignedFree(_memory);
            _memory = null;
        }
    }
}
