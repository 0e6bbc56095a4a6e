using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace SamEngine.Compute;

/// <summary>
/// Rounds weights to Q8 and Q4 without data. Q8: the largest magnitude of a group is full scale. Q4: for several scales
/// tried, with the largest magnitude on either end of the uneven levels, weights are rounded to the nearest level and the
/// scale that fits those levels best (least squares) is computed; the scale with the least squared error is taken.
/// </summary>
internal static class Quantizer
{
    private const float LargestScale = 65504;

    /// <summary>Where the largest weight of a group may come to lie, in levels.</summary>
    private static ReadOnlySpan<float> Peaks => [92, 101, 110, 119, 128, 138, -76, -83, -90, -97, -104];

    /// <summary>Rounds a whole row-major matrix.</summary>
    /// <exception cref="ArithmeticException">A weight is NaN or infinite, or too large for an fp16 scale.</exception>
    public static byte[] Quantize(ReadOnlySpan<float> values, WeightFormat format, int rows, int columns,
        int groupSize)
    {
        byte[] packed = new byte[QuantizedLayout.ByteLength(format, rows, columns, groupSize)];
        int scaleBytes = QuantizedLayout.Groups(columns, groupSize) * QuantizedLayout.BlockRows * 2;
        long codeBytes = QuantizedLayout.CodeBytes(format, columns, groupSize);
        long codes = QuantizedLayout.ScaleBytes(rows, columns, groupSize);
        for (int block = 0; block < QuantizedLayout.Blocks(rows); block++)
        {
            int first = block * QuantizedLayout.BlockRows;
            int count = Math.Min(QuantizedLayout.BlockRows, rows - first);
            QuantizeBlock(values.Slice(first * columns, count * columns), format, columns, groupSize,
                packed.AsSpan(block * scaleBytes, scaleBytes),
                packed.AsSpan((int)(codes + block * codeBytes), (int)codeBytes));
        }
        return packed;
    }

    /// <summary>Rounds up to sixteen rows into one block.</summary>
    /// <param name="values">Row-major.</param>
    /// <param name="format">Q8 or Q4.</param>
    /// <param name="columns">Columns of a row.</param>
    /// <param name="groupSize">Columns that share a scale.</param>
    /// <param name="scales">The block's scales.</param>
    /// <param name="codes">The block's codes.</param>
    /// <exception cref="ArithmeticException">A weight is NaN or infinite, or too large for an fp16 scale.</exception>
    public static void QuantizeBlock(ReadOnlySpan<float> values, WeightFormat format, int columns,
        int groupSize, Span<byte> scales, Span<byte> codes)
    {
        int rows = values.Length / columns;
        int groups = QuantizedLayout.Groups(columns, groupSize);
        var halves = MemoryMarshal.Cast<byte, Half>(scales);
        Span<float> group = stackalloc float[groupSize];
        Span<float> levels = stackalloc float[groupSize];
        codes.Fill(format == WeightFormat.Q8 ? (byte)128 : (byte)(QuantizedLayout.ZeroLevel * 17));
        halves.Clear();
        for (int row = 0; row < rows; row++)
        {
            for (int g = 0; g < groups; g++)
            {
                int first = g * groupSize;
                int count = Math.Min(groupSize, columns - first);
                group.Clear();
                values.Slice(row * columns + first, count).CopyTo(group);
                float peak = Peak(group);
                if (!float.IsFinite(peak) || MathF.Abs(peak) > LargestScale / 2)
                {
                    throw new ArithmeticException($"a weight in columns {first} to {first + count - 1} is {peak}; {format} " +
                        $"needs finite weights of at most {LargestScale / 2}");
                }
                halves[g * QuantizedLayout.BlockRows + row] = format == WeightFormat.Q8
                    ? RoundEvenly(group, levels, peak) : RoundToLevels(group, levels, peak);
                Store(format, levels, first, row, codes);
            }
        }
    }

    private static void Store(WeightFormat format, ReadOnlySpan<float> levels, int first, int row, Span<byte> codes)
    {
        for (int i = 0; i < levels.Length; i++)
        {
            int column = first + i;
            if (format == WeightFormat.Q8)
            {
                codes[column / 4 * 64 + row * 4 + column % 4] = (byte)((int)levels[i] + 128);
            }
            else
            {
                ref byte pair = ref codes[column / 8 * 64 + row * 4 + column % 4];
                int code = (int)levels[i];
                pair = column % 8 < 4 ? (byte)((pair & 0xF0) | code) : (byte)((pair & 0x0F) | code << 4);
            }
        }
    }

    /// <summary>The element of largest magnitude; NaN when there is one.</summary>
    private static float Peak(ReadOnlySpan<float> group)
    {
        float peak = 0;
        foreach (float v in group)
        {
            if (float.IsNaN(v))
            {
                return v;
            }
            peak = MathF.Abs(v) > MathF.Abs(peak) ? v : peak;
        }
        return peak;
    }

    private static Half RoundEvenly(ReadOnlySpan<float> group, Span<float> levels, float peak)
    {
        var scale = (Half)(MathF.Abs(peak) * (128f / 127));
        float inverse = scale > (Half)0 ? 128 / (float)scale : 0;
        for (int i = 0; i < group.Length; i++)
        {
            levels[i] = Math.Clamp(MathF.Round(group[i] * inverse), -127, 127);
        }
        return scale;
    }

    /// <summary>Leaves the numbers of the levels in <paramref name="codes"/>.</summary>
    private static Half RoundToLevels(ReadOnlySpan<float> group, Span<float> codes, float peak)
    {
        float best = -1;
        float scale = 0;
        foreach (float at in Peaks)
        {
            // (level . w)^2 / level^2 is what the fitted scale takes off the squared error.
            var (product, square) = Fit(group, at / peak);
            float gain = square > 0 ? product / square * product : 0;
            if (gain > best)
            {
                best = gain;
                scale = square > 0 ? product / square : 0;
            }
        }
        var half = (Half)(scale * 128);
        if (peak == 0 || half == (Half)0)
        {
            codes.Fill(QuantizedLayout.ZeroLevel);
            return (Half)0;
        }
        float inverse = 128 / (float)half;
        for (int i = 0; i < group.Length; i++)
        {
            codes[i] = CodeOf(group[i] * inverse);
        }
        return half;
    }

    private static int CodeOf(float level)
    {
        int code = 0;
        foreach (float bound in Bounds)
        {
            code += level > bound ? 1 : 0;
        }
        return code;
    }

    /// <summary>Half way between neighbouring levels.</summary>
    private static ReadOnlySpan<float> Bounds =>
        [-88.5f, -68, -52, -38.5f, -26, -15, -5, 5, 15, 25, 36, 49, 64.5f, 84, 111];

    /// <summary>Sums of level * weight and of level^2, weights rounded to the nearest level after multiplying.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static (float Product, float Square) Fit(ReadOnlySpan<float> group, float inverse)
    {
        var levels = QuantizedLayout.Levels;
        var product = Vector256<float>.Zero;
        var square = Vector256<float>.Zero;
        ref float from = ref MemoryMarshal.GetReference(group);
        for (int i = 0; i < group.Length; i += 8)
        {
            var w = Vector256.LoadUnsafe(ref from, (nuint)i);
            var x = w * inverse;
            var level = Vector256.Create((float)levels[0]);
            for (int b = 0; b < Bounds.Length; b++)
            {
                var step = Vector256.Create((float)(levels[b + 1] - levels[b]));
                level += Vector256.ConditionalSelect(Vector256.GreaterThan(x, Vector256.Create(Bounds[b])), step,
                    Vector256<float>.Zero);
            }
            product += level * w;
            square += level * level;
        }
        return (Vector256.Sum(product), Vector256.Sum(square));
    }
}
