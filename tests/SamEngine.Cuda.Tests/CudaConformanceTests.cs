using SamEngine.Compute;
using SamEngine.Testing;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>The whole conformance suite for each type of activations.</summary>
public abstract class CudaConformanceTests(CudaFixture cuda)
{
    /// <summary>The choice of tokens computes in fp32 and double whatever the activations are: run once.</summary>
    private static readonly string[] Selection = [nameof(ComputeQueue.SelectTokens), nameof(ComputeQueue.TokenLogProbs)];

    /// <summary>Values beyond what fp16 holds.</summary>
    private static readonly string[] BeyondHalf = ["RmsNorm: values of 1e15", "SwiGlu: gates of 200"];

    private protected static IEnumerable<TheoryDataRow<string>> Cases(ElementType activations) => ConformanceSuite.All
        .Where(c => activations == ElementType.F32 || !Selection.Contains(c.Operation))
        .Where(c => activations != ElementType.F16 || !BeyondHalf.Contains(c.Id))
        .Select(c => new TheoryDataRow<string>(c.Id));

    [Fact]
    public void Drawn_linear_layers_agree()
    {
        foreach (int seed in Enumerable.Range(0, 30))
        {
            ConformanceSuite.Check(cuda.Backend, LinearCases.Drawn(seed));
        }
    }

    [Fact]
    public void Drawn_attention_agrees()
    {
        foreach (int seed in Enumerable.Range(0, 20))
        {
            ConformanceSuite.Check(cuda.Backend, AttentionCases.Drawn(seed));
        }
    }

    /// <summary>A kernel that no case reaches is a kernel untested.</summary>
    [Fact]
    public void The_cases_reach_every_kernel()
    {
        foreach (string id in ConformanceSuite.All.Where(c => cuda.Backend.ActivationType != ElementType.F16 || !BeyondHalf.Contains(c.Id)).Select(c => c.Id))
        {
            ConformanceSuite.Check(cuda.Backend, id);
        }
        // The suite copies between equal types only; two are the bench's.
        Assert.Empty(cuda.Backend.Kernels.All.Where(k => !k.WasLaunched && !k.Name.StartsWith("copy_", StringComparison.Ordinal)
            && k != cuda.Backend.Kernels.MatrixRate && k != cuda.Backend.Kernels.RandomWeight).Select(k => k.Name));
    }

    [Fact]
    public void The_cases_agree_when_threads_start_from_the_last()
    {
        Driver.SkipOnGpu();
        CudaEmulator.Reverse(true);
        try
        {
            foreach (var test in Cases(cuda.Backend.ActivationType))
            {
                ConformanceSuite.Check(cuda.Backend, test.Data);
            }
        }
        finally
        {
            CudaEmulator.Reverse(false);
        }
    }

    private protected void Check(string id) => ConformanceSuite.Check(cuda.Backend, id);
}

public sealed class F32ConformanceTests(F32Fixture cuda) : CudaConformanceTests(cuda), IClassFixture<F32Fixture>
{
    public static IEnumerable<TheoryDataRow<string>> All => Cases(ElementType.F32);

    [Theory]
    [MemberData(nameof(All))]
    public void Agrees_with_the_reference(string id) => Check(id);
}

public sealed class F16ConformanceTests(F16Fixture cuda) : CudaConformanceTests(cuda), IClassFixture<F16Fixture>
{
    public static IEnumerable<TheoryDataRow<string>> All => Cases(ElementType.F16);

    [Theory]
    [MemberData(nameof(All))]
    public void Agrees_with_the_reference(string id) => Check(id);
}

public sealed class BF16ConformanceTests(BF16Fixture cuda) : CudaConformanceTests(cuda), IClassFixture<BF16Fixture>
{
    public static IEnumerable<TheoryDataRow<string>> All => Cases(ElementType.BF16);

    [Theory]
    [MemberData(nameof(All))]
    public void Agrees_with_the_reference(string id) => Check(id);
}

/// <summary>A backend for all tests of a class.</summary>
public abstract class CudaFixture : IDisposable
{
    private protected CudaFixture(ElementType activations) => Backend = new CudaBackend(null, activations);

    internal CudaBackend Backend { get; }

    public void Dispose()
    {
        Backend.Dispose();
        GC.SuppressFinalize(this);
    }
}

public sealed class F32Fixture() : CudaFixture(ElementType.F32);

public sealed class F16Fixture() : CudaFixture(ElementType.F16);

public sealed class BF16Fixture() : CudaFixture(ElementType.BF16);
