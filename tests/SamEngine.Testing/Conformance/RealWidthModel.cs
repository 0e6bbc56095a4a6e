using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Testing.Conformance;

/// <summary>
/// One block of every part at the width of the released checkpoints (vision 1408, 16 heads of 88, MLP 6144; Q-Former 768,
/// both streams; Llama 4096, 32 heads of 128, MLP 11008), random BF16 weights: tiny shapes only test the tails. The
/// reference runs once; every backend's stages are compared with it.
/// </summary>
internal static class RealWidthModel
{
    /// <summary>Fewer patches, queries and tokens than the real model: they cost time and add no width.</summary>
    public static SamConfig Config { get; } = new()
    {
        Vision = new VisionConfig { ImageSize = 126, Depth = 1 },
        QFormer = new QFormerConfig
        {
            Layers = 1,
            QueryTokens = 8,
            VocabularySize = 500,
            MaxPositions = 64,
            OneToMultipleLayer = 0,
            MultipleToOneLayer = 0,
        },
        Llm = new LlamaConfig { Layers = 1, VocabularySize = 3001, MaxPositions = 64, PadTokenId = 3000 },
        MaxTextLength = 32,
    };

    private static readonly Lazy<TempFolder> Folder = new(() =>
    {
        var folder = new TempFolder();
        AppDomain.CurrentDomain.ProcessExit += (_, _) => folder.Dispose();
        RandomModelWriter.Write(folder["model"], Config, "bf16", seed: 5);
        return folder;
    });

    private static readonly Lazy<Task<IReadOnlyList<(string Stage, float[] Values)>>> Expected = new(() => Reference(null));

    private static readonly Lazy<Task<IReadOnlyList<(string Stage, float[] Values)>>> Quantized = new(() => Reference(Formats));

    private static WeightFormats Formats { get; } = WeightFormats.Parse("vision=q8,qformer=q8,llm=q4");

    /// <summary>
    /// Runs two guided pictures, a prompt and three greedy steps on a backend that rounds the input of linear layers, with
    /// bf16 or with quantised weights, and compares every stage with the reference, which has the same weights but rounds
    /// nothing: root mean square error against root mean square. Ids of a random model are not compared: its best two
    /// logits are closer than that.
    /// </summary>
    public static async Task CheckRounded(Backend backend, bool quantized, double tolerance)
    {
        var expected = await (quantized ? Quantized : Expected).Value;
        var actual = await Run(backend, quantized ? Formats : null);
        foreach (var e in expected.Where(e => e.Stage is "vit.embed" or "ln_vision" or "qformer.last_hidden_state" or "llm_proj"))
        {
            Tolerance.AssertRelative(e.Stage, actual.First(s => s.Stage == e.Stage).Values, e.Values, tolerance);
        }
        // Logits of the first step only: later ones follow the ids chosen.
        Tolerance.AssertRelative("logits", actual.First(s => s.Stage == "llm_logits").Values,
            expected.First(s => s.Stage == "llm_logits").Values, tolerance);
    }

    /// <summary>Runs two guided pictures, a prompt and three greedy steps, and compares every stage with the reference.</summary>
    public static async Task Check(Backend backend, double tolerance, bool quantized = false)
    {
        var expected = await (quantized ? Quantized : Expected).Value;
        var actual = await Run(backend, quantized ? Formats : null);
        Assert.Equal(expected.Select(e => e.Stage), actual.Select(a => a.Stage));
        Assert.Contains(expected, e => e.Stage == "qformer.layer.0.stream2");
        Assert.Contains(expected, e => e.Stage == "llm_logits");
        foreach (var (e, a) in expected.Zip(actual))
        {
            Tolerance.AssertClose(e.Stage, a.Values, e.Values, tolerance, tolerance);
        }
    }

    private static async Task<IReadOnlyList<(string Stage, float[] Values)>> Reference(WeightFormats? formats)
    {
        using var reference = new ReferenceBackend();
        return await Run(reference, formats);
    }

    private static async Task<IReadOnlyList<(string Stage, float[] Values)>> Run(Backend backend, WeightFormats? formats)
    {
        using var checkpoint = SamCheckpoint.Open(Folder.Value["model"]);
        using var weights = SamWeights.Load(checkpoint, backend, formats);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        var stages = new List<(string, float[])>();
        engine.Trace = (stage, view) =>
        {
            float[] values = new float[view.Count];
            engine.Queue.ReadBack<float>(view, values);
            stages.Add((stage, values));
        };
        const int Images = 2;
        var random = new Random(3);
        int side = Config.Vision.ImageSize;
        float[] pixels = [.. Enumerable.Range(0, Images * 3 * side * side).Select(_ => (float)(random.NextDouble() * 4 - 2))];
        var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 1, MaxLength = 4, MinLength = 4 },
            Config.Llm.VocabularySize, Config.Llm.BosTokenId, Config.Llm.EosTokenId);
        var work = new GenerationWork(new EngineInput(Images, pixels, [101, 7, 8, 9, 102], [1, 30, 40, 50, 60], true),
            settings, TokenSearch.Create(settings), null, default);
        engine.Submit(work);
        await work.Completion;
        stages.Add(("ids", [.. work.Search.Results()[0].Tokens.Select(id => (float)id)]));
        return stages;
    }
}
