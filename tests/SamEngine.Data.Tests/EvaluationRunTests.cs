using System.Text.Json;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Data.Tests;

/// <summary>Evaluations that are killed, taken up, and mixed up.</summary>
public sealed class EvaluationRunTests : IDisposable
{
    private const int Count = 20;
    private readonly TempFolder _folder = new();
    private readonly MmLinkDataset _dataset;
    private readonly Dictionary<string, string> _settings = new(StringComparer.Ordinal) { ["model"] = "m" };

    public EvaluationRunTests()
    {
        string data = _folder["data"];
        Directory.CreateDirectory(data);
        File.WriteAllBytes(Path.Combine(data, "a.png"), [1]);
        MmLinkDataset.WriteAnnotations(data, Enumerable.Range(0, Count).Select(i =>
            new MmLinkSample($"{i}", ["a.png"], "What?", i % 2 == 0 ? $"A dog sees {i} cats." : "It rains.")
            {
                Family = i % 2 == 0 ? "animals" : "weather",
                Required = [i % 2 == 0 ? "dog" : "rains"],
            }));
        _dataset = MmLinkDataset.Open(data);
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Right_answers_get_full_marks_and_the_files_are_there()
    {
        var result = await Run().RunAsync((s, _) => Task.FromResult(s.Output), atOnce: 4);
        Assert.Equal(1, result.Scores.Bleu[3], 1e-6);
        Assert.All(result.Accuracy, a => Assert.Equal((10, 10), (a.Right, a.Samples)));
        using var pred = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(_folder["out"], "pred.json")));
        Assert.Equal(Enumerable.Range(0, Count), pred.RootElement.EnumerateArray().Select(e => e.GetProperty("sample_id").GetInt32()));
        Assert.True(File.Exists(Path.Combine(_folder["out"], "eval.json")));
        Assert.True(File.Exists(Path.Combine(_folder["out"], "eval_score.json")));
    }

    [Fact]
    public async Task A_run_that_was_killed_loses_nothing_and_asks_nothing_twice()
    {
        var asked = new List<string>();
        using (var kill = new CancellationTokenSource())
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Run().RunAsync(async (s, c) =>
            {
                lock (asked)
                {
                    if (asked.Count == 7)
                    {
                        kill.Cancel();
                    }
                    c.ThrowIfCancellationRequested();
                    asked.Add(s.Id);
                }
                await Task.Yield();
                return s.Output;
            }, atOnce: 1, cancellation: kill.Token));
        }
        Assert.Equal(7, asked.Count);
        // The process died within a line.
        string answers = Path.Combine(_folder["out"], "answers.jsonl");
        string whole = File.ReadAllText(answers);
        string[] lines = whole.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        File.WriteAllText(answers, whole[..^5]);
        using var torn = JsonDocument.Parse(lines[^1]);
        asked.Remove(torn.RootElement.GetProperty("id").GetString()!);

        var run = Run();
        Assert.Equal((6, Count), run.Progress);
        await run.RunAsync((s, _) =>
        {
            lock (asked)
            {
                asked.Add(s.Id);
            }
            return Task.FromResult(s.Output);
        }, atOnce: 3);
        Assert.Equal(Enumerable.Range(0, Count).Select(i => $"{i}").Order(), asked.Order());
        Assert.Equal(Count, File.ReadAllLines(answers).Length);
        // Done: nothing is asked again.
        await Run().RunAsync((_, _) => throw new InvalidOperationException(), atOnce: 1);
    }

    [Fact]
    public async Task Other_settings_do_not_mix_with_what_is_there()
    {
        await Run().RunAsync((s, _) => Task.FromResult(s.Output), atOnce: 1);
        _settings["model"] = "other";
        var error = Assert.Throws<DatasetException>(() => Run());
        Assert.Contains("'m'", error.Message, StringComparison.Ordinal);
        Assert.Contains("'other'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Settings_of_a_run_that_has_answered_nothing_do_not_count()
    {
        _settings["beams"] = "0";
        await Assert.ThrowsAsync<RequestException>(() => Run().RunAsync((_, _) => throw new RequestException("beams", "is 0"), atOnce: 1));
        _settings["beams"] = "1";
        await Run().RunAsync((s, _) => Task.FromResult(s.Output), atOnce: 1);
        Assert.Contains("\"beams\": \"1\"", File.ReadAllText(Path.Combine(_folder["out"], "run.json")), StringComparison.Ordinal);
        _settings.Remove("beams");
        var error = Assert.Throws<DatasetException>(() => Run());
        Assert.Contains("a run with beams '1', now it is not stated", error.Message, StringComparison.Ordinal);
        File.Delete(Path.Combine(_folder["out"], "run.json"));
        Assert.Contains("is missing beside answers", Assert.Throws<DatasetException>(() => Run()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_shown_is_part_of_the_run_and_of_its_results()
    {
        foreach (var pictures in Enum.GetValues<PictureControl>())
        {
            string folder = _folder[$"{pictures}"];
            await Run(folder, pictures).RunAsync((s, _) => Task.FromResult(s.Output), atOnce: 1);
            using var eval = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "eval.json")));
            Assert.Equal($"{pictures}".ToLowerInvariant(), eval.RootElement.GetProperty("pictures").GetString());
            Assert.Equal(100, eval.RootElement.GetProperty("rouge").GetDouble());
        }
        var error = Assert.Throws<DatasetException>(() => Run(_folder["All"], PictureControl.Blank));
        Assert.Contains("pictures 'all', now it is 'blank'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_majority_answer_is_the_most_frequent_one_by_what_it_names()
    {
        string data = _folder["families"];
        Directory.CreateDirectory(data);
        File.WriteAllBytes(Path.Combine(data, "a.png"), [1]);
        (string Family, string Output, string[] Required)[] samples = [
            ("a", "A dog and a cat.", ["dog", "cat"]), ("a", "Cat, dog!", ["cat", "dog"]), ("a", "A dog.", ["dog"]),
            ("a", "A cow.", ["cow"]), ("b", "A dog.", ["dog"]), ("b", "One dog.", ["dog"]), ("b", "A cow.", ["cow"]),
            ("none", "Whatever.", [])];
        MmLinkDataset.WriteAnnotations(data, samples.Select((s, i) => new MmLinkSample($"{i}", ["a.png"], "What?", s.Output)
        {
            Family = s.Family,
            Required = s.Required,
        }));
        var result = await new EvaluationRun(MmLinkDataset.Open(data), _folder["out"], _settings)
            .RunAsync((_, _) => Task.FromResult("A cow."), atOnce: 1);
        Assert.Equal([new FamilyAccuracy("a", 1, 4, 2), new FamilyAccuracy("b", 1, 3, 2)], result.Accuracy);
    }

    [Fact]
    public async Task A_wrong_answer_counts_as_wrong()
    {
        var result = await Run().RunAsync((s, _) => Task.FromResult(s.Family == "animals" ? "A dog; it rains." : s.Output), 1);
        Assert.Equal(0, result.Accuracy.Single(a => a.Family == "animals").Right);
        Assert.Equal(10, result.Accuracy.Single(a => a.Family == "weather").Right);
        Assert.True(result.Scores.Rouge < 1);
    }

    private EvaluationRun Run() => Run(_folder["out"], PictureControl.All);

    private EvaluationRun Run(string folder, PictureControl pictures) => new(_dataset, folder, _settings, pictures: pictures);
}
