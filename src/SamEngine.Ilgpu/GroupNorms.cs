using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary><see cref="Norms"/> and the logits of <see cref="GroupPool"/> for GPUs: a group per row.</summary>
internal static class GroupNorms
{
    /// <inheritdoc cref="Norms.RmsNorm"/>
    public static void RmsNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> y, float eps)
    {
        var shared = SharedMemory.Allocate<double>(GroupReduction.Most);
        long from = x.RowAt(Grid.IdxX);
        long to = y.RowAt(Grid.IdxX);
        float scale = 1 / XMath.Sqrt((float)SquaredDistance(x, from, 0, shared) / x.Columns + eps);
        for (int i = Group.IdxX; i < x.Columns; i += Group.DimX)
        {
            y.Data[to + i] = x.Data[from + i] * scale * gain.Data[gain.Offset + i];
        }
    }

    /// <inheritdoc cref="Norms.LayerNorm"/>
    public static void LayerNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> bias, DeviceView<float> y, float eps)
    {
        var shared = SharedMemory.Allocate<double>(GroupReduction.Most);
        long from = x.RowAt(Grid.IdxX);
        long to = y.RowAt(Grid.IdxX);
        float sum = 0;
        for (int i = Group.IdxX; i < x.Columns; i += Group.DimX)
        {
            sum += x.Data[from + i];
        }
        float mean = (float)GroupReduction.Sum(sum, shared) / x.Columns;
        float scale = 1 / XMath.Sqrt((float)SquaredDistance(x, from, mean, shared) / x.Columns + eps);
        for (int i = Group.IdxX; i < x.Columns; i += Group.DimX)
        {
            y.Data[to + i] = (x.Data[from + i] - mean) * scale * gain.Data[gain.Offset + i] + bias.Data[bias.Offset + i];
        }
    }

    /// <inheritdoc cref="GroupPool.Logits"/>
    public static void PoolLogits(DeviceView<float> features, DeviceView<float> weight, DeviceView<float> bias,
        ArrayView<float> scratch)
    {
        var shared = SharedMemory.Allocate<double>(GroupReduction.Most);
        long from = features.RowAt(Grid.IdxX);
        float part = 0;
        for (int i = Group.IdxX; i < features.Columns; i += Group.DimX)
        {
            part += features.Data[from + i] * weight.Data[weight.Offset + i];
        }
        float sum = (float)GroupReduction.Sum(part, shared);
        if (Group.IdxX == 0)
        {
            scratch[Grid.IdxX] = sum + bias.Data[bias.Offset];
        }
    }

    private static double SquaredDistance(DeviceView<float> x, long from, float centre, ArrayView<double> shared)
    {
        float part = 0;
        for (int i = Group.IdxX; i < x.Columns; i += Group.DimX)
        {
            float v = x.Data[from + i] - centre;
            part += v * v;
        }
        return GroupReduction.Sum(part, shared);
    }
}
