using System.CommandLine;

namespace SamEngine.Bench.Compare;

/// <summary><c>compare</c>: this engine and its peers in alternating child processes.</summary>
internal static class CompareCommand
{
    private const string DefaultLlama = "llama.cpp";

    public static Command Create()
    {
        var own = Pairs("--model", "LABEL=FOLDER of this engine, or FOLDER; repeat it for other formats. The first stands for parts that no peer does");
        var source = new Option<string?>("--source") { Description = "Folder of unquantised weights that libtorch reads" };
        var onnx = Pairs("--onnx", "FORMAT=FILE of a vision encoder that 'make-model --format onnx' wrote; FORMAT is f32 or int8");
        var peers = new Option<string?>("--peers") { Description = "Built SamEngine.Peers program (found beside this one's sources)" };
        var torch = new Option<string[]>("--torch") { Description = "Formats of libtorch", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => ["bf16", "f32"] };
        torch.AcceptOnlyFromAmong("bf16", "f32");
        var torchLayers = new Option<int>("--torch-layers") { Description = "Language layers that libtorch loads; their time is multiplied (8)", DefaultValueFactory = _ => 8 };
        var gguf = new Option<string[]>("--gguf") { Description = "Model files for the llama-bench programs; 'make-model --format gguf' writes them", AllowMultipleArgumentsPerToken = true };
        var bench = Pairs("--llama-bench", "LABEL=PATH of a llama-bench program, or PATH; repeat it for other engines");
        var batched = Pairs("--llama-batched-bench", "LABEL=PATH of the llama-batched-bench of the same engine, for five sequences");
        var benchArguments = Pairs("--llama-bench-arguments", "LABEL=\"ARGUMENTS\" more for that llama-bench, such as \"-rtr 1\"");
        var batchedArguments = Pairs("--llama-batched-bench-arguments", "LABEL=\"ARGUMENTS\" more for that llama-batched-bench, such as \"-rtr\"");
        var python = new Option<string?>("--python") { Description = "Python with Pillow and numpy" };
        var items = new Option<string[]>("--items")
        {
            Description = "Some of: " + string.Join(", ", WorkItems.Names),
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [.. WorkItems.Names],
        };
        items.AcceptOnlyFromAmong([.. WorkItems.Names]);
        var rounds = new Option<int>("--rounds") { Description = "Rounds of child processes; each contender once in each", DefaultValueFactory = _ => 3 };
        var iterations = new Option<int>("--iterations") { Description = "Timed runs of an item in one child", DefaultValueFactory = _ => 2 };
        var threads = new Option<int>("--threads") { Description = "Threads; 0: one per processor" };
        var limit = new Option<int>("--limit-minutes") { Description = "Longest that one child may take", DefaultValueFactory = _ => 20 };
        var json = new Option<string?>("--json") { Description = "File to write every figure to" };
        var chart = new Option<string?>("--chart") { Description = "PNG file to draw the comparison in" };
        own.Required = true;
        var command = new Command("compare", "Measures this engine beside its peers, one child process at a time in rounds, and prints ratios with " +
            "their spread. Exit code 1 when a child failed")
        {
            own, source, peers, torch, torchLayers, onnx, gguf, bench, batched, benchArguments, batchedArguments, python, items, rounds, iterations,
            threads, limit, json, chart,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            using var drawing = parsed.GetValue(chart) is null ? null : new ComparisonChart();
            var owns = Split(parsed.GetRequiredValue(own), f => Path.GetFileName(Path.TrimEndingDirectorySeparator(f)));
            using var pictures = new TemporaryFolder();
            string jpeg = Path.Combine(pictures.Path, "picture.jpg");
            await File.WriteAllBytesAsync(jpeg, Samples.Jpeg(1), cancellation);
            var shape = Model.SamConfig.Load(Path.Combine(owns[0].Value, Checkpoints.SamCheckpoint.ConfigName));
            var field = new Field([.. owns.Select(o => new OwnEngine(o.Label, o.Value))]);
            field.AddLibraries(parsed.GetValue(peers), parsed.GetValue(source), parsed.GetValue(torch) ?? [], parsed.GetValue(torchLayers),
                Split(parsed.GetValue(onnx) ?? [], _ => "f32"));
            field.AddLlama(parsed.GetValue(gguf) ?? [], MeasureCommand.FullDepth(shape).Llm.Layers, Llama(parsed.GetValue(bench)), Llama(parsed.GetValue(batched)),
                Llama(parsed.GetValue(benchArguments)), Llama(parsed.GetValue(batchedArguments)));
            await field.AddPillowAsync(parsed.GetValue(python), jpeg, cancellation);
            var settings = new ChildSettings(parsed.GetValue(threads) is var n && n > 0 ? n : Environment.ProcessorCount,
                Math.Max(1, parsed.GetValue(iterations)), WorkItems.Rows(shape), TimeSpan.FromMinutes(Math.Max(1, parsed.GetValue(limit))));
            var comparison = await field.RunAsync(parsed.GetRequiredValue(items), Math.Max(1, parsed.GetValue(rounds)), settings, Console.Error,
                cancellation);
            comparison.Print(Console.Out);
            if (parsed.GetValue(json) is { } path)
            {
                await using var stream = File.Create(path);
                comparison.WriteJson(stream);
            }
            if (parsed.GetValue(chart) is { } picture)
            {
                await File.WriteAllBytesAsync(picture, drawing!.Draw(comparison.Series, field.Own), cancellation);
            }
            return comparison.Failures.Count == 0 ? 0 : 1;
        });
        return command;
    }

    private static Option<string[]> Pairs(string name, string description) => new(name) { Description = description };

    private static Dictionary<string, string> Llama(string[]? values) =>
        Split(values ?? [], _ => DefaultLlama).ToDictionary(v => v.Label, v => v.Value, StringComparer.Ordinal);

    /// <summary>LABEL=VALUE; a value alone, or a path with a '=' behind a separator, gets a label made for it.</summary>
    private static List<(string Label, string Value)> Split(string[] values, Func<string, string> label) =>
        [.. values.Select(v => v.IndexOf('=', StringComparison.Ordinal) is var at && at > 0 && !v[..at].Contains('/', StringComparison.Ordinal)
            && !v.StartsWith('-') ? (v[..at], v[(at + 1)..]) : (label(v), v))];
}

/// <summary>A folder that is deleted at the end.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("sam-bench-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
