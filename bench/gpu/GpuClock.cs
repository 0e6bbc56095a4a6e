using SamEngine.Cuda;

namespace SamEngine.GpuBench;

/// <summary>Times work on a queue by its marks, events on the device: what the host does beside it does not count.</summary>
internal static class GpuClock
{
    /// <summary>Seconds of each of <paramref name="runs"/> calls, after <paramref name="warmUps"/> that don't count.</summary>
    public static double[] Time(CudaQueue queue, int warmUps, int runs, Action enqueue)
    {
        double[] seconds = new double[runs];
        for (int i = -warmUps; i < runs; i++)
        {
            queue.Mark(0);
            enqueue();
            queue.Mark(1);
            queue.Synchronize();
            if (i >= 0)
            {
                seconds[i] = queue.Between(0, 1).TotalSeconds;
            }
        }
        return seconds;
    }
}
