using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary><c>--backend cuda</c>: with the emulated driver, and without any.</summary>
public sealed class CudaTests(SamCommand sam)
{
    private static readonly Dictionary<string, string> Emulated = new() { [CudaEmulator.Variable] = CudaEmulator.Path };
    private static readonly Dictionary<string, string> Missing = new() { [CudaEmulator.Variable] = "/nowhere/libcuda.so.1" };

    private static string[] DescribeSample =>
        ["describe", .. Directory.EnumerateFiles(Path.Combine(Golden.RepositoryRoot, "samples", "cats")).Order(StringComparer.Ordinal)];

    [Theory]
    [InlineData("f32")]
    [InlineData("f16")]
    [InlineData("bf16")]
    public async Task SAM_mini_describes_a_group_in_the_words_of_the_cpu_backend(string activations)
    {
        string expected = await sam.OutputAsync([.. DescribeSample, "--backend", "cpu"]);
        var result = await sam.RunAsync(Emulated, [.. DescribeSample, "--backend", "cuda", "--device", "0", "--activations", activations]);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Equal(expected, result.Output);
        Assert.Contains($"backend: cuda {activations}, ", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Auto_takes_the_gpu_and_says_so()
    {
        var result = await sam.RunAsync(Emulated, [.. sam.Describe]);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("backend: cuda f16, ", result.Error, StringComparison.Ordinal);
        Assert.Contains(", the first GPU; --backend cpu computes without it", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_lists_the_driver_the_devices_and_the_kernels()
    {
        var result = await sam.RunAsync(Emulated, "doctor");
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("backend cuda: the driver is for CUDA 12.", result.Output, StringComparison.Ordinal);
        Assert.Contains("kernels embedded: ", result.Output, StringComparison.Ordinal);
        Assert.Contains($"  tried {CudaEmulator.Path}: loaded", result.Output, StringComparison.Ordinal);
        Assert.Matches("backend cuda, device 0: .+, compute capability 9.0, [0-9.]+ GiB, kernels: .+\n", result.Output);
        Assert.Contains("backend auto: cuda, the first GPU", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_a_driver_cuda_says_what_to_do_and_auto_computes_on_the_processor()
    {
        var result = await sam.RunAsync(Missing, [.. sam.Describe, "--backend", "cuda"]);
        Assert.True(result.ExitCode == 5, result.ToString());
        Assert.Equal("", result.Output);
        Assert.Contains($"backend 'cuda': there is no CUDA driver where {CudaEmulator.Variable} points (/nowhere/libcuda.so.1: not found); " +
            "correct the variable", result.Error, StringComparison.Ordinal);
        var auto = await sam.RunAsync(Missing, sam.Describe);
        Assert.True(auto.ExitCode == 0, auto.ToString());
        Assert.Matches("backend: (cpu|ilgpu) ", auto.Error);
        var doctor = await sam.RunAsync(Missing, "doctor");
        Assert.True(doctor.ExitCode == 0, doctor.ToString());
        Assert.Contains("backend cuda: not usable: there is no CUDA driver", doctor.Output, StringComparison.Ordinal);
        Assert.Contains("  tried /nowhere/libcuda.so.1: not found", doctor.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_library_that_is_no_driver_is_named()
    {
        string library = Path.Combine(AppContext.BaseDirectory, "runtimes", "linux-x64", "native", "libsamengine_cpu.so");
        var result = await sam.RunAsync(new Dictionary<string, string> { [CudaEmulator.Variable] = library },
            [.. sam.Describe, "--backend", "cuda"]);
        Assert.True(result.ExitCode == 5, result.ToString());
        Assert.Contains($"{library} is not a CUDA driver", result.Error, StringComparison.Ordinal);
        Assert.Contains($"{CudaEmulator.Variable} points there", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(5, "no device 3, only 0 to 0", "sam doctor", "--backend", "cuda", "--device", "3")]
    [InlineData(2, "--activations", "--backend cuda only", "--backend", "cpu", "--activations", "f32")]
    [InlineData(2, "--activations", "--backend cuda only", "--activations", "f32")]
    [InlineData(2, "--activations", "f16, bf16, f32", "--backend", "cuda", "--activations", "q8")]
    [InlineData(2, "--isa", "native CPU backend", "--backend", "cuda", "--isa", "avx2")]
    public async Task What_does_not_go_together_is_named(int code, string expected, string also, params string[] arguments)
    {
        var result = await sam.RunAsync(Emulated, [.. sam.Describe, .. arguments]);
        Assert.True(result.ExitCode == code, result.ToString());
        Assert.Equal("", result.Output);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        Assert.Contains(also, result.Error, StringComparison.Ordinal);
    }
}
