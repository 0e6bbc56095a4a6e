using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>A decode step allocates nothing on the managed heap.</summary>
[Collection(nameof(Alone))]
public sealed class DecodeStepAllocationTests
{
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
        var steps = new StepAllocations();
        for (int run = 0; run < 2; run++)
        {
            // The second run finds every buffer grown and every method compiled.
            steps.Restart();
            var work = new GenerationWork(new EngineInput(2, new float[2 * 3 * side * side], [2, 5, 3], [1, 7, 8], true),
                settings, TokenSearch.Create(settings), _ => steps.Add(), default);
            engine.Submit(work);
            await work.Completion;
        }
        steps.AssertNone(70);
    }

    [Fact]
    public async Task Nothing_is_allocated_while_several_requests_run()
    {
        using var model = new TinyModel();
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var backend = new CpuBackend();
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        var llm = checkpoint.Config.Llm;
        int side = checkpoint.Config.Vision.ImageSize;
        var steps = new StepAllocations();
        GenerationWork Work(int beams, bool sample, int length, Action<TokenSearch>? onStep)
        {
            var settings = GenerationSettings.Create(new GenerationOptions
            {
                NumBeams = beams,
                DoSample = sample,
                Seed = 1,
                MaxLength = length,
                MinLength = length,
            }, llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
            return new GenerationWork(new EngineInput(1, new float[3 * side * side], [2, 5, 3], [1, 7, 8], true), settings,
                TokenSearch.Create(settings), onStep, default);
        }
        for (int run = 0; run < 2; run++)
        {
            // The others start before the one that measures and end after it.
            steps.Restart();
            GenerationWork[] all = [Work(1, false, 150, null), Work(5, true, 150, null), Work(1, true, 150, null),
                Work(4, false, 100, _ => steps.Add())];
            foreach (var work in all)
            {
                engine.Submit(work);
            }
            await Task.WhenAll(all.Select(w => w.Completion));
        }
        steps.AssertNone(60);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void Texts_that_end_during_the_search_allocate_nothing(int beams)
    {
        // The length penalty keeps the search going, whatever has ended.
        var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = beams, MaxLength = 100, LengthPenalty = 4 },
            64, bosTokenId: 1, eosTokenId: 2);
        float[] scores = new float[2 * beams];
        int[] rows = new int[2 * beams];
        int[] tokens = new int[2 * beams];
        for (int run = 0; run < 2; run++)
        {
            var search = TokenSearch.Create(settings);
            int ended = 0;
            for (int step = 0; step < 90; step++)
            {
                for (int i = 0; i < 2 * beams; i++)
                {
                    scores[i] = -0.5f * (step + 1) - 0.01f * i;
                    rows[i] = step == 0 ? 0 : i % beams;
                    tokens[i] = beams > 1 && i == beams - 1 ? 2 : 3 + (i + step) % 60;
                }
                long before = GC.GetAllocatedBytesForCurrentThread();
                search.Advance(scores, rows, tokens);
                long after = GC.GetAllocatedBytesForCurrentThread();
                Assert.False(search.IsDone);
                Assert.True(run == 0 || after == before, $"step {step} allocated {after - before} bytes");
                ended += beams > 1 ? 1 : 0;
            }
            Assert.Equal(beams > 1 ? 90 : 0, ended);
            Assert.Equal(beams > 1 ? beams : 0, search is BeamSearch s ? s.FinishedSoFar.Count() : 0);
        }
    }
}
