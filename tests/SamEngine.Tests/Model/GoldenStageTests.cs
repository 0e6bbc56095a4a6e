using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Tests.Model;

/// <summary>Every stage that the official implementation recorded (golden/tiny-*/io.safetensors), on every instruction set
/// of this machine.</summary>
public sealed class GoldenStageTests
{
    public static TheoryData<string> InstructionSets => [.. CpuBackend.InstructionSets];

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public async Task Every_recorded_stage_agrees(string instructionSet)
    {
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            using var backend = new CpuBackend(instructionSet: instructionSet);
            await GoldenStages.Check(golden, checkpoint, backend);
        }
    }
}
