using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>Enqueues kernels on the accelerator's default stream.</summary>
internal sealed class IlgpuQueue(IlgpuBackend backend) : ComputeQueue(ElementType.F32)
{
    // Grown to a power of two over the largest need seen, and kept: steps of a text that grows allocate nothing.
    private MemoryBuffer1D<float, Stride1D.Dense>? _floatScratch;
    private MemoryBuffer1D<int, Stride1D.Dense>? _intScratch;

    private IlgpuKernels Kernels
    {
        get
        {
            // A CUDA context belongs to the thread that uses it; requests come from any.
            backend.Accelerator.Bind();
            return backend.Kernels;
        }
    }

    private RowKernels RowKernels
    {
        get
        {
            backend.Accelerator.Bind();
            return backend.RowKernels;
        }
    }

    public override void Synchronize()
    {
        try
        {
            backend.Accelerator.Synchronize();
        }
        catch (AcceleratorException e)
        {
            throw new BackendException("ilgpu", "the device failed: " + e.Message, isFatal: true, e);
        }
    }

    protected override void Dispose(bool disposing)
    {
        try
        {
            Synchronize();
        }
        catch (BackendException)
        {
            // A device that failed: whoever waited for it was told, and what follows must be disposed of all the same.
        }
        _floatScratch?.Dispose();
        _intScratch?.Dispose();
    }

    protected override void LinearCore(TensorView x, Weight weight, TensorView y, TensorView bias, Activation activation,
        TensorView residual)
    {
        var target = Floats(y);
        RowKernels.Linear(weight.Format, new LinearArguments(Floats(x), ((IlgpuWeight)weight).View, target,
            bias.IsEmpty ? target : Floats(bias), bias.IsEmpty ? 0 : 1, activation == Activation.Gelu ? 1 : 0,
            residual.IsEmpty ? target : Floats(residual), residual.IsEmpty ? 0 : 1, y.TotalRows));
    }

    protected override void RmsNormCore(TensorView x, TensorView gain, float eps, TensorView y) =>
        RowKernels.RmsNorm(Floats(x), Floats(gain), Floats(y), eps, x.TotalRows);

    protected override void LayerNormCore(TensorView x, TensorView gain, TensorView bias, float eps, TensorView y) =>
        RowKernels.LayerNorm(Floats(x), Floats(gain), Floats(bias), Floats(y), eps, x.TotalRows);

    protected override void EmbeddingCore(Weight table, TensorView ids, TensorView y) => Kernels.Embedding(table.Format)(
        backend.Workers(y.Count), ((IlgpuWeight)table).View, Ints(ids), Floats(y), y.Count);

    protected override void AddCore(TensorView x, TensorView addend, TensorView y) =>
        Kernels.Add(backend.Workers(y.Count), Floats(x), Floats(addend), Floats(y), y.Count);

    protected override void CopyCore(TensorView source, TensorView destination)
    {
        if (source.Type == ElementType.I32)
        {
            Kernels.CopyInts(backend.Workers(source.Count), Ints(source), Ints(destination), source.Count);
        }
        else
        {
            Kernels.CopyFloats(backend.Workers(source.Count), Floats(source), Floats(destination), source.Count);
        }
    }

    protected override void GatherRowsCore(TensorView x, TensorView indices, TensorView y) =>
        Kernels.GatherRows(backend.Workers(y.Count), Floats(x), Ints(indices), Floats(y), y.Count);

    protected override void ExtractPatchesCore(TensorView pixels, int channels, int patch, TensorView y) =>
        Kernels.ExtractPatches(backend.Workers(y.Count), Floats(pixels), patch, Floats(y), y.Count);

    protected override void AttentionCore(TensorView q, TensorView k, TensorView v, int heads, float scale, TensorView y,
        TensorView probabilities)
    {
        var kernels = RowKernels;
        var target = Floats(y);
        kernels.Attention(new AttentionArguments(Floats(q), Floats(k), Floats(v), target, q.Batch, heads, scale,
            probabilities.IsEmpty ? target : Floats(probabilities), probabilities.IsEmpty ? 0 : 1,
            FloatScratch(kernels.AttentionScratch((long)q.TotalRows * heads, q.Columns / heads, k.Rows, !probabilities.IsEmpty))));
    }

    protected override void GroupPoolCore(TensorView features, TensorView weight, TensorView bias, TensorView context,
        TensorView weights)
    {
        var scratch = FloatScratch(features.TotalRows);
        var target = Floats(context);
        RowKernels.PoolLogits(Floats(features), Floats(weight), Floats(bias), scratch, features.TotalRows);
        Kernels.GroupPools(backend.Workers(context.Count), Floats(features), scratch, target,
            weights.IsEmpty ? target : Floats(weights), weights.IsEmpty ? 0 : 1, features.Batch);
    }

    protected override void RotaryStoreKvCore(TensorView qkv, KvCache cache, int layer, int heads, TensorView cosSin,
        StepLayout layout) => Kernels.RotaryStore(backend.Workers(qkv.Count / 2), Floats(qkv), ((IlgpuKvCache)cache).Layer(layer), heads,
            Floats(cosSin), Ints(layout.Positions), Ints(layout.Slots));

    protected override void PagedAttentionCore(TensorView q, KvCache cache, int layer, int heads, float scale,
        StepLayout layout, TensorView y)
    {
        var kernels = RowKernels;
        long mostKeys = (long)layout.BlockTable.Columns * cache.Shape.BlockSize;
        kernels.PagedAttention(new PagedAttentionArguments(Floats(q), ((IlgpuKvCache)cache).Layer(layer), heads, scale,
            Ints(layout.Positions), Ints(layout.RowStarts), Ints(layout.BlockTable), Floats(y),
            FloatScratch(kernels.PagedAttentionScratch((long)q.Rows * heads, mostKeys))));
    }

    protected override void CopyKvBlocksCore(KvCache cache, TensorView pairs)
    {
        var memory = (IlgpuKvCache)cache;
        var shape = cache.Shape;
        int block = shape.BlockSize * shape.Width;
        Kernels.CopyBlocks(backend.Workers((long)pairs.Rows * shape.Layers * block), memory.Keys, memory.Values, Ints(pairs),
            shape.Layers, (long)shape.Blocks * block, block);
    }

    protected override void SwiGluCore(TensorView gateUp, TensorView y) =>
        Kernels.SwiGlu(backend.Workers(y.Count), Floats(gateUp), Floats(y), y.Count);

    protected override void SelectTokensCore(TensorView logits, SelectionInputs inputs, SelectionOutputs outputs)
    {
        int rows = inputs.LogitRows.Columns;
        int groups = inputs.Groups.Rows;
        long best = (long)rows * outputs.Scores.Columns;
        long all = (long)rows * logits.Columns;
        var floats = FloatScratch(all + 2 * best);
        var ints = IntScratch(best + 2 * rows);
        var arguments = new SelectionArguments(Floats(logits), Ints(inputs.Groups), Ints(inputs.LogitRows), Floats(inputs.RowScores),
            Ints(inputs.PenaltyIds), Ints(inputs.BannedIds),
            new SelectionScratch(floats.SubView(0, all), floats.SubView(all, best), floats.SubView(all + best, best),
                ints.SubView(0, best), ints.SubView(best, rows), ints.SubView(best + rows, rows)),
            Floats(outputs.Scores), Ints(outputs.Rows), Ints(outputs.Tokens), Ints(outputs.NonFinite));
        RowKernels.SelectRows(arguments, rows);
        Kernels.SelectGroups(backend.Workers(groups), arguments);
    }

    protected override void TokenLogProbsCore(TensorView logits, TensorView targets, TensorView y) =>
        RowKernels.TokenLogProbs(Floats(logits), Ints(targets), Floats(y));

    // Copies take spans: ILGPU pins those, but not what it is given by reference, which the garbage collector may then move.
    protected override void UploadCore(ReadOnlySpan<byte> values, TensorView destination)
    {
        // The caller may change its values once this returns.
        if (destination.Type == ElementType.I32)
        {
            var ints = MemoryMarshal.Cast<byte, int>(values);
            Memory(destination).Ints.SubView(destination.Offset, ints.Length).CopyFromCPU(ints);
        }
        else
        {
            var floats = MemoryMarshal.Cast<byte, float>(values);
            Memory(destination).Floats.SubView(destination.Offset, floats.Length).CopyFromCPU(floats);
        }
        Synchronize();
    }

    protected override void ReadBackCore(TensorView source, Span<byte> values)
    {
        Synchronize();
        if (source.Type == ElementType.I32)
        {
            var ints = MemoryMarshal.Cast<byte, int>(values);
            Memory(source).Ints.SubView(source.Offset, ints.Length).CopyToCPU(ints);
        }
        else
        {
            var floats = MemoryMarshal.Cast<byte, float>(values);
            Memory(source).Floats.SubView(source.Offset, floats.Length).CopyToCPU(floats);
        }
        Synchronize();
    }

    private static IlgpuBuffer Memory(TensorView view) => (IlgpuBuffer)view.Buffer;

    private static DeviceView<float> Floats(TensorView view) => new(Memory(view).Floats, view.Offset, view.Rows, view.Columns,
        view.BatchStride, view.RowStride);

    private static DeviceView<int> Ints(TensorView view) => new(Memory(view).Ints, view.Offset, view.Rows, view.Columns,
        view.BatchStride, view.RowStride);

    private ArrayView<float> FloatScratch(long length) => Scratch(ref _floatScratch, length);

    private ArrayView<int> IntScratch(long length) => Scratch(ref _intScratch, length);

    private ArrayView<T> Scratch<T>(ref MemoryBuffer1D<T, Stride1D.Dense>? scratch, long length)
        where T : unmanaged
    {
        if (scratch is null || scratch.Length < length)
        {
            Synchronize();
            scratch?.Dispose();
            scratch = null;
            scratch = backend.AllocateArray<T>((long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)length), "scratch memory");
        }
        return scratch.View;
    }
}
