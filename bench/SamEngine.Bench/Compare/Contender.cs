using System.Globalization;
using System.Text.Json;

namespace SamEngine.Bench.Compare;

/// <summary>What every child process is told.</summary>
/// <param name="Threads">Threads to compute with.</param>
/// <param name="Iterations">Timed runs of each item in one child.</param>
/// <param name="Rows">Rows of the prefill.</param>
/// <param name="Limit">Longest that a child may take.</param>
internal sealed record ChildSettings(int Threads, int Iterations, int Rows, TimeSpan Limit);

/// <summary>An engine with a format: something that can be measured in a process of its own.</summary>
/// <param name="name">Unique in a comparison.</param>
/// <param name="items">What it can do.</param>
internal abstract class Contender(string name, IReadOnlyList<string> items)
{
    public string Name { get; } = name;

    public IReadOnlyList<string> Items { get; } = items;

    /// <summary>Whether it is this engine.</summary>
    public virtual bool IsOwn => false;

    /// <summary>Measures in child processes, one after the other; memory is that of the last but the one for loading.</summary>
    /// <exception cref="ContenderException">A child failed.</exception>
    public abstract Task<ContenderReport> RunAsync(IReadOnlyCollection<string> items, ChildSettings settings, CancellationToken cancellation);

    /// <summary>Runs a child that prints a <see cref="ContenderReport"/>.</summary>
    protected async Task<ContenderReport> ReportOfAsync(string program, IEnumerable<string> arguments, ChildSettings settings,
        CancellationToken cancellation)
    {
        var child = await ChildProcess.RunAsync(Name, program, arguments, settings.Limit, cancellation);
        return ContenderReport.Parse(Name, child.Output) with
        {
            PeakResidentBytes = child.PeakResidentBytes,
            PeakAnonymousBytes = child.PeakAnonymousBytes,
        };
    }

    protected static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);
}

/// <summary>This engine with a model folder; the folder's formats are what is measured.</summary>
internal sealed class OwnEngine(string label, string folder) : Contender("SamEngine " + label, WorkItems.Names)
{
    public override bool IsOwn => true;

    public override async Task<ContenderReport> RunAsync(IReadOnlyCollection<string> items, ChildSettings settings, CancellationToken cancellation)
    {
        string[] others = [.. items.Where(i => i != WorkItems.Load)];
        var reports = new List<ContenderReport>();
        // Loading needs a process of its own, in which nothing is warm.
        foreach (string[] part in (string[][])[items.Contains(WorkItems.Load) ? [WorkItems.Load] : [], others])
        {
            if (part.Length > 0)
            {
                reports.Add(await ReportOfAsync(Environment.ProcessPath!, [.. Self(), "measure", "--model", folder, "--iterations",
                    Number(settings.Iterations), "--threads", Number(settings.Threads), "--items", .. part], settings, cancellation));
            }
        }
        return reports[^1] with { Items = [.. reports.SelectMany(r => r.Items)] };
    }

    /// <summary>Started as <c>dotnet x.dll</c>, the path of the library comes first.</summary>
    private static string[] Self() =>
        Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? [typeof(OwnEngine).Assembly.Location] : [];
}

/// <summary>One engine of <c>SamEngine.Peers</c>: libtorch or ONNX Runtime.</summary>
/// <param name="program">The built program.</param>
/// <param name="engine">"torch" or "onnx".</param>
/// <param name="format">Weights: "f32", "bf16", "int8".</param>
/// <param name="items">What it can do.</param>
/// <param name="arguments">Where its weights are.</param>
internal sealed class LibraryPeer(string program, string engine, string format, IReadOnlyList<string> items, IReadOnlyList<string> arguments)
    : Contender($"{engine} {format}", items)
{
    public override Task<ContenderReport> RunAsync(IReadOnlyCollection<string> items, ChildSettings settings, CancellationToken cancellation) =>
        ReportOfAsync(program, ["measure", "--engine", engine, "--format", format, .. arguments, "--threads", Number(settings.Threads),
            "--iterations", Number(settings.Iterations), "--items", .. items], settings, cancellation);
}

/// <summary>
/// llama.cpp and its relatives through <c>llama-batched-bench</c> (prefill, then decode steps of one and of several sequences
/// that share the prompt) and <c>llama-bench</c> (loading; and, without the other, prefill and decode).
/// </summary>
internal sealed class LlamaPeer(string label, string model, string? bench, string? batchedBench, string[] benchArguments,
    string[] batchedArguments) : Contender($"{label} {Path.GetFileNameWithoutExtension(model)}", Able(bench, batchedBench))
{
    private const int Steps = 32;

    public override async Task<ContenderReport> RunAsync(IReadOnlyCollection<string> items, ChildSettings settings, CancellationToken cancellation)
    {
        var done = new List<Measurement>();
        ChildResult? last = null;
        string format = Format(model);
        if (items.Contains(WorkItems.Load) && bench is not null)
        {
            // As many rows as one picture's visual tokens and a start id.
            last = await BenchAsync(33, 0, 1, [.. await NoWarmUpAsync(settings, cancellation)], settings, cancellation);
            done.Add(new Measurement(WorkItems.Load, format, [last.Seconds], "prefill of 33 rows; whole process"));
        }
        if (batchedBench is not null && items.Any(i => i is WorkItems.Prefill or WorkItems.Decode or WorkItems.Beam5))
        {
            string context = Number(Math.Max(512, settings.Rows + WorkItems.Beams * Steps + 64));
            var times = new Dictionary<string, List<double>>();
            for (int i = 0; i < settings.Iterations; i++)
            {
                last = await ChildProcess.RunAsync(Name, batchedBench, ["-m", model, "-c", context, "-t", Number(settings.Threads), "-tb",
                    Number(settings.Threads), "-npp", Number(settings.Rows), "-ntg", Number(Steps), "-npl", $"1,{WorkItems.Beams}", "-pps",
                    .. batchedArguments], settings.Limit, cancellation);
                foreach (var row in LlamaOutput.ParseBatchedBench(Name, last.Output + "\n" + last.Errors))
                {
                    Add(times, WorkItems.Prefill, row.PromptSeconds);
                    Add(times, row.Sequences == 1 ? WorkItems.Decode : WorkItems.Beam5, row.StepSeconds);
                }
            }
            done.AddRange(times.Where(t => items.Contains(t.Key)).Select(t => new Measurement(t.Key, format, t.Value)));
        }
        else if (bench is not null && items.Any(i => i is WorkItems.Prefill or WorkItems.Decode))
        {
            last = await BenchAsync(settings.Rows, Steps, settings.Iterations, [], settings, cancellation);
            foreach (var row in LlamaOutput.ParseBench(Name, last.Output))
            {
                done.Add(row.Prompt > 0 ? new Measurement(WorkItems.Prefill, format, row.Seconds)
                    : new Measurement(WorkItems.Decode, format, [.. row.Seconds.Select(s => s / row.Generated)], "from an empty context"));
            }
        }
        return new ContenderReport(Name, done) { PeakResidentBytes = last?.PeakResidentBytes, PeakAnonymousBytes = last?.PeakAnonymousBytes };
    }

    private static IReadOnlyList<string> Able(string? bench, string? batchedBench) =>
    [
        WorkItems.Prefill, WorkItems.Decode,
        .. batchedBench is null ? (string[])[] : [WorkItems.Beam5],
        .. bench is null ? (string[])[] : [WorkItems.Load],
    ];

    /// <summary>The part of a file's name that llama.cpp's tools put there: <c>vicuna-7b-q4_0.gguf</c>.</summary>
    private static string Format(string path) => Path.GetFileNameWithoutExtension(path).Split('-')[^1];

    private static void Add(Dictionary<string, List<double>> times, string item, double seconds)
    {
        if (!times.TryGetValue(item, out var list))
        {
            times.Add(item, list = []);
        }
        list.Add(seconds);
    }

    private Task<ChildResult> BenchAsync(int prompt, int steps, int repetitions, string[] more, ChildSettings settings,
        CancellationToken cancellation) => ChildProcess.RunAsync(Name, bench!, ["-m", model, "-p", Number(prompt), "-n", Number(steps),
            "-r", Number(repetitions), "-t", Number(settings.Threads), "-o", "json", .. more, .. benchArguments], settings.Limit, cancellation);

    /// <summary>llama.cpp and ik_llama.cpp switch the warm-up off differently.</summary>
    private async Task<string[]> NoWarmUpAsync(ChildSettings settings, CancellationToken cancellation)
    {
        var help = await ChildProcess.RunAsync(Name, bench!, ["--help"], settings.Limit, cancellation);
        string text = help.Output + help.Errors;
        return text.Contains("--no-warmup", StringComparison.Ordinal) ? ["--no-warmup"]
            : text.Contains("--warmup <0|1>", StringComparison.Ordinal) ? ["--warmup", "0"]
            : throw new ContenderException(Name, $"'{bench}' says nothing about a warm-up in its --help, so loading can't be timed");
    }
}

/// <summary>Pillow and numpy: the reference's preprocessing.</summary>
internal sealed class PillowPeer(string python, string jpeg) : Contender("Pillow", [WorkItems.Picture])
{
    private const string Script = """
        import sys, time, json
        import numpy, PIL
        from PIL import Image
        mean = numpy.array([0.48145466, 0.4578275, 0.40821073], numpy.float32)
        std = numpy.array([0.26862954, 0.26130258, 0.27577711], numpy.float32)
        def once():
            image = Image.open(sys.argv[1]).convert("RGB").resize((224, 224), Image.BICUBIC)
            values = numpy.asarray(image, dtype=numpy.float32) / numpy.float32(255)
            return numpy.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))
        seconds = []
        for i in range(3 + 4 * int(sys.argv[2])):
            start = time.perf_counter()
            once()
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"engine": "Pillow " + PIL.__version__ + ", numpy " + numpy.__version__,
            "items": [{"item": "picture", "format": "", "seconds": seconds[3:]}]}))
        """;

    public override Task<ContenderReport> RunAsync(IReadOnlyCollection<string> items, ChildSettings settings, CancellationToken cancellation) =>
        ReportOfAsync(python, ["-c", Script, jpeg, Number(settings.Iterations)], settings, cancellation);

    /// <summary>Why it can't be measured; null when it can.</summary>
    public static async Task<string?> WhyAbsentAsync(string python, CancellationToken cancellation)
    {
        try
        {
            await ChildProcess.RunAsync("Pillow", python, ["-c", "import PIL, numpy"], TimeSpan.FromMinutes(1), cancellation);
            return null;
        }
        catch (ContenderException e)
        {
            return e.Message;
        }
    }
}

/// <summary>What llama.cpp's benchmarks print.</summary>
internal static class LlamaOutput
{
    /// <summary>One object of <c>llama-bench -o json</c>.</summary>
    public static IReadOnlyList<(int Prompt, int Generated, IReadOnlyList<double> Seconds)> ParseBench(string contender, string output)
    {
        try
        {
            using var document = JsonDocument.Parse(output);
            return [.. document.RootElement.EnumerateArray().Select(test => (test.GetProperty("n_prompt").GetInt32(),
                test.GetProperty("n_gen").GetInt32(),
                (IReadOnlyList<double>)[.. test.GetProperty("samples_ns").EnumerateArray().Select(s => s.GetDouble() / 1e9)]))];
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new ContenderException(contender, "llama-bench printed no JSON of its form: " + e.Message, e);
        }
    }

    /// <summary>The rows of <c>llama-batched-bench</c>, as JSON lines (--output-format jsonl) or as its table.</summary>
    public static IReadOnlyList<(int Sequences, double PromptSeconds, double StepSeconds)> ParseBatchedBench(string contender, string output)
    {
        var rows = new List<(int, double, double)>();
        foreach (string line in output.Split('\n').Select(l => l.Trim()))
        {
            if (line.StartsWith('{') && line.Contains("\"t_tg\"", StringComparison.Ordinal))
            {
                using var document = JsonDocument.Parse(line);
                var row = document.RootElement;
                rows.Add((row.GetProperty("pl").GetInt32(), row.GetProperty("t_pp").GetDouble(),
                    row.GetProperty("t_tg").GetDouble() / row.GetProperty("tg").GetInt32()));
            }
            // |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | ...
            else if (line.StartsWith('|') && line.Split('|', StringSplitOptions.TrimEntries) is { Length: >= 9 } cells
                && int.TryParse(cells[2], CultureInfo.InvariantCulture, out int steps)
                && int.TryParse(cells[3], CultureInfo.InvariantCulture, out int sequences)
                && double.TryParse(cells[5], CultureInfo.InvariantCulture, out double prompt)
                && double.TryParse(cells[7], CultureInfo.InvariantCulture, out double decode))
            {
                rows.Add((sequences, prompt, decode / steps));
            }
        }
        return rows.Count > 0 ? rows
            : throw new ContenderException(contender, "llama-batched-bench printed no results: " + ChildProcess.Tail(output));
    }
}
