using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Checkpoints;

public sealed class RandomTensorStoreTests
{
    private static readonly WeightFormats Quantized = new() { Vision = WeightFormat.Q8, QFormer = WeightFormat.BF16, Llm = WeightFormat.Q4 };

    [Fact]
    public async Task A_model_of_random_weights_in_memory_generates()
    {
        int[] first = await TokensAsync(1);
        Assert.Equal(11, first.Length);
        Assert.Equal(first, await TokensAsync(1));
        Assert.NotEqual(first, await TokensAsync(2));
    }

    [Fact]
    public void Matrices_have_their_parts_format_and_no_tensor_is_zeros()
    {
        using var store = new RandomTensorStore(TinyModel.Config, Quantized, 1);
        Assert.Equal(RandomModelWriter.Tensors(TinyModel.Config).Select(t => t.Name).Order(StringComparer.Ordinal), store.Names);
        foreach (string name in store.Names)
        {
            Assert.True(store.TryGet(name, out var tensor));
            Assert.True(tensor.Bytes.ContainsAnyExcept((byte)0), name);
        }
        TensorDType Of(string name) => store.TryGet(name, out var tensor) ? tensor.DType : throw new InvalidOperationException(name);
        Assert.Equal(TensorDType.Q4, Of("llm_model.model.layers.1.self_attn.q_proj.weight"));
        // 100 columns are no whole number of groups.
        Assert.Equal(TensorDType.F16, Of("llm_model.model.layers.1.mlp.down_proj.weight"));
        Assert.Equal(TensorDType.BF16, Of("llm_proj.weight"));
        Assert.Equal(TensorDType.F32, Of("llm_model.model.norm.weight"));
        Assert.False(store.TryGet("no such tensor", out _));
    }

    [Fact]
    public void Quantized_levels_have_the_deviation_of_the_matrices_they_stand_for()
    {
        foreach (var format in (WeightFormat[])[WeightFormat.Q8, WeightFormat.Q4])
        {
            using var store = new RandomTensorStore(TinyModel.Config, WeightFormats.All(format), 3);
            Assert.True(store.TryGet("llm_model.lm_head.weight", out var tensor));
            double square = 0;
            for (int row = 0; row < tensor.Rows; row++)
            {
                for (int column = 0; column < tensor.Columns; column++)
                {
                    double value = QuantizedLayout.Value(tensor.Bytes, format, tensor.Rows, tensor.Columns,
                        tensor.GroupSize, row, column);
                    square += value * value;
                }
            }
            double deviation = Math.Sqrt(square / tensor.Rows / tensor.Columns);
            Assert.InRange(deviation * Math.Sqrt(tensor.Columns), 0.85, 1.15);
        }
    }

    private static async Task<int[]> TokensAsync(ulong seed)
    {
        var config = TinyModel.Config;
        using var checkpoint = SamCheckpoint.Of(config, new RandomTensorStore(config, Quantized, seed));
        using var backend = new CpuBackend();
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 2, MaxLength = 12, MinLength = 12 },
            config.Llm.VocabularySize, config.Llm.BosTokenId, config.Llm.EosTokenId);
        float[] pixels = new float[2 * 3 * config.Vision.ImageSize * config.Vision.ImageSize];
        for (int i = 0; i < pixels.Length; i++)
        {
            pixels[i] = MathF.Sin(i);
        }
        var search = TokenSearch.Create(settings);
        var work = new GenerationWork(new EngineInput(2, pixels, [2, 5, 3], [1, 7, 8], true), settings, search, null, default);
        engine.Submit(work);
        await work.Completion;
        return search.Results()[0].Tokens;
    }
}
