using SamEngine.Model;

namespace SamEngine.Checkpoints;

/// <summary>Takes everything the model would take from a checkpoint, without computing or copying anything, so that what is
/// missing, misshapen or unknown is named.</summary>
internal static class CheckpointShapes
{
    /// <exception cref="CheckpointException">The checkpoint does not hold the model its configuration describes.</exception>
    public static void Check(SamCheckpoint checkpoint)
    {
        using var backend = new Compute.Cpu.CpuBackend(threads: 1);
        using var weights = SamWeights.Load(checkpoint, backend);
    }
}
