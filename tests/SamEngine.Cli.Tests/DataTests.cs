using System.Text.Json;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary><c>sam data make</c>, <c>sam eval</c> and <c>sam explain</c>.</summary>
public sealed class DataTests(SamCommand sam) : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task An_evaluation_writes_the_reference_files_and_goes_on_where_it_was()
    {
        string data = WriteDataset(6);
        string[] eval = ["eval", data, "--model", sam.Model, "--out", _folder["out"], "--max-length", "12"];
        var first = await sam.RunAsync(eval);
        Assert.True(first.ExitCode == 0, first.ToString());
        Assert.Contains("CIDEr", first.Output, StringComparison.Ordinal);
        Assert.Contains("6 samples", first.Output, StringComparison.Ordinal);
        using var pred = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(_folder["out"], "pred.json")));
        Assert.Equal(6, pred.RootElement.GetArrayLength());
        Assert.All(pred.RootElement.EnumerateArray(), e => Assert.Equal("A ball.", e.GetProperty("gt_response").GetString()));

        // Three answers are lost; the same answers come again, and the scores are the same.
        string answers = Path.Combine(_folder["out"], "answers.jsonl");
        File.WriteAllLines(answers, File.ReadAllLines(answers).Take(3));
        var second = await sam.RunAsync(eval);
        Assert.Contains("3 of 6 samples are answered", second.Error, StringComparison.Ordinal);
        Assert.Equal(first.Output, second.Output);

        var other = await sam.RunAsync([.. eval, "--guidance", "off"]);
        Assert.Equal(6, other.ExitCode);
        Assert.Contains("guidance", other.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_data_set_that_is_none_is_an_error_of_its_own()
    {
        var result = await sam.RunAsync("eval", _folder.Path, "--model", sam.Model, "--out", _folder["out"]);
        Assert.Equal(6, result.ExitCode);
        Assert.Contains("annotations.json", result.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["out"]));
    }

    [Fact]
    public async Task Explaining_draws_a_map_for_every_picture()
    {
        string text = await sam.OutputAsync(["explain", .. sam.Pictures, "--model", sam.Model, "--out", _folder["maps"]]);
        Assert.NotEqual("", text.Trim());
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(_folder["maps"], "explanation.json")));
        Assert.Equal(3, json.RootElement.GetProperty("image_weights").GetArrayLength());
        string[] files = [.. Directory.EnumerateFiles(_folder["maps"], "*.png").Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal)];
        Assert.Contains("sheet.png", files);
        for (int i = 1; i <= 3; i++)
        {
            Assert.Contains($"{i}-weight.png", files);
            Assert.Contains($"{i}-stream1-layer0.png", files);
            Assert.Contains($"{i}-stream2-layer2.png", files);
        }
    }

    [Fact]
    public async Task Without_the_font_making_data_says_what_to_install()
    {
        var result = await sam.RunAsync("data", "make", "--out", _folder["data"], "--font", _folder["no.ttf"]);
        Assert.Equal(6, result.ExitCode);
        Assert.Contains("fonts-noto-color-emoji", result.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["data"]));
    }

    private string WriteDataset(int samples)
    {
        string data = _folder["data"];
        Directory.CreateDirectory(data);
        string[] images = [.. sam.Pictures.Select(p =>
        {
            File.Copy(p, Path.Combine(data, Path.GetFileName(p)));
            return Path.GetFileName(p);
        })];
        File.WriteAllText(Path.Combine(data, "annotations.json"), JsonSerializer.Serialize(Enumerable.Range(0, samples).Select(i =>
            new
            {
                id = i,
                img_list = images.Take(1 + i % 3),
                instruction = $"What do these {i} pictures share?",
                output = "A ball.",
            })));
        return data;
    }
}
