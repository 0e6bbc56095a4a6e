using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>What guidance adds to the plain path, and what it costs.</summary>
public sealed class GuidanceTests
{
    [Theory]
    [InlineData(2, 2)]
    [InlineData(0, 1)]
    public async Task With_exchange_of_zero_guidance_changes_no_bit(int l, int k)
    {
        using var tiny = new TinyModel(c => c with
        {
            QFormer = c.QFormer with { OneToMultipleLayer = l, MultipleToOneLayer = k },
        });
        var before = await Stages(tiny, images: 3, guided: true);
        tiny.ZeroExchange();
        for (int images = 1; images <= 5; images++)
        {
            var guided = await Stages(tiny, images, guided: true);
            var plain = await Stages(tiny, images, guided: false);
            Assert.True(guided.LayerRuns > plain.LayerRuns);
            Assert.Equal(plain.Tokens, guided.Tokens);
            Assert.Equal(plain.Logits, guided.Logits);
            if (images == 3)
            {
                // With the exchange it is another path.
                Assert.NotEqual(before.Tokens, guided.Tokens);
            }
        }
    }

    [Fact]
    public async Task A_group_runs_stream_2_once_up_to_the_exchange()
    {
        const int Layers = 12;
        using var tiny = new TinyModel(c => c with
        {
            QFormer = c.QFormer with { Layers = Layers, OneToMultipleLayer = Layers - 1, MultipleToOneLayer = Layers - 1 },
        });
        for (int images = 1; images <= 5; images++)
        {
            var guided = await Stages(tiny, images, guided: true);
            Assert.Equal(images * Layers + (Layers - 1) + images, guided.LayerRuns);
            Assert.Equal(guided.LayerRuns, guided.LayersSeen);
            Assert.True(images != 5 || guided.LayerRuns == 76);
            var plain = await Stages(tiny, images, guided: false);
            Assert.Equal(images * Layers, plain.LayerRuns);
            Assert.Equal(plain.LayerRuns, plain.LayersSeen);
        }
    }

    /// <summary>Bits of the visual tokens and of the first logits; layer runs as counted and as seen.</summary>
    private static async Task<(int[] Tokens, int[] Logits, int LayerRuns, int LayersSeen)> Stages(TinyModel tiny, int images,
        bool guided)
    {
        using var checkpoint = SamCheckpoint.Open(tiny.Folder);
        using var backend = new CpuBackend();
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        using var reader = backend.CreateQueue();
        var config = checkpoint.Config;
        int[] tokens = [];
        int[] logits = [];
        int seen = 0;
        engine.Trace = (stage, value) =>
        {
            int[] Bits()
            {
                float[] values = new float[value.Count];
                reader.ReadBack<float>(value, values);
                return [.. values.Select(BitConverter.SingleToInt32Bits)];
            }
            tokens = stage == "llm_proj" ? Bits() : tokens;
            logits = stage == "llm_logits" ? Bits() : logits;
            if (stage.StartsWith("qformer.layer.", StringComparison.Ordinal)
                && (stage.EndsWith(".stream1", StringComparison.Ordinal) || stage.EndsWith(".stream2", StringComparison.Ordinal)))
            {
                seen += value.Batch;
            }
        };
        var random = new Random(images);
        float[] pixels = [.. Enumerable.Range(0, images * 3 * config.Vision.ImageSize * config.Vision.ImageSize)
            .Select(_ => (float)(random.NextDouble() * 4 - 2))];
        var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 1, MaxLength = 2 },
            config.Llm.VocabularySize, config.Llm.BosTokenId, config.Llm.EosTokenId);
        var work = new GenerationWork(new EngineInput(images, pixels, [2, 17, 40, 3], [2, 300, 77], guided), settings,
            TokenSearch.Create(settings), null, default);
        engine.Submit(work);
        await work.Completion;
        Assert.NotEmpty(tokens);
        return (tokens, logits, work.Timings.QFormerLayerRuns, seen);
    }
}
