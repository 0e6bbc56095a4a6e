using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary><c>sam model</c>, <c>sam bench make-model</c> and <c>sam doctor</c>.</summary>
public sealed class ModelCommandTests(SamCommand sam)
{
    [Fact]
    public async Task Made_models_are_the_same_for_the_same_seed_and_load()
    {
        using var temp = new TempFolder();
        async Task<byte[]> Make(string name, string dtype = "f32", params string[] more)
        {
            var result = await sam.RunAsync(["bench", "make-model", temp[name], "--config", Golden.Fixture("tiny-config.json"),
                "--dtype", dtype, "--tokenizers", Golden.Fixture("text"), .. more]);
            Assert.True(result.ExitCode == 0, result.ToString());
            Assert.Equal("", result.Output);
            Assert.EndsWith($"wrote {temp[name]}\n", result.Error, StringComparison.Ordinal);
            return await File.ReadAllBytesAsync(Path.Combine(temp[name], "model.safetensors"));
        }
        byte[] first = await Make("a");
        Assert.Equal(first, await Make("b", "f32", "--seed", "1"));
        var mute = await sam.RunAsync("bench", "make-model", temp["mute"], "--config", Golden.Fixture("tiny-config.json"));
        Assert.Equal(0, mute.ExitCode);
        Assert.Contains("note: without tokenizer.model and vocab.txt (--tokenizers) the model takes no prompts", mute.Error,
            StringComparison.Ordinal);
        Assert.NotEqual(first, await Make("c", "f32", "--seed", "2"));
        Assert.True((await Make("half", "bf16")).Length < first.Length * 2 / 3);
        Assert.Equal(0, (await sam.RunAsync("describe", sam.Pictures[0], "--model", temp["a"], "--max-length", "5")).ExitCode);
    }

    [Fact]
    public async Task A_quantized_model_describes_and_is_compared_with_its_original()
    {
        using var temp = new TempFolder();
        var made = await sam.RunAsync("model", "quantize", sam.Model, temp["packed"] + "/", "--weights", "vision=q8,qformer=bf16,llm=q4",
            "--group-size", "32");
        Assert.True(made.ExitCode == 0, made.ToString());
        Assert.Equal("", made.Output);
        Assert.Contains("quantizing: 100 %", made.Error, StringComparison.Ordinal);
        string[] describe = ["describe", .. sam.Pictures, "--max-length", "8"];
        string packed = await sam.OutputAsync([.. describe, "--model", temp["packed"]]);
        Assert.NotEqual("", packed.Trim());
        string inspected = await sam.OutputAsync("model", "inspect", temp["packed"]);
        Assert.Contains("Q4 (", inspected, StringComparison.Ordinal);
        string[] errors = (await sam.OutputAsync("model", "compare", sam.Model, temp["packed"])).Split('\n');
        Assert.Contains(errors, e => e.StartsWith("llm_model.lm_head.weight\tq4 groups of 32\t0.0", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Comparing_what_can_not_be_compared_prints_no_table()
    {
        foreach (var (code, expected, arguments) in (IEnumerable<(int, string, string[])>)[
            (0, $"note: nothing in {sam.Model} is quantised\n", [sam.Model, sam.Model]), (3, "none: does not exist", [sam.Model, "none"]),
            (6, "none: does not exist", [sam.Model, sam.Model, "--data", "none"])])
        {
            var result = await sam.RunAsync(["model", "compare", .. arguments]);
            Assert.True(result.ExitCode == code, result.ToString());
            Assert.Equal("", result.Output);
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Weights_that_can_not_be_made_are_refused()
    {
        using var temp = new TempFolder();
        async Task Refused(int code, string expected, params string[] arguments)
        {
            var result = await sam.RunAsync(arguments);
            Assert.True(result.ExitCode == code, result.ToString());
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
        await Refused(2, "vision=q8,qformer=bf16,llm=q4", "model", "quantize", sam.Model, temp["x"], "--weights", "q5");
        await Refused(2, "--group-size: is 100, expected 32, 64 or 128", "model", "quantize", sam.Model, temp["x"], "--weights", "q4", "--group-size", "100");
        await Refused(7, "not empty", "model", "quantize", sam.Model, sam.Model, "--weights", "q4");
        await Refused(7, "is a file, expected a folder", "model", "quantize", sam.Model, sam.Pictures[0], "--weights", "q4");
        await Refused(7, "/proc/samengine-test: can't be written", "model", "quantize", sam.Model, "/proc/samengine-test", "--weights", "q4");
        await Refused(2, "names the part 'head'", "describe", sam.Pictures[0], "--model", sam.Model, "--weights", "head=q4");
        Assert.Empty(Directory.EnumerateFileSystemEntries(temp.Path));
    }

    [Fact]
    public async Task Bench_times_every_stage_greedily_and_with_beams()
    {
        string table = await sam.OutputAsync("bench", "--model", sam.Model, "--tokens", "4", "--runs", "2", "--quiet");
        Assert.StartsWith("5 pictures, ", table, StringComparison.Ordinal);
        Assert.Contains(" 4 out; median of 2 runs", table, StringComparison.Ordinal);
        Assert.All((string[])["images", "vision", "q-former", "prefill", "decode", "token", "total"],
            stage => Assert.Contains("\n" + stage + " ", table, StringComparison.Ordinal));
        using var json = System.Text.Json.JsonDocument.Parse(await sam.OutputAsync(["bench", .. sam.Pictures, "--model", sam.Model, "--tokens", "4",
            "--runs", "2", "--json"]));
        Assert.Equal(sam.Pictures.Length, json.RootElement.GetProperty("pictures").GetInt32());
        var searches = json.RootElement.GetProperty("searches");
        Assert.Equal([1, 5], searches.EnumerateArray().Select(s => s.GetProperty("beams").GetInt32()));
        Assert.All(searches.EnumerateArray(), s => Assert.Equal(2, s.GetProperty("qformer_ms").GetArrayLength()));
        var cut = await sam.RunAsync("bench", sam.Pictures[0], "--model", sam.Model, "--tokens", "1000", "--runs", "1", "--quiet");
        Assert.True(cut.ExitCode == 0, cut.ToString());
        Assert.Matches(@"^note: the model's context holds \d+ of the 1000 tokens asked for\n$", cut.Error);
        Assert.Equal(3, (await sam.RunAsync("bench", "--model", "/no/such/folder")).ExitCode);
        Assert.Equal(2, (await sam.RunAsync("bench", "--model", sam.Model, "--tokens", "0")).ExitCode);
    }

    [Fact]
    public async Task Nothing_is_overwritten_and_nothing_half_written_stays()
    {
        using var temp = new TempFolder();
        string[] shape = ["--config", Golden.Fixture("tiny-config.json")];
        async Task Refused(string folder, int code, string expected, params string[] more)
        {
            var result = await sam.RunAsync(["bench", "make-model", folder, .. shape, .. more]);
            Assert.True(result.ExitCode == code, result.ToString());
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
        byte[] before = await File.ReadAllBytesAsync(Path.Combine(sam.Model, "model.safetensors"));
        await Refused(sam.Model, 7, "name another folder");
        Assert.Equal(before, await File.ReadAllBytesAsync(Path.Combine(sam.Model, "model.safetensors")));
        await Refused(sam.Pictures[0], 7, "name another folder");
        await Refused("", 2, "folder is empty");
        await Refused(temp["x"], 2, "--dtype: is 'f99'", "--dtype", "f99");
        await Refused(temp["x"], 3, "none", "--tokenizers", "none");
        Assert.Empty(Directory.EnumerateFileSystemEntries(temp.Path));
        // Neither a file's inside nor the process table can be written, by root either.
        await Refused(Path.Combine(sam.Pictures[0], "x"), 7, "can't be written");
        await Refused("/proc/samengine-test", 7, "can't be written");
        var missing = await sam.RunAsync("bench", "make-model", temp["x"], "--config", temp["none.json"]);
        Assert.Equal(3, missing.ExitCode);
        Assert.Contains("none.json: does not exist", missing.Error, StringComparison.Ordinal);
        if (!OperatingSystem.IsWindows() && Environment.UserName != "root")
        {
            File.SetUnixFileMode(temp.Path, UnixFileMode.UserRead | UnixFileMode.UserExecute);
            await Refused(temp["x"], 7, "can't be written");
            File.SetUnixFileMode(temp.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    [Fact]
    public async Task Inspect_looks_into_folders_and_files()
    {
        string file = Path.Combine(sam.Model, "model.safetensors");
        string folder = await sam.OutputAsync("model", "inspect", sam.Model);
        foreach (string part in (string[])["vision encoder", "Q-Former", "SAM adapters", "projection", "language model", "total",
            "complete: the model loads, with SAM's adapters"])
        {
            Assert.Contains(part, folder, StringComparison.Ordinal);
        }
        // A row is one line, however narrow a console might be.
        Assert.Matches(@"\n +total +[\d,]+ +[\d,]+ +[\d.]+ [KM]iB", (await sam.RunAsync(new Dictionary<string, string> { ["COLUMNS"] = "20" },
            "model", "inspect", sam.Model)).Output);
        Assert.DoesNotContain("complete", await sam.OutputAsync("model", "inspect", file), StringComparison.Ordinal);
        Assert.Contains("generation defaults: the reference's, as there is no generation_config.json\n", folder, StringComparison.Ordinal);
        string tensors = await sam.OutputAsync("model", "inspect", sam.Model, "--tensors");
        Assert.Contains("llm_proj.weight\tF32\t[64, 48]\n", tensors, StringComparison.Ordinal);

        using var temp = new TempFolder();
        foreach (string path in (string[])[Path.Combine(sam.Model, "none"), sam.Pictures[0], temp.Path])
        {
            var result = await sam.RunAsync("model", "inspect", path);
            Assert.True(result.ExitCode == 3, result.ToString());
            Assert.Equal("", result.Output);
            Assert.StartsWith($"sam: {path}: ", result.Error, StringComparison.Ordinal);
            Assert.Contains(File.Exists(path) ? "not a safetensors file" : Directory.Exists(path) ? "'sam model convert'" : "check the path",
                result.Error, StringComparison.Ordinal);
        }
        string defaults = Path.Combine(Copied(temp["defaults"]), "generation_config.json");
        await File.WriteAllTextAsync(defaults, """{"num_beams": 1, "max_new_tokens": 63, "do_sample": false, "top_p": 0.5}""");
        Assert.Contains("generation defaults: num_beams 1, max_length 64, do_sample false, top_p 0.5; the rest are the reference's\n",
            await sam.OutputAsync("model", "inspect", temp["defaults"]), StringComparison.Ordinal);
        await File.WriteAllTextAsync(defaults, """{"top_p": 5}""");
        var wrong = await sam.RunAsync("model", "inspect", temp["defaults"]);
        Assert.Equal(3, wrong.ExitCode);
        Assert.Contains($"incomplete: {defaults}: 'top_p' is 5", wrong.Output, StringComparison.Ordinal);

        File.Delete(defaults);
        File.Delete(Path.Combine(temp["defaults"], "vocab.txt"));
        var mute = await sam.RunAsync("model", "inspect", temp["defaults"]);
        Assert.Equal(3, mute.ExitCode);
        Assert.Contains("\nincomplete: has no vocab.txt, which prompts need; copy", mute.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("\ncomplete", mute.Output, StringComparison.Ordinal);

        File.Copy(file, temp["model.safetensors"]);
        await File.WriteAllTextAsync(temp["config.json"], (await File.ReadAllTextAsync(Path.Combine(sam.Model, "config.json")))
            .Replace("100", "101", StringComparison.Ordinal));
        var other = await sam.RunAsync("model", "inspect", temp.Path);
        Assert.Equal(3, other.ExitCode);
        Assert.Contains("incomplete: ", other.Output, StringComparison.Ordinal);
        Assert.Contains("101", other.Output, StringComparison.Ordinal);
    }

    private string Copied(string folder)
    {
        Directory.CreateDirectory(folder);
        foreach (string file in Directory.EnumerateFiles(sam.Model))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }
        return folder;
    }

    [Fact]
    public async Task Published_checkpoints_are_converted()
    {
        string golden = Golden.Folder("tiny-a");
        using var temp = new TempFolder();
        string[] Convert(string output, params string[] more) => ["model", "convert", "--instructblip",
            Path.Combine(golden, "lavis.pth"), "--llm", Path.Combine(golden, "llm"), "--config", Path.Combine(golden, "config.json"),
            "--dtype", "f32", "-o", output, .. more];
        string[] sources = ["--sam", Path.Combine(golden, "sam_ckpt.pth"), "--bert-vocab", Golden.Fixture("text", "vocab.txt")];
        var converted = await sam.RunAsync(Convert(temp["out"], sources));
        Assert.True(converted.ExitCode == 0, converted.ToString());
        Assert.Equal("", converted.Output);
        Assert.Contains("note: ", converted.Error, StringComparison.Ordinal);
        Assert.EndsWith($"wrote {temp["out"]}\n", converted.Error, StringComparison.Ordinal);
        Assert.Contains("\nincomplete: has no tokenizer.model, which prompts need", (await sam.RunAsync("model", "inspect", temp["out"])).Output,
            StringComparison.Ordinal);
        Assert.Contains("vision encoder", await sam.OutputAsync("model", "inspect", Path.Combine(golden, "lavis.pth")),
            StringComparison.Ordinal);

        foreach (var (arguments, code, expected) in (IEnumerable<(string[], int, string)>)[
            (Convert(temp["out"], sources), 7, "name another folder"),
            (Convert("/proc/samengine-test", sources), 7, "can't be written"),
            (Convert(temp["no"], "--sam", "none.pth"), 3, "none.pth: does not exist"),
            (Convert(temp["no"], "--bert-vocab", "none.txt"), 3, "none.txt: does not exist"),
            (Convert(temp["no"], "--max-shard-size", "0"), 2, "--max-shard-size is '0'"),
            (["model", "convert", "-o", temp["no"]], 2, "--instructblip: is missing; expected --instructblip and --llm, or --hf instead of both"),
            (["model", "convert", "--instructblip", Path.Combine(golden, "lavis.pth"), "-o", temp["no"]], 2, "--llm: is missing")])
        {
            var result = await sam.RunAsync(arguments);
            Assert.True(result.ExitCode == code, result.ToString());
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
        Assert.Equal([temp["out"]], Directory.EnumerateFileSystemEntries(temp.Path));
    }

    [Fact]
    public async Task The_hugging_face_port_is_converted_or_opened_as_it_is()
    {
        using var temp = new TempFolder();
        string port = temp["port"];
        PortWriter.Write(sam.Model, port);
        foreach (string name in (string[])["tokenizer.model", "vocab.txt"])
        {
            File.Copy(Path.Combine(sam.Model, name), Path.Combine(port, name));
        }
        string[] convert = ["model", "convert", "--hf", port, "--bert-vocab", Path.Combine(port, "vocab.txt"), "-o"];
        var converted = await sam.RunAsync([.. convert, temp["out"]]);
        Assert.True(converted.ExitCode == 0, converted.ToString());
        Assert.Contains("complete: the model loads\n", await sam.OutputAsync("model", "inspect", temp["out"]), StringComparison.Ordinal);
        var both = await sam.RunAsync([.. convert, temp["no"], "--llm", port]);
        Assert.Equal(2, both.ExitCode);
        Assert.Contains("--llm: is given beside --hf, which holds both", both.Error, StringComparison.Ordinal);

        string[] describe = ["describe", sam.Pictures[0], "--model", port, "--max-length", "5", "--adapters"];
        string adapters = Path.Combine(port, PortWriter.AdaptersName);
        Assert.Contains("guidance on", (await sam.RunAsync([.. describe, adapters])).Error, StringComparison.Ordinal);
        File.Copy(adapters, temp["adapters.pth"]);
        var refused = await sam.RunAsync([.. describe, temp["adapters.pth"]]);
        Assert.Equal(3, refused.ExitCode);
        Assert.Contains("--allow-torch", refused.Error, StringComparison.Ordinal);
        var damaged = await sam.RunAsync([.. describe, temp["adapters.pth"], "--allow-torch"]);
        Assert.Equal(3, damaged.ExitCode);
        Assert.DoesNotContain("--allow-torch", damaged.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_names_the_library_and_the_instruction_set()
    {
        string output = await sam.OutputAsync("doctor");
        Assert.Contains("libsamengine_cpu.so: loaded", output, StringComparison.Ordinal);
        Assert.Contains("possible here: scalar", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_lists_the_devices_of_ILGPU_and_what_auto_chooses()
    {
        string[] lines = (await sam.OutputAsync("doctor")).Split('\n');
        string[] devices = [.. lines.Where(l => l.StartsWith("backend ilgpu, device ", StringComparison.Ordinal))];
        Assert.Contains(": cpu, ILGPU's CPU accelerator, ", devices[^1], StringComparison.Ordinal);
        // Below the devices, what ILGPU tried; the lines above them are CUDA's.
        string after = lines[Array.IndexOf(lines, devices[^1]) + 1];
        Assert.StartsWith("  tried libcuda.so.1: ", after, StringComparison.Ordinal);
        Assert.Single(lines, l => l.StartsWith("  tried libOpenCL.so.1: ", StringComparison.Ordinal));
        Assert.All(devices, (line, i) => Assert.StartsWith($"backend ilgpu, device {i}: ", line, StringComparison.Ordinal));
        Assert.Single(lines, l => l.StartsWith(devices.Any(d => !d.Contains(": cpu,", StringComparison.Ordinal)
            && !d.Contains("not usable", StringComparison.Ordinal)) ? "backend auto: ilgpu, " : "backend auto: cpu, as ", StringComparison.Ordinal));
    }
}
