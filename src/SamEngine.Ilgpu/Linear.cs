using ILGPU;
using ILGPU.Algorithms;
using ILGPU.Runtime;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>What the linear kernel reads; absent vectors have the flag 0.</summary>
internal readonly struct LinearArguments(DeviceView x, ArrayView1D<byte, Stride1D.Dense> data, ArrayView<ushort> scales, int groupSize,
    DeviceView y, DeviceView bias, int hasBias, int gelu, DeviceView residual, int hasResidual)
{
    public readonly DeviceView X = x;
    public readonly ArrayView1D<byte, Stride1D.Dense> Data = data;
    public readonly ArrayView<ushort> Scales = scales;
    public readonly int GroupSize = groupSize;
    public readonly DeviceView Y = y;
    public readonly DeviceView Bias = bias;
    public readonly int HasBias = hasBias;
    public readonly int Gelu = gelu;
    public readonly DeviceView Residual = residual;
    public readonly int HasResidual = hasResidual;
}

/// <summary>y = activation(x W^T + bias) + residual, one thread per element of y; weights are widened as they are read.
/// Quantised rows lie as <see cref="IlgpuWeight"/> says.</summary>
internal static class Linear
{
    /// <summary>One element of y; <paramref name="format"/> is a <see cref="WeightFormat"/>, fixed when the kernel is
    /// compiled.</summary>
    public static void Element(Index1D index, LinearArguments a, SpecializedValue<int> format)
    {
        int row = index / a.Y.Columns;
        int n = index % a.Y.Columns;
        int columns = a.X.Columns;
        long from = a.X.RowAt(row);
        bool quantized = format.Value is (int)WeightFormat.Q8 or (int)WeightFormat.Q4;
        int groups = quantized ? (columns + a.GroupSize - 1) / a.GroupSize : 0;
        long weights = (long)n * (quantized ? groups * a.GroupSize : columns);
        float sum = 0;
        // Sums of 32 products are added up: quantised groups are multiples of it, and long rows keep their digits.
        for (int start = 0; start < columns; start += 32)
        {
            int end = IntrinsicMath.Min(start + 32, columns);
            float part = 0;
            for (int k = start; k < end; k++)
            {
                part += a.X.Data[from + k] * Element(a.Data, weights + k, format.Value);
            }
            if (quantized)
            {
                part *= WidenHalf(a.Scales[(long)n * groups + start / a.GroupSize]) * QuantizedLayout.ScaleUnit;
            }
            sum += part;
        }
        if (a.HasBias != 0)
        {
            sum += a.Bias.Data[a.Bias.Offset + n];
        }
        if (a.Gelu != 0)
        {
            sum = 0.5f * sum * (1 + Erf(sum * 0.70710678f));
        }
        if (a.HasResidual != 0)
        {
            sum += a.Residual.Data[a.Residual.RowAt(row) + n];
        }
        a.Y.Data[a.Y.RowAt(row) + n] = sum;
    }

    /// <summary>A weight, or a level without its scale.</summary>
    private static float Element(ArrayView1D<byte, Stride1D.Dense> data, long at, int format)
    {
        if (format == (int)WeightFormat.F32)
        {
            return data.Cast<byte, float>()[at];
        }
        if (format == (int)WeightFormat.F16)
        {
            return WidenHalf(data.Cast<byte, ushort>()[at]);
        }
        if (format == (int)WeightFormat.BF16)
        {
            return Interop.IntAsFloat((uint)data.Cast<byte, ushort>()[at] << 16);
        }
        return data.Cast<byte, sbyte>()[at];
    }

    /// <summary>fp16 bits to fp32, by integers: the same on every device, and subnormals included.</summary>
    private static float WidenHalf(ushort bits)
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

    /// <summary>erf with a relative error below 2e-7; the polynomials of native/kernels/simd.h.</summary>
    private static float Erf(float x)
    {
        float t = XMath.Abs(x);
        if (t <= 0.9277f)
        {
            float s = x * x;
            float near = 8.3549072e-5f * s - 8.1396184e-4f;
            near = near * s + 5.2008145e-3f;
            near = near * s - 2.6859337e-2f;
            near = near * s + 0.11283695f;
            near = near * s - 0.37612635f;
            near = near * s + 0.12837917f;
            return near * x + x;
        }
        float u = XMath.Min(t, 4f);
        float far = 1.613661e-6f * u - 4.5582627e-5f;
        far = far * u + 5.9270172e-4f;
        far = far * u - 4.7399043e-3f;
        far = far * u + 2.6363818e-2f;
        far = far * u - 0.10997668f;
        far = far * u - 0.6319387f;
        far = far * u - 1.1301658f;
        far = far * u + 3.0300207e-4f;
        far = 1 - XMath.Exp(far);
        return x < 0 ? -far : far;
    }
}
