using SamEngine.Compute;
using SamEngine.Cuda;
using SamEngine.Cuda.Driver;

namespace SamEngine.GpuBench;

/// <summary>Measures what the device can do at most.</summary>
internal static unsafe class DeviceCeilings
{
    /// <summary>Threads of a block of <c>matrix_rate</c>, blocks of it for each multiprocessor, and what one warp does in one
    /// of its rounds: kernels/matrix_rate.cu.</summary>
    private const int Threads = 256;
    private const int BlocksEach = 4;
    private const double OperationsPerWarpRound = 8 * 2.0 * 16 * 8 * 16;

    /// <param name="backend">The device.</param>
    /// <param name="copyBytes">Of each of the two buffers; far more than the caches hold.</param>
    /// <param name="rounds">Of the matrix rate's loop.</param>
    /// <param name="runs">Timed runs, of which the best counts.</param>
    public static Ceilings Measure(CudaBackend backend, long copyBytes, int rounds, int runs)
    {
        using var queue = backend.OpenQueue();
        using var from = (CudaBuffer)backend.Allocate(ElementType.F32, copyBytes / 4, "copy source");
        using var to = (CudaBuffer)backend.Allocate(ElementType.F32, copyBytes / 4, "copy destination");
        double copy = GpuClock.Time(queue, 2, runs, () => backend.Check(
            CudaDriver.cuMemcpyDtoDAsync_v2(to.Pointer, from.Pointer, (nuint)copyBytes, queue.Stream))).Min();
        uint blocks = (uint)(BlocksEach * backend.Multiprocessors);
        double matrix = GpuClock.Time(queue, 2, runs, () => Rate(backend, queue, to.Pointer, rounds, blocks)).Min();
        return new Ceilings(2 * copyBytes / copy, OperationsPerWarpRound * rounds * blocks * (Threads / 32) / matrix);
    }

    private static void Rate(CudaBackend backend, CudaQueue queue, nint result, int rounds, uint blocks)
    {
        var arguments = new MatrixRateArguments { Result = result, Rounds = rounds };
        void* argument = &arguments;
        backend.Check(CudaDriver.cuLaunchKernel(backend.Kernels.MatrixRate.Function, blocks, 1, 1, Threads, 1, 1, 0, queue.Stream,
            &argument, null));
    }
}
