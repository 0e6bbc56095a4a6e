using System.Diagnostics;
using SamEngine.Bench;
using SamEngine.Compute;
using SamEngine.Cuda;
using SamEngine.Decoding;
using SamEngine.Model;

namespace SamEngine.GpuBench;

/// <summary>
/// Times the stages of a request on the device, with random weights of the model's shape. Vision, Q-Former, the cross-image part
/// and prefill are timed by events; decode steps and whole requests by the clock of the host, selection and bookkeeping
/// included, as an application sees them.
/// </summary>
internal sealed class DeviceStages : IDisposable
{
    public const int Images = 5;
    public const int Words = 16;
    public const int PromptIds = 60;
    public const int Beams = 5;
    private const int WarmUps = 3;

    private readonly SamConfig _config;
    private readonly CudaBackend _backend;
    private readonly SamWeights _weights;
    private readonly CudaQueue _queue;
    private readonly Workspace _workspace;
    private readonly WeightFormat _weightFormat;
    private readonly string _format;
    private readonly StageCosts _costs;
    private readonly int _runs;
    private readonly int _newTokens;

    /// <param name="config">Dimensions.</param>
    /// <param name="backend">The device; the bench does not dispose it.</param>
    /// <param name="format">Of all matrices.</param>
    /// <param name="runs">Timed runs of a stage.</param>
    /// <param name="newTokens">Tokens of a request.</param>
    public DeviceStages(SamConfig config, CudaBackend backend, WeightFormat format, int runs, int newTokens)
    {
        (_config, _backend, _runs, _newTokens) = (config, backend, runs, newTokens);
        _weightFormat = format;
        _format = format.ToString().ToLowerInvariant();
        long start = Stopwatch.GetTimestamp();
        _weights = SamWeights.Load(Loader());
        Description = FormattableString.Invariant($"{_format} weights, {_weights.ByteLength / 1e9:0.00} GB, made on the device from a seed in {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s");
        _queue = backend.OpenQueue();
        _workspace = new Workspace(backend);
        double perElement = format switch
        {
            WeightFormat.F32 => 4,
            WeightFormat.Q8 => 1 + 2.0 / QuantizedLayout.DefaultGroupSize,
            WeightFormat.Q4 => 0.5 + 2.0 / QuantizedLayout.DefaultGroupSize,
            _ => 2,
        };
        _costs = new StageCosts(config, perElement, backend.ActivationType.ByteSize());
    }

    public string Description { get; }

    /// <summary>Every stage in turn.</summary>
    public IEnumerable<Result> Run()
    {
        int rows = Images * _config.QFormer.QueryTokens + PromptIds;
        var input = Samples.Request(_config, Images, Words, rows);
        int side = _config.Vision.ImageSize;
        var pixels = _workspace.Rent("pixels", ElementType.F32, Images, 3 * side, side);
        _queue.Upload<float>(input.Pixels, pixels);
        foreach (int images in (int[])[1, Images])
        {
            yield return Timed($"vision-{images}", $"vision encoder, {images} image{(images > 1 ? "s" : "")}",
                () => _weights.Vision.Encode(_queue, _workspace, pixels.SliceBatch(0, images), null, default), _costs.Vision(images));
        }
        var features = _weights.Vision.Encode(_queue, _workspace, pixels, null, default);
        var text = _workspace.Rent("instruction", ElementType.I32, 1, 1, Words);
        _queue.Upload<int>(input.TextIds, text);
        yield return Timed("qformer-5", $"Q-Former, {Images} images, {Words} words, guided",
            () => _weights.QFormer.Encode(_queue, _workspace, features, text, true, null, default), _costs.QFormer(Images, Words));
        yield return Timed("qformer-5-unguided", "the same without guidance",
            () => _weights.QFormer.Encode(_queue, _workspace, features, text, false, null, default), default);
        yield return CrossImage(features);
        yield return Prefill("prefill", $"prefill, {rows} rows", rows, input);
        // The weights are read once for each: the times should hardly differ.
        foreach (int few in (int[])[1, 16, 64])
        {
            yield return Prefill($"prefill-{few}", $"the same, {few} row{(few > 1 ? "s" : "")}", few, input);
        }
        foreach (var result in new[] { 1, Beams }.SelectMany(beams => Requests(beams, input, rows, "", "")))
        {
            yield return result;
        }
        foreach (var result in Variants(pixels, rows, input))
        {
            yield return result;
        }
    }

    public void Dispose()
    {
        _workspace.Dispose();
        _queue.Dispose();
        _weights.Dispose();
    }

    private RandomWeightLoader Loader() => new(_config, _backend, _weightFormat, seed: 1);

    private Result Timed(string id, string name, Action enqueue, Cost cost) =>
        new($"{id}/{_format}", name, GpuClock.Time(_queue, WarmUps, _runs, enqueue), cost.Operations, cost.Bytes);

    /// <summary>What guidance adds beside more runs of the layers: the pooling of the features, and the two exchanges.</summary>
    private Result CrossImage(TensorView features)
    {
        int width = _config.QFormer.HiddenSize;
        int length = _config.QFormer.QueryTokens + Words;
        var context = _workspace.Rent("bench.context", 1, features.Rows, features.Columns);
        var weights = _workspace.Rent("bench.weights", ElementType.F32, 1, Images, features.Rows);
        var from = _workspace.Rent("bench.from", Images, length, width);
        var to = _workspace.Rent("bench.to", Images, length, width);
        using var adjustment = Loader();
        var weight = adjustment.Table("attn.weight", 1, features.Columns, 1, features.Columns);
        var bias = adjustment.Vector("attn.bias", 1);
        var exchange = adjustment.Matrix("Qformer.bert.encoder.one_2_muliple.0.weight", width, width);
        // The features once; more than that no pooling needs to read.
        double bytes = (double)features.Count * _backend.ActivationType.ByteSize();
        return Timed("cross-image", "of that: pooling and two exchanges", () =>
        {
            _queue.GroupPool(features, weight, bias, context, weights);
            _queue.Linear(from, exchange, to, residual: to);
            _queue.Linear(to, exchange, from, residual: from);
        }, new Cost(0, bytes));
    }

    /// <summary>What is not used unless asked for, where the device has it, beside the same stages as they are.</summary>
    private IEnumerable<Result> Variants(TensorView pixels, int rows, EngineInput input)
    {
        try
        {
            // Its weights are of the activation type.
            if (string.Equals(_format, _backend.ActivationType.ToString(), StringComparison.OrdinalIgnoreCase) && _backend.Refusal(CudaVariants.Wgmma) is null)
            {
                _backend.Variants = CudaVariants.Wgmma;
                yield return Timed($"vision-{Images}-wgmma", $"vision encoder, {Images} images, wgmma",
                    () => _weights.Vision.Encode(_queue, _workspace, pixels, null, default), _costs.Vision(Images));
                yield return Prefill("prefill-wgmma", $"prefill, {rows} rows, wgmma", rows, input);
            }
            if (_backend.Refusal(CudaVariants.DependentLaunches) is null)
            {
                _backend.Variants = CudaVariants.DependentLaunches;
                foreach (var result in Requests(1, input, rows, "-dependent", ", dependent launches"))
                {
                    yield return result;
                }
            }
        }
        finally
        {
            _backend.Variants = CudaVariants.None;
        }
    }

    private Result Prefill(string id, string name, int rows, EngineInput input)
    {
        var llm = _config.Llm;
        const int BlockSize = 16;
        int blocks = (rows + BlockSize - 1) / BlockSize;
        using var cache = _backend.CreateKvCache(new KvCacheShape(llm.Layers, llm.KeyValueHeads, llm.HeadDim, BlockSize, blocks));
        var pool = new KvBlockPool(blocks, BlockSize);
        using var step = new StepBuffers(_backend, rows, 1, blocks);
        var sequence = new KvSequence(pool, rows);
        step.Clear();
        for (int i = 0; i < rows; i++)
        {
            step.AddRow(sequence, input.PromptIds[i % input.PromptIds.Length]);
        }
        step.WantLogits();
        step.EndSequence(sequence);
        var (layout, ids, logitRows) = step.Upload(_queue, cache);
        var x = _workspace.Rent("llm.x", 1, rows, llm.HiddenSize);
        return Timed(id, name, () =>
        {
            _weights.Llm.Embed(_queue, ids, x);
            _weights.Llm.Forward(_queue, _workspace, x, cache, layout, null, default);
            _weights.Llm.Logits(_queue, _workspace, x, logitRows, null);
        }, _costs.Language(1, 0, 0, rows, 1));
    }

    /// <summary>Decode steps and whole requests.</summary>
    /// <param name="beams">Of a request.</param>
    /// <param name="input">Pictures and texts.</param>
    /// <param name="rows">Of the prefill.</param>
    /// <param name="variant">Ends the stages' ids.</param>
    /// <param name="note">Ends their names.</param>
    private IEnumerable<Result> Requests(int beams, EngineInput input, int rows, string variant, string note)
    {
        using var engine = new InferenceEngine(_weights, _backend, rows + Beams * (_newTokens + 64));
        var steps = new List<double>();
        var requests = new List<double>();
        // The first request grows buffers, the second records its steps.
        for (int i = -2; i < Math.Max(1, _runs / 4); i++)
        {
            var (request, each) = Request(engine, input, beams);
            if (i >= 0)
            {
                requests.Add(request);
                steps.AddRange(each);
            }
        }
        int context = rows + _newTokens / 2;
        var cost = _costs.Language(beams, context, rows, 1, beams);
        yield return new Result($"decode-{beams}{variant}/{_format}", (beams == 1 ? $"decode step, {rows} rows before"
            : $"decode step of {beams} beams") + note, [.. steps], cost.Operations, cost.Bytes);
        yield return new Result($"request-{beams}{variant}/{_format}", FormattableString.Invariant(
            $"whole request from pixels, {Images} images, {_newTokens} tokens, {beams} beam{(beams > 1 ? "s" : "")}{note}"), [.. requests], 0, 0);
    }

    private (double Request, IEnumerable<double> Steps) Request(InferenceEngine engine, EngineInput input, int beams)
    {
        var llm = _config.Llm;
        // The start id counts.
        var settings = GenerationSettings.Create(
            new GenerationOptions { NumBeams = beams, MaxLength = _newTokens + 1, MinLength = _newTokens + 1 },
            llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
        var ends = new List<long>(_newTokens + 1);
        long start = Stopwatch.GetTimestamp();
        var work = new GenerationWork(input, settings, TokenSearch.Create(settings), _ => ends.Add(Stopwatch.GetTimestamp()), default);
        engine.Submit(work);
        work.Completion.GetAwaiter().GetResult();
        double request = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return (request, ends.Zip(ends.Skip(1), (a, b) => Stopwatch.GetElapsedTime(a, b).TotalSeconds));
    }
}
