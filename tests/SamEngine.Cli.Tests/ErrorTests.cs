using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary>Errors name what is wrong and what to do, and every kind has its exit code.</summary>
public sealed class ErrorTests(SamCommand sam)
{
    /// <summary>Arguments after those of <see cref="SamCommand.Describe"/>, the exit code, what the message holds.</summary>
    public static TheoryData<string[], int, string[]> BadArguments => new()
    {
        { ["--nosuch"], 2, ["--nosuch", "no such option"] },
        { ["--beams", "x"], 2, ["--beams", "'x'", "whole number"] },
        { ["--min-length", "99999999999"], 2, ["--min-length", "at most 2147483647"] },
        { ["--beams", "0"], 2, ["--beams is '0', expected a whole number from 1 to 64"] },
        { ["--beams"], 2, ["--beams", "missing"] },
        { ["--n-best", "9"], 2, ["--n-best", "--beams (5)"] },
        { ["--min-length", "21"], 2, ["--min-length", "--max-length (20)"] },
        { ["--seed", "-1"], 2, ["--seed", "'-1'", "from 0"] },
        { ["--temperature", "0,5"], 2, ["--temperature", "'0,5'", "0.9"] },
        { ["--temperature", "0"], 2, ["--temperature", "0.001", "--sample"] },
        { ["--top-p", "nan"], 2, ["--top-p", "at most 1"] },
        { ["--guidance", "3"], 2, ["--guidance", "'3'", "auto, on, off"] },
        { ["--backend", "abacus"], 2, ["--backend", "'abacus'", "cpu"] },
        { ["--weights", "q5"], 2, ["--weights", "'q5'", "bf16", "vision=q8"] },
        { ["--weights", "Threads"], 2, ["--weights: is 'Threads', expected"] },
        { ["--weights", "Threads' or 'Weights"], 2, ["--weights: is 'Threads' or 'Weights', expected"] },
        { ["-Threads"], 2, ["sam: -Threads: there is no such option"] },
        { ["--threads", "-1"], 2, ["--threads", "-1", "0 (all)"] },
        { ["--kv-tokens", "5"], 2, ["--kv-tokens", "raise it"] },
        { ["--stop", ""], 2, ["--stop", "empty"] },
        { ["--model", "again"], 2, ["expects a single argument"] },
        { [""], 2, ["a picture is empty"] },
        { ["--adapters", "none.safetensors"], 3, ["none.safetensors", "check the path"] },
        { ["none.png"], 4, ["image 3 (none.png)", "check the path"] },
        { ["--isa", "abacus"], 2, ["--isa: is 'abacus'", "scalar"] },
    };

    [Theory]
    [MemberData(nameof(BadArguments))]
    public async Task Bad_arguments_are_named(string[] arguments, int code, string[] expected)
    {
        var result = await sam.RunAsync([.. sam.Describe, .. arguments]);
        Assert.True(result.ExitCode == code, result.ToString());
        Assert.Equal("", result.Output);
        Assert.All(expected, e => Assert.Contains(e, result.Error, StringComparison.Ordinal));
    }

    /// <summary>The model does not exist, but what is wrong beside it is said first: loading a large one takes a while.</summary>
    [Theory]
    [InlineData(2, "--top-p: is 2", "--top-p", "2")]
    [InlineData(2, "--beams is '65', expected a whole number from 1 to 64", "--beams", "65")]
    [InlineData(2, "--min-length: is 9", "--min-length", "9", "--max-length", "8")]
    [InlineData(4, "image 1 (none.png): there is no such file", "none.png")]
    public async Task What_is_wrong_is_said_before_the_model_is_loaded(int code, string expected, params string[] arguments)
    {
        var result = await sam.RunAsync(["describe", sam.Pictures[0], .. arguments, "--model", "none"]);
        Assert.True(result.ExitCode == code, result.ToString());
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
    }

    /// <summary>The model does not exist either: output is tried before it is loaded.</summary>
    [Fact]
    public async Task Output_that_can_not_be_written_has_one_exit_code_and_names_its_option()
    {
        using var temp = new TempFolder();
        string data = temp["data"];
        Directory.CreateDirectory(data);
        File.Copy(sam.Pictures[0], Path.Combine(data, "a.png"));
        await File.WriteAllTextAsync(Path.Combine(data, "annotations.json"),
            """[{"id": 1, "img_list": ["a.png"], "instruction": "What?", "output": "A ball."}]""");
        foreach (string[] command in (string[][])[["explain", sam.Pictures[0], "--model", "none"], ["eval", data, "--model", "none"],
            ["data", "make", "--train", "1"]])
        {
            foreach (var (folder, expected) in (IEnumerable<(string, string)>)[
                ("/proc/samengine-test", "can't be written: no file can be made in /proc"), (sam.Pictures[0], "is a file"),
                (Path.Combine(sam.Pictures[0], "x"), "is a file")])
            {
                var result = await sam.RunAsync([.. command, "--out", folder]);
                Assert.True(result.ExitCode == 7, result.ToString());
                Assert.StartsWith($"sam: --out: {folder}: ", result.Error, StringComparison.Ordinal);
                Assert.Contains(expected, result.Error, StringComparison.Ordinal);
                Assert.Contains("name another folder", result.Error, StringComparison.Ordinal);
            }
        }
        Assert.Equal([data], Directory.EnumerateFileSystemEntries(temp.Path));
    }

    [Fact]
    public async Task Commands_that_are_not_there_are_named()
    {
        foreach (var (arguments, expected) in (IEnumerable<(string[], string)>)[
            ([], "See 'sam --help'"), (["nosuch"], "'nosuch' is not a command"), (["model"], "See 'sam model --help'"),
            (["doctor", "x"], "'x' is not"), (["describe", "--model", "x"], "pictures"),
            (["rank", "a.png", "-m", "x", "-p", "y"], "--candidate"), (["bench", "make-model"], "folder")])
        {
            var result = await sam.RunAsync(arguments);
            Assert.True(result.ExitCode == 2, result.ToString());
            Assert.Equal("", result.Output);
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
        var mistyped = await sam.RunAsync("descirbe", "a.png");
        Assert.Equal("sam: 'descirbe' is not a command or option of 'sam'; did you mean 'describe'?\nSee 'sam --help'.\n", mistyped.Error);
        Assert.Contains("7 output", await sam.OutputAsync("--help"), StringComparison.Ordinal);
        Assert.Contains("describe", await sam.OutputAsync("--help"), StringComparison.Ordinal);
        Assert.Contains("--beams", await sam.OutputAsync("describe", "--help"), StringComparison.Ordinal);
        Assert.Matches(@"^\d+\.\d+", await sam.OutputAsync("--version"));
    }

    [Fact]
    public async Task Values_of_the_model_folder_are_called_by_its_names()
    {
        using var temp = new TempFolder();
        foreach (string file in Directory.EnumerateFiles(sam.Model))
        {
            File.Copy(file, temp[Path.GetFileName(file)]);
        }
        async Task Expect(string expected, string config, params string[] more)
        {
            await File.WriteAllTextAsync(temp["generation_config.json"], config);
            var result = await sam.RunAsync(["describe", sam.Pictures[0], "--model", temp.Path, .. more]);
            Assert.True(result.ExitCode == 2, result.ToString());
            Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        }
        await Expect("sam: --n-best: is 3, num_return_sequences of the model folder's generation_config.json, expected 1 to --beams (2)\n",
            """{"num_return_sequences": 3}""", "--beams", "2");
        await Expect("sam: --n-best: is 3, expected 1 to --beams (2, num_beams of the model folder's generation_config.json)\n",
            """{"num_beams": 2}""", "--n-best", "3");
        await Expect("sam: --min-length: is 30, expected 0 to --max-length (9, max_length or max_new_tokens of the model folder's",
            """{"max_new_tokens": 8}""", "--min-length", "30");
    }

    [Fact]
    public async Task A_broken_picture_is_named_by_position_and_file()
    {
        using var temp = new TempFolder();
        string broken = temp["half a picture.png"];
        byte[] whole = await File.ReadAllBytesAsync(sam.Pictures[0]);
        await File.WriteAllBytesAsync(broken, whole[..(whole.Length / 2)]);
        var result = await sam.RunAsync("describe", sam.Pictures[0], broken, sam.Pictures[1], "--model", sam.Model);
        Assert.Equal(4, result.ExitCode);
        Assert.Equal("", result.Output);
        Assert.Contains($"image 1 ({broken})", result.Error, StringComparison.Ordinal);
        var folder = await sam.RunAsync("describe", temp.Path, "--model", sam.Model);
        Assert.Equal(4, folder.ExitCode);
        Assert.Contains("is a folder", folder.Error, StringComparison.Ordinal);
        var endless = await sam.RunAsync("describe", "/dev/zero", "--model", sam.Model);
        Assert.Equal(4, endless.ExitCode);
        Assert.EndsWith("; save the picture smaller\n", endless.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_model_that_does_not_load_is_named()
    {
        using var temp = new TempFolder();
        async Task Expect(string model, int code, params string[] expected)
        {
            var result = await sam.RunAsync("describe", sam.Pictures[0], "--model", model);
            Assert.True(result.ExitCode == code, result.ToString());
            Assert.Equal("", result.Output);
            Assert.All(expected, e => Assert.Contains(e, result.Error, StringComparison.Ordinal));
        }
        await Expect("", 2, "--model is empty");
        await Expect(temp["none"], 3, temp["none"], "does not exist", "expected a model folder");
        await Expect(sam.Pictures[0], 3, "is a file", "expected a model folder");
        await Expect(temp.Path, 3, "config.json", "sam model convert");
        foreach (string file in Directory.EnumerateFiles(sam.Model))
        {
            File.Copy(file, temp[Path.GetFileName(file)]);
        }
        File.Delete(temp["vocab.txt"]);
        await Expect(temp.Path, 3, "vocab.txt", "copy it there");
        string config = await File.ReadAllTextAsync(temp["config.json"]);
        await File.WriteAllTextAsync(temp["config.json"], "{");
        await Expect(temp.Path, 3, "config.json");
        await File.WriteAllTextAsync(temp["config.json"], config);
        using (var weights = File.OpenWrite(temp["model.safetensors"]))
        {
            weights.SetLength(weights.Length / 2);
        }
        await Expect(temp.Path, 3, "model.safetensors");
    }

    [Fact]
    public async Task Without_its_native_library_it_says_where_it_looked()
    {
        var environment = new Dictionary<string, string> { ["SAM_NATIVE_LIBRARY"] = "/none/libsamengine_cpu.so" };
        var described = await sam.RunAsync(environment, sam.Describe);
        Assert.Equal(5, described.ExitCode);
        Assert.Contains("/none/libsamengine_cpu.so: not there", described.Error, StringComparison.Ordinal);
        var doctor = await sam.RunAsync(environment, "doctor");
        Assert.Equal(5, doctor.ExitCode);
        Assert.Contains("/none/libsamengine_cpu.so: not there", doctor.Output, StringComparison.Ordinal);
        Assert.Contains("SAM_NATIVE_LIBRARY", doctor.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_instruction_set_is_taken_in_any_case_and_a_wrong_one_names_its_source()
    {
        var scalar = await sam.RunAsync([.. sam.Describe, "--isa", "Scalar"]);
        Assert.Contains("cpu scalar", scalar.Error, StringComparison.Ordinal);
        var environment = new Dictionary<string, string> { ["SAM_CPU_ISA"] = "abacus" };
        var described = await sam.RunAsync(environment, sam.Describe);
        Assert.Equal(2, described.ExitCode);
        Assert.Contains("environment variable SAM_CPU_ISA: is 'abacus', expected one of: scalar", described.Error, StringComparison.Ordinal);
        var doctor = await sam.RunAsync(environment, "doctor");
        Assert.Equal(5, doctor.ExitCode);
        Assert.Contains("backend cpu: not usable: environment variable SAM_CPU_ISA", doctor.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verbose_shows_where()
    {
        var result = await ProcessRun.RunAsync(Built.Sam, [.. sam.Describe, "none.png", "--verbose"]);
        Assert.Equal(4, result.ExitCode);
        Assert.Contains("ImageReader.RequireFile", result.Error, StringComparison.Ordinal);
    }
}
