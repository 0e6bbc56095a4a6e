using System.Text.Json;
using System.Text.Json.Nodes;
using SamEngine.Testing;
using SkiaSharp;
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
        var quiet = await sam.RunAsync([.. eval, "-q", "--json"]);
        Assert.Equal("", quiet.Error);
        using var scores = JsonDocument.Parse(quiet.Output);
        Assert.Equal(6, scores.RootElement.GetProperty("samples").GetInt32());
        Assert.Contains(FormattableString.Invariant($"CIDEr {scores.RootElement.GetProperty("cider").GetDouble():F2} "), first.Output,
            StringComparison.Ordinal);

        foreach (var (key, more) in (IEnumerable<(string, string[])>)[("guidance", ["--guidance", "off"]), ("weights", ["--weights", "q8"]),
            ("num_beams", ["--beams", "2"]), ("backend", ["--isa", "scalar"]),
            ("adapters", ["--adapters", Path.Combine(sam.Model, "model.safetensors")])])
        {
            var other = await sam.RunAsync([.. eval, .. more]);
            Assert.True(other.ExitCode == 6, other.ToString());
            Assert.Contains($"holds a run with {key} ", other.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Answers_of_another_model_in_the_same_folder_are_not_taken_up()
    {
        string data = WriteDataset(2);
        string model = _folder["model"];
        Directory.CreateDirectory(model);
        foreach (string file in Directory.EnumerateFiles(sam.Model))
        {
            File.Copy(file, Path.Combine(model, Path.GetFileName(file)));
        }
        string[] eval = ["eval", data, "--model", model, "--out", _folder["out"], "--beams", "1"];
        await sam.OutputAsync([.. eval, "--max-length", "9"]);
        File.WriteAllText(Path.Combine(model, "generation_config.json"), "{\"max_length\": 9}");
        var changed = await sam.RunAsync(eval);
        Assert.True(changed.ExitCode == 6, changed.ToString());
        Assert.Contains("holds a run with model_files ", changed.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Controls_show_grey_pictures_or_the_first_alone()
    {
        string data = WriteDataset(3);
        async Task<string[]> Answers(string folder, params string[] more)
        {
            string output = _folder[$"out{Directory.EnumerateDirectories(_folder.Path).Count()}"];
            var result = await sam.RunAsync(["eval", folder, "--model", sam.Model, "--out", output, "--max-length", "12",
                "--beams", "1", .. more]);
            Assert.True(result.ExitCode == 0, result.ToString());
            Assert.Equal(more.Contains("blank"), result.Output.Contains("pictures: blank", StringComparison.Ordinal));
            using var pred = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(output, "pred.json")));
            return [.. pred.RootElement.EnumerateArray().Select(e => e.GetProperty("pred_response").GetString()!)];
        }
        string[] all = await Answers(data);
        Assert.Equal(all, await Answers(data, "--pictures", "all"));
        // The same by hand: a data set whose pictures are grey, and one that lists the first alone.
        string grey = _folder["grey"];
        string first = _folder["first"];
        string list = File.ReadAllText(Path.Combine(data, "annotations.json"));
        foreach (string copy in (string[])[grey, first])
        {
            Directory.CreateDirectory(copy);
            foreach (string picture in sam.Pictures)
            {
                string to = Path.Combine(copy, Path.GetFileName(picture));
                File.Copy(picture, to);
                if (copy == grey)
                {
                    GreyPng(picture, to);
                }
            }
        }
        File.WriteAllText(Path.Combine(grey, "annotations.json"), list);
        File.WriteAllText(Path.Combine(first, "annotations.json"), FirstAlone(list));
        string[] blank = await Answers(data, "--pictures", "blank");
        Assert.NotEqual(all, blank);
        Assert.Equal(await Answers(grey), blank);
        string[] alone = await Answers(data, "--pictures", "first");
        Assert.NotEqual(all, alone);
        Assert.Equal(await Answers(first), alone);

        var wrong = await sam.RunAsync("eval", data, "--model", sam.Model, "--out", _folder["no"], "--pictures", "some");
        Assert.Equal(2, wrong.ExitCode);
        Assert.Contains("all, blank, first", wrong.Error, StringComparison.Ordinal);
        // A picture that can't be read has no size either.
        File.WriteAllBytes(Path.Combine(data, Path.GetFileName(sam.Pictures[0])), [1, 2, 3]);
        var broken = await sam.RunAsync("eval", data, "--model", sam.Model, "--out", _folder["no"], "--pictures", "blank");
        Assert.Equal(4, broken.ExitCode);
        Assert.Contains("image 0 (", broken.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_data_set_that_is_none_is_an_error_of_its_own()
    {
        foreach (var (path, expected) in (IEnumerable<(string, string)>)[(_folder.Path, "has no annotations.json"),
            (_folder["none"], "does not exist"), (sam.Pictures[0], "is a file")])
        {
            var result = await sam.RunAsync("eval", path, "--model", sam.Model, "--out", _folder["out"]);
            Assert.Equal(6, result.ExitCode);
            Assert.Equal($"sam: {path}: {expected}, expected a folder with annotations.json and pictures ('sam data make' writes two: " +
                "'train' and 'test')\n", result.Error);
        }
        Assert.False(Directory.Exists(_folder["out"]));
    }

    [Fact]
    public async Task Explaining_draws_a_map_for_every_picture()
    {
        string text = await sam.OutputAsync(["explain", .. sam.Pictures, "--model", sam.Model, "--out", _folder["maps"]]);
        Assert.NotEqual("", text.Trim());
        // A pipe gives its picture once.
        var piped = await sam.ShellAsync($"cat '{sam.Pictures[0]}' | \"$@\"", ["explain", "/dev/stdin", .. sam.Pictures[1..], "--model",
            sam.Model, "--out", _folder["piped"]]);
        Assert.True(piped.ExitCode == 0, piped.ToString());
        Assert.Equal(File.ReadAllBytes(Path.Combine(_folder["maps"], "sheet.png")), File.ReadAllBytes(Path.Combine(_folder["piped"], "sheet.png")));
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
        // Fewer pictures and no guidance: maps of the earlier answer go, what is not ours stays.
        File.WriteAllText(Path.Combine(_folder["maps"], "3-mine.png"), "");
        await sam.OutputAsync("explain", sam.Pictures[0], sam.Pictures[1], "--guidance", "off", "--model", sam.Model, "--out", _folder["maps"]);
        Assert.Equal("", (await sam.RunAsync("explain", sam.Pictures[0], "-q", "--model", sam.Model, "--out", _folder["quiet"])).Error);
        string[] left = [.. Directory.EnumerateFiles(_folder["maps"], "?-*.png").Select(f => Path.GetFileName(f))];
        Assert.All(left, f => Assert.True(f == "3-mine.png" || (f[0] is '1' or '2' && !f.Contains("weight", StringComparison.Ordinal)), f));
        Assert.Contains("3-mine.png", left);
        Assert.Contains("2-stream1-layer0.png", left);
    }

    [Fact]
    public async Task Explaining_onto_a_full_disk_is_an_error_and_leaves_no_empty_picture()
    {
        foreach (string name in (string[])["2-weight.png", "sheet.png"])
        {
            string folder = _folder[name];
            Directory.CreateDirectory(folder);
            File.CreateSymbolicLink(Path.Combine(folder, name), "/dev/full");
            var result = await sam.RunAsync(["explain", .. sam.Pictures, "--model", sam.Model, "--out", folder]);
            Assert.Equal(7, result.ExitCode);
            Assert.Equal("", result.Output);
            Assert.Contains("No space left", result.Error, StringComparison.Ordinal);
            Assert.False(Path.Exists(Path.Combine(folder, name)));
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

    [Fact]
    public async Task Options_of_data_sets_out_of_range_are_wrong_use()
    {
        foreach (var (expected, options) in (IEnumerable<(string, string[])>)[
            ("--side: is 0, expected 56 to 1024 pixels", ["--side", "0"]),
            ("--train: is 0 and so is --test, expected one above 0", ["--train", "0", "--test", "0"])])
        {
            var result = await sam.RunAsync(["data", "make", "--out", _folder["data"], .. options]);
            Assert.True(result.ExitCode == 2, result.ToString());
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
    }

    /// <summary>A PNG of the picture's size and level 128; told apart by its content, whatever its name.</summary>
    private static void GreyPng(string picture, string to)
    {
        using var size = SKCodec.Create(picture);
        using var bitmap = new SKBitmap(size.Info.Width, size.Info.Height, SKColorType.Rgba8888, SKAlphaType.Opaque);
        bitmap.Erase(new SKColor(128, 128, 128));
        using var stream = File.Create(to);
        bitmap.Encode(stream, SKEncodedImageFormat.Png, 100);
    }

    private static string FirstAlone(string annotations)
    {
        var list = JsonNode.Parse(annotations)!.AsArray();
        foreach (var entry in list)
        {
            entry!["img_list"] = new JsonArray(entry["img_list"]![0]!.GetValue<string>());
        }
        return list.ToJsonString();
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
