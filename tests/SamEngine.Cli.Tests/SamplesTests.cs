using System.Text.Json;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cli.Tests;

/// <summary>The pictures of <c>samples/</c> and the model that comes with the command: its answers are those that
/// <c>samples/annotations.json</c> lists.</summary>
public sealed class SamplesTests(SamCommand sam)
{
    private const string DefaultPrompt = "Sum up the common factor in these pictures.";

    private static string Folder => Path.Combine(Golden.RepositoryRoot, "samples");

    [Fact]
    public async Task Describing_a_group_without_naming_a_model_gives_its_expected_answer()
    {
        bool withDefaultPrompt = false;
        foreach (var sample in Samples())
        {
            // As the shell lists them for samples/<group>/*.
            string[] pictures = [.. sample.Images.Select(i => Path.Combine(Folder, i))];
            Assert.Equal(Directory.EnumerateFileSystemEntries(Path.GetDirectoryName(pictures[0])!).Order(StringComparer.Ordinal), pictures);
            bool isDefault = sample.Instruction == DefaultPrompt;
            withDefaultPrompt |= isDefault;
            var result = await sam.RunAsync(["describe", .. pictures, .. isDefault ? [] : (string[])["--prompt", sample.Instruction]]);
            Assert.True(result.ExitCode == 0, result.ToString());
            Assert.Equal(sample.Output + "\n", result.Output);
            Assert.StartsWith("model: SAM-mini (bundled), ", result.Error, StringComparison.Ordinal);
        }
        Assert.True(withDefaultPrompt, $"no sample has the default prompt, '{DefaultPrompt}'");
    }

    [Fact]
    public async Task They_are_a_data_set_with_every_answer_right()
    {
        using var temp = new TempFolder();
        var result = await sam.RunAsync("eval", Folder, "--out", temp["results"]);
        Assert.True(result.ExitCode == 0, result.ToString());
        using var answers = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(temp["results"], "pred.json")));
        Assert.Equal(Samples().Count, answers.RootElement.GetArrayLength());
        Assert.All(answers.RootElement.EnumerateArray(), a =>
            Assert.Equal(a.GetProperty("gt_response").GetString(), a.GetProperty("pred_response").GetString()));
    }

    private static List<(string[] Images, string Instruction, string Output)> Samples()
    {
        using var list = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Folder, "annotations.json")));
        var samples = list.RootElement.EnumerateArray().Select(e => (
            e.GetProperty("img_list").EnumerateArray().Select(i => i.GetString()!).ToArray(),
            e.GetProperty("instruction").GetString()!, e.GetProperty("output").GetString()!)).ToList();
        Assert.NotEmpty(samples);
        return samples;
    }
}
