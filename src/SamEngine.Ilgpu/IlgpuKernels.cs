using ILGPU;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>The kernels that every accelerator uses, compiled when a backend is made. They use no barrier: their threads share the
/// work items of a launch, however few threads there are. <see cref="RowKernels"/> has the others.</summary>
internal sealed class IlgpuKernels(KernelLoader loader)
{
    private readonly Action<KernelConfig, WeightView, DeviceView<int>, DeviceView<float>, long>[] _embedding =
    [
        Embed<F32Format>(loader), Embed<F16Format>(loader), Embed<BF16Format>(loader), Embed<Q8Format>(loader), Embed<Q4Format>(loader),
    ];

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, long> Add { get; } =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, long>(Elementwise.Add);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, long> CopyFloats { get; } =
        loader.Load<DeviceView<float>, DeviceView<float>, long>(Elementwise.Copy);

    public Action<KernelConfig, DeviceView<int>, DeviceView<int>, long> CopyInts { get; } =
        loader.Load<DeviceView<int>, DeviceView<int>, long>(Elementwise.Copy);

    public Action<KernelConfig, DeviceView<float>, DeviceView<int>, DeviceView<float>, long> GatherRows { get; } =
        loader.Load<DeviceView<float>, DeviceView<int>, DeviceView<float>, long>(Elementwise.GatherRows);

    public Action<KernelConfig, DeviceView<float>, int, DeviceView<float>, long> ExtractPatches { get; } =
        loader.Load<DeviceView<float>, int, DeviceView<float>, long>(Elementwise.ExtractPatches);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, long> SwiGlu { get; } =
        loader.Load<DeviceView<float>, DeviceView<float>, long>(Elementwise.SwiGlu);

    public Action<KernelConfig, AttentionArguments> Attention { get; } =
        loader.Load<AttentionArguments>(Ilgpu.Attention.Rows);

    public Action<KernelConfig, DeviceView<float>, CacheView, int, DeviceView<float>, DeviceView<int>, DeviceView<int>> RotaryStore { get; } =
        loader.Load<DeviceView<float>, CacheView, int, DeviceView<float>, DeviceView<int>, DeviceView<int>>(
            KvCacheKernels.RotaryStore);

    public Action<KernelConfig, ArrayView<float>, ArrayView<float>, DeviceView<int>, int, long, int> CopyBlocks { get; } =
        loader.Load<ArrayView<float>, ArrayView<float>, DeviceView<int>, int, long, int>(KvCacheKernels.CopyBlocks);

    public Action<KernelConfig, DeviceView<float>, ArrayView<float>, DeviceView<float>, DeviceView<float>, int, int> GroupPools { get; } =
        loader.Load<DeviceView<float>, ArrayView<float>, DeviceView<float>, DeviceView<float>, int, int>(
            GroupPool.Pool);

    public Action<KernelConfig, SelectionArguments> SelectGroups { get; } =
        loader.Load<SelectionArguments>(SelectTokens.Groups);

    public Action<KernelConfig, WeightView, DeviceView<int>, DeviceView<float>, long> Embedding(WeightFormat format) =>
        _embedding[(int)format];

    private static Action<KernelConfig, WeightView, DeviceView<int>, DeviceView<float>, long> Embed<TFormat>(KernelLoader loader)
        where TFormat : struct, IWeightFormat =>
        loader.Load<WeightView, DeviceView<int>, DeviceView<float>, long>(Ilgpu.Embedding.Gather<TFormat>);
}
