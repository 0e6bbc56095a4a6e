using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using Xunit;

namespace SamEngine.Tests.Compute;

public sealed class CpuMemoryTests
{
    [Fact]
    public void Memory_that_there_is_not_is_an_error_of_the_backend()
    {
        using var backend = new CpuBackend();
        // More than an address space.
        var error = Assert.Throws<BackendException>(() => backend.Allocate(ElementType.F32, 1L << 48, "everything"));
        Assert.Contains("'everything'", error.Message, StringComparison.Ordinal);
        Assert.False(error.IsFatal);
    }
}
