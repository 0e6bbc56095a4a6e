using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SamEngine.Compute;

/// <summary>What the calls of a decode step depend on, so that a recorded step serves every later one of the same key.</summary>
/// <param name="Rows">Rows of the language model, each of a sequence of its own.</param>
/// <param name="SelectionRows">Rows of the choice of tokens.</param>
/// <param name="Groups">Groups of the choice.</param>
/// <param name="Candidates">Of each group.</param>
/// <param name="PenaltyColumns">Width of the lists of penalised ids.</param>
/// <param name="BannedColumns">Width of the lists of banned ids.</param>
internal readonly record struct StepKey(
    int Rows, int SelectionRows, int Groups, int Candidates, int PenaltyColumns, int BannedColumns);

/// <summary>
/// The operations the model is made of. A call only enqueues: it does not wait, does not allocate, and does not look at
/// values on the device; what changes from step to step lives in device buffers. Calls run in order. The public methods
/// check shapes and types, so that a backend's Core methods receive valid arguments only. Not thread-safe.
/// Shapes are [batch, rows, columns]; activations are of the backend's activation type, vectors and norms' parameters F32.
/// An output may alias an input only where stated.
/// </summary>
internal abstract class ComputeQueue(ElementType activationType) : IDisposable
{
    /// <summary>Times that can be kept.</summary>
    public const int Marks = 4;

    private readonly ElementType _activation = activationType;
    private readonly long[] _marks = new long[Marks];

    /// <summary>y = activation(x W^T + bias) + residual. x [b, m, K], W [N, K], bias [1, 1, N], y and residual [b, m, N].
    /// The residual may be y itself. y may be F32 where activations are half precision (logits).</summary>
    public void Linear(TensorView x, Weight weight, TensorView y, TensorView bias = default,
        Activation activation = Activation.None, TensorView residual = default)
    {
        Check(x, _activation);
        Check(!y.IsEmpty && (y.Type == _activation || y.Type == ElementType.F32), $"y is {y}");
        Check(x.Columns == weight.Columns && y.Columns == weight.Rows && SameRows(x, y),
            $"x {x}, weight '{weight.Name}' [{weight.Rows}, {weight.Columns}], y {y}");
        CheckVector(bias, weight.Rows);
        Check(residual.IsEmpty || (SameShape(residual, y) && residual.Type == y.Type), $"residual {residual}, y {y}");
        CheckOutput(y);
        LinearCore(x, weight, y, bias, activation, residual);
    }

    /// <summary>y = x / sqrt(mean(x^2) + eps) * gain, statistics in fp32. y may be x.</summary>
    public void RmsNorm(TensorView x, TensorView gain, float eps, TensorView y)
    {
        Check(x, _activation);
        Check(y, _activation);
        Check(SameShape(x, y), $"x {x}, y {y}");
        Check(!gain.IsEmpty, "gain is missing");
        CheckVector(gain, x.Columns);
        CheckOutput(y);
        RmsNormCore(x, gain, eps, y);
    }

    /// <summary>y = (x - mean) / sqrt(variance + eps) * gain + bias, statistics in fp32. y may be x.</summary>
    public void LayerNorm(TensorView x, TensorView gain, TensorView bias, float eps, TensorView y)
    {
        Check(x, _activation);
        Check(y, _activation);
        Check(SameShape(x, y), $"x {x}, y {y}");
        Check(!gain.IsEmpty && !bias.IsEmpty, "gain or bias is missing");
        CheckVector(gain, x.Columns);
        CheckVector(bias, x.Columns);
        CheckOutput(y);
        LayerNormCore(x, gain, bias, eps, y);
    }

    /// <summary>y[i] = table[ids[i]]. ids I32 [1, 1, n] (the caller vouches for their range), y [1, n, columns].</summary>
    public void Embedding(Weight table, TensorView ids, TensorView y)
    {
        Check(y, _activation);
        CheckIndices(ids, 1, y.TotalRows);
        Check(y.Batch == 1 && y.Columns == table.Columns, $"table '{table.Name}' [{table.Rows}, {table.Columns}], y {y}");
        CheckOutput(y);
        EmbeddingCore(table, ids, y);
    }

    /// <summary>y[b, r] = x[b, r] + addend[b, r]. y may be x.</summary>
    public void Add(TensorView x, TensorView addend, TensorView y)
    {
        Check(x, _activation);
        Check(y, _activation);
        Check(SameShape(x, y) && SameShape(x, addend) && (addend.Type == _activation || addend.Type == ElementType.F32),
            $"x {x}, addend {addend}, y {y}");
        CheckOutput(y);
        AddCore(x, addend, y);
    }

    /// <summary>Copies elements, converting between floating-point types. Same shape; strides may differ.</summary>
    public void Copy(TensorView source, TensorView destination)
    {
        Check(!source.IsEmpty && !destination.IsEmpty && SameShape(source, destination)
            && (source.Type == ElementType.I32) == (destination.Type == ElementType.I32),
            $"source {source}, destination {destination}");
        CheckOutput(destination);
        CopyCore(source, destination);
    }

    /// <summary>y[i] = x[indices[i]]. x [1, r, columns], indices I32 [1, 1, n] (range vouched for), y [1, n, columns].</summary>
    public void GatherRows(TensorView x, TensorView indices, TensorView y)
    {
        Check(x, _activation);
        Check(y, _activation);
        CheckIndices(indices, 1, y.TotalRows);
        Check(x.Batch == 1 && y.Batch == 1 && x.Columns == y.Columns, $"x {x}, y {y}");
        CheckOutput(y);
        GatherRowsCore(x, indices, y);
    }

    /// <summary>Cuts images into patches. pixels F32 [images, channels * side, side] (planes one after the other), y
    /// [images, (side / patch)^2, channels * patch * patch] with columns ordered channel, row, column as in a convolution
    /// weight.</summary>
    public void ExtractPatches(TensorView pixels, int channels, int patch, TensorView y)
    {
        Check(pixels, ElementType.F32);
        Check(y, _activation);
        int side = pixels.Columns;
        Check(pixels.Rows == channels * side && side % patch == 0 && y.Batch == pixels.Batch
            && y.Rows == side / patch * (side / patch) && y.Columns == channels * patch * patch,
            $"pixels {pixels}, {channels} channels, patches of {patch}, y {y}");
        CheckOutput(y);
        ExtractPatchesCore(pixels, channels, patch, y);
    }

    /// <summary>Multi-head attention without a mask. q [b, m, heads * d], k and v [b, n, heads * d], y like q;
    /// y = softmax(scale q k^T) v per head. <paramref name="probabilities"/>, when given, receives the softmax: F32
    /// [b * heads, m, n].</summary>
    public void Attention(TensorView q, TensorView k, TensorView v, int heads, float scale, TensorView y,
        TensorView probabilities = default)
    {
        Check(q, _activation);
        Check(k, _activation);
        Check(v, _activation);
        Check(y, _activation);
        Check(SameShape(q, y) && SameShape(k, v) && q.Batch == k.Batch && q.Columns == k.Columns
            && q.Columns % heads == 0, $"q {q}, k {k}, v {v}, {heads} heads, y {y}");
        Check(probabilities.IsEmpty || (probabilities.Type == ElementType.F32
            && probabilities.Batch == q.Batch * heads && probabilities.Rows == q.Rows && probabilities.Columns == k.Rows),
            $"probabilities {probabilities}");
        CheckOutput(y);
        AttentionCore(q, k, v, heads, scale, y, probabilities);
    }

    /// <summary>
    /// The adaptive adjustment (paper, part B; <c>attn</c> in the checkpoint): logits a = features · weight + bias,
    /// w = softmax of a over the images at each position, context = sum over images of w * features.
    /// features [images, positions, width], weight [1, 1, width], bias [1, 1, 1], context [1, positions, width];
    /// <paramref name="weights"/>, when given, receives w: F32 [1, images, positions].
    /// </summary>
    public void GroupPool(TensorView features, TensorView weight, TensorView bias, TensorView context,
        TensorView weights = default)
    {
        Check(features, _activation);
        Check(context, _activation);
        CheckVector(weight, features.Columns);
        CheckVector(bias, 1);
        Check(!weight.IsEmpty && !bias.IsEmpty && context.Batch == 1 && context.Rows == features.Rows
            && context.Columns == features.Columns, $"features {features}, context {context}");
        Check(weights.IsEmpty || (weights.Type == ElementType.F32 && weights.Batch == 1
            && weights.Rows == features.Batch && weights.Columns == features.Rows), $"weights {weights}");
        CheckOutput(context);
        GroupPoolCore(features, weight, bias, context, weights);
    }

    /// <summary>
    /// Rotates queries and keys (half-split convention: column i of a head pairs with i + d/2) and stores keys and values
    /// in the cache. qkv [1, rows, (heads + 2 kvHeads) * d] holds q, k, v side by side; q is rotated in place.
    /// <paramref name="cosSin"/> F32 [1, positions, d]: cosines of d/2 angles, then sines.
    /// </summary>
    public void RotaryStoreKv(TensorView qkv, KvCache cache, int layer, int heads, TensorView cosSin, StepLayout layout)
    {
        Check(qkv, _activation);
        Check(cosSin, ElementType.F32);
        CheckLayout(layout, qkv.Rows);
        Check(qkv.Batch == 1 && (uint)layer < (uint)cache.Shape.Layers && cosSin.Columns == cache.Shape.HeadDim
            && cosSin.Batch == 1 && qkv.Columns == (heads + 2 * cache.Shape.Heads) * cache.Shape.HeadDim,
            $"qkv {qkv}, {heads} heads, cache {cache.Shape}, layer {layer}, table {cosSin}");
        CheckOutput(qkv);
        RotaryStoreKvCore(qkv, cache, layer, heads, cosSin, layout);
    }

    /// <summary>Causal attention over the cache: the row at position p of a sequence sees that sequence's tokens 0..p. q and
    /// y [1, rows, heads * d]; query head h reads key/value head h / (heads / kvHeads).</summary>
    public void PagedAttention(TensorView q, KvCache cache, int layer, int heads, float scale, StepLayout layout,
        TensorView y)
    {
        Check(q, _activation);
        Check(y, _activation);
        CheckLayout(layout, q.Rows);
        Check(q.Batch == 1 && SameShape(q, y) && (uint)layer < (uint)cache.Shape.Layers
            && q.Columns == heads * cache.Shape.HeadDim && heads % cache.Shape.Heads == 0,
            $"q {q}, {heads} heads, cache {cache.Shape}, layer {layer}, y {y}");
        CheckOutput(y);
        PagedAttentionCore(q, cache, layer, heads, scale, layout, y);
    }

    /// <summary>Copies whole blocks inside the cache, in every layer. pairs I32 [1, n, 2], contiguous: source block,
    /// destination block; no block is both. A pair with a -1 is skipped.</summary>
    public void CopyKvBlocks(KvCache cache, TensorView pairs)
    {
        Check(pairs, ElementType.I32);
        Check(pairs.Batch == 1 && pairs.Columns == 2 && pairs.IsContiguous, $"pairs {pairs}");
        CopyKvBlocksCore(cache, pairs);
    }

    /// <summary>y = silu(gate) * up. gateUp [b, m, 2 F] with the gate's columns first, y [b, m, F].</summary>
    public void SwiGlu(TensorView gateUp, TensorView y)
    {
        Check(gateUp, _activation);
        Check(y, _activation);
        Check(SameRows(gateUp, y) && gateUp.Columns == 2 * y.Columns, $"gateUp {gateUp}, y {y}");
        CheckOutput(y);
        SwiGluCore(gateUp, y);
    }

    /// <summary>
    /// Chooses the next tokens of every group. logits F32 [1, r, vocabulary]. Per selection row, in this order:
    /// with <see cref="SelectionGroup.UseLogProbs"/> 0: s = logits; penalty on s (s &lt; 0 ? s * p : s / p); banned ids
    /// become -inf; when sampling: s / temperature, top-k (scores below the k-th largest go, ties stay), top-p (smallest
    /// set of largest probabilities whose sum exceeds p, as transformers computes it); order by s (or s + Gumbel noise);
    /// the score reported is log_softmax(s)[token].
    /// With 1: s = log_softmax(logits); penalty; bans; plus the row's score; when sampling the same warpers on the sum; order
    /// by s (or, to choose the set, s + noise, then by s); the score reported is s.
    /// Candidates of a group come from all its rows; -inf scores are never candidates.
    /// </summary>
    public void SelectTokens(TensorView logits, SelectionInputs inputs, SelectionOutputs outputs)
    {
        Check(logits, ElementType.F32);
        Check(inputs.Groups, ElementType.I32);
        int groups = inputs.Groups.Rows;
        Check(inputs.Groups.Columns == SelectionGroup.Columns && inputs.Groups.IsContiguous, $"groups {inputs.Groups}");
        int rows = inputs.LogitRows.Columns;
        CheckIndices(inputs.LogitRows, 1, rows);
        Check(inputs.RowScores, ElementType.F32);
        Check(inputs.RowScores.Columns == rows, $"row scores {inputs.RowScores}");
        Check(inputs.PenaltyIds, ElementType.I32);
        Check(inputs.PenaltyIds.Rows == rows, $"penalty ids {inputs.PenaltyIds}");
        Check(inputs.BannedIds, ElementType.I32);
        Check(inputs.BannedIds.Rows == groups, $"banned ids {inputs.BannedIds}");
        Check(outputs.Scores, ElementType.F32);
        Check(outputs.Rows, ElementType.I32);
        Check(outputs.Tokens, ElementType.I32);
        Check(outputs.NonFinite, ElementType.I32);
        Check(outputs.Scores.Rows == groups && SameShape(outputs.Scores, outputs.Rows)
            && SameShape(outputs.Scores, outputs.Tokens) && outputs.NonFinite.Columns == groups
            && outputs.Scores.IsContiguous && outputs.Rows.IsContiguous && outputs.Tokens.IsContiguous,
            $"outputs {outputs}");
        SelectTokensCore(logits, inputs, outputs);
    }

    /// <summary>y[i] = log_softmax(logits[i])[targets[i]]. logits F32 [1, n, vocabulary], targets I32 [1, 1, n] (range
    /// vouched for), y F32 [1, 1, n].</summary>
    public void TokenLogProbs(TensorView logits, TensorView targets, TensorView y)
    {
        Check(logits, ElementType.F32);
        Check(y, ElementType.F32);
        CheckIndices(targets, 1, logits.TotalRows);
        Check(logits.Batch == 1 && y.Rows == 1 && y.Columns == logits.Rows, $"logits {logits}, y {y}");
        TokenLogProbsCore(logits, targets, y);
    }

    /// <summary>Copies host values to a contiguous view, converting fp32 to the view's type.</summary>
    public void Upload<T>(ReadOnlySpan<T> values, TensorView destination)
        where T : unmanaged
    {
        CheckHostType<T>(destination);
        Check(destination.IsContiguous && values.Length == destination.Count,
            $"{values.Length} values for {destination}");
        UploadCore(MemoryMarshal.AsBytes(values), destination);
    }

    /// <summary>Waits for all work so far and copies a contiguous view to the host, converting to fp32.</summary>
    public void ReadBack<T>(TensorView source, Span<T> values)
        where T : unmanaged
    {
        CheckHostType<T>(source);
        Check(source.IsContiguous && values.Length == source.Count, $"{source} into {values.Length} values");
        ReadBackCore(source, MemoryMarshal.AsBytes(values));
    }

    /// <summary>As <see cref="ReadBack{T}"/>, but the values are certain to be in the array only after the next
    /// <see cref="Synchronize"/>: several results cost one wait. The array may be longer than the view.</summary>
    public void EnqueueReadBack<T>(TensorView source, T[] values)
        where T : unmanaged
    {
        CheckHostType<T>(source);
        Check(source.IsContiguous && values.Length >= source.Count, $"{source} into {values.Length} values");
        EnqueueReadBackCore(source, values);
    }

    /// <summary>
    /// Enqueues the calls that <paramref name="enqueue"/> makes, or a recording of them that the backend made at an earlier
    /// step of the same key: then <paramref name="enqueue"/> is not called. It may be called twice. Its calls must depend on
    /// nothing but the key: same operations, same views of the same buffers, no uploads, no read-backs.
    /// </summary>
    public void Step<TState>(StepKey key, TState state, Action<TState> enqueue)
    {
        while (!ReplayCore(key))
        {
            bool done = false;
            try
            {
                enqueue(state);
                done = true;
            }
            finally
            {
                if (!done)
                {
                    AbandonStepCore();
                }
            }
            if (EndStepCore(key))
            {
                return;
            }
        }
    }

    /// <summary>Notes, under a number below <see cref="Marks"/>, when what was enqueued so far has run.</summary>
    public void Mark(int number)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)number, (uint)Marks);
        MarkCore(number);
    }

    /// <summary>Time between two marks; only after <see cref="Synchronize"/>.</summary>
    public virtual TimeSpan Between(int from, int to) => Stopwatch.GetElapsedTime(_marks[from], _marks[to]);

    /// <summary>Waits until everything enqueued has run.</summary>
    /// <exception cref="BackendException">Something enqueued failed.</exception>
    public abstract void Synchronize();

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);

    protected abstract void LinearCore(TensorView x, Weight weight, TensorView y, TensorView bias, Activation activation,
        TensorView residual);

    protected abstract void RmsNormCore(TensorView x, TensorView gain, float eps, TensorView y);

    protected abstract void LayerNormCore(TensorView x, TensorView gain, TensorView bias, float eps, TensorView y);

    protected abstract void EmbeddingCore(Weight table, TensorView ids, TensorView y);

    protected abstract void AddCore(TensorView x, TensorView addend, TensorView y);

    protected abstract void CopyCore(TensorView source, TensorView destination);

    protected abstract void GatherRowsCore(TensorView x, TensorView indices, TensorView y);

    protected abstract void ExtractPatchesCore(TensorView pixels, int channels, int patch, TensorView y);

    protected abstract void AttentionCore(TensorView q, TensorView k, TensorView v, int heads, float scale, TensorView y,
        TensorView probabilities);

    protected abstract void GroupPoolCore(TensorView features, TensorView weight, TensorView bias, TensorView context,
        TensorView weights);

    protected abstract void RotaryStoreKvCore(TensorView qkv, KvCache cache, int layer, int heads, TensorView cosSin,
        StepLayout layout);

    protected abstract void PagedAttentionCore(TensorView q, KvCache cache, int layer, int heads, float scale,
        StepLayout layout, TensorView y);

    protected abstract void CopyKvBlocksCore(KvCache cache, TensorView pairs);

    protected abstract void SwiGluCore(TensorView gateUp, TensorView y);

    protected abstract void SelectTokensCore(TensorView logits, SelectionInputs inputs, SelectionOutputs outputs);

    protected abstract void TokenLogProbsCore(TensorView logits, TensorView targets, TensorView y);

    /// <summary>Values are fp32 or int32, as the caller has them.</summary>
    protected abstract void UploadCore(ReadOnlySpan<byte> values, TensorView destination);

    /// <summary>Values are fp32 or int32, as the caller wants them.</summary>
    protected abstract void ReadBackCore(TensorView source, Span<byte> values);

    /// <summary>An array of float or int, at least as long as the view.</summary>
    protected virtual void EnqueueReadBackCore(TensorView source, Array values) => ReadBackCore(source,
        MemoryMarshal.CreateSpan(ref MemoryMarshal.GetArrayDataReference(values), checked((int)source.Count * sizeof(int))));

    /// <summary>Enqueues the recording of a step; false where there is none: the calls follow, and then
    /// <see cref="EndStepCore"/>, or, when one of them throws, <see cref="AbandonStepCore"/>.</summary>
    protected virtual bool ReplayCore(StepKey key) => false;

    /// <summary>False when the step must be enqueued again.</summary>
    protected virtual bool EndStepCore(StepKey key) => true;

    protected virtual void AbandonStepCore()
    {
    }

    protected virtual void MarkCore(int number) => _marks[number] = Stopwatch.GetTimestamp();

    private static bool SameRows(TensorView a, TensorView b) => a.Batch == b.Batch && a.Rows == b.Rows;

    private static bool SameShape(TensorView a, TensorView b) => SameRows(a, b) && a.Columns == b.Columns;

    private static void CheckHostType<T>(TensorView view)
    {
        Check(!view.IsEmpty && typeof(T) == (view.Type == ElementType.I32 ? typeof(int) : typeof(float)),
            $"host type {typeof(T).Name} for {view}");
    }

    private static void CheckVector(TensorView vector, int length) =>
        Check(vector.IsEmpty || (vector.Type == ElementType.F32 && vector.Rows == 1 && vector.Batch == 1
            && vector.Columns == length), $"vector {vector}, expected F32 [1, 1, {length}]");

    private static void CheckIndices(TensorView indices, int rows, int count) =>
        Check(!indices.IsEmpty && indices.Type == ElementType.I32 && indices.Batch == 1 && indices.Rows == rows
            && indices.Columns == count, $"indices {indices}, expected I32 [1, {rows}, {count}]");

    private static void CheckLayout(StepLayout layout, int rows)
    {
        CheckIndices(layout.Positions, 1, rows);
        CheckIndices(layout.Slots, 1, rows);
        Check(layout.RowStarts, ElementType.I32);
        Check(layout.BlockTable, ElementType.I32);
        Check(layout.Sequences >= 1 && layout.BlockTable.Rows == layout.Sequences && layout.RowStarts.Rows == 1,
            $"row starts {layout.RowStarts}, block table {layout.BlockTable}");
    }

    private static void CheckOutput(TensorView y) => Check(
        (y.Batch == 1 || y.BatchStride > 0) && (y.Rows == 1 || y.RowStride >= y.Columns), $"output {y} repeats memory");

    private static void Check(TensorView view, ElementType type, [CallerArgumentExpression(nameof(view))] string name = "")
    {
        if (view.IsEmpty || view.Type != type)
        {
            Fail($"{name} is {view}, expected {type}", name);
        }
    }

    private static void Check(bool holds, [InterpolatedStringHandlerArgument(nameof(holds))] ref CheckMessage message,
        [CallerMemberName] string operation = "")
    {
        if (!holds)
        {
            Fail(message.ToString(), operation);
        }
    }

    private static void Check(bool holds, string message, [CallerMemberName] string operation = "")
    {
        if (!holds)
        {
            Fail(message, operation);
        }
    }

    [DoesNotReturn]
    private static void Fail(string message, string operation) =>
        throw new ArgumentException($"{operation}: {message}");

    /// <summary>Builds the message only when a check fails, so that a step allocates nothing.</summary>
    [InterpolatedStringHandler]
    private ref struct CheckMessage
    {
        private DefaultInterpolatedStringHandler _inner;
        private readonly bool _used;

        public CheckMessage(int literalLength, int formattedCount, bool holds, out bool shouldAppend)
        {
            _used = shouldAppend = !holds;
            _inner = holds ? default : new DefaultInterpolatedStringHandler(literalLength, formattedCount);
        }

        public void AppendLiteral(string value) => _inner.AppendLiteral(value);

        public void AppendFormatted<T>(T value) => _inner.AppendFormatted(value);

        public override string ToString() => _used ? _inner.ToStringAndClear() : "";
    }
}
