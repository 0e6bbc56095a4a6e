using SamEngine.Checkpoints;
using SamEngine.Testing;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>Whole models on ILGPU's CPU accelerator.</summary>
public sealed class IlgpuModelTests(CpuAccelerator accelerator) : IClassFixture<CpuAccelerator>
{
    [Fact]
    public async Task Every_recorded_stage_agrees()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            await GoldenStages.Check(golden, checkpoint, accelerator.Backend);
        }
    }

    [Fact]
    public async Task Every_recorded_generation_is_reproduced()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            await GoldenGenerations.Check(golden, checkpoint, accelerator.Backend);
        }
    }

    [Fact]
    public Task A_block_of_each_part_at_real_width_agrees() => RealWidthModel.Check(accelerator.Backend, 1e-4);

    [Theory]
    [InlineData(1, 0, 1, 1)]
    [InlineData(1.8, 12, 0.9, 1.3)]
    public void Sampling_follows_the_exact_distribution(float temperature, int topK, float topP, float penalty) =>
        SamplerDistributions.CheckSampling(accelerator.Backend, temperature, topK, topP, penalty);

    [Fact]
    public void Beam_sampling_draws_without_replacement_over_all_rows() =>
        SamplerDistributions.CheckBeamSampling(accelerator.Backend, 2, 4, 2);
}
