using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary><c>sam describe</c> and <c>sam rank</c>: what goes to which stream, when, and how they end.</summary>
public sealed class DescribeTests(SamCommand sam)
{
    [Fact]
    public async Task Standard_output_has_the_text_and_nothing_else()
    {
        var result = await sam.RunAsync(sam.Describe);
        Assert.Equal(0, result.ExitCode);
        using var model = await SamModel.LoadAsync(sam.Model);
        var expected = await model.DescribeToEndAsync(new DescribeRequest
        {
            Images = [.. sam.Pictures.Select(SamImage.FromFile)],
            Prompt = "Sum up the common factor in these pictures.",
            Options = new GenerationOptions { MaxLength = 20 },
        });
        Assert.Equal(expected.Text + "\n", result.Output);
        Assert.StartsWith($"model: {sam.Model}", result.Error, StringComparison.Ordinal);
        Assert.Contains("guidance on", result.Error, StringComparison.Ordinal);
        Assert.Equal("", (await sam.RunAsync([.. sam.Describe, "-q"])).Error);
    }

    [Fact]
    public async Task The_first_text_is_timed_from_the_start_of_the_process()
    {
        var clock = Stopwatch.StartNew();
        var result = await sam.RunAsync(sam.Describe);
        double most = clock.Elapsed.TotalMilliseconds;
        var line = Regex.Match(result.Error, @"; first text ([0-9.]+) (ms|s) after the process started\n$");
        Assert.True(line.Success, result.ToString());
        // The system counts a process's start in hundredths of a second.
        double first = double.Parse(line.Groups[1].Value, CultureInfo.InvariantCulture) * (line.Groups[2].Value == "s" ? 1000 : 1);
        Assert.InRange(first, 20, most + 20);

        using var json = JsonDocument.Parse(await sam.OutputAsync([.. sam.Describe, "--json"]));
        var usage = json.RootElement.GetProperty("usage");
        Assert.True(usage.GetProperty("process_start_to_first_text_ms").GetDouble() > usage.GetProperty("images_ms").GetDouble());
        // A text that comes to nothing has no first part.
        string[] greedy = [.. sam.Describe, "--beams", "1"];
        string start = (await sam.OutputAsync(greedy)).EnumerateRunes().First().ToString();
        var nothing = await sam.RunAsync([.. greedy, "--stop", start]);
        Assert.Equal("\n", nothing.Output);
        Assert.DoesNotContain("first text", nothing.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("first_text", await sam.OutputAsync([.. greedy, "--stop", start, "--json"]), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_text_streams()
    {
        using var run = ProcessRun.Start(Built.Sam, sam.LongDescribe(4000));
        Assert.False(await run.AtFirstOutput(r => r.HasExited).WaitAsync(TimeSpan.FromSeconds(60)));
        var result = await run.EndAsync();
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.True(result.Output.Length > 1000);
    }

    [Fact]
    public async Task Interrupted_it_keeps_what_it_said_as_a_whole_line()
    {
        // Tests run in the background of a shell have SIGINT ignored, and their children too.
        using var run = ProcessRun.Start("env", ["--default-signal=INT", Built.Sam, .. sam.LongDescribe(30_000)]);
        Assert.True(await run.AtFirstOutput(r => r.Interrupt()).WaitAsync(TimeSpan.FromSeconds(60)));
        var result = await run.EndAsync(30);
        Assert.Equal(130, result.ExitCode);
        Assert.EndsWith("\n", result.Output, StringComparison.Ordinal);
        string[] lines = result.Error.TrimEnd('\n').Split('\n');
        Assert.Equal(2, lines.Length);
        Assert.Equal("sam: cancelled", lines[1]);
    }

    [Fact]
    public async Task Json_is_one_document()
    {
        string text = await sam.OutputAsync(sam.Describe);
        var result = await sam.RunAsync([.. sam.Describe, "--json", "--n-best", "3"]);
        Assert.Equal(0, result.ExitCode);
        using var json = JsonDocument.Parse(result.Output);
        var root = json.RootElement;
        Assert.Equal(text.TrimEnd('\n'), root.GetProperty("text").GetString());
        Assert.Equal(3, root.GetProperty("texts").GetArrayLength());
        Assert.All(root.GetProperty("texts").EnumerateArray(), t => Assert.Equal("length", t.GetProperty("finish_reason").GetString()));
        Assert.True(root.GetProperty("guided").GetBoolean());
        Assert.False(root.TryGetProperty("seed", out _));
        Assert.Equal(12, root.GetProperty("usage").GetProperty("visual_tokens").GetInt32());

        using var sampled = JsonDocument.Parse(await sam.OutputAsync([.. sam.Describe, "--json", "--sample", "--seed", "7"]));
        Assert.Equal(7, sampled.RootElement.GetProperty("seed").GetInt32());
    }

    [Fact]
    public async Task Options_reach_the_engine()
    {
        string text = await sam.OutputAsync(sam.Describe);
        Assert.Equal(text, await sam.OutputAsync([.. sam.Describe, "--no-mmap"]));
        Assert.Equal(text, await sam.OutputAsync([.. sam.Describe, "--threads", "1"]));
        Assert.NotEqual(text, await sam.OutputAsync([.. sam.Describe, "--guidance", "OFF"]));
        Assert.NotEqual(text, await sam.OutputAsync([.. sam.Describe, "--prompt", "a dog"]));
        // Neither a file of arguments nor an option.
        Assert.NotEqual(text, await sam.OutputAsync([.. sam.Describe, "--prompt", "@dog"]));
        Assert.NotEqual(text, await sam.OutputAsync([.. sam.Describe, "--prompt", "--dog"]));
        var scalar = await sam.RunAsync([.. sam.Describe, "--isa", "scalar", "--weights", "bf16"]);
        Assert.Contains("cpu scalar", scalar.Error, StringComparison.Ordinal);
        string[] texts = (await sam.OutputAsync([.. sam.Describe, "--n-best", "3"])).TrimEnd('\n').Split('\n');
        Assert.Equal(text.TrimEnd('\n'), texts[0]);
        string[] drawn = [.. sam.Describe, "--sample", "--seed", "3", "--temperature", "0.5", "--beams", "1"];
        Assert.Equal(await sam.OutputAsync(drawn), await sam.OutputAsync(drawn));
    }

    [Fact]
    public async Task Room_for_keys_and_values_is_made_by_the_request()
    {
        string[] many = [.. sam.Describe[..^2], "--beams", "20", "--max-length", "250", "--stop", "e"];
        var described = await sam.RunAsync(many);
        Assert.True(described.ExitCode == 0, described.ToString());
        var refused = await sam.RunAsync([.. many, "--kv-tokens", "600"]);
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("--kv-tokens: the request needs room", refused.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Rank_puts_the_best_first()
    {
        string[] rank = ["rank", .. sam.Pictures, "--model", sam.Model, "-p", "a picture", "-c", "a dog runs", "-c", "the boat",
            "-c", "two children beside the river"];
        var result = await sam.RunAsync(rank);
        Assert.Equal(0, result.ExitCode);
        var lines = result.Output.TrimEnd('\n').Split('\n').Select(l => l.Split('\t')).ToList();
        double[] losses = [.. lines.Select(l => double.Parse(l[0], CultureInfo.InvariantCulture))];
        Assert.Equal(losses.Order(), losses);
        Assert.Equal(["a dog runs", "the boat", "two children beside the river"], lines.Select(l => l[1]).Order(StringComparer.Ordinal));

        using var json = JsonDocument.Parse(await sam.OutputAsync([.. rank, "--json"]));
        Assert.Equal(lines.Select(l => l[1]), json.RootElement.EnumerateArray().Select(c => c.GetProperty("text").GetString()));
        string[] mean = (await sam.OutputAsync([.. rank, "--mode", "per-token-mean"])).TrimEnd('\n').Split('\n');
        Assert.Equal(3, mean.Length);
        Assert.NotEqual(lines.Select(l => l[0]), mean.Select(l => l.Split('\t')[0]));
    }

    [Fact]
    public async Task A_reader_that_has_seen_enough_ends_it_quietly()
    {
        foreach (string script in (string[])["set -o pipefail; \"$@\" | head -c 1", "set -o pipefail; \"$@\" | true"])
        {
            var described = await sam.ShellAsync(script, sam.LongDescribe(30_000));
            Assert.True(described.ExitCode == 0, described.ToString());
            // The line with the costs comes at the end of a whole text.
            Assert.DoesNotContain("tokens in", described.Error, StringComparison.Ordinal);
            Assert.Single(described.Error.TrimEnd('\n').Split('\n'));
            Assert.True(described.Output.Length <= 1);
            foreach (string[] arguments in (string[][])[["model", "inspect", sam.Model, "--tensors"], ["doctor"], ["--help"]])
            {
                var other = await sam.ShellAsync(script, arguments);
                Assert.True(other.ExitCode == 0, other.ToString());
                Assert.Equal("", other.Error);
            }
        }
    }

    [Fact]
    public async Task Streams_that_cannot_be_written_do_not_crash_it()
    {
        var full = await sam.ShellAsync("\"$@\" > /dev/full", sam.Describe);
        Assert.Equal(7, full.ExitCode);
        Assert.Contains("sam: standard output can't be written: No space left", full.Error, StringComparison.Ordinal);
        string text = await sam.OutputAsync(sam.Describe);
        foreach (string lost in (string[])["2>&-", "2>/dev/full"])
        {
            var quiet = await sam.ShellAsync("\"$@\" " + lost, sam.Describe);
            Assert.Equal(0, quiet.ExitCode);
            Assert.Equal(text, quiet.Output);
            Assert.Equal(3, (await sam.ShellAsync("\"$@\" " + lost, [.. sam.Describe, "--adapters", "none"])).ExitCode);
        }
        // Two commands into one file follow each other.
        using var temp = new TempFolder();
        await sam.ShellAsync($"(\"$@\"; \"$@\") > '{temp["both"]}'", sam.Describe);
        Assert.Equal(text + text, await File.ReadAllTextAsync(temp["both"]));
    }

    [Fact]
    public async Task Paths_may_have_any_name()
    {
        using var temp = new TempFolder();
        string folder = temp["mödèle 世界 🙂"];
        Directory.CreateDirectory(folder);
        foreach (string file in Directory.EnumerateFiles(sam.Model))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }
        string picture = Path.Combine(folder, "-bild ж.png");
        File.Copy(sam.Pictures[0], picture);
        foreach (string locale in (string[])["C", "C.UTF-8", "de_DE.UTF-8"])
        {
            var environment = new Dictionary<string, string> { ["LC_ALL"] = locale };
            var result = await sam.RunAsync(environment, "describe", picture, "--model", folder, "--max-length", "9");
            Assert.True(result.ExitCode == 0, result.ToString());
            Assert.StartsWith($"model: {folder}, ", result.Error, StringComparison.Ordinal);
            var missing = await sam.RunAsync(environment, "describe", picture + "x", "--model", folder);
            Assert.Contains($"image 0 ({picture}x)", missing.Error, StringComparison.Ordinal);
        }
        using var here = ProcessRun.Start(Built.Sam, ["describe", "--model", folder, "--max-length", "9", "--", "-bild ж.png"], folder);
        Assert.Equal(0, (await here.EndAsync()).ExitCode);
    }

    [Fact]
    public async Task Numbers_have_a_point_whatever_the_locale()
    {
        string[] rank = ["rank", .. sam.Pictures, "--model", sam.Model, "-p", "a picture", "-c", "a dog"];
        string[] drawn = [.. sam.Describe, "--sample", "--seed", "3", "--temperature", "0.5"];
        var german = new Dictionary<string, string> { ["LC_ALL"] = "de_DE.UTF-8", ["LANG"] = "de_DE.UTF-8" };
        Assert.Equal(await sam.OutputAsync(rank), (await sam.RunAsync(german, rank)).Output);
        Assert.Equal(await sam.OutputAsync(drawn), (await sam.RunAsync(german, drawn)).Output);
    }
}
