using System.Globalization;
using System.Text;
using SamEngine.Data;
using SamEngine.Data.Mini;

namespace SamEngine.Training;

/// <summary>
/// The paper's experiment in miniature: two bases with and without guidance, several seeds of adapters, and the control that
/// spends the adapters' steps on unguided weights, all on the test split and through the engine. From committed checkpoints.
/// </summary>
internal static class ExperimentTable
{
    /// <summary>Seed of the test split.</summary>
    public const int TestSeed = 20261123;

    private const string Begin = "<!-- table: begin -->";
    private const string End = "<!-- table: end -->";

    /// <param name="Name">As the table names it.</param>
    /// <param name="Guidance">Whether the pictures guide each other.</param>
    /// <param name="Overlays">What is put over the base's weights, a file for each seed; null: nothing.</param>
    private sealed record Row(string Name, Guidance Guidance, IReadOnlyList<string?> Overlays);

    /// <summary>Evaluates everything and prints the table as Markdown.</summary>
    /// <param name="bases">Model folders by name; beside the weights of a base, in <paramref name="checkpoints"/>/name,
    /// <c>adapters-N.safetensors</c> and <c>control-N.safetensors</c>.</param>
    /// <param name="checkpoints">Folder of those.</param>
    /// <param name="work">Test split and answers; a run that was ended goes on there.</param>
    /// <param name="samples">Samples of the test split.</param>
    /// <param name="document">File whose table is replaced, or null.</param>
    public static async Task RunAsync(IReadOnlyList<(string Name, string Folder)> bases, string checkpoints, string work, int samples,
        string? document)
    {
        string test = Path.Combine(work, $"data-{samples}");
        if (!File.Exists(Path.Combine(test, "test", "annotations.json")))
        {
            if (Directory.Exists(test))
            {
                Directory.Delete(test, recursive: true);
            }
            Console.WriteLine($"drawing {samples} samples");
            MmLinkMini.Write(test, new MmLinkMiniOptions { Seed = TestSeed, Train = 0, Test = samples });
        }
        var dataset = MmLinkDataset.Open(Path.Combine(test, "test"));
        var text = new StringBuilder();
        bool headed = false;
        foreach (var (name, folder) in bases)
        {
            string[] Files(string pattern) => [.. Directory.EnumerateFiles(Path.Combine(checkpoints, name), pattern)
                .Order(StringComparer.Ordinal)];
            Row[] rows =
            [
                new($"{name}, unguided", Guidance.Off, [null]),
                new($"{name}, control (the adapters' steps spent on unguided weights)", Guidance.Off, Files("control-*.safetensors")),
                new($"{name}, guided", Guidance.On, Files("adapters-*.safetensors")),
            ];
            foreach (var row in rows)
            {
                var results = new List<EvaluationResult>();
                foreach (string? overlay in row.Overlays)
                {
                    results.Add(await EvaluateAsync(dataset, folder, overlay, row.Guidance, Path.Combine(work,
                        $"{name}-{Path.GetFileNameWithoutExtension(overlay) ?? "base"}-{samples}")));
                }
                if (results.Count == 0)
                {
                    throw new InvalidOperationException($"{checkpoints}/{name} has no checkpoints for '{row.Name}'");
                }
                if (!headed)
                {
                    string[] families = [.. results[0].Accuracy.Select(a => $"{a.Family} ({a.Samples})")];
                    text.Append(CultureInfo.InvariantCulture, $"| | seeds | CIDEr | BLEU-4 | ROUGE-L | {string.Join(" | ", families)} |\n");
                    text.Append(CultureInfo.InvariantCulture, $"| --- | ---: | ---: | ---: | ---: |{string.Concat(Enumerable.Repeat(" ---: |", families.Length))}\n");
                    text.Append(CultureInfo.InvariantCulture, $"| the commonest answer | | | | | {string.Join(" | ", results[0].Accuracy.Select(a => Percent(100.0 * a.Majority / a.Samples)))} |\n");
                    headed = true;
                }
                string Cell(Func<EvaluationResult, double> of) => Spread([.. results.Select(of)]);
                string[] cells = [.. Enumerable.Range(0, results[0].Accuracy.Count).Select(i =>
                    Cell(r => 100.0 * r.Accuracy[i].Right / r.Accuracy[i].Samples))];
                text.Append(CultureInfo.InvariantCulture, $"| {row.Name} | {results.Count} | {Cell(r => 100 * r.Scores.Cider)} | " +
                    $"{Cell(r => 100 * r.Scores.Bleu[3])} | {Cell(r => 100 * r.Scores.Rouge)} | {string.Join(" | ", cells)} |\n");
            }
        }
        Console.WriteLine(text);
        if (document is not null)
        {
            Replace(document, text.ToString());
        }
    }

    private static async Task<EvaluationResult> EvaluateAsync(MmLinkDataset dataset, string folder, string? overlay, Guidance guidance,
        string results)
    {
        using var model = await SamModel.LoadAsync(folder, new SamModelOptions { Adapters = overlay });
        var run = new EvaluationRun(dataset, results, new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["model"] = Path.GetFullPath(folder),
            ["adapters"] = overlay ?? "",
            ["guidance"] = guidance.ToString(),
        });
        Console.WriteLine($"{results}: {run.Progress.Done} of {run.Progress.Total} answered before");
        return await run.RunAsync(async (sample, cancel) => (await model.DescribeToEndAsync(new DescribeRequest
        {
            Images = [.. dataset.PathsOf(sample).Select(SamImage.FromFile)],
            Prompt = sample.Instruction,
            Guidance = guidance,
        }, cancel)).Text, atOnce: 8);
    }

    /// <summary>The mean, and the standard deviation between seeds where there are several.</summary>
    private static string Spread(double[] values)
    {
        double mean = values.Average();
        return values.Length == 1 ? Percent(mean)
            : $"{Percent(mean)} ± {Percent(Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Length - 1)))}";
    }

    private static string Percent(double value) => value.ToString("F1", CultureInfo.InvariantCulture);

    private static void Replace(string document, string table)
    {
        string text = File.ReadAllText(document);
        int begin = text.IndexOf(Begin, StringComparison.Ordinal);
        int end = text.IndexOf(End, StringComparison.Ordinal);
        if (begin < 0 || end < begin)
        {
            throw new InvalidOperationException($"{document} has no '{Begin}' with an '{End}' behind it");
        }
        File.WriteAllText(document, text[..(begin + Begin.Length)] + "\n" + table + text[end..]);
    }
}
