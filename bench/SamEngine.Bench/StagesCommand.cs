using System.CommandLine;

namespace SamEngine.Bench;

/// <summary><c>stages</c>: the stages of a request, one by one.</summary>
internal static class StagesCommand
{
    public static Command Create()
    {
        var model = new Option<string?>("--model") { Description = "Model folder; without: random weights of full width are written to a temporary folder" };
        var layers = new Option<int>("--layers")
        {
            Description = "Without --model: layers of the vision encoder and of the language model (full: 39 and 32); said in the output",
            DefaultValueFactory = _ => 4,
        };
        var dtype = new Option<string>("--dtype") { Description = "Without --model: f32, f16 or bf16", DefaultValueFactory = _ => "bf16" };
        var stages = new Option<string[]>("--stages")
        {
            Description = "Some of: " + string.Join(", ", StageBench.Names),
            AllowMultipleArgumentsPerToken = true,
            // Whole requests take their time; they are asked for by name.
            DefaultValueFactory = _ => [.. StageBench.Names.Where(n => !n.StartsWith("request", StringComparison.Ordinal))],
        };
        stages.AcceptOnlyFromAmong([.. StageBench.Names]);
        var iterations = new Option<int>("--iterations") { Description = "Timed runs of a stage; decode steps: four times as many", DefaultValueFactory = _ => 5 };
        var prompt = new Option<int>("--prompt-rows") { Description = "Rows of the prompt beside five images' visual tokens", DefaultValueFactory = _ => 16 };
        var threads = new Option<int>("--threads") { Description = "Threads; 0: one per processor" };
        var isa = new Option<string?>("--isa") { Description = "Instruction set: scalar, avx2, avx512" };
        var json = new Option<string?>("--json") { Description = "File to write the results to" };
        var command = new Command("stages", "Times the stages of a request: warm-up, then p50 and p99, beside the machine's ceilings")
        {
            model, layers, dtype, stages, iterations, prompt, threads, isa, json,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            using var source = parsed.GetValue(model) is { } folder ? ModelSource.Existing(folder)
                : ModelSource.Random(parsed.GetValue(layers), parsed.GetRequiredValue(dtype), cancellation);
            var options = new SamModelOptions { Threads = parsed.GetValue(threads), InstructionSet = parsed.GetValue(isa) };
            var stored = new StoredBytes();
            using var loaded = await SamModel.LoadAsync(source.Folder, options, stored, cancellation);
            var bench = new StageBench(loaded, stored, source.FullConfig, Math.Max(1, parsed.GetValue(iterations)),
                Math.Max(1, parsed.GetValue(prompt)));
            var report = await bench.RunAsync(parsed.GetRequiredValue(stages), source.Description);
            report.Print(Console.Out);
            if (parsed.GetValue(json) is { } path)
            {
                await using var stream = File.Create(path);
                report.WriteJson(stream);
            }
        });
        return command;
    }
}
