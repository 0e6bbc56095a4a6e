using ILGPU;
using ILGPU.Runtime;
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

    public static FormatKernels Load<TFormat>(Accelerator accelerator)
        where TFormat : struct, IWeightFormat => new(
            accelerator.LoadStreamKernel<LinearArguments>(Linear.Blocks<TFormat>),
            accelerator.LoadStreamKernel<LinearArguments>(Linear.Rows<TFormat>),
            accelerator.LoadStreamKernel<WeightView, DeviceView<int>, DeviceView<float>, long>(Ilgpu.Embedding.Gather<TFormat>));
}

/// <summary>The kernels, compiled when a backend is made. Those of this class use no barrier: their threads share the work items
/// of a launch, however few threads there are. On ILGPU's CPU accelerator a barrier costs as much as thousands of operations,
/// and each group of threads ends with one.</summary>
internal sealed class IlgpuKernels(Accelerator accelerator)
{
    private readonly FormatKernels[] _formats =
    [
        FormatKernels.Load<F32Format>(accelerator), FormatKernels.Load<F16Format>(accelerator), FormatKernels.Load<BF16Format>(accelerator),
        FormatKernels.Load<Q8Format>(accelerator), FormatKernels.Load<Q4Format>(accelerator),
    ];

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int> RmsNorm { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int>(Norms.RmsNorm);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int> LayerNorm { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int>(
            Norms.LayerNorm);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, long> Add { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<float>, DeviceView<float>, long>(Elementwise.Add);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, long> CopyFloats { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<float>, long>(Elementwise.Copy);

    public Action<KernelConfig, DeviceView<int>, DeviceView<int>, long> CopyInts { get; } =
        accelerator.LoadStreamKernel<DeviceView<int>, DeviceView<int>, long>(Elementwise.Copy);

    public Action<KernelConfig, DeviceView<float>, DeviceView<int>, DeviceView<float>, long> GatherRows { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<int>, DeviceView<float>, long>(Elementwise.GatherRows);

    public Action<KernelConfig, DeviceView<float>, int, DeviceView<float>, long> ExtractPatches { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, int, DeviceView<float>, long>(Elementwise.ExtractPatches);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, long> SwiGlu { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<float>, long>(Elementwise.SwiGlu);

    public Action<KernelConfig, AttentionArguments> Attention { get; } =
        accelerator.LoadStreamKernel<AttentionArguments>(Ilgpu.Attention.Rows);

    public Action<KernelConfig, PagedAttentionArguments> PagedAttention { get; } =
        accelerator.LoadStreamKernel<PagedAttentionArguments>(Ilgpu.PagedAttention.Rows);

    public Action<KernelConfig, DeviceView<float>, CacheView, int, DeviceView<float>, DeviceView<int>, DeviceView<int>> RotaryStore { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, CacheView, int, DeviceView<float>, DeviceView<int>, DeviceView<int>>(
            KvCacheKernels.RotaryStore);

    public Action<KernelConfig, ArrayView<float>, ArrayView<float>, DeviceView<int>, int, long, int> CopyBlocks { get; } =
        accelerator.LoadStreamKernel<ArrayView<float>, ArrayView<float>, DeviceView<int>, int, long, int>(KvCacheKernels.CopyBlocks);

    public Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>, int> GroupLogits { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>, int>(GroupPool.Logits);

    public Action<KernelConfig, DeviceView<float>, ArrayView<float>, DeviceView<float>, DeviceView<float>, int, int> GroupPools { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, ArrayView<float>, DeviceView<float>, DeviceView<float>, int, int>(
            GroupPool.Pool);

    public Action<KernelConfig, SelectionArguments> SelectRows { get; } =
        accelerator.LoadStreamKernel<SelectionArguments>(SelectTokens.Rows);

    public Action<KernelConfig, SelectionArguments> SelectGroups { get; } =
        accelerator.LoadStreamKernel<SelectionArguments>(SelectTokens.Groups);

    public Action<KernelConfig, DeviceView<float>, DeviceView<int>, DeviceView<float>> TokenLogProbs { get; } =
        accelerator.LoadStreamKernel<DeviceView<float>, DeviceView<int>, DeviceView<float>>(SelectTokens.TokenLogProbs);

    public FormatKernels For(WeightFormat format) => _formats[(int)format];
}
