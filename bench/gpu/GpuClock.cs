using SamEngine.Cuda;
using SamEngine.Cuda.Driver;

namespace SamEngine.GpuBench;

/// <summary>Times work on a queue by events on the device: what the host does beside it does not count.</summary>
internal sealed unsafe class GpuClock(CudaBackend backend, CudaQueue queue) : IDisposable
{
    private readonly nint _start = Create();
    private readonly nint _end = Create();

    /// <summary>Seconds of each of <paramref name="runs"/> calls, after <paramref name="warmUps"/> that don't count.</summary>
    public double[] Time(int warmUps, int runs, Action enqueue)
    {
        double[] seconds = new double[runs];
        for (int i = -warmUps; i < runs; i++)
        {
            backend.Check(CudaDriver.cuEventRecord(_start, queue.Stream));
            enqueue();
            backend.Check(CudaDriver.cuEventRecord(_end, queue.Stream));
            queue.Synchronize();
            float milliseconds;
            backend.Check(CudaDriver.cuEventElapsedTime(&milliseconds, _start, _end));
            if (i >= 0)
            {
                seconds[i] = milliseconds / 1000.0;
            }
        }
        return seconds;
    }

    public void Dispose()
    {
        _ = CudaDriver.cuEventDestroy_v2(_start);
        _ = CudaDriver.cuEventDestroy_v2(_end);
    }

    private static nint Create()
    {
        nint created;
        CudaErrors.Check(CudaDriver.cuEventCreate(&created, 0));
        return created;
    }
}
