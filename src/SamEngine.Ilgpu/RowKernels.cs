using ILGPU;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>
/// The operations that sum along rows. They come twice: on a GPU the threads of a group share a sum through shared memory
/// and barriers; on ILGPU's CPU accelerator, where a barrier costs as much as thousands of operations, a thread computes whole
/// results by itself.
/// </summary>
internal abstract class RowKernels
{
    /// <summary>Floats of scratch memory that dense attention needs for this many rows (all heads').</summary>
    public abstract long AttentionScratch(long rows, int width, int keys, bool probabilities);

    /// <summary>As <see cref="AttentionScratch"/>, for attention over the cache.</summary>
    public abstract long PagedAttentionScratch(long rows, long mostKeys);

    public abstract void Linear(WeightFormat format, LinearArguments arguments);

    public abstract void RmsNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> y, float eps, int rows);

    public abstract void LayerNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> bias, DeviceView<float> y, float eps,
        int rows);

    public abstract void PoolLogits(DeviceView<float> features, DeviceView<float> weight, DeviceView<float> bias,
        ArrayView<float> scratch, int rows);

    public abstract void Attention(AttentionArguments arguments);

    public abstract void PagedAttention(PagedAttentionArguments arguments);

    public abstract void SelectRows(SelectionArguments arguments, int rows);

    public abstract void TokenLogProbs(DeviceView<float> logits, DeviceView<int> targets, DeviceView<float> y);
}

/// <summary>Barrier-free: for ILGPU's CPU accelerator.</summary>
internal sealed class ThreadRowKernels(KernelLoader loader, IlgpuKernels common, Func<long, KernelConfig> workers) : RowKernels
{
    private readonly Action<KernelConfig, LinearArguments>[] _blocks =
    [
        loader.Load<LinearArguments>(Ilgpu.Linear.Blocks<F32Format>), loader.Load<LinearArguments>(Ilgpu.Linear.Blocks<F16Format>),
        loader.Load<LinearArguments>(Ilgpu.Linear.Blocks<BF16Format>), loader.Load<LinearArguments>(Ilgpu.Linear.Blocks<Q8Format>),
        loader.Load<LinearArguments>(Ilgpu.Linear.Blocks<Q4Format>),
    ];

    private readonly Action<KernelConfig, LinearArguments>[] _rows =
    [
        loader.Load<LinearArguments>(Ilgpu.Linear.Rows<F32Format>), loader.Load<LinearArguments>(Ilgpu.Linear.Rows<F16Format>),
        loader.Load<LinearArguments>(Ilgpu.Linear.Rows<BF16Format>), loader.Load<LinearArguments>(Ilgpu.Linear.Rows<Q8Format>),
        loader.Load<LinearArguments>(Ilgpu.Linear.Rows<Q4Format>),
    ];

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int> _rmsNorm =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int>(Norms.RmsNorm);

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int> _layerNorm =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int>(Norms.LayerNorm);

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>, int> _poolLogits =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>, int>(GroupPool.Logits);

    private readonly Action<KernelConfig, PagedAttentionArguments> _pagedAttention =
        loader.Load<PagedAttentionArguments>(Ilgpu.PagedAttention.Rows);

    private readonly Action<KernelConfig, SelectionArguments> _selectRows = loader.Load<SelectionArguments>(SelectTokens.Rows);

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<int>, DeviceView<float>> _tokenLogProbs =
        loader.Load<DeviceView<float>, DeviceView<int>, DeviceView<float>>(SelectTokens.TokenLogProbs);

    public override long AttentionScratch(long rows, int width, int keys, bool probabilities) => workers(rows).Size * keys;

    public override long PagedAttentionScratch(long rows, long mostKeys) => workers(rows).Size * mostKeys;

    public override void Linear(WeightFormat format, LinearArguments arguments)
    {
        const int Block = Ilgpu.Linear.Block;
        long across = (arguments.Y.Columns + Block - 1) / Block;
        if (arguments.Rows <= 2)
        {
            _rows[(int)format](workers(arguments.Rows * across), arguments);
        }
        else
        {
            _blocks[(int)format](workers((arguments.Rows + Block - 1) / Block * across), arguments);
        }
    }

    public override void RmsNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> y, float eps, int rows) =>
        _rmsNorm(workers(rows), x, gain, y, eps, rows);

    public override void LayerNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> bias, DeviceView<float> y, float eps,
        int rows) => _layerNorm(workers(rows), x, gain, bias, y, eps, rows);

    public override void PoolLogits(DeviceView<float> features, DeviceView<float> weight, DeviceView<float> bias,
        ArrayView<float> scratch, int rows) => _poolLogits(workers(rows), features, weight, bias, scratch, rows);

    public override void Attention(AttentionArguments arguments) => common.Attention(
        workers((long)arguments.Batch * arguments.Heads * arguments.Q.Rows), arguments);

    public override void PagedAttention(PagedAttentionArguments arguments) =>
        _pagedAttention(workers((long)arguments.Q.Rows * arguments.Heads), arguments);

    public override void SelectRows(SelectionArguments arguments, int rows) => _selectRows(workers(rows), arguments);

    public override void TokenLogProbs(DeviceView<float> logits, DeviceView<int> targets, DeviceView<float> y) =>
        _tokenLogProbs(workers(logits.Rows), logits, targets, y);
}

/// <summary>With shared memory and barriers: for GPUs. Groups have 256 threads where the device allows it.</summary>
internal sealed class GroupRowKernels(KernelLoader loader, IlgpuKernels common, Func<long, KernelConfig> workers, int groupSize)
    : RowKernels
{
    private readonly Action<KernelConfig, LinearArguments>[] _tiles =
    [
        loader.Load<LinearArguments>(GroupLinear.Tiles<F32Format>), loader.Load<LinearArguments>(GroupLinear.Tiles<F16Format>),
        loader.Load<LinearArguments>(GroupLinear.Tiles<BF16Format>), loader.Load<LinearArguments>(GroupLinear.Tiles<Q8Format>),
        loader.Load<LinearArguments>(GroupLinear.Tiles<Q4Format>),
    ];

    private readonly Action<KernelConfig, LinearArguments>[] _oneRow =
    [
        loader.Load<LinearArguments>(GroupLinear.FewRows<F32Format, OneRow>), loader.Load<LinearArguments>(GroupLinear.FewRows<F16Format, OneRow>),
        loader.Load<LinearArguments>(GroupLinear.FewRows<BF16Format, OneRow>), loader.Load<LinearArguments>(GroupLinear.FewRows<Q8Format, OneRow>),
        loader.Load<LinearArguments>(GroupLinear.FewRows<Q4Format, OneRow>),
    ];

    private readonly Action<KernelConfig, LinearArguments>[] _fourRows =
    [
        loader.Load<LinearArguments>(GroupLinear.FewRows<F32Format, FourRows>), loader.Load<LinearArguments>(GroupLinear.FewRows<F16Format, FourRows>),
        loader.Load<LinearArguments>(GroupLinear.FewRows<BF16Format, FourRows>), loader.Load<LinearArguments>(GroupLinear.FewRows<Q8Format, FourRows>),
        loader.Load<LinearArguments>(GroupLinear.FewRows<Q4Format, FourRows>),
    ];

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, float> _rmsNorm =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, float>(GroupNorms.RmsNorm);

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float> _layerNorm =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, DeviceView<float>, float>(GroupNorms.LayerNorm);

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>> _poolLogits =
        loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, ArrayView<float>>(GroupNorms.PoolLogits);

    private readonly Action<KernelConfig, AttentionArguments> _attention = loader.Load<AttentionArguments>(GroupAttention.Rows);

    private readonly Action<KernelConfig, PagedAttentionArguments> _pagedAttention =
        loader.Load<PagedAttentionArguments>(GroupAttention.PagedRows);

    private readonly Action<KernelConfig, SelectionArguments> _selectRows = loader.Load<SelectionArguments>(GroupSelection.Rows);

    private readonly Action<KernelConfig, DeviceView<float>, DeviceView<int>, DeviceView<float>> _tokenLogProbs =
        loader.Load<DeviceView<float>, DeviceView<int>, DeviceView<float>>(GroupSelection.TokenLogProbs);

    /// <summary>Rows from which on tiles are faster than reading the weights once for every four rows.</summary>
    private const int MostFewRows = 8;

    public override long AttentionScratch(long rows, int width, int keys, bool probabilities) =>
        ByRow(width, probabilities) ? workers(rows).Size * keys : 0;

    public override long PagedAttentionScratch(long rows, long mostKeys) => 0;

    public override void Linear(WeightFormat format, LinearArguments arguments)
    {
        int rows = arguments.Rows;
        int outputs = arguments.Y.Columns;
        if (rows <= MostFewRows)
        {
            int across = Blocks(outputs, GroupLinear.Teams(groupSize));
            if (rows == 1)
            {
                _oneRow[(int)format](Groups(across), arguments);
            }
            else
            {
                _fourRows[(int)format](Groups(Blocks(rows, GroupLinear.RowBlock) * across), arguments);
            }
            return;
        }
        int tile = GroupLinear.Tile(groupSize);
        _tiles[(int)format](Groups(Blocks(rows, tile) * Blocks(outputs, tile)), arguments);
    }

    public override void RmsNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> y, float eps, int rows) =>
        _rmsNorm(Groups(rows), x, gain, y, eps);

    public override void LayerNorm(DeviceView<float> x, DeviceView<float> gain, DeviceView<float> bias, DeviceView<float> y, float eps,
        int rows) => _layerNorm(Groups(rows), x, gain, bias, y, eps);

    public override void PoolLogits(DeviceView<float> features, DeviceView<float> weight, DeviceView<float> bias,
        ArrayView<float> scratch, int rows) => _poolLogits(Groups(rows), features, weight, bias, scratch);

    public override void Attention(AttentionArguments arguments)
    {
        int rows = arguments.Q.Rows;
        int heads = arguments.Batch * arguments.Heads;
        if (ByRow(arguments.Q.Columns / arguments.Heads, arguments.HasProbabilities != 0))
        {
            common.Attention(workers((long)heads * rows), arguments);
        }
        else
        {
            _attention(Groups(heads * Blocks(rows, (int)Math.Sqrt(groupSize))), arguments);
        }
    }

    public override void PagedAttention(PagedAttentionArguments arguments) =>
        _pagedAttention(Groups(arguments.Q.Rows * arguments.Heads), arguments);

    public override void SelectRows(SelectionArguments arguments, int rows) => _selectRows(Groups(rows), arguments);

    public override void TokenLogProbs(DeviceView<float> logits, DeviceView<int> targets, DeviceView<float> y) =>
        _tokenLogProbs(Groups(logits.Rows), logits, targets, y);

    /// <summary>Where the probabilities are wanted they are memory anyhow; heads wider than a group's tile are no model's.</summary>
    private bool ByRow(int width, bool probabilities) => probabilities || width > GroupAttention.WidestHead(groupSize);

    private KernelConfig Groups(int count) => new(count, groupSize);

    private static int Blocks(int count, int size) => (count + size - 1) / size;
}
