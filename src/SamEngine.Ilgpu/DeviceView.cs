using ILGPU;

namespace SamEngine.Ilgpu;

/// <summary>A [batch, rows, columns] window as kernels see it.</summary>
internal readonly struct DeviceView<T>(ArrayView<T> data, long offset, int rows, int columns, long batchStride, long rowStride)
    where T : unmanaged
{
    public readonly ArrayView<T> Data = data;
    public readonly long Offset = offset;
    public readonly int Rows = rows;
    public readonly int Columns = columns;
    public readonly long BatchStride = batchStride;
    public readonly long RowStride = rowStride;

    /// <summary>Index of the first element of a row, counted over all batch entries.</summary>
    public long RowAt(int row) => Offset + row / Rows * BatchStride + row % Rows * RowStride;
}

/// <summary>The threads of a launch share its work items: thread <see cref="Index"/> takes every <see cref="Count"/>-th.</summary>
internal static class Worker
{
    public static int Index => Grid.IdxX * Group.DimX + Group.IdxX;

    public static int Count => Grid.DimX * Group.DimX;
}
