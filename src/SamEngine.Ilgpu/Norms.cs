using System.Runtime.CompilerServices;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>The norms, a thread per row. Sums of 32 are added up: a single sum over thousands of columns would lose digits.</summary>
internal static class Norms
{
    /// <summary>y = x / sqrt(mean(x^2) + eps) * gain.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void RmsNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> y, float eps, int rows)
    {
        for (int row = Worker.Index; row < rows; row += Worker.Count)
        {
            long from = x.RowAt(row);
            long to = y.RowAt(row);
            float scale = 1 / XMath.Sqrt(SquaredDistance(x, from, 0) / x.Columns + eps);
            for (int i = 0; i < x.Columns; i++)
            {
                y.Data[to + i] = x.Data[from + i] * scale * gain.Data[gain.Offset + i];
            }
        }
    }

    /// <summary>y = (x - mean) / sqrt(variance + eps) * gain + bias.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void LayerNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> bias, DeviceView<float> y, float eps,
        int rows)
    {
        for (int row = Worker.Index; row < rows; row += Worker.Count)
        {
            long from = x.RowAt(row);
            long to = y.RowAt(row);
            float sum = 0;
            for (int start = 0; start < x.Columns; start += 32)
            {
                int end = XMath.Min(start + 32, x.Columns);
                float part = 0;
                for (int i = start; i < end; i++)
                {
                    part += x.Data[from + i];
                }
                sum += part;
            }
            float mean = sum / x.Columns;
            float scale = 1 / XMath.Sqrt(SquaredDistance(x, from, mean) / x.Columns + eps);
            for (int i = 0; i < x.Columns; i++)
            {
                y.Data[to + i] = (x.Data[from + i] - mean) * scale * gain.Data[gain.Offset + i] + bias.Data[bias.Offset + i];
            }
        }
    }

    /// <summary>Sum over a row of (x - centre)^2.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float SquaredDistance(DeviceView<float> x, long from, float centre)
    {
        float sum = 0;
        for (int start = 0; start < x.Columns; start += 32)
        {
            int end = XMath.Min(start + 32, x.Columns);
            float part = 0;
            for (int i = start; i < end; i++)
            {
                float v = x.Data[from + i] - centre;
                part += v * v;
            }
            sum += part;
        }
        return sum;
    }
}
