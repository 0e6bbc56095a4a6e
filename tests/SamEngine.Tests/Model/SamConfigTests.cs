using System.Text;
using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>What a configuration does not state is what the released checkpoints have.</summary>
public sealed class SamConfigTests
{
    [Fact]
    public void Defaults_are_the_published_figures()
    {
        var config = SamConfig.Parse("{}"u8.ToArray(), "config.json");
        Assert.Equal(SamConfig.Published, config);
        var vision = config.Vision;
        Assert.Equal((224, 14, 257, 1408, 39, 16, 88, 6144, 1e-6f), (vision.ImageSize, vision.PatchSize, vision.Tokens,
            vision.Width, vision.Depth, vision.Heads, vision.HeadDim, vision.MlpHidden, vision.LayerNormEps));
        Assert.Equal(1e-5f, config.LnVisionEps);
        var qformer = config.QFormer;
        Assert.Equal((768, 12, 12, 3072, 2, 1408, 32, 30523, 512, 1e-12f), (qformer.HiddenSize, qformer.Layers, qformer.Heads,
            qformer.IntermediateSize, qformer.CrossAttentionFrequency, qformer.EncoderWidth, qformer.QueryTokens,
            qformer.VocabularySize, qformer.MaxPositions, qformer.LayerNormEps));
        Assert.Equal((11, 11), (qformer.OneToMultipleLayer, qformer.MultipleToOneLayer));
        var llm = config.Llm;
        Assert.Equal((4096, 32, 32, 32, 128, 11008, 32001, 1e-6f, 10000d, 2048), (llm.HiddenSize, llm.Layers, llm.Heads,
            llm.KeyValueHeads, llm.HeadDim, llm.IntermediateSize, llm.VocabularySize, llm.RmsNormEps, llm.RopeTheta,
            llm.MaxPositions));
        Assert.Equal((1, 2, 32000, 128), (llm.BosTokenId, llm.EosTokenId, llm.PadTokenId, config.MaxTextLength));
    }

    [Theory]
    [InlineData("bos_token_id", 601)]
    [InlineData("eos_token_id", 601)]
    [InlineData("max_position_embeddings", 1 << 21)]
    public void Numbers_that_no_request_could_work_with_are_refused(string field, int value)
    {
        var error = Assert.Throws<CheckpointException>(() => SamConfig.Parse(Encoding.UTF8.GetBytes(
            "{\"llm\": {\"vocab_size\": 601, \"" + field + "\": " + value + "}}"), "config.json"));
        Assert.Contains("llm." + field, error.Message, StringComparison.Ordinal);
        Assert.Contains($"{value}", error.Message, StringComparison.Ordinal);
    }

    /// <summary>Query heads that share keys and values, another rotary base: not Vicuna's, but a configuration may state them.</summary>
    [Fact]
    public async Task Grouped_query_heads_and_another_rotary_base_agree_with_the_reference()
    {
        using var tiny = new TinyModel(c => c with { Llm = c.Llm with { KeyValueHeads = 2, RopeTheta = 500 } });
        using var cpu = new CpuBackend();
        using var reference = new ReferenceBackend();
        float[] expected = await Logits(tiny.Folder, reference);
        Tolerance.AssertClose("logits", await Logits(tiny.Folder, cpu), expected, 1e-4, 1e-4);
        // The base is not passed over.
        string config = Path.Combine(tiny.Folder, "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"rope_theta\": 500", "\"rope_theta\": 10000",
            StringComparison.Ordinal));
        Assert.NotEqual(expected, await Logits(tiny.Folder, reference));
    }

    private static async Task<float[]> Logits(string folder, SamEngine.Compute.Backend backend)
    {
        using var checkpoint = SamCheckpoint.Open(folder);
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        using var queue = backend.CreateQueue();
        float[] logits = [];
        engine.Trace = (name, view) =>
        {
            if (name == "llm_logits")
            {
                logits = new float[view.Count];
                queue.ReadBack<float>(view, logits);
            }
        };
        var llm = checkpoint.Config.Llm;
        var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 1, MaxLength = 2 }, llm.VocabularySize,
            llm.BosTokenId, llm.EosTokenId);
        var work = new GenerationWork(new EngineInput(2, new float[2 * 3 * 56 * 56], [2, 5, 3], [1, 7, 8], true), settings,
            TokenSearch.Create(settings), null, default);
        engine.Submit(work);
        await work.Completion;
        return logits;
    }
}
