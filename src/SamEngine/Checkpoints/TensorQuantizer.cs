using System.Runtime.InteropServices;
using SamEngine.Compute;

namespace SamEngine.Checkpoints;

/// <summary>Rounds a stored matrix to a quantised format, some rows at a time on all processors.</summary>
internal static class TensorQuantizer
{
    /// <param name="tensor">A floating-point matrix.</param>
    /// <param name="file">Where it is stored, for errors.</param>
    /// <param name="format">Q8 or Q4.</param>
    /// <param name="groupSize">Columns that share a scale.</param>
    /// <param name="packed">Receives <see cref="QuantizedLayout"/>'s bytes; must be of that length.</param>
    /// <param name="length">Bytes at <paramref name="packed"/>.</param>
    /// <param name="threads">Most threads; -1: one per processor.</param>
    /// <param name="cancellation">Looked at between blocks of rows.</param>
    /// <exception cref="CheckpointException">The tensor holds NaN, infinity, or weights too large for an fp16 scale.</exception>
    public static unsafe void Quantize(TensorData tensor, string file, WeightFormat format, int groupSize, nint packed,
        long length, int threads, CancellationToken cancellation)
    {
        int rows = tensor.Rows;
        int columns = tensor.Columns;
        if (length != QuantizedLayout.ByteLength(format, rows, columns, groupSize))
        {
            throw new ArgumentException($"{length} bytes for {tensor} as {format} in groups of {groupSize}");
        }
        long scales = QuantizedLayout.ScaleBytes(rows, columns, groupSize);
        int blockScales = QuantizedLayout.Groups(columns, groupSize) * QuantizedLayout.BlockRows * sizeof(Half);
        int blockCodes = checked((int)QuantizedLayout.CodeBytes(format, columns, groupSize));
        new Span<byte>((byte*)packed, checked((int)scales)).Clear();
        try
        {
            Parallel.For(0, QuantizedLayout.Blocks(rows),
                new ParallelOptions { CancellationToken = cancellation, MaxDegreeOfParallelism = threads },
                () => new float[QuantizedLayout.BlockRows * columns],
                (block, _, values) =>
                {
                    int first = block * QuantizedLayout.BlockRows;
                    int count = Math.Min(QuantizedLayout.BlockRows, rows - first) * columns;
                    tensor.Part((long)first * columns, count).CopyAs(TensorDType.F32,
                        MemoryMarshal.AsBytes(values.AsSpan(0, count)));
                    Quantizer.QuantizeBlock(values.AsSpan(0, count), format, columns, groupSize,
                        new Span<byte>((byte*)packed + (long)block * blockScales, blockScales),
                        new Span<byte>((byte*)packed + scales + (long)block * blockCodes, blockCodes));
                    return values;
                },
                _ => { });
        }
        catch (AggregateException e) when (e.InnerExceptions.FirstOrDefault(i => i is ArithmeticException) is { } inner)
        {
            throw new CheckpointException(file, $"tensor '{tensor.Name}': {inner.Message}", inner);
        }
    }
}
