using SamEngine.Compute;
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

    /// <summary>Values go up and come down whole although the garbage collector moves the arrays that they are in. Collections
    /// that the copies' own small objects bring about hit between them soonest.</summary>
    [Fact]
    public void Values_are_copied_whole_while_memory_is_collected()
    {
        const int Length = 30;
        const int MostCopies = 400_000;
        using var queue = accelerator.Backend.CreateQueue();
        using var buffer = accelerator.Backend.Allocate(ElementType.F32, Length, "values");
        var view = buffer.View(1, Length);
        int collections = GC.CollectionCount(0);
        for (int i = 0; i < MostCopies && GC.CollectionCount(0) < collections + 25; i++)
        {
            float[] up = new float[Length];
            Array.Fill(up, i);
            queue.Upload<float>(up, view);
            float[] down = new float[Length];
            queue.ReadBack<float>(view, down);
            Assert.True(up.AsSpan().SequenceEqual(down), $"copy {i} is {down[0]} …");
        }
    }

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
