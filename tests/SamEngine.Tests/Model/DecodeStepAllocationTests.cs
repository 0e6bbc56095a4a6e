using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>A decode step allocates nothing on the managed heap.</summary>
public sealed class DecodeStepAllocationTests
{
    /// <summary>Steps that may still grow a buffer to its size.</summary>
    private const int WarmUp = 6;

    [Theory]
    [InlineData(1, false)]
    [InlineData(1, true)]
    [InlineData(5, false)]
    [InlineData(5, true)]
    public async Task Nothing_is_allocated_between_two_steps(int beams, bool sample)
    {
        using var model = new TinyModel();
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var backend = new CpuBackend();
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        var config = checkpoint.Config;
        var settings = GenerationSettings.Create(
            new GenerationOptions { NumBeams = beams, DoSample = sample, Seed = 1, MaxLength = 100, MinLength = 100 },
            config.Llm.VocabularySize, config.Llm.BosTokenId, config.Llm.EosTokenId);
        int side = config.Vision.ImageSize;
        long[] allocated = new long[128];
        int steps = 0;
        for (int run = 0; run < 2; run++)
        {
            // The second run finds every buffer grown and every method compiled.
            steps = 0;
            var work = new GenerationWork(new EngineInput(2, new float[2 * 3 * side * side], [2, 5, 3], [1, 7, 8], true),
                settings, TokenSearch.Create(settings), _ => allocated[steps++] = GC.GetAllocatedBytesForCurrentThread(), default);
            engine.Submit(work);
            await work.Completion;
        }
        Assert.True(steps > 90, $"only {steps} steps");
        // The last step makes the result.
        for (int i = WarmUp; i < steps - 1; i++)
        {
            Assert.True(allocated[i] == allocated[i - 1], $"step {i} allocated {allocated[i] - allocated[i - 1]} bytes");
        }
    }
}
