using SamEngine.Bench.Compare;
using SamEngine.Checkpoints;
using SamEngine.Decoding;
using SamEngine.Model;

namespace SamEngine.Bench.MakeModel;

/// <summary>What this engine computes from a folder.</summary>
/// <param name="Images">Number of pictures.</param>
/// <param name="Pixels">[images, 3, side, side].</param>
/// <param name="Features">[images, tokens, width] of the vision encoder.</param>
/// <param name="Rows">Rows of the language model.</param>
/// <param name="Embedded">[rows, hidden]: its input.</param>
/// <param name="Logits">Of the last row.</param>
internal sealed record OwnResults(int Images, float[] Pixels, float[] Features, int Rows, float[] Embedded, float[] Logits);

/// <summary>A model folder with unquantised weights, for other engines to read.</summary>
internal sealed class SourceFolder(string folder) : IDisposable
{
    private readonly SafetensorsFolder _store = SafetensorsFolder.Open(folder);

    public SamConfig Config { get; } = SamConfig.Load(Path.Combine(folder, SamCheckpoint.ConfigName));

    /// <summary>The dimensions that times are scaled to.</summary>
    public SamConfig FullDepth => MeasureCommand.FullDepth(Config);

    /// <exception cref="CheckpointException">There is no such tensor.</exception>
    public (long[] Shape, float[] Values) Floats(string name) => _store.TryGet(name, out var tensor) ? ([.. tensor.Shape], tensor.ToFloats())
        : throw new CheckpointException(folder, $"has no tensor '{name}'");

    public void Dispose() => _store.Dispose();

    /// <summary>A request of two pictures, watched.</summary>
    public static async Task<OwnResults> OwnResultsAsync(string folder, CancellationToken cancellation)
    {
        const int Images = 2;
        using var model = await SamModel.LoadAsync(folder, cancellationToken: cancellation);
        var config = model.Info.Config;
        int rows = Images * config.QFormer.QueryTokens + 8;
        var input = Samples.Request(config, Images, WorkItems.Words, rows);
        var seen = new Dictionary<string, float[]>();
        var settings = GenerationSettings.Create(new GenerationOptions { MaxLength = 2 }, config.Llm.VocabularySize, config.Llm.BosTokenId,
            config.Llm.EosTokenId);
        var work = new GenerationWork(input, settings, TokenSearch.Create(settings), null, cancellation)
        {
            Observer = (queue, stage, value) =>
            {
                if (stage is "ln_vision" or "llm.hidden.0" or "llm_logits")
                {
                    float[] values = new float[value.Count];
                    queue.ReadBack<float>(value, values);
                    seen.TryAdd(stage, values);
                }
            },
        };
        model.Engine.Submit(work);
        await work.Completion;
        return new OwnResults(Images, input.Pixels, seen["ln_vision"], rows, seen["llm.hidden.0"], seen["llm_logits"]);
    }
}
