using SamEngine.Compute;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>The conformance suite on ILGPU's CPU accelerator, for the operations it has.</summary>
public sealed class IlgpuConformanceTests : IDisposable
{
    private readonly IlgpuBackend _backend = new();

    public static IEnumerable<TheoryDataRow<string>> Cases => ConformanceSuite
        .Ids(nameof(ComputeQueue.RmsNorm), nameof(ComputeQueue.Linear), nameof(ComputeQueue.GroupPool))
        .Select(id => new TheoryDataRow<string>(id));

    [Theory]
    [MemberData(nameof(Cases))]
    public void Agrees_with_the_reference(string id) => ConformanceSuite.Check(_backend, id);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public void Drawn_linear_layers_agree(int seed) => ConformanceSuite.Check(_backend, LinearCases.Drawn(seed));

    [Fact]
    public void A_missing_operation_is_refused_by_name()
    {
        using var queue = _backend.CreateQueue();
        using var buffer = _backend.Allocate(ElementType.F32, 8, "x");
        var view = buffer.View(1, 8);
        var error = Assert.Throws<BackendException>(() => queue.Copy(view, view));
        Assert.Contains("Copy", error.Message, StringComparison.Ordinal);
    }

    public void Dispose() => _backend.Dispose();
}
