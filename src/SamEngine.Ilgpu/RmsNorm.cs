using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>y = x / sqrt(mean(x^2) + eps) * gain, one thread per row.</summary>
internal static class RmsNorm
{
    public static void Row(Index1D row, DeviceView x, DeviceView gain, DeviceView y, float eps)
    {
        long from = x.RowAt(row);
        long to = y.RowAt(row);
        // Four sums: a single one over thousands of columns would lose digits.
        float s0 = 0;
        float s1 = 0;
        float s2 = 0;
        float s3 = 0;
        int i = 0;
        for (; i + 3 < x.Columns; i += 4)
        {
            s0 += x.Data[from + i] * x.Data[from + i];
            s1 += x.Data[from + i + 1] * x.Data[from + i + 1];
            s2 += x.Data[from + i + 2] * x.Data[from + i + 2];
            s3 += x.Data[from + i + 3] * x.Data[from + i + 3];
        }
        for (; i < x.Columns; i++)
        {
            s0 += x.Data[from + i] * x.Data[from + i];
        }
        float scale = 1 / XMath.Sqrt((s0 + s1 + (s2 + s3)) / x.Columns + eps);
        for (i = 0; i < x.Columns; i++)
        {
            y.Data[to + i] = x.Data[from + i] * scale * gain.Data[gain.Offset + i];
        }
    }
}
