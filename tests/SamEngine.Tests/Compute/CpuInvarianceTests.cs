using SamEngine.Compute.Cpu;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Tests.Compute;

/// <summary>On the CPU a row's result does not depend on the number of threads.</summary>
public sealed class CpuInvarianceTests
{
    public static IEnumerable<TheoryDataRow<string>> Cases => ConformanceSuite.Ids().Select(id => new TheoryDataRow<string>(id));

    [Theory]
    [MemberData(nameof(Cases))]
    public void Any_number_of_threads_gives_the_same_bits(string id)
    {
        foreach (string instructionSet in CpuBackend.InstructionSets)
        {
            using var one = new CpuBackend(threads: 1, instructionSet);
            foreach (int threads in new[] { 2, 3, 7 })
            {
                using var several = new CpuBackend(threads, instructionSet);
                ConformanceSuite.CheckIdentical(one, several, id);
            }
        }
    }
}
