using System.Runtime.CompilerServices;

namespace SamEngine.Compute.Cpu;

/// <summary>Runs each operation at once.</summary>
internal sealed unsafe class CpuQueue(CpuBackend backend) : ComputeQueue(ElementType.F32)
{
    public override void Synchronize()
    {
    }

    protected override void Dispose(bool disposing)
    {
    }

    protected override void LinearCore(TensorView x, Weight weight, TensorView y, TensorView bias, Activation activation,
        TensorView residual)
    {
        var (nx, ny, nr) = (Native(x), Native(y), Native(residual));
        Check(NativeCpu.sam_cpu_linear(backend.Context, &nx, Native(weight), &ny, Floats(bias), (int)activation,
            residual.IsEmpty ? null : &nr));
    }

    protected override void RmsNormCore(TensorView x, TensorView gain, float eps, TensorView y)
    {
        var (nx, ny) = (Native(x), Native(y));
        Check(NativeCpu.sam_cpu_rms_norm(backend.Context, &nx, Floats(gain), eps, &ny));
    }

    protected override void LayerNormCore(TensorView x, TensorView gain, TensorView bias, float eps, TensorView y)
    {
        var (nx, ny) = (Native(x), Native(y));
        Check(NativeCpu.sam_cpu_layer_norm(backend.Context, &nx, Floats(gain), Floats(bias), eps, &ny));
    }

    protected override void EmbeddingCore(Weight table, TensorView ids, TensorView y)
    {
        var ny = Native(y);
        CheckRange(ids, table.Rows);
        Check(NativeCpu.sam_cpu_embedding(backend.Context, Native(table), Ints(ids), &ny));
    }

    protected override void AddCore(TensorView x, TensorView addend, TensorView y)
    {
        var (nx, na, ny) = (Native(x), Native(addend), Native(y));
        Check(NativeCpu.sam_cpu_add(backend.Context, &nx, &na, &ny));
    }

    protected override void CopyCore(TensorView source, TensorView destination)
    {
        var (ns, nd) = (Native(source), Native(destination));
        Check(NativeCpu.sam_cpu_copy(backend.Context, &ns, &nd));
    }

    protected override void GatherRowsCore(TensorView x, TensorView indices, TensorView y)
    {
        var (nx, ny) = (Native(x), Native(y));
        CheckRange(indices, x.Rows);
        Check(NativeCpu.sam_cpu_gather_rows(backend.Context, &nx, Ints(indices), &ny));
    }

    protected override void ExtractPatchesCore(TensorView pixels, int channels, int patch, TensorView y)
    {
        var (np, ny) = (Native(pixels), Native(y));
        Check(NativeCpu.sam_cpu_extract_patches(backend.Context, &np, channels, patch, &ny));
    }

    protected override void AttentionCore(TensorView q, TensorView k, TensorView v, int heads, float scale, TensorView y,
        TensorView probabilities)
    {
        var (nq, nk, nv, ny, np) = (Native(q), Native(k), Native(v), Native(y), Native(probabilities));
        Check(NativeCpu.sam_cpu_attention(backend.Context, &nq, &nk, &nv, heads, scale, &ny,
            probabilities.IsEmpty ? null : &np));
    }

    protected override void GroupPoolCore(TensorView features, TensorView weight, TensorView bias, TensorView context,
        TensorView weights)
    {
        var (nf, nc, nw) = (Native(features), Native(context), Native(weights));
        Check(NativeCpu.sam_cpu_group_pool(backend.Context, &nf, Floats(weight), Floats(bias), &nc,
            weights.IsEmpty ? null : &nw));
    }

    protected override void RotaryStoreKvCore(TensorView qkv, KvCache cache, int layer, int heads, TensorView cosSin,
        StepLayout layout)
    {
        var (nx, nt, nl) = (Native(qkv), Native(cosSin), Native(layout));
        CheckRange(layout.Positions, cosSin.Rows);
        CheckRange(layout.Slots, cache.Shape.Blocks * cache.Shape.BlockSize);
        Check(NativeCpu.sam_cpu_rotary_store_kv(backend.Context, &nx, Native(cache), layer, heads, &nt, &nl));
    }

    protected override void PagedAttentionCore(TensorView q, KvCache cache, int layer, int heads, float scale,
        StepLayout layout, TensorView y)
    {
        var (nq, ny, nl) = (Native(q), Native(y), Native(layout));
        CheckLayout(cache, layout);
        Check(NativeCpu.sam_cpu_paged_attention(backend.Context, &nq, Native(cache), layer, heads, scale, &nl, &ny));
    }

    protected override void CopyKvBlocksCore(KvCache cache, TensorView pairs)
    {
        CheckRange(pairs, cache.Shape.Blocks, least: -1);
        Check(NativeCpu.sam_cpu_copy_kv_blocks(backend.Context, Native(cache), Ints(pairs), pairs.Rows));
    }

    protected override void SwiGluCore(TensorView gateUp, TensorView y)
    {
        var (ng, ny) = (Native(gateUp), Native(y));
        Check(NativeCpu.sam_cpu_swiglu(backend.Context, &ng, &ny));
    }

    protected override void SelectTokensCore(TensorView logits, SelectionInputs inputs, SelectionOutputs outputs)
    {
        CheckRange(inputs.LogitRows, logits.Rows);
        CheckRange(inputs.PenaltyIds, logits.Columns, least: -1);
        CheckRange(inputs.BannedIds, logits.Columns, least: -1);
        var groups = (SelectionGroup*)Ints(inputs.Groups);
        for (int i = 0; i < inputs.Groups.Rows; i++)
        {
            if (groups[i].FirstRow < 0 || groups[i].RowCount < 1
                || groups[i].FirstRow > inputs.LogitRows.Columns - groups[i].RowCount)
            {
                throw new ArgumentException($"selection group {i}: rows {groups[i].FirstRow}+{groups[i].RowCount} of " +
                    $"{inputs.LogitRows.Columns}");
            }
        }
        var nl = Native(logits);
        var selection = new NativeCpu.Selection
        {
            Groups = groups,
            LogitRows = Ints(inputs.LogitRows),
            RowScores = Floats(inputs.RowScores),
            PenaltyIds = Ints(inputs.PenaltyIds),
            BannedIds = Ints(inputs.BannedIds),
            Scores = Floats(outputs.Scores),
            Rows = Ints(outputs.Rows),
            Tokens = Ints(outputs.Tokens),
            NonFinite = Ints(outputs.NonFinite),
            PenaltyStride = inputs.PenaltyIds.RowStride,
            BannedStride = inputs.BannedIds.RowStride,
            GroupCount = inputs.Groups.Rows,
            PenaltyColumns = inputs.PenaltyIds.Columns,
            BannedColumns = inputs.BannedIds.Columns,
            Candidates = outputs.Scores.Columns,
        };
        Check(NativeCpu.sam_cpu_select_tokens(backend.Context, &nl, &selection));
    }

    protected override void TokenLogProbsCore(TensorView logits, TensorView targets, TensorView y)
    {
        var nl = Native(logits);
        CheckRange(targets, logits.Columns);
        Check(NativeCpu.sam_cpu_token_log_probs(backend.Context, &nl, Ints(targets), Floats(y)));
    }

    protected override void UploadCore(ReadOnlySpan<byte> values, TensorView destination) =>
        values.CopyTo(new Span<byte>(Address(destination), values.Length));

    protected override void ReadBackCore(TensorView source, Span<byte> values) =>
        new ReadOnlySpan<byte>(Address(source), values.Length).CopyTo(values);

    private static byte* Address(TensorView view) => ((CpuBuffer)view.Buffer).Pointer + view.Offset * 4;

    private static float* Floats(TensorView view) => view.IsEmpty ? null : (float*)Address(view);

    private static int* Ints(TensorView view) => (int*)Address(view);

    private static NativeCpu.View Native(TensorView view) => view.IsEmpty ? default : new()
    {
        Data = (float*)Address(view),
        Batch = view.Batch,
        Rows = view.Rows,
        Columns = view.Columns,
        BatchStride = view.BatchStride,
        RowStride = view.RowStride,
    };

    private static NativeCpu.Layout Native(StepLayout layout) => new()
    {
        Positions = Ints(layout.Positions),
        Slots = Ints(layout.Slots),
        RowStarts = Ints(layout.RowStarts),
        BlockTable = Ints(layout.BlockTable),
        Rows = layout.Rows,
        Sequences = layout.Sequences,
        BlockTableStride = layout.BlockTable.RowStride,
    };

    private static NativeCpu.WeightMatrix* Native(Weight weight) => ((CpuWeight)weight).Native;

    private static NativeCpu.Cache* Native(KvCache cache) => ((CpuKvCache)cache).Native;

    /// <summary>Indices live in host memory here, so they can be checked before native code follows them.</summary>
    private static void CheckRange(TensorView indices, int limit, int least = 0,
        [CallerMemberName] string operation = "")
    {
        for (int row = 0; row < indices.Rows; row++)
        {
            var values = new ReadOnlySpan<int>(Ints(indices) + row * indices.RowStride, indices.Columns);
            foreach (int value in values)
            {
                if (value < least || value >= limit)
                {
                    throw new ArgumentOutOfRangeException(nameof(indices),
                        $"{operation}: {value} in {indices}, expected {least} to {limit - 1}");
                }
            }
        }
    }

    private static void CheckLayout(KvCache cache, StepLayout layout)
    {
        int* starts = Ints(layout.RowStarts);
        int* positions = Ints(layout.Positions);
        bool ordered = starts[0] == 0 && starts[layout.Sequences] == layout.Rows;
        for (int s = 0; s < layout.Sequences && ordered; s++)
        {
            ordered = starts[s] <= starts[s + 1] && starts[s + 1] <= layout.Rows;
            if (!ordered || starts[s] == starts[s + 1])
            {
                continue;
            }
            int last = starts[s + 1] - 1;
            int most = 0;
            for (int row = starts[s]; row <= last; row++)
            {
                most = Math.Max(most, positions[row]);
                ordered &= positions[row] >= 0;
            }
            int blocks = most / cache.Shape.BlockSize + 1;
            if (blocks > layout.BlockTable.Columns)
            {
                throw new ArgumentException($"PagedAttention: position {most} needs {blocks} blocks of {layout.BlockTable}");
            }
            var table = new ReadOnlySpan<int>(Ints(layout.BlockTable) + s * layout.BlockTable.RowStride, blocks);
            if (table.ContainsAnyExceptInRange(0, cache.Shape.Blocks - 1))
            {
                throw new ArgumentException($"PagedAttention: sequence {s} names a block outside the cache");
            }
        }
        if (!ordered)
        {
            throw new ArgumentException("PagedAttention: row starts or positions are out of order");
        }
    }

    private static void Check(NativeCpu.Status status, [CallerMemberName] string operation = "")
    {
        if (status != NativeCpu.Status.Ok)
        {
            string name = operation.Replace("Core", "", StringComparison.Ordinal);
            throw new BackendException("cpu", status == NativeCpu.Status.OutOfMemory
                ? $"{name}: not enough memory" : $"{name}: status {status}");
        }
    }
}
