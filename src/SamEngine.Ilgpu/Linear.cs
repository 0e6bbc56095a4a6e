using System.Runtime.CompilerServices;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>What the linear kernels read; absent vectors have the flag 0.</summary>
internal readonly struct LinearArguments(DeviceView<float> x, WeightView w, DeviceView<float> y, DeviceView<float> bias, int hasBias,
    int gelu, DeviceView<float> residual, int hasResidual, int rows)
{
    public readonly DeviceView<float> X = x;
    public readonly WeightView W = w;
    public readonly DeviceView<float> Y = y;
    public readonly DeviceView<float> Bias = bias;
    public readonly int HasBias = hasBias;
    public readonly int Gelu = gelu;
    public readonly DeviceView<float> Residual = residual;
    public readonly int HasResidual = hasResidual;

    /// <summary>Rows of x over all batch entries.</summary>
    public readonly int Rows = rows;
}

/// <summary>
/// y = activation(x W^T + bias) + residual. Weights are widened as they are read. Sums of 32 products are added up:
/// quantised groups are multiples of it, and long rows keep their digits. Each sum runs in the same order in every kernel
/// here, so a row's result does not depend on the rows beside it.
/// </summary>
internal static class Linear
{
    /// <summary>Rows and outputs of a work item.</summary>
    public const int Block = 4;

    /// <summary>Four outputs of four rows a work item: eight loads for sixteen products.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Blocks<TFormat>(LinearArguments a)
        where TFormat : struct, IWeightFormat
    {
        var format = default(TFormat);
        var x = a.X.Data;
        int columns = a.X.Columns;
        int across = (a.Y.Columns + Block - 1) / Block;
        int lastRow = a.Rows - 1;
        int lastOutput = a.Y.Columns - 1;
        long items = (long)((a.Rows + Block - 1) / Block) * across;
        for (long item = Worker.Index; item < items; item += Worker.Count)
        {
            int row = (int)(item / across) * Block;
            int n = (int)(item % across) * Block;
            // Where a block reaches past the end, the last row or output is computed again and not stored.
            long x0 = a.X.RowAt(row);
            long x1 = a.X.RowAt(XMath.Min(row + 1, lastRow));
            long x2 = a.X.RowAt(XMath.Min(row + 2, lastRow));
            long x3 = a.X.RowAt(XMath.Min(row + 3, lastRow));
            int n1 = XMath.Min(n + 1, lastOutput);
            int n2 = XMath.Min(n + 2, lastOutput);
            int n3 = XMath.Min(n + 3, lastOutput);
            long w0 = (long)n * a.W.RowStride;
            long w1 = (long)n1 * a.W.RowStride;
            long w2 = (long)n2 * a.W.RowStride;
            long w3 = (long)n3 * a.W.RowStride;
            float s00 = 0, s01 = 0, s02 = 0, s03 = 0;
            float s10 = 0, s11 = 0, s12 = 0, s13 = 0;
            float s20 = 0, s21 = 0, s22 = 0, s23 = 0;
            float s30 = 0, s31 = 0, s32 = 0, s33 = 0;
            for (int start = 0; start < columns; start += 32)
            {
                int end = XMath.Min(start + 32, columns);
                float p00 = 0, p01 = 0, p02 = 0, p03 = 0;
                float p10 = 0, p11 = 0, p12 = 0, p13 = 0;
                float p20 = 0, p21 = 0, p22 = 0, p23 = 0;
                float p30 = 0, p31 = 0, p32 = 0, p33 = 0;
                for (int k = start; k < end; k++)
                {
                    float b0 = format.Value(a.W, w0 + k);
                    float b1 = format.Value(a.W, w1 + k);
                    float b2 = format.Value(a.W, w2 + k);
                    float b3 = format.Value(a.W, w3 + k);
                    float v = x[x0 + k];
                    p00 += v * b0;
                    p01 += v * b1;
                    p02 += v * b2;
                    p03 += v * b3;
                    v = x[x1 + k];
                    p10 += v * b0;
                    p11 += v * b1;
                    p12 += v * b2;
                    p13 += v * b3;
                    v = x[x2 + k];
                    p20 += v * b0;
                    p21 += v * b1;
                    p22 += v * b2;
                    p23 += v * b3;
                    v = x[x3 + k];
                    p30 += v * b0;
                    p31 += v * b1;
                    p32 += v * b2;
                    p33 += v * b3;
                }
                float c = format.Scale(a.W, n, start);
                s00 += p00 * c;
                s10 += p10 * c;
                s20 += p20 * c;
                s30 += p30 * c;
                c = format.Scale(a.W, n1, start);
                s01 += p01 * c;
                s11 += p11 * c;
                s21 += p21 * c;
                s31 += p31 * c;
                c = format.Scale(a.W, n2, start);
                s02 += p02 * c;
                s12 += p12 * c;
                s22 += p22 * c;
                s32 += p32 * c;
                c = format.Scale(a.W, n3, start);
                s03 += p03 * c;
                s13 += p13 * c;
                s23 += p23 * c;
                s33 += p33 * c;
            }
            StoreFour(a, row, n, s00, s01, s02, s03);
            StoreFour(a, row + 1, n, s10, s11, s12, s13);
            StoreFour(a, row + 2, n, s20, s21, s22, s23);
            StoreFour(a, row + 3, n, s30, s31, s32, s33);
        }
    }

    /// <summary>Four outputs of one row a work item, for steps of one or two rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows<TFormat>(LinearArguments a)
        where TFormat : struct, IWeightFormat
    {
        var format = default(TFormat);
        var x = a.X.Data;
        int columns = a.X.Columns;
        int across = (a.Y.Columns + Block - 1) / Block;
        int lastOutput = a.Y.Columns - 1;
        long items = (long)a.Rows * across;
        for (long item = Worker.Index; item < items; item += Worker.Count)
        {
            int row = (int)(item / across);
            int n = (int)(item % across) * Block;
            long x0 = a.X.RowAt(row);
            int n1 = XMath.Min(n + 1, lastOutput);
            int n2 = XMath.Min(n + 2, lastOutput);
            int n3 = XMath.Min(n + 3, lastOutput);
            long w0 = (long)n * a.W.RowStride;
            long w1 = (long)n1 * a.W.RowStride;
            long w2 = (long)n2 * a.W.RowStride;
            long w3 = (long)n3 * a.W.RowStride;
            float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
            for (int start = 0; start < columns; start += 32)
            {
                int end = XMath.Min(start + 32, columns);
                float p0 = 0, p1 = 0, p2 = 0, p3 = 0;
                for (int k = start; k < end; k++)
                {
                    float v = x[x0 + k];
                    p0 += v * format.Value(a.W, w0 + k);
                    p1 += v * format.Value(a.W, w1 + k);
                    p2 += v * format.Value(a.W, w2 + k);
                    p3 += v * format.Value(a.W, w3 + k);
                }
                s0 += p0 * format.Scale(a.W, n, start);
                s1 += p1 * format.Scale(a.W, n1, start);
                s2 += p2 * format.Scale(a.W, n2, start);
                s3 += p3 * format.Scale(a.W, n3, start);
            }
            StoreFour(a, row, n, s0, s1, s2, s3);
        }
    }

    /// <summary>Bias, activation and residual of one output.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Store(LinearArguments a, int row, int n, float sum)
    {
        if (row >= a.Rows || n >= a.Y.Columns)
        {
            return;
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void StoreFour(LinearArguments a, int row, int n, float s0, float s1, float s2, float s3)
    {
        Store(a, row, n, s0);
        Store(a, row, n + 1, s1);
        Store(a, row, n + 2, s2);
        Store(a, row, n + 3, s3);
    }

    /// <summary>erf with a relative error below 2e-7; the polynomials of native/kernels/simd.h.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
