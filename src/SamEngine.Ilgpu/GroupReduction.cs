using ILGPU;

namespace SamEngine.Ilgpu;

/// <summary>
/// What the threads of a group do together in the kernels for GPUs. Groups have 16, 64 or 256 threads, a square's area; all of
/// them must make each call here. The shared memory has <see cref="Most"/> places and belongs to the call while it lasts.
/// </summary>
internal static class GroupReduction
{
    /// <summary>Most threads of a group.</summary>
    public const int Most = 256;

    /// <summary>Threads along one side of a group seen as a square.</summary>
    public static int Side => Group.DimX >= 256 ? 16 : Group.DimX >= 64 ? 8 : 4;

    /// <summary>Waits for the group; what its threads wrote to any memory is seen by all of them afterwards.</summary>
    public static void Wait()
    {
        MemoryFence.GroupLevel();
        Group.Barrier();
    }

    /// <summary>Sum over the group, in an order that depends on nothing but the size of the group.</summary>
    public static double Sum(double value, ArrayView<double> shared)
    {
        int i = Group.IdxX;
        shared[i] = value;
        Group.Barrier();
        for (int count = Group.DimX / 2; count > 0; count /= 2)
        {
            if (i < count)
            {
                shared[i] += shared[i + count];
            }
            Group.Barrier();
        }
        double result = shared[0];
        Group.Barrier();
        return result;
    }

    /// <summary>Largest value of the group.</summary>
    public static double Largest(double value, ArrayView<double> shared)
    {
        int i = Group.IdxX;
        shared[i] = value;
        Group.Barrier();
        for (int count = Group.DimX / 2; count > 0; count /= 2)
        {
            if (i < count && shared[i + count] > shared[i])
            {
                shared[i] = shared[i + count];
            }
            Group.Barrier();
        }
        double result = shared[0];
        Group.Barrier();
        return result;
    }
}
