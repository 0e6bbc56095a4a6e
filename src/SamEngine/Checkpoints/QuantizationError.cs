using System.Runtime.InteropServices;
using SamEngine.Compute;

namespace SamEngine.Checkpoints;

/// <summary>How far a quantised matrix is from its original.</summary>
/// <param name="Name">Canonical name.</param>
/// <param name="Format">Format and group.</param>
/// <param name="RelativeError">Root of the summed squared errors over the root of the summed squares.</param>
/// <param name="Cosine">Of the angle between the two, as vectors.</param>
/// <param name="PlainError">Relative error of plain rounding in blocks of 32 with the same number of bits (ggml's Q8_0 and
/// Q4_0): the yardstick.</param>
public sealed record MatrixError(string Name, string Format, double RelativeError, double Cosine, double PlainError);

/// <summary>Compares the matrices of a quantised folder with those it was made of.</summary>
public static class QuantizationError
{
    /// <summary>Every quantised matrix of <paramref name="quantized"/> against <paramref name="original"/>'s, in order of
    /// name.</summary>
    /// <param name="original">The model folder that it was made of.</param>
    /// <param name="quantized">The quantised model folder.</param>
    /// <param name="cancellation">Looked at between rows.</param>
    /// <returns>An error for each quantised matrix, computed as it is asked for.</returns>
    /// <exception cref="CheckpointException">A folder is no model, or the two are not of the same shape.</exception>
    public static IEnumerable<MatrixError> Compare(string original, string quantized, CancellationToken cancellation = default)
    {
        using var from = SamCheckpoint.Open(original);
        using var to = SamCheckpoint.Open(quantized);
        foreach (string name in to.Names)
        {
            var packed = to.Peek(name);
            if (!packed.DType.IsQuantized())
            {
                continue;
            }
            var source = from.Get(name, [.. packed.Shape]);
            if (source.DType.IsQuantized())
            {
                throw new CheckpointException(original, $"tensor '{name}' is {source.DType} itself; compare with the folder before " +
                    "it was quantised");
            }
            yield return Compare(name, source, to.Get(name, [.. packed.Shape]), cancellation);
            from.Release(name);
        }
    }

    private static unsafe MatrixError Compare(string name, TensorData source, TensorData packed, CancellationToken cancellation)
    {
        var format = packed.DType == TensorDType.Q8 ? WeightFormat.Q8 : WeightFormat.Q4;
        int columns = packed.Columns;
        int groups = QuantizedLayout.Groups(columns, packed.GroupSize);
        float[] values = new float[columns];
        float[] rounded = new float[columns];
        float[] plain = new float[columns];
        sbyte[] levels = new sbyte[groups * packed.GroupSize];
        ushort[] scales = new ushort[groups];
        double squares = 0, roundedSquares = 0, product = 0, error = 0, plainError = 0;
        for (int row = 0; row < packed.Rows; row++)
        {
            cancellation.ThrowIfCancellationRequested();
            source.Part((long)row * columns, columns).CopyAs(TensorDType.F32, MemoryMarshal.AsBytes(values.AsSpan()));
            QuantizedLayout.ReadRow((void*)packed.Address, format, packed.Rows, columns, packed.GroupSize, row, levels, scales);
            for (int i = 0; i < columns; i++)
            {
                rounded[i] = levels[i] * ((float)BitConverter.UInt16BitsToHalf(scales[i / packed.GroupSize]) * QuantizedLayout.ScaleUnit);
            }
            values.CopyTo(plain, 0);
            RoundPlainly(plain, format);
            for (int i = 0; i < columns; i++)
            {
                squares += (double)values[i] * values[i];
                roundedSquares += (double)rounded[i] * rounded[i];
                product += (double)values[i] * rounded[i];
                error += Math.Pow((double)values[i] - rounded[i], 2);
                plainError += Math.Pow((double)values[i] - plain[i], 2);
            }
        }
        return new MatrixError(name, $"{packed.DType} groups of {packed.GroupSize}".ToLowerInvariant(), Ratio(error, squares),
            squares == 0 || roundedSquares == 0 ? 1 : product / Math.Sqrt(squares * roundedSquares), Ratio(plainError, squares));

        static double Ratio(double a, double b) => a == 0 ? 0 : Math.Sqrt(a / b);
    }

    /// <summary>Rounds to the nearest in blocks of 32 with an fp16 scale: for Q8 the largest magnitude is 127, for Q4 the
    /// largest element is -8 of -8..7.</summary>
    internal static void RoundPlainly(Span<float> values, WeightFormat format)
    {
        for (int start = 0; start < values.Length; start += 32)
        {
            var block = values[start..Math.Min(start + 32, values.Length)];
            float peak = 0;
            foreach (float v in block)
            {
                peak = MathF.Abs(v) > MathF.Abs(peak) ? v : peak;
            }
            float exact = format == WeightFormat.Q8 ? MathF.Abs(peak) / 127 : peak / -8;
            float scale = (float)(Half)exact;
            for (int i = 0; i < block.Length; i++)
            {
                float code = exact == 0 ? 0 : MathF.Round(block[i] / exact);
                block[i] = (format == WeightFormat.Q8 ? code : Math.Clamp(code, -8, 7)) * scale;
            }
        }
    }
}
