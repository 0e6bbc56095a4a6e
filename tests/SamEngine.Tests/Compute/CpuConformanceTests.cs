using FsCheck.Xunit;
using SamEngine.Compute.Cpu;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Tests.Compute;

/// <summary>The conformance suite on every instruction set of this machine.</summary>
public sealed class CpuConformanceTests
{
    public static IEnumerable<TheoryDataRow<string, string>> Cases =>
        from instructionSet in CpuBackend.InstructionSets
        from id in ConformanceSuite.Ids()
        select new TheoryDataRow<string, string>(instructionSet, id);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Agrees_with_the_reference(string instructionSet, string id)
    {
        using var backend = new CpuBackend(threads: 2, instructionSet);
        ConformanceSuite.Check(backend, id);
    }

    public static TheoryData<string> InstructionSets => [.. CpuBackend.InstructionSets];

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public async Task A_block_of_each_part_at_real_width_agrees(string instructionSet)
    {
        using var backend = new CpuBackend(threads: 0, instructionSet);
        // bf16 inputs: half a unit of eight significant bits in each, through a block's half a dozen layers.
        await (instructionSet == "avx512-bf16" ? RealWidthModel.CheckRounded(backend, quantized: false, 0.01)
            : RealWidthModel.Check(backend, 1e-4));
    }

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public async Task A_quantised_block_of_each_part_at_real_width_agrees(string instructionSet)
    {
        using var backend = new CpuBackend(threads: 0, instructionSet);
        // 8-bit inputs in groups of 64: errors of 0.5 % of a layer's input, through a block's half a dozen layers.
        await RealWidthModel.CheckRounded(backend, quantized: true, 0.02);
    }

    [Property(MaxTest = 60)]
    public void Drawn_linear_layers_agree(int seed) => OnEach(LinearCases.Drawn(seed));

    [Property(MaxTest = 40)]
    public void Drawn_attention_agrees(int seed) => OnEach(AttentionCases.Drawn(seed));

    private static void OnEach(ConformanceCase test)
    {
        foreach (string instructionSet in CpuBackend.InstructionSets)
        {
            using var backend = new CpuBackend(threads: 2, instructionSet);
            ConformanceSuite.Check(backend, test);
        }
    }
}
