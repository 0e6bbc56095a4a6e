using System.Diagnostics;
using SamEngine.Compute;
using SamEngine.Decoding;

namespace SamEngine.Model;

/// <summary>
/// Runs requests on one thread of its own: each new request's pictures and prompt by themselves, then one decode step at a
/// time for all running requests together (a row's result does not depend on the rows beside it). New requests and decode
/// steps take turns, so that a running text goes on whatever comes in. Requests wait while the
/// key/value memory has no room for them. A request that fails or is cancelled leaves the others untouched.
/// </summary>
internal sealed class InferenceEngine : IDisposable
{
    /// <summary>Bounds what a mistyped option can ask for; more than any machine holds for a real model.</summary>
    public const int MostCacheTokens = 1 << 24;

    private const int BlockSize = 16;
    private const int MostDecodeRows = 2 * GenerationSettings.MostBeams;

    private readonly SamWeights _weights;
    private readonly SamConfig _config;
    private readonly Backend _backend;
    private readonly ComputeQueue _queue;
    private readonly Workspace _workspace;
    private readonly KvCache _cache;
    private readonly KvBlockPool _pool;
    private readonly StepBuffers _step;
    private readonly SelectionBuffers _selection;
    private readonly Queue<EngineWork> _incoming = new();
    private readonly List<GenerationWork> _active = [];
    private readonly Dictionary<EngineWork, int> _reserved = [];
    private readonly Thread _thread;
    private readonly object _gate = new();
    private int _reservedBlocks;
    private int _activeRows;
    private int _marks;
    private bool _stopping;
    private bool _decodeIsDue;

    public InferenceEngine(SamWeights weights, Backend backend, int cacheTokens)
    {
        _weights = weights;
        _config = weights.Config;
        _backend = backend;
        var llm = _config.Llm;
        var shape = CacheShape(_config, cacheTokens);
        int blocks = shape.Blocks;
        _pool = new KvBlockPool(blocks, BlockSize);
        int mostBlocks = _pool.BlocksFor(llm.MaxPositions);
        _workspace = new Workspace(backend);
        try
        {
            _queue = backend.CreateQueue();
            _cache = backend.CreateKvCache(shape);
            _step = new StepBuffers(backend, Math.Max(llm.MaxPositions, MostDecodeRows), MostDecodeRows, mostBlocks);
            _selection = new SelectionBuffers(backend, MostDecodeRows, llm.MaxPositions + 2,
                GenerationSettings.MostSuppressed + 1);
        }
        catch
        {
            Release();
            throw;
        }
        _thread = new Thread(Loop) { IsBackground = true, Name = "SamEngine" };
        _thread.Start();
    }

    /// <summary>Tokens of key/value memory for a request with these options and any prompt: at least twice the context.</summary>
    public static int CacheTokens(SamConfig config, GenerationOptions options)
    {
        var usual = new GenerationSettings();
        long positions = config.Llm.MaxPositions;
        long tokens = positions + (options.NumBeams ?? usual.NumBeams)
            * (Math.Min(options.MaxLength ?? usual.MaxLength, positions) + 3 * BlockSize);
        return (int)Math.Min(Math.Max(2 * positions, tokens), MostCacheTokens);
    }

    /// <summary>Shape of the key/value memory for a number of tokens; 0 takes what a request with the reference's five beams of
    /// 256 ids needs, whatever the context.</summary>
    public static KvCacheShape CacheShape(SamConfig config, int cacheTokens)
    {
        var llm = config.Llm;
        int tokens = cacheTokens > 0 ? cacheTokens : CacheTokens(config, new GenerationOptions());
        int blocks = (tokens + BlockSize - 1) / BlockSize;
        return new KvCacheShape(llm.Layers, llm.KeyValueHeads, llm.HeadDim, BlockSize, blocks);
    }

    /// <summary>Bytes of keys and values, of which only used pages are backed.</summary>
    public long CacheBytes => _cache.ByteLength;

    /// <summary>Bytes of scratch memory; read it only while nothing runs.</summary>
    public long WorkspaceBytes => _workspace.ByteLength;

    /// <summary>Blocks of keys and values in use by running requests; for tests.</summary>
    public int UsedBlocks => _pool.TotalBlocks - _pool.FreeBlocks;

    /// <summary>Called on the engine's thread with every intermediate result; for tests.</summary>
    public StageTrace? Trace { get; set; }

    /// <summary>The engine's own queue, for reading what <see cref="Trace"/> shows: only there is it certain to be computed. To be
    /// used on the engine's thread.</summary>
    public ComputeQueue Queue => _queue;

    /// <summary>Puts a request in the queue.</summary>
    /// <exception cref="RequestException">It can never fit.</exception>
    /// <exception cref="BackendException">The backend has failed before.</exception>
    public void Submit(EngineWork work)
    {
        if (_backend.Failure is { } failure)
        {
            throw new BackendException(_backend.Info.Name, failure, isFatal: true);
        }
        CheckPrompt(work.Input);
        int blocks = BlocksFor(work);
        if (blocks > _pool.TotalBlocks)
        {
            throw new RequestException(nameof(SamModelOptions.KvCacheTokens), $"the request needs room for up to " +
                $"{blocks * BlockSize} tokens of keys and values, the model was loaded with {_pool.TotalBlocks * BlockSize}; " +
                "raise it, or ask for fewer beams or a smaller MaxLength");
        }
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_stopping, typeof(SamModel));
            _incoming.Enqueue(work);
            Monitor.Pulse(_gate);
        }
    }

    /// <summary>Rows of the language model's input: visual tokens and prompt.</summary>
    public int PromptRows(EngineInput input) => input.Images * _config.QFormer.QueryTokens + input.PromptIds.Length;

    /// <summary>The context must hold pictures, prompt and one token more.</summary>
    /// <exception cref="RequestException">It does not.</exception>
    public void CheckPrompt(EngineInput input)
    {
        int prompt = PromptRows(input);
        if (prompt + 1 > _config.Llm.MaxPositions)
        {
            throw new RequestException("Prompt", $"{input.Images} images and the prompt make {prompt} tokens, the " +
                $"model's context is {_config.Llm.MaxPositions}; use fewer images or a shorter prompt");
        }
    }

    /// <summary>Stops after the current step; waiting and running requests fail.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_stopping)
            {
                return;
            }
            _stopping = true;
            Monitor.Pulse(_gate);
        }
        if (Thread.CurrentThread != _thread)
        {
            _thread.Join();
        }
        Release();
    }

    /// <summary>Disposes what there is: too little memory ends the constructor anywhere.</summary>
    private void Release()
    {
        _selection?.Dispose();
        _step?.Dispose();
        _cache?.Dispose();
        _workspace.Dispose();
        _queue?.Dispose();
    }

    private int BlocksFor(EngineWork work) =>
        _pool.BlocksFor(PromptRows(work.Input)) + work.DecodeRows * (_pool.BlocksFor(work.MostNewTokens) + 2);

    private void Loop()
    {
        while (TryNext(out var work))
        {
            if (work is not null)
            {
                StartGuarded(work);
            }
            else
            {
                DecodeStep();
            }
        }
        // An exception of its own for each: many readers throw them at once.
        static ObjectDisposedException Disposed() =>
            new(nameof(SamModel), "the model was disposed while the request was running");
        foreach (var work in _active)
        {
            work.Fail(Disposed());
        }
        lock (_gate)
        {
            foreach (var work in _incoming)
            {
                work.Fail(Disposed());
            }
        }
    }

    /// <summary>A new request that fits, or null for a decode step; false when the engine stops.</summary>
    private bool TryNext(out EngineWork? work)
    {
        work = null;
        lock (_gate)
        {
            while (!_stopping)
            {
                while (_incoming.TryPeek(out var next))
                {
                    if (next.Cancellation.IsCancellationRequested)
                    {
                        _incoming.Dequeue().Fail(new OperationCanceledException(next.Cancellation));
                        continue;
                    }
                    int blocks = BlocksFor(next);
                    if (_active.Count > 0 && (_decodeIsDue || _reservedBlocks + blocks > _pool.TotalBlocks
                        || _activeRows + next.DecodeRows > MostDecodeRows))
                    {
                        break;
                    }
                    work = _incoming.Dequeue();
                    _decodeIsDue = true;
                    _reserved.Add(work, blocks);
                    _reservedBlocks += blocks;
                    return true;
                }
                _decodeIsDue = false;
                if (_active.Count > 0)
                {
                    return true;
                }
                Monitor.Wait(_gate);
            }
        }
        return false;
    }

    private void Start(EngineWork work)
    {
        work.Timings.Queued = Stopwatch.GetElapsedTime(work.Submitted);
        work.Cancellation.ThrowIfCancellationRequested();
        var prompt = new KvSequence(_pool, _config.Llm.MaxPositions);
        bool done = true;
        try
        {
            var logits = Prefill(work, prompt);
            switch (work)
            {
                case GenerationWork generation:
                    done = Begin(generation, prompt, logits);
                    break;
                case RankingWork ranking:
                    Rank(ranking, prompt, logits);
                    break;
            }
        }
        finally
        {
            prompt.Clear();
        }
        if (done)
        {
            Finish(work);
        }
    }

    /// <summary>Pictures and prompt: leaves keys and values in the sequence, returns the logits after the last row.</summary>
    private TensorView Prefill(EngineWork work, KvSequence prompt)
    {
        _marks = 0;
        try
        {
            var logits = EnqueuePrefill(work, prompt, out var imageWeights);
            _queue.Synchronize();
            TakeTimes(work.Timings);
            work.ImageWeights = imageWeights.IsEmpty ? null : Means(imageWeights);
            return logits;
        }
        catch (OperationCanceledException)
        {
            _queue.Synchronize();
            TakeTimes(work.Timings);
            throw;
        }
    }

    /// <summary>Times of the stages that the prefill went through.</summary>
    private void TakeTimes(EngineTimings timings)
    {
        TimeSpan Stage(int number) => number + 1 < _marks ? _queue.Between(number, number + 1) : TimeSpan.Zero;
        timings.Vision = Stage(0);
        timings.QFormer = Stage(1);
        timings.Prefill = Stage(2);
    }

    private TensorView EnqueuePrefill(EngineWork work, KvSequence prompt, out TensorView imageWeights)
    {
        var input = work.Input;
        var trace = TraceOf(work);
        int side = _config.Vision.ImageSize;
        int visualRows = input.Images * _config.QFormer.QueryTokens;
        _queue.Mark(_marks++);
        var pixels = _workspace.Rent("pixels", ElementType.F32, input.Images, 3 * side, side);
        _queue.Upload<float>(input.Pixels, pixels);
        var features = _weights.Vision.Encode(_queue, _workspace, pixels, trace, work.Cancellation);
        _queue.Mark(_marks++);
        var text = _workspace.Rent("instruction", ElementType.I32, 1, 1, input.TextIds.Length);
        _queue.Upload<int>(input.TextIds, text);
        (var visual, work.Timings.QFormerLayerRuns, imageWeights) = _weights.QFormer.Encode(_queue, _workspace, features, text, input.Guided, trace,
            work.Cancellation);
        _queue.Mark(_marks++);

        int rows = visualRows + input.PromptIds.Length;
        _step.Clear();
        for (int i = 0; i < rows; i++)
        {
            _step.AddRow(prompt, i < visualRows ? 0 : input.PromptIds[i - visualRows]);
        }
        _step.WantLogits();
        _step.EndSequence(prompt);
        var (layout, ids, logitRows) = _step.Upload(_queue, _cache);
        var x = _workspace.Rent("llm.x", 1, rows, _config.Llm.HiddenSize);
        _queue.Copy(visual.Flatten(), x.SliceRows(0, visualRows));
        _weights.Llm.Embed(_queue, ids.SliceColumns(visualRows, input.PromptIds.Length),
            x.SliceRows(visualRows, input.PromptIds.Length));
        _weights.Llm.Forward(_queue, _workspace, x, _cache, layout, trace, work.Cancellation);
        var logits = _weights.Llm.Logits(_queue, _workspace, x, logitRows, trace);
        _queue.Mark(_marks++);
        return logits;
    }

    /// <summary>Mean of every row.</summary>
    private double[] Means(TensorView view)
    {
        float[] values = new float[view.Count];
        _queue.ReadBack<float>(view, values);
        return [.. values.Chunk(view.Columns).Select(row => row.Average(v => (double)v))];
    }

    /// <summary>Takes the first step; true when it was the last.</summary>
    private bool Begin(GenerationWork work, KvSequence prompt, TensorView logits)
    {
        work.Rows = NewRows(work.DecodeRows);
        work.NextRows = NewRows(work.DecodeRows);
        work.Rows[0].ShareFrom(prompt);
        work.RowCount = 1;
        try
        {
            _selection.Clear();
            _selection.Measure(work.Search);
            _selection.Add(work.Search, 0);
            _selection.Run(_queue, logits);
            _selection.Advance(0, work.Search);
            work.OnStep?.Invoke(work.Search);
        }
        catch
        {
            ClearRows(work);
            throw;
        }
        if (work.Search.IsDone)
        {
            return true;
        }
        Reorder(work);
        _active.Add(work);
        _activeRows += work.DecodeRows;
        return false;
    }

    private KvSequence[] NewRows(int count)
    {
        var rows = new KvSequence[count];
        for (int i = 0; i < count; i++)
        {
            rows[i] = new KvSequence(_pool, _config.Llm.MaxPositions);
        }
        return rows;
    }

    /// <summary>One step of all running requests.</summary>
    private void DecodeStep()
    {
        for (int i = _active.Count - 1; i >= 0; i--)
        {
            if (_active[i].Cancellation.IsCancellationRequested)
            {
                Drop(_active[i], new OperationCanceledException(_active[i].Cancellation));
            }
        }
        if (_active.Count == 0)
        {
            return;
        }
        long start = Stopwatch.GetTimestamp();
        try
        {
            ComputeStep();
        }
        catch (Exception e)
        {
            // The step was shared: nobody knows what it left behind.
            for (int i = _active.Count - 1; i >= 0; i--)
            {
                Drop(_active[i], e);
            }
            return;
        }
        var took = Stopwatch.GetElapsedTime(start);
        for (int i = _active.Count - 1; i >= 0; i--)
        {
            var work = _active[i];
            work.Timings.Decode += took;
            work.Timings.Steps++;
            AdvanceOne(work, i);
        }
    }

    private void ComputeStep()
    {
        _step.Clear();
        _selection.Clear();
        foreach (var work in _active)
        {
            var tokens = work.Search.Tokens;
            for (int row = 0; row < work.RowCount; row++)
            {
                _step.AddRow(work.Rows[row], tokens[row]);
                _step.WantLogits();
                _step.EndSequence(work.Rows[row]);
            }
            _selection.Measure(work.Search);
        }
        int first = 0;
        foreach (var work in _active)
        {
            _selection.Add(work.Search, first);
            first += work.RowCount;
        }
        var (layout, ids, logitRows) = _step.Upload(_queue, _cache);
        var state = new DecodeState(this, layout, ids, logitRows, _selection.Upload(_queue));
        if (Trace is null && _selection.KeyFor(_step.Rows) is { } key)
        {
            _queue.Step(key, state, EnqueueDecode);
        }
        else
        {
            EnqueueDecode(state);
        }
        _selection.ReadBack(_queue);
    }

    /// <summary>Everything of a decode step between the upload of its inputs and the read-back of its result.</summary>
    private static readonly Action<DecodeState> EnqueueDecode = state =>
    {
        var engine = state.Engine;
        var llm = engine._weights.Llm;
        var x = engine._workspace.Rent("llm.x", 1, state.Ids.Columns, engine._config.Llm.HiddenSize);
        llm.Embed(engine._queue, state.Ids, x);
        llm.Forward(engine._queue, engine._workspace, x, engine._cache, state.Layout, engine.Trace, CancellationToken.None);
        var logits = llm.Logits(engine._queue, engine._workspace, x, state.LogitRows, engine.Trace);
        engine._selection.Select(engine._queue, logits, state.Inputs);
    };

    /// <summary>What a decode step is enqueued with: views of the same buffers in every step of a shape.</summary>
    private readonly record struct DecodeState(
        InferenceEngine Engine, StepLayout Layout, TensorView Ids, TensorView LogitRows, SelectionInputs Inputs);

    private void AdvanceOne(GenerationWork work, int index)
    {
        try
        {
            _selection.Advance(index, work.Search);
            work.OnStep?.Invoke(work.Search);
        }
        catch (Exception e)
        {
            Drop(work, e);
            return;
        }
        if (work.Search.IsDone)
        {
            Remove(work);
            Finish(work);
        }
        else
        {
            Reorder(work);
        }
    }

    /// <summary>Rows become continuations of their parents; blocks are shared, not copied.</summary>
    private static void Reorder(GenerationWork work)
    {
        var parents = work.Search.Parents;
        for (int i = 0; i < parents.Length; i++)
        {
            work.NextRows[i].ShareFrom(work.Rows[parents[i]]);
        }
        for (int i = 0; i < work.RowCount; i++)
        {
            work.Rows[i].Clear();
        }
        (work.Rows, work.NextRows) = (work.NextRows, work.Rows);
        work.RowCount = parents.Length;
    }

    /// <summary>Log-probabilities of all candidates: the first id from the prompt's logits, the others from rows that feed
    /// the ids before them; candidates share the prompt's keys and values.</summary>
    private void Rank(RankingWork work, KvSequence prompt, TensorView logits)
    {
        float[][] result = new float[work.Candidates.Count][];
        float[] values = new float[work.Candidates.Count == 0 ? 0 : work.Candidates.Max(c => c.Length)];
        for (int c = 0; c < result.Length; c++)
        {
            int[] ids = work.Candidates[c];
            result[c] = new float[ids.Length];
            if (ids.Length > 0)
            {
                // Every candidate starts from the prompt's last row; those logits are overwritten by the next step.
                LogProbs(logits, ids.AsSpan(0, 1), result[c].AsSpan(0, 1), "rank.first");
            }
        }
        for (int c = 0; c < result.Length; c++)
        {
            work.Cancellation.ThrowIfCancellationRequested();
            int[] ids = work.Candidates[c];
            if (ids.Length < 2)
            {
                continue;
            }
            var sequence = new KvSequence(_pool, _config.Llm.MaxPositions);
            sequence.ShareFrom(prompt);
            try
            {
                _step.Clear();
                for (int i = 0; i < ids.Length - 1; i++)
                {
                    _step.AddRow(sequence, ids[i]);
                    _step.WantLogits();
                }
                _step.EndSequence(sequence);
                var (layout, stepIds, logitRows) = _step.Upload(_queue, _cache);
                var x = _workspace.Rent("llm.x", 1, ids.Length - 1, _config.Llm.HiddenSize);
                _weights.Llm.Embed(_queue, stepIds, x);
                var trace = TraceOf(work);
                _weights.Llm.Forward(_queue, _workspace, x, _cache, layout, trace, work.Cancellation);
                var rest = _weights.Llm.Logits(_queue, _workspace, x, logitRows, trace);
                LogProbs(rest, ids.AsSpan(1), result[c].AsSpan(1), "rank.rest");
            }
            finally
            {
                sequence.Clear();
            }
        }
        if (result.Any(r => r.Any(v => !float.IsFinite(v))))
        {
            throw new NumericException("logits", "NaN or infinity while ranking: the weights are damaged, or a " +
                "half-precision format overflowed");
        }
        work.LogProbs = result;
    }

    private StageTrace? TraceOf(EngineWork work) =>
        work.Observer is { } observer ? (stage, value) => observer(_queue, stage, value) : Trace;

    private void LogProbs(TensorView logits, ReadOnlySpan<int> targets, Span<float> values, string name)
    {
        var device = _workspace.Rent(name + ".targets", ElementType.I32, 1, 1, targets.Length);
        var output = _workspace.Rent(name + ".log_probs", ElementType.F32, 1, 1, targets.Length);
        _queue.Upload(targets, device);
        _queue.TokenLogProbs(logits, device, output);
        _queue.ReadBack(output, values);
    }

    private void Finish(EngineWork work)
    {
        if (work is GenerationWork generation)
        {
            ClearRows(generation);
        }
        Unreserve(work);
        work.Complete();
    }

    private void Drop(GenerationWork work, Exception error)
    {
        Remove(work);
        ClearRows(work);
        Unreserve(work);
        work.Fail(error);
    }

    private void Remove(GenerationWork work)
    {
        if (_active.Remove(work))
        {
            _activeRows -= work.DecodeRows;
        }
    }

    private static void ClearRows(GenerationWork work)
    {
        foreach (var row in work.Rows)
        {
            row.Clear();
        }
        foreach (var row in work.NextRows)
        {
            row.Clear();
        }
    }

    private void Unreserve(EngineWork work)
    {
        if (_reserved.Remove(work, out int blocks))
        {
            _reservedBlocks -= blocks;
        }
    }

    /// <summary>Runs the part of a request that is its own; whatever it throws is that request's failure.</summary>
    private void StartGuarded(EngineWork work)
    {
        try
        {
            Start(work);
        }
        catch (Exception e)
        {
            Unreserve(work);
            work.Fail(e);
        }
    }
}
