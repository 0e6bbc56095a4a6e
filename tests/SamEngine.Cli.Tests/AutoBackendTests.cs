using System.Runtime.InteropServices;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary>What <c>--backend auto</c> says and does with GPU drivers that are not there, foreign or without a GPU: small libraries
/// in their place, for the processes of these tests only.</summary>
public sealed class AutoBackendTests(SamCommand sam) : IDisposable
{
    private const string NoDevice = """
        int cuInit(unsigned flags) { return 100; }
        int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
        int cuGetErrorName(int error, const char** name) { *name = error == 100 ? "CUDA_ERROR_NO_DEVICE" : ""; return 0; }
        """;

    private const string NoPlatform = "int clGetPlatformIDs(unsigned n, void* ids, unsigned* count) { *count = 0; return -1001; }";

    /// <summary>Drivers that start and note who else asks.</summary>
    private const string Note = """
        #include <stdio.h>
        #include <stdlib.h>
        static void note(const char* what) {
            FILE* file = fopen(getenv("NOTES"), "a");
            fprintf(file, "%s\n", what);
            fclose(file);
        }
        """;

    private const string NoGpu = Note + """

        int cuInit(unsigned flags) { return 0; }
        int cuDriverGetVersion(int* version) { note("cuDriverGetVersion"); *version = 12040; return 0; }
        int cuGetErrorName(int error, const char** name) { *name = ""; return 0; }
        int cuDeviceGetCount(int* count) { note("cuDeviceGetCount"); *count = 0; return 0; }
        """;

    private const string OnePlatform = Note + """

        int clGetPlatformIDs(unsigned n, void** ids, unsigned* count) {
            if (n && ids) ids[0] = (void*)note;
            if (count) *count = 1;
            return 0;
        }
        int clGetDeviceIDs(void* platform, unsigned long type, unsigned n, void** ids, unsigned* count) {
            note("clGetDeviceIDs");
            if (count) *count = 0;
            return -1;
        }
        """;

    private readonly TempFolder _folder = new();

    private string Notes => _folder["notes"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Without_a_driver_it_is_the_processor_and_the_reason_is_printed()
    {
        Assert.SkipWhen(NativeLibrary.TryLoad("libcuda.so.1", out _) || NativeLibrary.TryLoad("libOpenCL.so.1", out _),
            "there is a GPU driver");
        await CheckAsync("libcuda.so.1: not there; libOpenCL.so.1: not there", "libcuda.so.1: not there", "libOpenCL.so.1: not there");
    }

    [Fact]
    public async Task Drivers_that_refuse_are_named_with_their_reason()
    {
        await CompileAsync("libcuda.so.1", NoDevice);
        await CompileAsync("libOpenCL.so.1", NoPlatform);
        await CheckAsync("cuda: the CUDA driver finds no GPU; libcuda.so.1: cuInit failed (CUDA_ERROR_NO_DEVICE, error 100); libOpenCL.so.1: finds no driver (OpenCL platform)",
            "libcuda.so.1: cuInit failed", "libOpenCL.so.1: finds no driver");
    }

    [Fact]
    public async Task Libraries_that_are_no_driver_are_named()
    {
        await CompileAsync("libcuda.so.1", "int something;");
        await CompileAsync("libOpenCL.so.1", "int something;");
        await CheckAsync("cuda: libcuda.so.1 is not a CUDA driver: it has no cuDriverGetVersion; libcuda.so.1: has no cuInit: not the CUDA driver; libOpenCL.so.1: has no clGetPlatformIDs: not OpenCL",
            "libcuda.so.1: has no cuInit", "libOpenCL.so.1: has no clGetPlatformIDs");
    }

    [Fact]
    public async Task Drivers_that_start_are_asked_through_ILGPU()
    {
        // Its own names for them, libcuda.so and libOpenCL.so, are not there.
        await CompileAsync("libcuda.so.1", NoGpu);
        await CompileAsync("libOpenCL.so.1", OnePlatform);
        await CheckAsync("cuda: the driver finds no GPU; libcuda.so.1: found no GPU; libOpenCL.so.1: found no GPU", "libcuda.so.1: started", "libOpenCL.so.1: started");
        string notes = File.ReadAllText(Notes);
        Assert.Contains("cuDeviceGetCount", notes, StringComparison.Ordinal);
        Assert.Contains("clGetDeviceIDs", notes, StringComparison.Ordinal);
    }

    /// <summary>The command describes on the processor and says why; the doctor says the same.</summary>
    private async Task CheckAsync(string reason, params string[] tried)
    {
        var environment = new Dictionary<string, string> { ["LD_LIBRARY_PATH"] = _folder.Path, ["NOTES"] = Notes };
        string expected = $", as no GPU can be used ({reason})";
        var described = await sam.RunAsync(environment, sam.Describe);
        Assert.True(described.ExitCode == 0, described.ToString());
        Assert.Equal(await sam.OutputAsync([.. sam.Describe, "--backend", "cpu"]), described.Output);
        Assert.Contains("backend: cpu ", described.Error, StringComparison.Ordinal);
        Assert.Contains(expected + "\n", described.Error, StringComparison.Ordinal);
        var doctor = await sam.RunAsync(environment, "doctor");
        Assert.True(doctor.ExitCode == 0, doctor.ToString());
        Assert.Contains($"backend auto: cpu{expected}\n", doctor.Output, StringComparison.Ordinal);
        Assert.All(tried, t => Assert.Contains("  tried " + t, doctor.Output, StringComparison.Ordinal));
        Assert.Contains("backend ilgpu, device 0: cpu, ILGPU's CPU accelerator", doctor.Output, StringComparison.Ordinal);
    }

    private async Task CompileAsync(string library, string code)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "puts libraries in a GPU driver's place as Linux finds them");
        await File.WriteAllTextAsync(_folder["stub.cc"], $"extern \"C\" {{\n{code}\n}}\n");
        var result = await ProcessRun.RunAsync("g++", ["-shared", "-fPIC", "-o", _folder[library], _folder["stub.cc"]]);
        Assert.True(result.ExitCode == 0, result.ToString());
    }
}
