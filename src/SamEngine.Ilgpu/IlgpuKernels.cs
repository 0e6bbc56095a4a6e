using ILGPU;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>The kernels that are generic in the weight format, compiled for one.</summary>
internal sealed class FormatKernels
{
    private FormatKernels(Action<KernelConfig, LinearArguments> linearBlocks, Action<KernelConfig, LinearArguments> linearRows,
        Action<KernelConfig, WeightView, DeviceView<int>, DeviceView<float>, long> embedding)
    {
        LinearBlocks = linearBlocks;
        LinearRows = linearRows;
        Embedding = embedding;
    }

    public Action<KernelConfig, LinearArguments> LinearBlocks { get; }

    public Action<KernelConfig, LinearArguments> LinearRows { get; }

    public Action<KernelConfig, WeightView, DeviceView<int>, DeviceView<float>, long> Embedding { get; }

    public static FormatKernels Load<TFormat>(KernelLoader loader)
        where TFormat : struct, IWeightFormat => new(
            loader.Load<LinearArguments>(Linear.Blocks<TFormat>),
            loader.Load<LinearArguments>(Linear.Rows<TFormat>),
            loader.Load<WeightView, DeviceView<int>, DeviceView<float>, long>(Ilgpu.Embedding.Gather<TFormat>));
}

/// <summary>The kernels, compiled when a backend is made. Those of this class use no barrier: their threads share the work items
/// of a launch, however few threads there are. On ILGPU's CPU accelerator a barrier costs as much as thousands of operations,
/// and each group of threads ends with one.</summary>
internal sealed class IlgpuKernels(KernelLoader loader)
{
    private readonly FormatKernels[] _formats =
    [
        FormatKernels.Load<F32Format>(loader), FormatKernels.Load<F16Format>(loader), FormatKernels.Load<BF16Format>(loader),
        FormatKernels.Load<Q8Format>(loader), FormatKernels.Load<Q4Format>(loader),
    ];

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int> RmsNorm { get; } =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int>(Norms.RmsNorm);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int> LayerNorm { get; } =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int>(
            Norms.LayerNorm);

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

    public Action<KernelConfig, PagedAttentionArguments> PagedAttention { get; } =
        loader.Load<PagedAttentionArguments>(Ilgpu.PagedAttention.Rows);

    public Action<KernelConfig, DeviceView<float>, CacheView, int, DeviceView<float>, DeviceView<int>, DeviceView<int>> RotaryStore { get; } =
        loader.Load<DeviceView<float>, CacheView, int, DeviceView<float>, DeviceView<int>, DeviceView<int>>(
            KvCacheKernels.RotaryStore);

    public Action<KernelConfig, ArrayView<float>, ArrayView<float>, DeviceView<int>, int, long, int> CopyBlocks { get; } =
        loader.Load<ArrayView<float>, ArrayView<float>, DeviceView<int>, int, long, int>(KvCacheKernels.CopyBlocks);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>, int> GroupLogits { get; } =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>, int>(GroupPool.Logits);

    public Action<KernelConfig, DeviceView<float>, ArrayView<float>, DeviceView<float>, DeviceView<float>, int, int> GroupPools { get; } =
        loader.Load<DeviceView<float>, ArrayView<float>, DeviceView<float>, DeviceView<float>, int, int>(
            GroupPool.Pool);

    public Action<KernelConfig, SelectionArguments> SelectRows { get; } =
        loader.Load<SelectionArguments>(SelectTokens.Rows);

    public Action<KernelConfig, SelectionArguments> SelectGroups { get; } =
        loader.Load<SelectionArguments>(SelectTokens.Groups);

    public Action<KernelConfig, DeviceView<float>, DeviceView<int>, DeviceView<float>> TokenLogProbs { get; } =
        loader.Load<DeviceView<float>, DeviceView<int>, DeviceView<float>>(SelectTokens.TokenLogProbs);

    public FormatKernels For(WeightFormat format) => _formats[(int)format];
}
