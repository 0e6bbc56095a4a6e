using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>Every generation, score and ranking of golden/tiny-*/generation.json, ids exact.</summary>
public sealed class GoldenGenerationTests
{
    public static TheoryData<string> InstructionSets => [.. CpuBackend.InstructionSets];

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public async Task Every_recorded_generation_is_reproduced(string instructionSet)
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            using var backend = new CpuBackend(instructionSet: instructionSet);
            await GoldenGenerations.Check(golden, checkpoint, backend);
        }
    }

    [Fact]
    public async Task Requests_run_together_give_what_they_give_alone()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            using var backend = new CpuBackend();
            using var weights = SamWeights.Load(checkpoint, backend);
            using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
            var cases = golden.Generation.GetProperty("cases");
            var running = cases.EnumerateObject().Where(c => c.Name != "predict_class").Select(c =>
                GoldenGenerations.CheckCase(golden, engine, c.Name, c.Value)).ToList();
            Assert.True((await Task.WhenAll(running)).Sum() >= 10);
        }
    }

    [Theory]
    [InlineData("group_5d")]
    [InlineData("plain_4d")]
    public async Task Candidate_losses_and_ranks_are_reproduced(string form)
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            if (!golden.Generation.GetProperty("cases").TryGetProperty("predict_class", out var recorded))
            {
                continue;
            }
            using var checkpoint = SamCheckpoint.Open(folder);
            using var backend = new CpuBackend();
            using var weights = SamWeights.Load(checkpoint, backend);
            using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
            string source = golden.Cases.First(c => GoldenModel.IsGuided(c) && golden.Images(c) > 1);
            int images = form == "group_5d" ? golden.Images(source) : 1;
            // The reference ranks without guidance, even a group.
            var input = new EngineInput(images, golden.Pixels(source, 0, images),
                GoldenGenerations.Ints(recorded.GetProperty("qformer_input_ids")), GoldenGenerations.Ints(recorded.GetProperty("llm_prompt_ids")), Guided: false);
            int[][] candidates = [.. recorded.GetProperty("candidate_ids").EnumerateArray().Select(c => GoldenGenerations.Ints(c)[1..])];
            var work = new RankingWork(input, candidates, default);
            engine.Submit(work);
            await work.Completion;
            var expected = recorded.GetProperty(form);
            var ranking = CandidateRanking.Reference(work.LogProbs, engine.PromptRows(input));
            Tolerance.AssertClose("losses", [.. ranking.Losses.Select(l => (float)l)],
                [.. expected.GetProperty("candidate_losses").EnumerateArray().Select(v => v.GetSingle())], 5e-4, 5e-4);
            Assert.Equal(GoldenGenerations.Ints(expected.GetProperty("ranks")), ranking.Order);
        }
    }
}
