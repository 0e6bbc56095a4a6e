using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary>What the native library does where it can't start; the process survives it.</summary>
public sealed class NativeLibraryTests(SamCommand sam)
{
    [Fact]
    public async Task Threads_that_the_system_does_not_give_are_an_error()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "limits memory with ulimit");
        // A thousand stacks of 64 MB do not fit into the address space that is left.
        var result = await sam.ShellAsync("ulimit -s 65536; ulimit -v 20000000; DOTNET_GCHeapHardLimit=0x10000000 " +
            "DOTNET_GCHeapAffinitizeMask=1 DOTNET_PROCESSOR_COUNT=1000 exec \"$@\"", "doctor");
        Assert.True(result.ExitCode == 5, result.ToString());
        Assert.Contains("can't start 1000 threads", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task More_processors_than_threads_are_fine()
    {
        var result = await sam.RunAsync(new Dictionary<string, string> { ["DOTNET_PROCESSOR_COUNT"] = "1500" }, "doctor");
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("1024 threads", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_library_under_its_name_is_an_error()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "takes the C library for another one");
        var result = await sam.RunAsync(new Dictionary<string, string> { ["SAM_NATIVE_LIBRARY"] = Other() }, "doctor");
        Assert.True(result.ExitCode == 5, result.ToString());
        Assert.Contains("another library", result.Output, StringComparison.Ordinal);
    }

    /// <summary>A library that is there on every machine that runs .NET.</summary>
    private static string Other() => Path.Combine(
        System.Runtime.InteropServices.RuntimeEnvironment.GetRuntimeDirectory(), "libSystem.Native.so");
}
