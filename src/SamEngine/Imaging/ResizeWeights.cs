namespace SamEngine.Imaging;

/// <summary>The integer weights of one axis of Pillow's antialiased bicubic resize (Pillow, src/libImaging/Resample.c:
/// <c>precompute_coeffs</c>, <c>normalize_coeffs_8bpc</c>). The arithmetic follows it operation by operation: results must
/// be the same bits.</summary>
internal sealed class ResizeWeights
{
    /// <summary>Fraction bits of a weight.</summary>
    public const int Precision = 32 - 8 - 2;

    private const double Support = 2.0;

    private ResizeWeights(int length, int stride, int[] first, int[] count, int[] weights)
    {
        Length = length;
        Stride = stride;
        First = first;
        Count = count;
        Weights = weights;
    }

    /// <summary>Output positions.</summary>
    public int Length { get; }

    /// <summary>Distance between the weights of two outputs: the greatest count, rounded up to a multiple of 4.</summary>
    public int Stride { get; }

    /// <summary>The first input position of each output.</summary>
    public int[] First { get; }

    /// <summary>The number of inputs of each output.</summary>
    public int[] Count { get; }

    /// <summary>Weights of 2^-22, [output, Stride], zero behind <see cref="Count"/>.</summary>
    public int[] Weights { get; }

    /// <summary>Computes the weights from <paramref name="inSize"/> to <paramref name="outSize"/> samples.</summary>
    public static ResizeWeights Create(int inSize, int outSize)
    {
        double scale = (double)inSize / outSize;
        double filterScale = Math.Max(scale, 1.0);
        double support = Support * filterScale;
        double inverse = 1.0 / filterScale;
        var first = new int[outSize];
        var count = new int[outSize];
        for (int i = 0; i < outSize; i++)
        {
            double center = (i + 0.5) * scale;
            first[i] = Math.Max((int)(center - support + 0.5), 0);
            count[i] = Math.Min((int)(center + support + 0.5), inSize) - first[i];
        }
        int stride = (count.Max() + 3) & ~3;
        var weights = new int[checked(outSize * stride)];
        var real = new double[stride];
        for (int i = 0; i < outSize; i++)
        {
            double center = (i + 0.5) * scale;
            double sum = 0.0;
            for (int j = 0; j < count[i]; j++)
            {
                real[j] = Bicubic((j + first[i] - center + 0.5) * inverse);
                sum += real[j];
            }
            for (int j = 0; j < count[i]; j++)
            {
                double weight = sum != 0.0 ? real[j] / sum : real[j];
                weights[(i * stride) + j] =
                    weight < 0 ? (int)(-0.5 + (weight * (1 << Precision))) : (int)(0.5 + (weight * (1 << Precision)));
            }
        }
        return new ResizeWeights(outSize, stride, first, count, weights);
    }

    private static double Bicubic(double x)
    {
        const double a = -0.5;
        x = Math.Abs(x);
        return x < 1.0 ? (((((a + 2.0) * x) - (a + 3.0)) * x * x) + 1)
            : x < 2.0 ? ((((((x - 5) * x) + 8) * x) - 4) * a)
            : 0.0;
    }
}
