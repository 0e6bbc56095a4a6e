using System.Runtime.CompilerServices;
using ILGPU;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>A weight matrix as kernels see it; only the views of its format are set.</summary>
internal readonly struct WeightView(ArrayView<float> floats, ArrayView<ushort> words, ArrayView<byte> codes, ArrayView<ushort> scales,
    ArrayView<uint> packed, ArrayView<float> levels, int groupSize, int groups, int rowStride)
{
    /// <summary>F32: [rows, columns].</summary>
    public readonly ArrayView<float> Floats = floats;

    /// <summary>F16 and BF16: [rows, columns].</summary>
    public readonly ArrayView<ushort> Words = words;

    /// <summary>Q8: [rows, stride] signed bytes. Q4: [rows, stride / 2], the even column's level number in the low nibble.</summary>
    public readonly ArrayView<byte> Codes = codes;

    /// <summary>fp16 scales as their bits, [rows, groups].</summary>
    public readonly ArrayView<ushort> Scales = scales;

    /// <summary>The codes, four bytes at a time: rows begin at whole words.</summary>
    public readonly ArrayView<uint> Packed = packed;

    /// <summary>Q4: the sixteen levels.</summary>
    public readonly ArrayView<float> Levels = levels;

    public readonly int GroupSize = groupSize;

    public readonly int Groups = groups;

    /// <summary>Columns from row to row: whole groups.</summary>
    public readonly int RowStride = rowStride;
}

/// <summary>How kernels read one weight format. Kernels are generic in it, so each format has its own code.</summary>
internal interface IWeightFormat
{
    /// <summary>A weight, or a level without its scale.</summary>
    float Value(WeightView w, long at);

    /// <summary>The values of eight columns of a row, the first a multiple of eight.</summary>
    EightWeights Eight(WeightView w, long at);

    /// <summary>What the values of 32 columns from <paramref name="column"/> of a row are to be multiplied with.</summary>
    float Scale(WeightView w, int row, int column);
}

/// <summary>Eight neighbouring weights in registers.</summary>
internal readonly struct EightWeights(float a, float b, float c, float d, float e, float f, float g, float h)
{
    public readonly float A = a;
    public readonly float B = b;
    public readonly float C = c;
    public readonly float D = d;
    public readonly float E = e;
    public readonly float F = f;
    public readonly float G = g;
    public readonly float H = h;

    /// <summary>Sum of the products with eight neighbouring values.</summary>
    public float Dot(ArrayView<float> x, long at) => A * x[at] + B * x[at + 1] + C * x[at + 2] + D * x[at + 3]
        + (E * x[at + 4] + F * x[at + 5] + G * x[at + 6] + H * x[at + 7]);
}

internal readonly struct F32Format : IWeightFormat
{
    public float Value(WeightView w, long at) => w.Floats[at];

    public EightWeights Eight(WeightView w, long at) => new(Value(w, at), Value(w, at + 1), Value(w, at + 2), Value(w, at + 3),
        Value(w, at + 4), Value(w, at + 5), Value(w, at + 6), Value(w, at + 7));

    public float Scale(WeightView w, int row, int column) => 1;
}

internal readonly struct F16Format : IWeightFormat
{
    public float Value(WeightView w, long at) => Halves.Widen(w.Words[at]);

    public EightWeights Eight(WeightView w, long at) => new(Value(w, at), Value(w, at + 1), Value(w, at + 2), Value(w, at + 3),
        Value(w, at + 4), Value(w, at + 5), Value(w, at + 6), Value(w, at + 7));

    public float Scale(WeightView w, int row, int column) => 1;
}

internal readonly struct BF16Format : IWeightFormat
{
    public float Value(WeightView w, long at) => Interop.IntAsFloat((uint)w.Words[at] << 16);

    public EightWeights Eight(WeightView w, long at) => new(Value(w, at), Value(w, at + 1), Value(w, at + 2), Value(w, at + 3),
        Value(w, at + 4), Value(w, at + 5), Value(w, at + 6), Value(w, at + 7));

    public float Scale(WeightView w, int row, int column) => 1;
}

internal readonly struct Q8Format : IWeightFormat
{
    public float Value(WeightView w, long at) => (sbyte)w.Codes[at];

    public EightWeights Eight(WeightView w, long at)
    {
        uint low = w.Packed[at >> 2];
        uint high = w.Packed[(at >> 2) + 1];
        return new EightWeights((sbyte)low, (sbyte)(low >> 8), (sbyte)(low >> 16), (sbyte)(low >> 24),
            (sbyte)high, (sbyte)(high >> 8), (sbyte)(high >> 16), (sbyte)(high >> 24));
    }

    public float Scale(WeightView w, int row, int column) => Halves.Scale(w, row, column);
}

internal readonly struct Q4Format : IWeightFormat
{
    public float Value(WeightView w, long at) => w.Levels[(w.Codes[at >> 1] >> (((int)at & 1) * 4)) & 15];

    public EightWeights Eight(WeightView w, long at)
    {
        uint codes = w.Packed[at >> 3];
        return new EightWeights(Level(w, codes), Level(w, codes >> 4), Level(w, codes >> 8), Level(w, codes >> 12),
            Level(w, codes >> 16), Level(w, codes >> 20), Level(w, codes >> 24), Level(w, codes >> 28));
    }

    public float Scale(WeightView w, int row, int column) => Halves.Scale(w, row, column);

    private static float Level(WeightView w, uint codes) => w.Levels[(int)(codes & 15)];
}

internal static class Halves
{
    public static float Scale(WeightView w, int row, int column) =>
        Widen(w.Scales[(long)row * w.Groups + column / w.GroupSize]) * QuantizedLayout.ScaleUnit;

    /// <summary>fp16 bits to fp32, by integers: the same on every device, and subnormals included.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Widen(ushort bits)
    {
        uint sign = (uint)(bits & 0x8000) << 16;
        uint exponent = (uint)(bits >> 10) & 31;
        uint fraction = (uint)bits & 1023;
        if (exponent == 31)
        {
            return Interop.IntAsFloat(sign | 0x7F800000 | (fraction << 13));
        }
        if (exponent == 0)
        {
            // fraction * 2^-24, exact.
            float small = fraction * 5.9604645e-8f;
            return sign != 0 ? -small : small;
        }
        return Interop.IntAsFloat(sign | ((exponent + 112) << 23) | (fraction << 13));
    }
}
