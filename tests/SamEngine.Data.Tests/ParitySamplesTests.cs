using SamEngine.Compute.Cpu;
using SamEngine.Data.Mini;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Data.Tests;

/// <summary>The requests on which implementations are compared, and the comparison.</summary>
public sealed class ParitySamplesTests
{
    [Fact]
    public void Instruction_sets_agree_on_every_sample_after_the_prompt_and_after_each_id_of_its_continuation()
    {
        using var tiny = new TinyModel();
        float[][] scalar = [.. ParitySamples.EngineLogits(tiny.Folder, "scalar")];
        Assert.Equal(ParitySamples.Count, scalar.Length);
        for (int i = 0; i < scalar.Length; i++)
        {
            var sample = ParitySamples.Create(i, TinyModel.Config);
            Assert.Equal((1 + sample.Continuation.Length) * TinyModel.Config.Llm.VocabularySize, scalar[i].Length);
        }
        Assert.Contains(scalar, s => s.Length > TinyModel.Config.Llm.VocabularySize);
        foreach (string set in CpuBackend.InstructionSets)
        {
            foreach (var (first, second) in scalar.Zip(ParitySamples.EngineLogits(tiny.Folder, set)))
            {
                Assert.InRange(ParitySamples.LargestDifference(first, second), 0, ParitySamples.Tolerance);
            }
        }
        Assert.True(ParitySamples.LargestDifference(scalar[1], scalar[2]) > ParitySamples.Tolerance);
    }

    [Fact]
    public void What_is_no_number_or_missing_differs()
    {
        Assert.Equal(0.5, ParitySamples.LargestDifference([1, 2], [1, 2.5f]));
        Assert.Equal(double.PositiveInfinity, ParitySamples.LargestDifference([1, float.NaN], [1, 2]));
        Assert.Equal(double.PositiveInfinity, ParitySamples.LargestDifference([1, 2], [1]));
    }
}
