using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Testing;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>Whole models with fp32 activations: exact.</summary>
public sealed class F32ModelTests(F32Fixture cuda) : IClassFixture<F32Fixture>
{
    [Fact]
    public async Task Every_recorded_stage_agrees()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            await GoldenStages.Check(golden, checkpoint, cuda.Backend);
        }
    }

    [Fact]
    public async Task Every_recorded_generation_is_reproduced()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            await GoldenGenerations.Check(golden, checkpoint, cuda.Backend);
        }
    }

    // Of these weights all tests here need the reference, which takes longest.
    [Fact]
    public Task A_block_of_each_part_at_real_width_with_Q8_and_Q4_weights_agrees() =>
        RealWidthModel.Check(cuda.Backend, 1e-4, quantized: true);

    [Theory]
    [InlineData(1, 0, 1, 1)]
    [InlineData(1.8, 12, 0.9, 1.3)]
    public void Sampling_follows_the_exact_distribution(float temperature, int topK, float topP, float penalty) =>
        SamplerDistributions.CheckSampling(cuda.Backend, temperature, topK, topP, penalty);

    [Fact]
    public void Beam_sampling_draws_without_replacement_over_all_rows() =>
        SamplerDistributions.CheckBeamSampling(cuda.Backend, 2, 4, 2);
}

/// <summary>Whole models with 16-bit activations: close, and the same texts where the logits decide.</summary>
public abstract class RoundedModelTests(CudaFixture cuda)
{
    private protected const double Tolerance = 2e-2;

    private protected CudaFixture Cuda { get; } = cuda;

    [Fact]
    public async Task Every_recorded_stage_is_close()
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            await GoldenStages.Check(golden, checkpoint, Cuda.Backend, Tolerance);
        }
    }

    [Fact]
    public async Task Greedy_texts_agree_where_the_logits_decide()
    {
        using var exact = new CpuBackend();
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            int decided = await GreedyIds.Check(golden, checkpoint, exact, Cuda.Backend, 12);
            Assert.True(decided >= golden.Cases.Count() * 4, $"the logits decided only {decided} tokens");
        }
    }
}

public sealed class F16ModelTests(F16Fixture cuda) : RoundedModelTests(cuda), IClassFixture<F16Fixture>
{
    // For one of the two types: tensor cores take long to emulate, and the kernels are the same.
    [Fact]
    public Task A_block_of_each_part_at_real_width_with_Q8_and_Q4_weights_is_close() =>
        RealWidthModel.CheckRounded(Cuda.Backend, quantized: true, Tolerance);
}

public sealed class BF16ModelTests(BF16Fixture cuda) : RoundedModelTests(cuda), IClassFixture<BF16Fixture>;
