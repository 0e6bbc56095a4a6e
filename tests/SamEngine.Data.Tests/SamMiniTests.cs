using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Data.Mini;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Data.Tests;

/// <summary>The trained model of the repository, <c>models/sam-mini</c>: it computes what TorchSharp computes, and answers as well
/// as it did when it was recorded.</summary>
public sealed class SamMiniTests
{
    /// <summary>What <see cref="Answers_score_as_recorded"/> finds: the scores of <c>eval.json</c>, and right answers by family beside
    /// the majority answer's.</summary>
    private const string Recorded = """
        cider 840.84 bleu4 89.76 rouge 94.69
        change, same: 11 of 12, majority 2
        group, free: 8 of 8, majority 2
        group, photo: 8 of 8, majority 1
        group, same: 6 of 10, majority 1
        story, free: 3 of 4, majority 1
        story, photo: 4 of 4, majority 1
        story, same: 3 of 4, majority 1
        """;

    private const int Samples = 50;
    private const int Seed = 20261124;

    public static TheoryData<string> InstructionSets => [.. CpuBackend.InstructionSets];

    private static string Folder => Path.Combine(Golden.RepositoryRoot, "models", "sam-mini");

    /// <summary>Against logits that <c>parity models/sam-mini --record tests/fixtures/sam-mini/parity.safetensors</c> of the training
    /// project wrote.</summary>
    [Theory]
    [MemberData(nameof(InstructionSets))]
    public void Logits_are_those_of_TorchSharp(string instructionSet)
    {
        using var recorded = SafetensorsFile.Open(Golden.Fixture("sam-mini", "parity.safetensors"));
        Assert.Equal(ParitySamples.Count, recorded.Names.Count);
        foreach (var (ours, i) in ParitySamples.EngineLogits(Folder, instructionSet).Select((logits, i) => (logits, i)))
        {
            Assert.True(recorded.TryGet(ParitySamples.NameOf(i), out var theirs), ParitySamples.NameOf(i));
            double difference = ParitySamples.LargestDifference(ours, theirs.ToFloats());
            Assert.True(difference <= ParitySamples.Tolerance, $"sample {i} differs by {difference:G3}");
        }
    }

    /// <summary>Samples with pairs of object and setting that training never showed.</summary>
    [Fact]
    public async Task Answers_score_as_recorded()
    {
        Assert.SkipUnless(File.Exists(SceneRenderer.DebianFontPath), $"{SceneRenderer.DebianFontPath} is not installed");
        using var temp = new TempFolder();
        MmLinkMini.Write(temp["data"], new MmLinkMiniOptions { Seed = Seed, Train = 0, Test = Samples });
        var dataset = MmLinkDataset.Open(Path.Combine(temp["data"], "test"));
        // The one instruction set that every machine has, and that gives the same on all.
        using var model = await SamModel.LoadAsync(Folder, new SamModelOptions { InstructionSet = "scalar" });
        var run = new EvaluationRun(dataset, temp["results"], new Dictionary<string, string>());
        var result = await run.RunAsync(async (sample, cancellation) => (await model.DescribeToEndAsync(new DescribeRequest
        {
            Images = dataset.ImagesOf(sample, cancellation: cancellation),
            Prompt = sample.Instruction,
        }, cancellation)).Text, atOnce: 4);
        string table = Table(result);
        Assert.True(table == Recorded, $"found\n{table}\nrecorded is\n{Recorded}");
    }

    private static string Table(EvaluationResult result)
    {
        var eval = result.Scores.ToEvalJson();
        return string.Join('\n', [
            $"cider {eval["cider"]} bleu4 {eval["bleu4"]} rouge {eval["rouge"]}",
            .. result.Accuracy.Select(a => $"{a.Family}: {a.Right} of {a.Samples}, majority {a.Majority}"),
        ]);
    }
}
