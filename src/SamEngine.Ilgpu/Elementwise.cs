using System.Runtime.CompilerServices;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>Operations that make each element of y from one or two others, a thread per element.</summary>
internal static class Elementwise
{
    /// <summary>y = x + addend.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add(DeviceView<float> x, DeviceView<float> addend, DeviceView<float> y, long count)
    {
        for (long i = Worker.Index; i < count; i += Worker.Count)
        {
            int row = (int)(i / y.Columns);
            int column = (int)(i % y.Columns);
            y.Data[y.RowAt(row) + column] = x.Data[x.RowAt(row) + column] + addend.Data[addend.RowAt(row) + column];
        }
    }

    /// <summary>y = x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Copy<T>(DeviceView<T> x, DeviceView<T> y, long count)
        where T : unmanaged
    {
        for (long i = Worker.Index; i < count; i += Worker.Count)
        {
            int row = (int)(i / y.Columns);
            int column = (int)(i % y.Columns);
            y.Data[y.RowAt(row) + column] = x.Data[x.RowAt(row) + column];
        }
    }

    /// <summary>y[i] = x[indices[i]].</summary>
    public static void GatherRows(DeviceView<float> x, DeviceView<int> indices, DeviceView<float> y, long count)
    {
        for (long i = Worker.Index; i < count; i += Worker.Count)
        {
            int row = (int)(i / y.Columns);
            int column = (int)(i % y.Columns);
            y.Data[y.RowAt(row) + column] = x.Data[x.RowAt(indices.Data[indices.Offset + row]) + column];
        }
    }

    /// <summary>y = pixels cut into patches, columns ordered channel, row, column.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ExtractPatches(DeviceView<float> pixels, int patch, DeviceView<float> y, long count)
    {
        int side = pixels.Columns;
        int across = side / patch;
        for (long i = Worker.Index; i < count; i += Worker.Count)
        {
            int row = (int)(i / y.Columns);
            int column = (int)(i % y.Columns);
            int place = row % y.Rows;
            int line = column / (patch * patch) * side + place / across * patch + column / patch % patch;
            y.Data[y.RowAt(row) + column] = pixels.Data[pixels.Offset + row / y.Rows * pixels.BatchStride
                + line * pixels.RowStride + place % across * patch + column % patch];
        }
    }

    /// <summary>y = silu(gate) * up, gate and up side by side.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void SwiGlu(DeviceView<float> gateUp, DeviceView<float> y, long count)
    {
        for (long i = Worker.Index; i < count; i += Worker.Count)
        {
            int row = (int)(i / y.Columns);
            int column = (int)(i % y.Columns);
            long from = gateUp.RowAt(row) + column;
            float gate = gateUp.Data[from];
            y.Data[y.RowAt(row) + column] = gate / (1 + XMath.Exp(-gate)) * gateUp.Data[from + y.Columns];
        }
    }
}
