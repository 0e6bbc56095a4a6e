using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>Enqueues kernels on the accelerator's default stream.</summary>
internal sealed class IlgpuQueue(IlgpuBackend backend) : ComputeQueue(ElementType.F32)
{
    private MemoryBuffer1D<float, Stride1D.Dense>? _scratch;

    public override void Synchronize()
    {
        try
        {
            backend.Accelerator.Synchronize();
        }
        catch (AcceleratorException e)
        {
            throw new BackendException("ilgpu", "the device failed: " + e.Message);
        }
    }

    protected override void Dispose(bool disposing)
    {
        Synchronize();
        _scratch?.Dispose();
    }

    protected override void LinearCore(TensorView x, Weight weight, TensorView y, TensorView bias, Activation activation,
        TensorView residual)
    {
        var w = (IlgpuWeight)weight;
        var target = View(y);
        backend.Kernels.Linear(checked((int)y.Count), new LinearArguments(View(x), w.Data, w.Scales, w.GroupSize, target,
            bias.IsEmpty ? target : View(bias), bias.IsEmpty ? 0 : 1, activation == Activation.Gelu ? 1 : 0,
            residual.IsEmpty ? target : View(residual), residual.IsEmpty ? 0 : 1), SpecializedValue.New((int)w.Format));
    }

    protected override void RmsNormCore(TensorView x, TensorView gain, float eps, TensorView y) =>
        backend.Kernels.RmsNorm(x.TotalRows, View(x), View(gain), View(y), eps);

    protected override void GroupPoolCore(TensorView features, TensorView weight, TensorView bias, TensorView context,
        TensorView weights)
    {
        var scratch = Scratch(features.TotalRows);
        backend.Kernels.GroupPoolLogits(features.TotalRows, View(features), View(weight), View(bias), scratch);
        backend.Kernels.GroupPoolSoftmax(features.Rows, scratch, features.Batch, features.Rows);
        backend.Kernels.GroupPoolSum(checked((int)context.Count), View(features), scratch, View(context), features.Batch);
        if (!weights.IsEmpty)
        {
            backend.Kernels.CopyRows(checked((int)weights.Count), scratch, View(weights));
        }
    }

    protected override void LayerNormCore(TensorView x, TensorView gain, TensorView bias, float eps, TensorView y) =>
        throw IlgpuBackend.Missing(nameof(LayerNorm));

    protected override void EmbeddingCore(Weight table, TensorView ids, TensorView y) =>
        throw IlgpuBackend.Missing(nameof(Embedding));

    protected override void AddCore(TensorView x, TensorView addend, TensorView y) =>
        throw IlgpuBackend.Missing(nameof(Add));

    protected override void CopyCore(TensorView source, TensorView destination) =>
        throw IlgpuBackend.Missing(nameof(Copy));

    protected override void GatherRowsCore(TensorView x, TensorView indices, TensorView y) =>
        throw IlgpuBackend.Missing(nameof(GatherRows));

    protected override void ExtractPatchesCore(TensorView pixels, int channels, int patch, TensorView y) =>
        throw IlgpuBackend.Missing(nameof(ExtractPatches));

    protected override void AttentionCore(TensorView q, TensorView k, TensorView v, int heads, float scale, TensorView y,
        TensorView probabilities) => throw IlgpuBackend.Missing(nameof(Attention));

    protected override void RotaryStoreKvCore(TensorView qkv, KvCache cache, int layer, int heads, TensorView cosSin,
        StepLayout layout) => throw IlgpuBackend.Missing(nameof(RotaryStoreKv));

    protected override void PagedAttentionCore(TensorView q, KvCache cache, int layer, int heads, float scale,
        StepLayout layout, TensorView y) => throw IlgpuBackend.Missing(nameof(PagedAttention));

    protected override void CopyKvBlocksCore(KvCache cache, TensorView pairs) =>
        throw IlgpuBackend.Missing(nameof(CopyKvBlocks));

    protected override void SwiGluCore(TensorView gateUp, TensorView y) => throw IlgpuBackend.Missing(nameof(SwiGlu));

    protected override void SelectTokensCore(TensorView logits, SelectionInputs inputs, SelectionOutputs outputs) =>
        throw IlgpuBackend.Missing(nameof(SelectTokens));

    protected override void TokenLogProbsCore(TensorView logits, TensorView targets, TensorView y) =>
        throw IlgpuBackend.Missing(nameof(TokenLogProbs));

    protected override void UploadCore(ReadOnlySpan<byte> values, TensorView destination)
    {
        var buffer = (IlgpuBuffer)destination.Buffer;
        // The caller may change its values once this returns.
        if (destination.Type == ElementType.I32)
        {
            var ints = MemoryMarshal.Cast<byte, int>(values);
            buffer.Ints.SubView(destination.Offset, ints.Length)
                .CopyFromCPU(ref MemoryMarshal.GetReference(ints), ints.Length);
        }
        else
        {
            var floats = MemoryMarshal.Cast<byte, float>(values);
            buffer.Floats.SubView(destination.Offset, floats.Length)
                .CopyFromCPU(ref MemoryMarshal.GetReference(floats), floats.Length);
        }
        Synchronize();
    }

    protected override void ReadBackCore(TensorView source, Span<byte> values)
    {
        Synchronize();
        var buffer = (IlgpuBuffer)source.Buffer;
        if (source.Type == ElementType.I32)
        {
            var ints = MemoryMarshal.Cast<byte, int>(values);
            buffer.Ints.SubView(source.Offset, ints.Length).CopyToCPU(ref MemoryMarshal.GetReference(ints), ints.Length);
        }
        else
        {
            var floats = MemoryMarshal.Cast<byte, float>(values);
            buffer.Floats.SubView(source.Offset, floats.Length)
                .CopyToCPU(ref MemoryMarshal.GetReference(floats), floats.Length);
        }
        Synchronize();
    }

    private static DeviceView View(TensorView view) => new(((IlgpuBuffer)view.Buffer).Floats, view.Offset, view.Rows,
        view.Columns, view.BatchStride, view.RowStride);

    /// <summary>Grows to the largest group seen and stays.</summary>
    private ArrayView<float> Scratch(int length)
    {
        if (_scratch is null || _scratch.Length < length)
        {
            Synchronize();
            _scratch?.Dispose();
            _scratch = backend.Accelerator.Allocate1D<float>(length);
        }
        return _scratch.View;
    }
}
