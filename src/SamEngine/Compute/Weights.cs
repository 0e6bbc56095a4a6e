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
        if (format.IsQuantized() ? !QuantizedLayout.IsGroupSize(groupSize) : groupSize != 0)
        {
            throw new ArgumentException($"'{name}': {format} with groups of {groupSize}");
        }
        Name = name;
        Format = format;
        Columns = columns;
        GroupSize = groupSize;
        Parts = parts;
        Rows = checked(parts.Sum(p => p.Rows));
        foreach (var part in parts)
        {
            long expected = format.IsQuantized() ? QuantizedLayout.ByteLength(format, part.Rows, columns, groupSize)
                : checked((long)part.Rows * columns * (format == WeightFormat.F32 ? 4 : 2));
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
