using System.Runtime.CompilerServices;
using SamEngine.Testing;
using Xunit;
using Xunit.Sdk;
using Xunit.v3;

// One emulated device, which some tests make fail, and kernels that use every core themselves.
[assembly: Parallelization(Mode = ParallelMode.None)]

namespace SamEngine.Cuda.Tests;

/// <summary>Which driver the tests run on: the emulator, or, with <c>SAM_CUDA_TESTS=gpu</c>, the machine's own.</summary>
internal static class Driver
{
    public static bool IsGpu => Environment.GetEnvironmentVariable("SAM_CUDA_TESTS") == "gpu";

    /// <summary>For what only the emulator can show.</summary>
    public static void SkipOnGpu() => Assert.SkipWhen(IsGpu, "needs the emulator");

    [ModuleInitializer]
    internal static void Choose()
    {
        if (!IsGpu)
        {
            Environment.SetEnvironmentVariable(CudaEmulator.Variable, CudaEmulator.Path);
        }
    }
}
