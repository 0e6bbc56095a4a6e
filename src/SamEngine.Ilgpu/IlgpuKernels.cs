using ILGPU;
using ILGPU.Runtime;

namespace SamEngine.Ilgpu;

/// <summary>A [batch, rows, columns] window as kernels see it.</summary>
internal readonly struct DeviceView(ArrayView<float> data, long offset, int rows, int columns, long batchStride, long rowStride)
{
    public readonly ArrayView<float> Data = data;
    public readonly long Offset = offset;
    public readonly int Rows = rows;
    public readonly int Columns = columns;
    public readonly long BatchStride = batchStride;
    public readonly long RowStride = rowStride;

    /// <summary>Index of the first element of a row, counted over all batch entries.</summary>
    public long RowAt(int row) => Offset + row / Rows * BatchStride + row % Rows * RowStride;
}

/// <summary>The kernels, compiled once per accelerator. None uses a barrier: on ILGPU's CPU accelerator each costs as much
/// as hundreds of operations.</summary>
internal sealed class IlgpuKernels(Accelerator accelerator)
{
    public Action<Index1D, DeviceView, DeviceView, DeviceView, float> RmsNorm { get; } =
        accelerator.LoadAutoGroupedStreamKernel<Index1D, DeviceView, DeviceView, DeviceView, float>(Ilgpu.RmsNorm.Row);

    public Action<Index1D, LinearArguments, SpecializedValue<int>> Linear { get; } =
        accelerator.LoadAutoGroupedStreamKernel<Index1D, LinearArguments, SpecializedValue<int>>(Ilgpu.Linear.Element);

    public Action<Index1D, DeviceView, DeviceView, DeviceView, ArrayView<float>> GroupPoolLogits { get; } =
        accelerator.LoadAutoGroupedStreamKernel<Index1D, DeviceView, DeviceView, DeviceView, ArrayView<float>>(
            GroupPool.Logit);

    public Action<Index1D, ArrayView<float>, int, int> GroupPoolSoftmax { get; } =
        accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<float>, int, int>(GroupPool.Softmax);

    public Action<Index1D, DeviceView, ArrayView<float>, DeviceView, int> GroupPoolSum { get; } =
        accelerator.LoadAutoGroupedStreamKernel<Index1D, DeviceView, ArrayView<float>, DeviceView, int>(GroupPool.Sum);

    public Action<Index1D, ArrayView<float>, DeviceView> CopyRows { get; } =
        accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<float>, DeviceView>(GroupPool.Store);
}
