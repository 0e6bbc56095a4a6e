using System.Text.Json;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Bench.Tests;

/// <summary><c>compare</c> as a program, with a tiny model and a stand-in for a llama-bench program. No time is asserted.</summary>
public sealed class CompareCommandTests
{
    private const string FakeBench = """
        #!/bin/sh
        case "$*" in
          *--help*) echo "--no-warmup" ;;
          *) echo '[{"n_prompt": 33, "n_gen": 0, "samples_ns": [1000000]}]' ;;
        esac
        """;

    private const string FakeBatchedBench = """
        #!/bin/sh
        echo '{"pp": 84, "tg": 32, "pl": 1, "t_pp": 0.5, "t_tg": 0.32}'
        echo '{"pp": 84, "tg": 32, "pl": 5, "t_pp": 0.5, "t_tg": 0.64}'
        """;

    [Fact]
    public async Task This_engine_and_given_peers_are_measured_and_the_others_named_as_absent()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        string gguf = temp["tiny-f16.gguf"];
        Assert.Equal(0, await GgufTests.MakeAsync(gguf, "gguf", tiny.Folder, "f16"));
        string shallow = temp["shallow-f16.gguf"];
        Assert.Equal(0, await GgufTests.MakeAsync(shallow, "gguf", tiny.Folder, "f16", "--layers", "1"));
        var result = await RunAsync(temp, "--model", "tiny=" + tiny.Folder, "--gguf", gguf, shallow, "--llama-bench", Script(temp["llama-bench"], FakeBench),
            "--llama-batched-bench", Script(temp["llama-batched-bench"], FakeBatchedBench), "--onnx", "int8=/no/such/file.onnx", "--peers", "/no/such/program",
            "--items", "vision-1", "prefill", "decode", "beam-5", "request-5", "load", "picture", "vision-5", "qformer-5", "--rounds", "1",
            "--iterations", "1", "--json", temp["c.json"], "--chart", temp["c.png"]);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("ABSENT: libtorch: --peers '/no/such/program' does not exist", result.Output, StringComparison.Ordinal);
        Assert.Contains("ABSENT: ONNX Runtime: --peers", result.Output, StringComparison.Ordinal);
        Assert.Contains("ABSENT: Pillow: no --python PATH given", result.Output, StringComparison.Ordinal);
        Assert.Contains("ABSENT: llama.cpp shallow-f16.gguf: it has 1 of 2 layers", result.Output, StringComparison.Ordinal);
        using var json = JsonDocument.Parse(await File.ReadAllBytesAsync(temp["c.json"], TestContext.Current.CancellationToken));
        var series = json.RootElement.GetProperty("series").EnumerateArray().ToList();
        string[] Of(string item) => [.. series.Where(s => s.GetProperty("item").GetString() == item)
            .Select(s => s.GetProperty("contender").GetString()!)];
        Assert.Equal(["SamEngine tiny"], Of("vision-1"));
        Assert.Equal(["SamEngine tiny", "llama.cpp tiny-f16"], Of("load"));
        Assert.Equal(["SamEngine tiny", "llama.cpp tiny-f16"], Of("beam-5"));
        Assert.Equal(["SamEngine tiny", "best peers, summed"], Of("request-5"));
        var beams = series.Single(s => s.GetProperty("item").GetString() == "beam-5" && s.GetProperty("contender").GetString() == "llama.cpp tiny-f16");
        Assert.Equal(0.02, beams.GetProperty("median_seconds").GetDouble(), 1e-9);
        Assert.True(new FileInfo(temp["c.png"]).Length > 1000);
    }

    [Fact]
    public async Task A_peer_that_fails_is_named_and_the_exit_code_says_so()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        string gguf = temp["tiny-f16.gguf"];
        Assert.Equal(0, await GgufTests.MakeAsync(gguf, "gguf", tiny.Folder, "f16"));
        var result = await RunAsync(temp, "--model", tiny.Folder, "--gguf", gguf, "--llama-bench",
            "broken=" + Script(temp["llama-bench"], "#!/bin/sh\necho 'unable to load model' >&2\nexit 1"), "--items", "decode", "--rounds", "1", "--iterations", "1");
        Assert.True(result.ExitCode == 1, result.ToString());
        Assert.Contains("FAILED: round 1: broken tiny-f16: ended with exit code 1: unable to load model", result.Output, StringComparison.Ordinal);
        Assert.Contains("ABSENT: broken with 5 sequences: no --llama-batched-bench given", result.Output, StringComparison.Ordinal);
        Assert.Contains("decode step, 1 sequence", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Operations_are_timed_beside_their_floors()
    {
        using var temp = new TempFolder();
        var result = await ProcessRun.RunAsync("dotnet", [typeof(Compare.WorkItems).Assembly.Location, "kernels", "--filter", "rms norm 1 ", "--iterations", "2",
            "--json", temp["k.json"]], temp.Path, timeoutSeconds: 300);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("| rms norm 1 x 4096 |", result.Output, StringComparison.Ordinal);
        using var json = JsonDocument.Parse(await File.ReadAllBytesAsync(temp["k.json"], TestContext.Current.CancellationToken));
        Assert.Equal(2 * 4096 * 4, json.RootElement.GetProperty("operations")[0].GetProperty("bytes").GetDouble());
    }

    private static Task<ProcessResult> RunAsync(TempFolder temp, params string[] arguments) => ProcessRun.RunAsync("dotnet",
        [typeof(Compare.WorkItems).Assembly.Location, "compare", .. arguments], temp.Path, timeoutSeconds: 300);

    private static string Script(string path, string text)
    {
        File.WriteAllText(path, text + "\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        return path;
    }
}
