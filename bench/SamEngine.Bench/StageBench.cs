using System.Diagnostics;
using SamEngine.Bench.Compare;
using SamEngine.Imaging;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary>Times the stages of a loaded model.</summary>
/// <param name="model">The model; nothing else may use it meanwhile.</param>
/// <param name="stored">How its weights are stored.</param>
/// <param name="fullConfig">Dimensions to scale to: the model's own, or the same with more layers.</param>
/// <param name="iterations">Timed runs of each stage.</param>
/// <param name="promptIds">Rows of the language model's input beside the visual tokens of five images.</param>
internal sealed class StageBench(SamModel model, StoredBytes stored, SamConfig fullConfig, int iterations, int promptIds)
{
    private const int Group = WorkItems.Images;
    private const int Words = WorkItems.Words;

    private readonly SamConfig _config = model.Info.Config;

    public static IReadOnlyList<string> Names { get; } = [WorkItems.Picture, WorkItems.Vision1, WorkItems.Vision5, WorkItems.QFormer5,
        WorkItems.Prefill, WorkItems.Decode, WorkItems.Beam5, WorkItems.Request1, WorkItems.Request5];

    public async Task<StageReport> RunAsync(IReadOnlyCollection<string> stages, string description)
    {
        int threads = model.Info.Backend.Threads;
        // Around every stage: on a shared machine the ceilings move too.
        var probes = new List<Ceilings> { Ceilings.Measure(threads) };
        var results = new List<StageResult>();
        foreach (string stage in Names.Where(stages.Contains))
        {
            await Console.Error.WriteLineAsync("timing " + stage);
            results.AddRange(await MeasureAsync(stage));
            probes.Add(Ceilings.Measure(threads));
        }
        return new StageReport(model.Info.Backend, description, _config, fullConfig, probes, results);
    }

    /// <summary>Times one stage; the last result is the whole of it.</summary>
    public async Task<IReadOnlyList<StageResult>> MeasureAsync(string stage) =>
        stage == WorkItems.Picture ? [.. Pictures()] : [await EngineStageAsync(stage)];

    private ImagePreprocessor Preprocessor() => new(_config.Vision.ImageSize, ImagePreprocessor.ReferenceMean,
        ImagePreprocessor.ReferenceStd, new ImageLimits());

    private IEnumerable<StageResult> Pictures()
    {
        byte[] jpeg = Samples.Jpeg(1);
        var encoded = SamImage.FromBytes(jpeg);
        var preprocessor = Preprocessor();
        var decoded = SamImage.FromPixels(preprocessor.Decode(encoded, 0, out int width, out int height), width, height);
        float[] pixels = new float[preprocessor.ImageLength];
        yield return Time(WorkItems.Picture + "-decode", $"picture: decode ({width}x{height} JPEG, {jpeg.Length / 1000} KB)",
            () => preprocessor.Decode(encoded, 0, out _, out _));
        yield return Time(WorkItems.Picture + "-resize", "picture: resize, normalise", () => preprocessor.Load([decoded], pixels));
        yield return Time(WorkItems.Picture, "picture: decode, resize, normalise", () => preprocessor.Load([encoded], pixels));
    }

    private StageResult Time(string id, string name, Action action)
    {
        const int WarmUps = 3;
        var times = new List<StageTime>();
        for (int i = 0; i < WarmUps + 4 * iterations; i++)
        {
            long start = Stopwatch.GetTimestamp();
            action();
            times.Add(new StageTime(Stopwatch.GetElapsedTime(start).TotalSeconds, 0));
        }
        return new StageResult(id, name, times[WarmUps..], null, null, 1, 0);
    }

    private async Task<StageResult> EngineStageAsync(string stage)
    {
        var (v, q, l) = (_config.Vision, _config.QFormer, _config.Llm);
        int rows = Group * q.QueryTokens + promptIds;
        var group = Samples.Request(_config, Group, Words, rows);
        // The language model does not care where its rows come from: one picture and a longer prompt make as many.
        var one = Samples.Request(_config, 1, Words, rows);
        double visionDepth = (double)fullConfig.Vision.Depth / v.Depth;
        double llmDepth = (double)fullConfig.Llm.Layers / l.Layers;
        int steps = 4 * iterations;
        // A step's cost grows with the context; the middle of the run stands for it.
        int context = rows + steps / 2;

        StageResult Result(string name, IReadOnlyList<StageTime> times, double depth, double perElement, Func<StageCosts, Cost> cost) =>
            new(stage, name, times, cost(new StageCosts(_config, perElement)), cost(new StageCosts(fullConfig, perElement)), depth, perElement);
        double VisionBytes() => stored.PerElement("visual_encoder.blocks.0.mlp.fc1.weight", v.MlpHidden, v.Width);
        double QFormerBytes() => stored.PerElement("Qformer.bert.encoder.layer.0.intermediate.dense.weight", q.IntermediateSize, q.HiddenSize);
        double LanguageBytes() => stored.PerElement("llm_model.model.layers.0.mlp.gate_proj.weight", l.IntermediateSize, l.HiddenSize);

        return stage switch
        {
            WorkItems.Vision1 => Result("vision encoder, 1 image", await RepeatAsync(one, EngineStage.Vision, r => r.Vision),
                visionDepth, VisionBytes(), c => c.Vision(1)),
            WorkItems.Vision5 => Result($"vision encoder, {Group} images", await RepeatAsync(group, EngineStage.Vision, r => r.Vision),
                visionDepth, VisionBytes(), c => c.Vision(Group)),
            WorkItems.QFormer5 => Result($"Q-Former, {Group} images, {Words} words", await RepeatAsync(group, EngineStage.QFormer, r => r.QFormer),
                1, QFormerBytes(), c => c.QFormer(Group, Words)),
            WorkItems.Prefill => Result($"prefill, {rows} rows", await RepeatAsync(one, EngineStage.Prefill, r => r.Prefill),
                llmDepth, LanguageBytes(), c => c.Language(1, 0, 0, rows, 1)),
            WorkItems.Decode => Result($"decode, 1 row, {rows} rows before", await StepsAsync(one, 1, steps),
                llmDepth, LanguageBytes(), c => c.Language(1, context, context, 1, 1)),
            WorkItems.Beam5 => Result($"beam step, 5 rows, {rows} rows before", await StepsAsync(one, WorkItems.Beams, steps),
                llmDepth, LanguageBytes(), c => c.Language(5, context, rows, 1, 5)),
            WorkItems.Request1 => await RequestAsync(stage, group, 1, LanguageBytes()),
            WorkItems.Request5 => await RequestAsync(stage, group, WorkItems.Beams, LanguageBytes()),
            _ => throw new ArgumentOutOfRangeException(nameof(stage), stage, null),
        };
    }

    /// <summary>From the bytes of the JPEGs to the last token. Every layer of it scales with the published depth, vision and
    /// language by their own factors.</summary>
    private async Task<StageResult> RequestAsync(string id, EngineInput input, int beams, double perElement)
    {
        double visionDepth = (double)fullConfig.Vision.Depth / _config.Vision.Depth;
        double llmDepth = (double)fullConfig.Llm.Layers / _config.Llm.Layers;
        var jpegs = Enumerable.Range(0, Group).Select(i => SamImage.FromBytes(Samples.Jpeg(i))).ToList();
        var preprocessor = Preprocessor();
        var times = new List<StageTime>();
        for (int i = 0; i < iterations; i++)
        {
            long start = Stopwatch.GetTimestamp();
            preprocessor.Load(jpegs, input.Pixels);
            var run = await EngineRun.RunAsync(model, input, beams, WorkItems.NewTokens, EngineStage.Decode);
            double total = Stopwatch.GetElapsedTime(start).TotalSeconds;
            double more = (visionDepth - 1) * run.Vision.Layers + (llmDepth - 1) * (run.Prefill.Layers + run.Steps.Sum(s => s.Layers));
            // Scaled already; a factor of one each keeps it.
            times.Add(new StageTime(total + more, 0));
        }
        string name = FormattableString.Invariant($"whole request, {Group} JPEGs, {WorkItems.NewTokens} tokens, {beams} beams");
        return new StageResult(id, name, times, null, null, 1, perElement);
    }

    private async Task<IReadOnlyList<StageTime>> RepeatAsync(EngineInput input, EngineStage last, Func<EngineRun, StageTime> stage)
    {
        var times = new List<StageTime>();
        for (int i = 0; i <= iterations; i++)
        {
            var run = await EngineRun.RunAsync(model, input, 1, 1, last);
            if (i > 0)
            {
                times.Add(stage(run));
            }
        }
        return times;
    }

    private async Task<IReadOnlyList<StageTime>> StepsAsync(EngineInput input, int beams, int steps)
    {
        const int WarmUps = 2;
        var run = await EngineRun.RunAsync(model, input, beams, WarmUps + steps + 1, EngineStage.Decode);
        return [.. run.Steps.Skip(WarmUps)];
    }
}
