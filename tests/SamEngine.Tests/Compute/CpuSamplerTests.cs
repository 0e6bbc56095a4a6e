using SamEngine.Compute.Cpu;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Tests.Compute;

/// <summary>What is drawn follows the exact distribution.</summary>
public sealed class CpuSamplerTests
{
    [Theory]
    [InlineData(1, 0, 1, 1)]
    [InlineData(0.6, 0, 1, 1)]
    [InlineData(1, 6, 1, 1.5)]
    [InlineData(1, 0, 0.7, 1)]
    [InlineData(1.8, 12, 0.9, 1.3)]
    public void Sampling(float temperature, int topK, float topP, float penalty)
    {
        using var backend = new CpuBackend();
        SamplerDistributions.CheckSampling(backend, temperature, topK, topP, penalty);
    }

    [Theory]
    [InlineData(1, 6, 2)]
    [InlineData(2, 4, 2)]
    [InlineData(3, 3, 3)]
    public void Beam_sampling_draws_without_replacement_over_all_rows(int rows, int vocabulary, int chosen)
    {
        using var backend = new CpuBackend();
        SamplerDistributions.CheckBeamSampling(backend, rows, vocabulary, chosen);
    }
}
