using SamEngine.Compute;

namespace SamEngine.Cuda;

/// <summary>The operations: which kernel, with which arguments, in which shape. Each kernel's file in kernels/ states what
/// shapes of launch it takes.</summary>
internal sealed partial class CudaQueue
{
    private const int Warp = 32;

    /// <summary>Blocks of a launch whose threads share the work, for each multiprocessor.</summary>
    private const int BlocksEach = 16;

    protected override void RmsNormCore(TensorView x, TensorView gain, float eps, TensorView y) =>
        Launch(_backend.Kernels.RmsNorm, Rows(x.TotalRows, x.Columns, 512),
            new NormArguments { X = Native(x), Y = Native(y), Gain = Data(gain), Eps = eps });

    protected override void LayerNormCore(TensorView x, TensorView gain, TensorView bias, float eps, TensorView y) =>
        Launch(_backend.Kernels.LayerNorm, Rows(x.TotalRows, x.Columns, 512),
            new NormArguments { X = Native(x), Y = Native(y), Gain = Data(gain), Bias = Data(bias), Eps = eps });

    protected override void EmbeddingCore(Weight table, TensorView ids, TensorView y) =>
        Launch(_backend.Kernels.Embedding(table.Format), Shared(y.Count, 256),
            new EmbeddingArguments { Table = ((CudaWeight)table).Native, Y = Native(y), Ids = Data(ids) });

    protected override void AddCore(TensorView x, TensorView addend, TensorView y) =>
        Launch(_backend.Kernels.Add, Shared(y.Count, 256),
            new AddArguments { X = Native(x), Addend = Native(addend), Y = Native(y) });

    protected override void CopyCore(TensorView source, TensorView destination) =>
        Launch(source.Type == ElementType.I32 ? _backend.Kernels.CopyInts : _backend.Kernels.Copy(source.Type, destination.Type),
            Shared(source.Count, 256), new CopyArguments { Source = Native(source), Destination = Native(destination) });

    protected override void GatherRowsCore(TensorView x, TensorView indices, TensorView y) =>
        Launch(_backend.Kernels.GatherRows, Shared(y.Count, 256),
            new GatherArguments { X = Native(x), Y = Native(y), Indices = Data(indices) });

    protected override void ExtractPatchesCore(TensorView pixels, int channels, int patch, TensorView y) =>
        Launch(_backend.Kernels.ExtractPatches, Shared(y.Count, 256),
            new PatchArguments { Pixels = Native(pixels), Y = Native(y), Channels = channels, Patch = patch });

    protected override void GroupPoolCore(TensorView features, TensorView weight, TensorView bias, TensorView context,
        TensorView weights) =>
        Launch(_backend.Kernels.GroupPool,
            Rows(features.Rows, features.Columns, 256) with { SharedBytes = (uint)(features.Batch * sizeof(float)) },
            new GroupPoolArguments
            {
                Features = Native(features),
                Context = Native(context),
                Weights = Native(weights),
                Weight = Data(weight),
                Bias = Data(bias),
            });

    protected override void RotaryStoreKvCore(TensorView qkv, KvCache cache, int layer, int heads, TensorView cosSin,
        StepLayout layout) =>
        Launch(_backend.Kernels.RotaryStoreKv, Shared(qkv.Count / 2, 256), new RotaryStoreArguments
        {
            Qkv = Native(qkv),
            CosSin = Native(cosSin),
            Cache = ((CudaKvCache)cache).Native,
            Layout = Native(layout),
            Layer = layer,
            Heads = heads,
        });

    protected override void CopyKvBlocksCore(KvCache cache, TensorView pairs)
    {
        var shape = cache.Shape;
        Launch(_backend.Kernels.CopyKvBlocks, Shared((long)pairs.Rows * shape.Layers * shape.BlockSize * shape.Width, 256),
            new CopyBlocksArguments { Cache = ((CudaKvCache)cache).Native, Pairs = Data(pairs), Count = pairs.Rows });
    }

    protected override void SwiGluCore(TensorView gateUp, TensorView y) =>
        Launch(_backend.Kernels.SwiGlu, Shared(y.Count, 256), new SwiGluArguments { GateUp = Native(gateUp), Y = Native(y) });

    protected override void SelectTokensCore(TensorView logits, SelectionInputs inputs, SelectionOutputs outputs)
    {
        int rows = inputs.LogitRows.Columns;
        int candidates = outputs.Scores.Columns;
        long values = (long)rows * logits.Columns;
        long best = (long)rows * candidates;
        // All of four bytes: scores of the rows, three lists of the best, two numbers for each row.
        nint scratch = Scratch(sizeof(int) * (values + 3 * best + 2 * rows));
        nint At(long element) => scratch + (nint)(element * sizeof(int));
        var arguments = new SelectionArguments
        {
            Logits = Native(logits),
            Groups = Data(inputs.Groups),
            LogitRows = Data(inputs.LogitRows),
            RowScores = Data(inputs.RowScores),
            PenaltyIds = Data(inputs.PenaltyIds),
            BannedIds = Data(inputs.BannedIds),
            Scores = Data(outputs.Scores),
            Rows = Data(outputs.Rows),
            Tokens = Data(outputs.Tokens),
            NonFinite = Data(outputs.NonFinite),
            RowValues = scratch,
            BestKeys = At(values),
            BestScores = At(values + best),
            BestTokens = At(values + 2 * best),
            BestCounts = At(values + 3 * best),
            Finite = At(values + 3 * best + rows),
            PenaltyStride = inputs.PenaltyIds.RowStride,
            BannedStride = inputs.BannedIds.RowStride,
            GroupCount = inputs.Groups.Rows,
            RowCount = rows,
            PenaltyColumns = inputs.PenaltyIds.Columns,
            BannedColumns = inputs.BannedIds.Columns,
            Candidates = candidates,
        };
        Launch(_backend.Kernels.SelectRows, Rows(rows, logits.Columns, 512), arguments);
        Launch(_backend.Kernels.SelectGroups, new LaunchShape((uint)inputs.Groups.Rows, Warp), arguments);
    }

    protected override void TokenLogProbsCore(TensorView logits, TensorView targets, TensorView y) =>
        Launch(_backend.Kernels.TokenLogProbs, Rows(logits.Rows, logits.Columns, 512),
            new TokenLogProbsArguments { Logits = Native(logits), Targets = Data(targets), Y = Data(y) });

    private static long CeilDiv(long a, long b) => (a + b - 1) / b;

    /// <summary>Threads that share <paramref name="items"/> work items.</summary>
    private LaunchShape Shared(long items, int block) =>
        new((uint)Math.Clamp(CeilDiv(items, block), 1, _backend.Multiprocessors * BlocksEach), (uint)block);

    /// <summary>A block per row, whose threads take about eight columns each.</summary>
    private static LaunchShape Rows(int rows, int columns, int mostThreads) =>
        new((uint)rows, (uint)Math.Clamp(CeilDiv(columns, 8 * Warp) * Warp, Warp, mostThreads));

    /// <summary>The first element; null where an optional view was not given.</summary>
    private static nint Data(TensorView view) => view.IsEmpty ? 0 : Pointer(view);

    private static DeviceView Native(TensorView view) => view.IsEmpty ? default : new DeviceView
    {
        Data = Pointer(view),
        Batch = view.Batch,
        Rows = view.Rows,
        Columns = view.Columns,
        Type = view.Type,
        BatchStride = view.BatchStride,
        RowStride = view.RowStride,
    };

    private static DeviceLayout Native(StepLayout layout) => new()
    {
        Positions = Data(layout.Positions),
        Slots = Data(layout.Slots),
        RowStarts = Data(layout.RowStarts),
        BlockTable = Data(layout.BlockTable),
        BlockTableStride = layout.BlockTable.RowStride,
        Rows = layout.Rows,
        Sequences = layout.Sequences,
        MostBlocks = layout.BlockTable.Columns,
    };
}
