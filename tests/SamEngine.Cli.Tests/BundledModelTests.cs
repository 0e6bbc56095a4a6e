using System.Text.Json;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary>The model that comes with the command: a copy of the built command with a tiny model, or none, in its place.</summary>
public sealed class BundledModelTests : IDisposable
{
    private readonly SamCommand _sam;
    private readonly TempFolder _folder = new();
    private readonly string _program;
    private readonly string _bundled;

    public BundledModelTests(SamCommand sam)
    {
        _sam = sam;
        string built = Path.GetDirectoryName(Built.Sam)!;
        foreach (string file in Directory.EnumerateFiles(built))
        {
            File.Copy(file, _folder[Path.GetFileName(file)]);
        }
        // Hundreds of megabytes for platforms that are not this one.
        Directory.CreateSymbolicLink(_folder["runtimes"], Path.Combine(built, "runtimes"));
        _program = _folder["sam"];
        _bundled = Path.Combine(_folder["models"], "sam-mini");
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task It_answers_where_no_other_is_named()
    {
        Directory.CreateDirectory(_bundled);
        foreach (string file in Directory.EnumerateFiles(_sam.Model))
        {
            File.Copy(file, Path.Combine(_bundled, Path.GetFileName(file)));
        }
        string expected = "model: SAM-mini (bundled), ";
        string[] describe = ["describe", .. _sam.Pictures, "--max-length", "20"];
        string text = await _sam.OutputAsync(_sam.Describe);
        var described = await RunAsync(0, describe);
        Assert.Equal(text, described.Output);
        Assert.Single(described.Error.Split('\n'), l => l.Contains("SAM-mini", StringComparison.Ordinal));
        Assert.StartsWith(expected, described.Error, StringComparison.Ordinal);
        Assert.Equal("", (await RunAsync(0, [.. describe, "-q"])).Error);
        using var json = JsonDocument.Parse((await RunAsync(0, [.. describe, "--json"])).Output);
        Assert.Equal(_bundled, json.RootElement.GetProperty("model").GetString());
        Assert.DoesNotContain("SAM-mini", (await RunAsync(0, [.. describe, "--model", _sam.Model])).Error, StringComparison.Ordinal);

        var ranked = await RunAsync(0, ["rank", .. _sam.Pictures, "-p", "a picture", "-c", "a dog"]);
        Assert.StartsWith(expected, ranked.Error, StringComparison.Ordinal);
        var explained = await RunAsync(0, ["explain", .. _sam.Pictures, "--out", _folder["maps"]]);
        Assert.StartsWith(expected, explained.Error, StringComparison.Ordinal);
        using var explanation = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(_folder["maps"], "explanation.json")));
        Assert.Equal(_bundled, explanation.RootElement.GetProperty("model").GetString());
        var inspected = await RunAsync(0, ["model", "inspect"]);
        Assert.Equal($"model: SAM-mini, as no path is given, {_bundled}\n", inspected.Error);
        Assert.Equal(await _sam.OutputAsync("model", "inspect", _sam.Model), inspected.Output);
        Assert.EndsWith($"\ndefault model: SAM-mini, {_bundled}\n", (await RunAsync(0, ["doctor"])).Output, StringComparison.Ordinal);

        string data = _folder["data"];
        Directory.CreateDirectory(data);
        File.Copy(_sam.Pictures[0], Path.Combine(data, "a.png"));
        File.WriteAllText(Path.Combine(data, "annotations.json"),
            """[{"id": 1, "img_list": ["a.png"], "instruction": "What?", "output": "A ball."}]""");
        var evaluated = await RunAsync(0, ["eval", data, "--out", _folder["results"], "--max-length", "9"]);
        Assert.StartsWith(expected, evaluated.Error, StringComparison.Ordinal);
        Assert.Contains(_bundled, File.ReadAllText(Path.Combine(_folder["results"], "run.json")), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_it_commands_say_where_it_belongs_and_what_to_do()
    {
        foreach (string[] arguments in (string[][])[
            ["describe", .. _sam.Pictures, "-q"], ["rank", _sam.Pictures[0], "-p", "a", "-c", "b"],
            ["explain", .. _sam.Pictures, "--out", _folder["maps"]], ["model", "inspect"]])
        {
            var result = await RunAsync(3, arguments);
            Assert.Equal("", result.Output);
            Assert.StartsWith($"sam: {_bundled}: SAM-mini, the model that comes with the command, is not there", result.Error,
                StringComparison.Ordinal);
            Assert.Contains("--model DIR", result.Error, StringComparison.Ordinal);
        }
        Assert.False(Directory.Exists(_folder["maps"]));
        Assert.EndsWith($"\ndefault model: SAM-mini, {_bundled}: not there; commands need --model DIR\n",
            (await RunAsync(0, ["doctor"])).Output, StringComparison.Ordinal);
        await RunAsync(0, _sam.Describe);
    }

    private async Task<ProcessResult> RunAsync(int code, string[] arguments)
    {
        var result = await ProcessRun.RunAsync(_program, arguments, _folder.Path);
        Assert.True(result.ExitCode == code, result.ToString());
        return result;
    }
}
