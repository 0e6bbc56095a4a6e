using System.Text.Json;
using SamEngine.Compute;
using SamEngine.GpuBench;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>The bench of bench/gpu, on a tiny shape: that it runs and says what it measured.</summary>
public sealed class GpuBenchTests
{
    private static readonly string[] Stages = ["vision-1", "vision-5", "qformer-5", "qformer-5-unguided", "cross-image", "prefill",
        "prefill-1", "prefill-16", "prefill-64", "decode-1", "request-1", "decode-5", "request-5"];

    /// <summary>What is not used unless asked for; of the first two the emulator has no twin.</summary>
    private static readonly string[] Wgmma = ["vision-5-wgmma", "prefill-wgmma"];
    private static readonly string[] Dependent = ["decode-1-dependent", "request-1-dependent"];

    [Fact]
    public void Every_stage_is_timed_and_reported_beside_pytorch()
    {
        using var backend = new CudaBackend(null, ElementType.F16);
        var ceilings = DeviceCeilings.Measure(backend, 1 << 20, rounds: 2, runs: 2);
        Assert.True(ceilings is { CopyBytesPerSecond: > 0, MatrixOperationsPerSecond: > 0 });
        List<Run> runs = [];
        foreach (var format in (WeightFormat[])[WeightFormat.F16, WeightFormat.Q4])
        {
            using var stages = new DeviceStages(TinyModel.Config, backend, format, runs: 2, newTokens: 6);
            List<Result> results = [.. stages.Run()];
            string name = format.ToString().ToLowerInvariant();
            string[] expected = [.. Stages,
                .. format == WeightFormat.F16 && backend.Refusal(CudaVariants.Wgmma) is null ? Wgmma : [],
                .. backend.Refusal(CudaVariants.DependentLaunches) is null ? Dependent : []];
            Assert.Equal(expected.Select(s => $"{s}/{name}"), results.Select(r => r.Id));
            Assert.Equal(CudaVariants.None, backend.Variants);
            Assert.All(results, r => Assert.All(r.Seconds, s => Assert.True(s > 0, r.Id)));
            // The first step comes with the prefill.
            Assert.Equal(5, results.Single(r => r.Id == $"decode-1/{name}").Seconds.Length);
            runs.Add(new Run("a device", "12.4", "f16", stages.Description, ceilings, results));
        }
        using var torch = JsonDocument.Parse("""{ "matmul_bf16_flops": 7e14, "prefill": 0.5, "decode-1": 2, "decode-1-compiled": 1 }""");
        var output = new StringWriter();
        Report.Print(output, runs, torch.RootElement);
        string report = output.ToString();
        Assert.Contains("PyTorch's bf16 product 700 TFLOP/s", report, StringComparison.Ordinal);
        string decode = report.Split('\n').First(l => l.StartsWith("| decode step,", StringComparison.Ordinal));
        Assert.Contains("| 2000.000 ms | 1000.000 ms |", decode, StringComparison.Ordinal);
        Assert.Contains("- q4: ", report, StringComparison.Ordinal);
    }
}
