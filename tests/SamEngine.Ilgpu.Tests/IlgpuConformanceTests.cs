using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>The whole conformance suite on ILGPU's CPU accelerator.</summary>
public sealed class IlgpuConformanceTests(CpuAccelerator accelerator) : IClassFixture<CpuAccelerator>
{
    public static IEnumerable<TheoryDataRow<string>> Cases => ConformanceSuite.Ids().Select(id => new TheoryDataRow<string>(id));

    [Theory]
    [MemberData(nameof(Cases))]
    public void Agrees_with_the_reference(string id) => ConformanceSuite.Check(accelerator.Backend, id);

    [Fact]
    public void Drawn_linear_layers_agree()
    {
        foreach (int seed in Enumerable.Range(0, 30))
        {
            ConformanceSuite.Check(accelerator.Backend, LinearCases.Drawn(seed));
        }
    }

    [Fact]
    public void Drawn_attention_agrees()
    {
        foreach (int seed in Enumerable.Range(0, 20))
        {
            ConformanceSuite.Check(accelerator.Backend, AttentionCases.Drawn(seed));
        }
    }
}

/// <summary>One backend on ILGPU's CPU accelerator for all tests of a class: compiling the kernels takes longer than they
/// do.</summary>
public sealed class CpuAccelerator : IDisposable
{
    internal IlgpuBackend Backend { get; } = new();

    public void Dispose() => Backend.Dispose();
}
