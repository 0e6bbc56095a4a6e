using System.Diagnostics;
using SamEngine.Decoding;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary>A stage of a request on the engine's thread.</summary>
internal enum EngineStage
{
    Vision,
    QFormer,
    Prefill,
    Decode,
}

/// <summary>Time of a stage in seconds, and how much of it its repeated layers took.</summary>
internal readonly record struct StageTime(double Total, double Layers)
{
    /// <summary>The time with another number of equal layers.</summary>
    public double WithLayers(double factor) => Total - Layers + factor * Layers;
}

/// <summary>
/// One request through the engine that applications use, watched through its trace: nothing is computed that a real
/// request would not compute, nothing left out. A request that is only wanted up to some stage is cancelled after it.
/// </summary>
internal sealed class EngineRun
{
    private readonly EngineStage _last;
    private readonly Action _enough;
    private readonly List<double> _languageLayers = [];
    private readonly List<double> _steps = [];
    private readonly string _lastBlock;
    private readonly string _lastHidden;
    private long _visionStart;
    private double _visionLayers;
    private long _languageStart;
    private long _stepStart;

    private EngineRun(SamModel model, EngineStage last, Action enough)
    {
        _last = last;
        _enough = enough;
        _lastBlock = $"vit.block.{model.Info.Config.Vision.Depth - 1}";
        _lastHidden = $"llm.hidden.{model.Info.Config.Llm.Layers}";
    }

    public StageTime Vision { get; private set; }

    public StageTime QFormer { get; private set; }

    public StageTime Prefill { get; private set; }

    /// <summary>One entry for every decode step: model, selection and bookkeeping.</summary>
    public IReadOnlyList<StageTime> Steps { get; private set; } = [];

    /// <summary>Ids of the best text.</summary>
    public IReadOnlyList<int> Tokens { get; private set; } = [];

    /// <param name="model">The model.</param>
    /// <param name="input">Pictures and prompt as numbers.</param>
    /// <param name="beams">Beams of the search.</param>
    /// <param name="newTokens">Tokens to generate; the end id is never chosen.</param>
    /// <param name="last">Stage to stop after.</param>
    public static async Task<EngineRun> RunAsync(SamModel model, EngineInput input, int beams, int newTokens, EngineStage last)
    {
        using var enough = new CancellationTokenSource();
        var run = new EngineRun(model, last, enough.Cancel);
        var llm = model.Info.Config.Llm;
        // The start id counts.
        var options = new GenerationOptions { NumBeams = beams, MaxLength = newTokens + 1, MinLength = newTokens + 1 };
        var settings = GenerationSettings.Create(options, llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
        var search = TokenSearch.Create(settings);
        var work = new GenerationWork(input, settings, search, run.OnStep, enough.Token);
        model.Engine.Trace = run.OnStage;
        try
        {
            model.Engine.Submit(work);
            await work.Completion.ConfigureAwait(false);
            run.Tokens = search.Results()[0].Tokens;
        }
        catch (OperationCanceledException) when (enough.IsCancellationRequested)
        {
            // It did what it was wanted for.
        }
        finally
        {
            model.Engine.Trace = null;
        }
        run.Collect(work.Timings);
        return run;
    }

    private void Collect(EngineTimings timings)
    {
        Vision = new StageTime(timings.Vision.TotalSeconds, _visionLayers);
        QFormer = new StageTime(timings.QFormer.TotalSeconds, 0);
        if (_languageLayers.Count > 0)
        {
            Prefill = new StageTime(timings.Prefill.TotalSeconds, _languageLayers[0]);
            Steps = [.. _steps.Select((seconds, i) => new StageTime(seconds, _languageLayers[i + 1]))];
        }
    }

    private void OnStage(string stage, Compute.TensorView value)
    {
        long now = Stopwatch.GetTimestamp();
        if (stage == "vit.embed")
        {
            _visionStart = now;
        }
        else if (stage == _lastBlock)
        {
            _visionLayers = Stopwatch.GetElapsedTime(_visionStart, now).TotalSeconds;
        }
        else if (stage == "ln_vision" && _last == EngineStage.Vision)
        {
            _enough();
        }
        else if (stage == "llm.hidden.0")
        {
            _languageStart = now;
            if (_last == EngineStage.QFormer)
            {
                _enough();
            }
        }
        else if (stage == _lastHidden)
        {
            _languageLayers.Add(Stopwatch.GetElapsedTime(_languageStart, now).TotalSeconds);
        }
    }

    /// <summary>Called after every step, at first after the prefill.</summary>
    private void OnStep(TokenSearch search)
    {
        long now = Stopwatch.GetTimestamp();
        if (_stepStart != 0)
        {
            _steps.Add(Stopwatch.GetElapsedTime(_stepStart, now).TotalSeconds);
        }
        _stepStart = now;
    }
}
