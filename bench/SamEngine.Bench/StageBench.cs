using System.Diagnostics;
using SamEngine.Imaging;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary>Times the stages of a loaded model.</summary>
/// <param name="model">The model; nothing else may use it meanwhile.</param>
/// <param name="stored">How its weights are stored.</param>
/// <param name="fullConfig">Dimensions to scale to: the model's own, or the same with more layers.</param>
/// <param name="iterations">Timed runs of each stage.</param>
internal sealed class StageBench(SamModel model, StoredBytes stored, SamConfig fullConfig, int iterations)
{
    private const int Group = 5;
    private const int Words = 16;
    private const int PromptIds = 16;

    private readonly SamConfig _config = model.Info.Config;

    public static IReadOnlyList<string> Names { get; } =
        ["picture", "vision-1", "vision-5", "qformer-5", "prefill", "decode", "beam-5"];

    public async Task<StageReport> RunAsync(IReadOnlyCollection<string> stages, string description)
    {
        int threads = model.Info.Backend.Threads;
        // Around every stage: on a shared machine the ceilings move too.
        var probes = new List<Ceilings> { Ceilings.Measure(threads) };
        var results = new List<StageResult>();
        foreach (string stage in Names.Where(stages.Contains))
        {
            await Console.Error.WriteLineAsync("timing " + stage);
            if (stage == "picture")
            {
                results.AddRange(Pictures());
            }
            else
            {
                results.Add(await EngineStageAsync(stage));
            }
            probes.Add(Ceilings.Measure(threads));
        }
        return new StageReport(model.Info.Backend, description, _config, fullConfig, probes, results);
    }

    private IEnumerable<StageResult> Pictures()
    {
        byte[] jpeg = Samples.Jpeg(1);
        var encoded = SamImage.FromBytes(jpeg);
        var preprocessor = new ImagePreprocessor(_config.Vision.ImageSize, ImagePreprocessor.ReferenceMean,
            ImagePreprocessor.ReferenceStd, new ImageLimits());
        var decoded = SamImage.FromPixels(preprocessor.Decode(encoded, 0, out int width, out int height), width, height);
        float[] pixels = new float[preprocessor.ImageLength];
        yield return Time($"picture: decode ({width}x{height} JPEG, {jpeg.Length / 1000} KB)",
            () => preprocessor.Decode(encoded, 0, out _, out _));
        yield return Time("picture: resize, normalise", () => preprocessor.Load([decoded], pixels));
        yield return Time("picture: decode, resize, normalise", () => preprocessor.Load([encoded], pixels));
    }

    private StageResult Time(string name, Action action)
    {
        const int WarmUps = 3;
        var times = new List<StageTime>();
        for (int i = 0; i < WarmUps + 4 * iterations; i++)
        {
            long start = Stopwatch.GetTimestamp();
            action();
            times.Add(new StageTime(Stopwatch.GetElapsedTime(start).TotalSeconds, 0));
        }
        return new StageResult(name, times[WarmUps..], null, null, 1);
    }

    private async Task<StageResult> EngineStageAsync(string stage)
    {
        var (v, q, l) = (_config.Vision, _config.QFormer, _config.Llm);
        int rows = Group * q.QueryTokens + PromptIds;
        var group = Samples.Request(_config, Group, Words, rows);
        // The language model does not care where its rows come from: one picture and a longer prompt make as many.
        var one = Samples.Request(_config, 1, Words, rows);
        double visionDepth = (double)fullConfig.Vision.Depth / v.Depth;
        double llmDepth = (double)fullConfig.Llm.Layers / l.Layers;
        int steps = 4 * iterations;
        // A step's cost grows with the context; the middle of the run stands for it.
        int context = rows + steps / 2;

        StageResult Result(string name, IReadOnlyList<StageTime> times, double depth, double perElement, Func<StageCosts, Cost> cost) =>
            new(name, times, cost(new StageCosts(_config, perElement)), cost(new StageCosts(fullConfig, perElement)), depth);
        double VisionBytes() => stored.PerElement("visual_encoder.blocks.0.mlp.fc1.weight", v.MlpHidden, v.Width);
        double QFormerBytes() => stored.PerElement("Qformer.bert.encoder.layer.0.intermediate.dense.weight", q.IntermediateSize, q.HiddenSize);
        double LanguageBytes() => stored.PerElement("llm_model.model.layers.0.mlp.gate_proj.weight", l.IntermediateSize, l.HiddenSize);

        return stage switch
        {
            "vision-1" => Result("vision encoder, 1 image", await RepeatAsync(one, EngineStage.Vision, r => r.Vision),
                visionDepth, VisionBytes(), c => c.Vision(1)),
            "vision-5" => Result($"vision encoder, {Group} images", await RepeatAsync(group, EngineStage.Vision, r => r.Vision),
                visionDepth, VisionBytes(), c => c.Vision(Group)),
            "qformer-5" => Result($"Q-Former, {Group} images, {Words} words", await RepeatAsync(group, EngineStage.QFormer, r => r.QFormer),
                1, QFormerBytes(), c => c.QFormer(Group, Words)),
            "prefill" => Result($"prefill, {rows} rows", await RepeatAsync(one, EngineStage.Prefill, r => r.Prefill),
                llmDepth, LanguageBytes(), c => c.Language(1, 0, 0, rows, 1)),
            "decode" => Result($"decode, 1 row, {rows} rows before", await StepsAsync(one, 1, steps),
                llmDepth, LanguageBytes(), c => c.Language(1, context, context, 1, 1)),
            "beam-5" => Result($"beam step, 5 rows, {rows} rows before", await StepsAsync(one, 5, steps),
                llmDepth, LanguageBytes(), c => c.Language(5, context, rows, 1, 5)),
            _ => throw new ArgumentOutOfRangeException(nameof(stage), stage, null),
        };
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
