using System.Diagnostics;
using System.Text.Json;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary><c>--backend ilgpu</c> on ILGPU's CPU accelerator, which every machine has.</summary>
public sealed class IlgpuTests(SamCommand sam)
{
    private static string Samples => Path.Combine(Golden.RepositoryRoot, "samples");

    [Fact]
    public async Task SAM_mini_describes_a_group_in_the_words_of_the_cpu_backend_within_a_minute()
    {
        string[] describe = ["describe", .. Directory.EnumerateFiles(Path.Combine(Samples, "cats")).Order(StringComparer.Ordinal)];
        string expected = await sam.OutputAsync([.. describe, "--backend", "cpu"]);
        var watch = Stopwatch.StartNew();
        var result = await sam.RunAsync([.. describe, "--backend", "ilgpu", "--device", $"{await DeviceAsync()}"]);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Equal(expected, result.Output);
        Assert.Contains("backend: ilgpu cpu, ", result.Error, StringComparison.Ordinal);
        Assert.True(watch.Elapsed < TimeSpan.FromMinutes(1), $"it took {watch.Elapsed}");
    }

    [Fact]
    public async Task SAM_mini_answers_all_samples_as_the_cpu_backend_does()
    {
        using var temp = new TempFolder();
        foreach (string backend in (string[])["cpu", "ilgpu"])
        {
            string[] device = backend == "cpu" ? [] : ["--device", $"{await DeviceAsync()}"];
            var result = await sam.RunAsync(["eval", Samples, "--out", temp[backend], "--backend", backend, .. device]);
            Assert.True(result.ExitCode == 0, result.ToString());
        }
        Assert.NotEmpty(Answers(temp["cpu"]));
        Assert.Equal(Answers(temp["cpu"]), Answers(temp["ilgpu"]));
    }

    [Theory]
    [InlineData(5, "no device 99", "sam doctor", "--backend", "ilgpu", "--device", "99")]
    [InlineData(2, "--device", "--backend ilgpu only", "--backend", "cpu", "--device", "0")]
    [InlineData(2, "--device", "--backend ilgpu only", "--device", "0")]
    [InlineData(2, "--device", "from 0", "--backend", "ilgpu", "--device", "-1")]
    [InlineData(2, "--isa", "native CPU backend", "--backend", "ilgpu", "--isa", "avx2")]
    [InlineData(2, "--threads", "-1", "--backend", "ilgpu", "--threads", "-1")]
    public async Task What_does_not_go_together_is_named(int code, string expected, string also, params string[] arguments)
    {
        var result = await sam.RunAsync([.. sam.Describe, .. arguments]);
        Assert.True(result.ExitCode == code, result.ToString());
        Assert.Equal("", result.Output);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        Assert.Contains(also, result.Error, StringComparison.Ordinal);
    }

    /// <summary>The number of the CPU accelerator: the last device.</summary>
    private async Task<int> DeviceAsync() =>
        (await sam.OutputAsync("doctor")).Split("backend ilgpu, device ").Length - 2;

    private static string[] Answers(string folder)
    {
        using var answers = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "pred.json")));
        return [.. answers.RootElement.EnumerateArray().Select(a => a.GetProperty("pred_response").GetString()!)];
    }
}
