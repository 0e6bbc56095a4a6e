namespace SamEngine.Compute;

/// <summary>Bytes of one stored tensor, row-major and dense, owned by a checkpoint that must stay open while a backend
/// that reads in place uses them. <paramref name="Owner"/> is kept alive by the weight.</summary>
/// <param name="Address">First byte.</param>
/// <param name="ByteLength">Number of bytes, checked against format and shape by <see cref="MatrixSource"/>.</param>
/// <param name="Rows">Rows of this part.</param>
/// <param name="Owner">What keeps the memory valid.</param>
internal readonly record struct MatrixPart(nint Address, long ByteLength, int Rows, object Owner);

/// <summary>
/// A weight matrix [rows, columns] as a checkpoint stores it: one or several tensors stacked along the rows (for
/// example q, k and v projections, which the model uses as one). A backend may read the parts where they lie, or copy
/// and re-lay them.
/// </summary>
internal sealed class MatrixSource
{
    public MatrixSource(string name, WeightFormat format, int columns, IReadOnlyList<MatrixPart> parts, int groupSize = 0)
    {
        bool quantised = format is WeightFormat.Q8 or WeightFormat.Q4;
        if (quantised != (groupSize > 0) || (quantised && (groupSize % 32 != 0 || columns % groupSize != 0)))
        {
            throw new ArgumentException($"'{name}': {format} with groups of {groupSize} over {columns} columns");
        }
        Name = name;
        Format = format;
        Columns = columns;
        GroupSize = groupSize;
        Parts = parts;
        Rows = checked(parts.Sum(p => p.Rows));
        foreach (var part in parts)
        {
            long expected = QuantizedLayout.ByteLength(format, part.Rows, columns, groupSize);
            if (part.ByteLength != expected || part.Address == 0 || part.Rows < 1)
            {
                throw new ArgumentException(
                    $"'{name}': {part.ByteLength} bytes for {part.Rows} x {columns} {format}, expected {expected}");
            }
        }
    }

    /// <summary>Name in the checkpoint, for errors.</summary>
    public string Name { get; }

    public WeightFormat Format { get; }

    /// <summary>Output features.</summary>
    public int Rows { get; }

    /// <summary>Input features.</summary>
    public int Columns { get; }

    /// <summary>Columns that share a scale; 0 for the floating-point formats.</summary>
    public int GroupSize { get; }

    public IReadOnlyList<MatrixPart> Parts { get; }
}

/// <summary>A weight matrix in the form its backend computes with; immutable and shared by all requests.</summary>
internal abstract class Weight(string name, WeightFormat format, int rows, int columns) : IDisposable
{
    public string Name { get; } = name;

    public WeightFormat Format { get; } = format;

    /// <summary>Output features.</summary>
    public int Rows { get; } = rows;

    /// <summary>Input features.</summary>
    public int Columns { get; } = columns;

    /// <summary>Bytes the backend allocated for it; 0 when read in place.</summary>
    public abstract long OwnedBytes { get; }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>
/// In-memory layout of quantised matrices, version 1: for each row its scales (fp16, one per group), then for all rows
/// the codes. [rows, columns / group] fp16 scales, then Q8: [rows, columns] signed bytes; Q4: [rows, columns / 2] bytes,
/// where inside every run of 32 columns byte i holds column i in its low and column i + 16 in its high nibble, value + 8.
/// A weight is code * scale.
/// </summary>
internal static class QuantizedLayout
{
    public const int Version = 1;

    public static long ByteLength(WeightFormat format, int rows, int columns, int groupSize)
    {
        long count = (long)rows * columns;
        return format switch
        {
            WeightFormat.F32 => checked(count * 4),
            WeightFormat.F16 or WeightFormat.BF16 => checked(count * 2),
            WeightFormat.Q8 => checked(ScaleBytes(rows, columns, groupSize) + count),
            WeightFormat.Q4 => checked(ScaleBytes(rows, columns, groupSize) + count / 2),
            _ => throw new ArgumentOutOfRangeException(nameof(format)),
        };
    }

    /// <summary>Bytes of the scales, which come first.</summary>
    public static long ScaleBytes(int rows, int columns, int groupSize) => (long)rows * (columns / groupSize) * 2;

    /// <summary>Quantises row-major fp32 values by rounding to nearest with the group's largest magnitude as full scale
    /// (127 for Q8, 7 for Q4).</summary>
    public static byte[] Quantize(ReadOnlySpan<float> values, WeightFormat format, int rows, int columns, int groupSize)
    {
        int full = format == WeightFormat.Q8 ? 127 : 7;
        byte[] packed = new byte[ByteLength(format, rows, columns, groupSize)];
        int groups = columns / groupSize;
        var codes = packed.AsSpan((int)ScaleBytes(rows, columns, groupSize));
        for (int g = 0; g < rows * groups; g++)
        {
            var group = values.Slice(g * groupSize, groupSize);
            float largest = 0;
            foreach (float v in group)
            {
                largest = MathF.Max(largest, MathF.Abs(v));
            }
            var scale = (Half)(largest / full);
            BitConverter.TryWriteBytes(packed.AsSpan(g * 2), scale);
            float inverse = (float)scale > 0 ? 1 / (float)scale : 0;
            for (int i = 0; i < groupSize; i++)
            {
                int code = (int)Math.Clamp(MathF.Round(group[i] * inverse), -full, full);
                int at = g * groupSize + i;
                if (format == WeightFormat.Q8)
                {
                    codes[at] = unchecked((byte)(sbyte)code);
                }
                else
                {
                    ref byte cell = ref codes[at / 32 * 16 + at % 16];
                    cell |= (byte)((code + 8) << (at % 32 >= 16 ? 4 : 0));
                }
            }
        }
        return packed;
    }

    /// <summary>The value of one element, for tests and embedding look-ups.</summary>
    public static float Value(ReadOnlySpan<byte> packed, WeightFormat format, int rows, int columns, int groupSize,
        int row, int column)
    {
        long at = (long)row * columns + column;
        float scale = (float)BitConverter.ToHalf(packed[(int)(at / groupSize * 2)..]);
        var codes = packed[(int)ScaleBytes(rows, columns, groupSize)..];
        int code = format == WeightFormat.Q8
            ? (sbyte)codes[(int)at]
            : ((codes[(int)(at / 32 * 16 + at % 16)] >> (at % 32 >= 16 ? 4 : 0)) & 15) - 8;
        return code * scale;
    }
}
