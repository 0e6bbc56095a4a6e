using System.CommandLine;
using SamEngine.Compute.Cpu;

namespace SamEngine.Bench;

/// <summary><c>kernels</c>: the operations of the model, one by one.</summary>
internal static class KernelsCommand
{
    public static Command Create()
    {
        var filter = new Option<string?>("--filter") { Description = "Only operations whose name has this in it" };
        var iterations = new Option<int>("--iterations") { Description = "Timed runs of an operation", DefaultValueFactory = _ => 20 };
        var threads = new Option<int>("--threads") { Description = "Threads; 0: one per processor" };
        var isa = new Option<string[]>("--isa") { Description = "Instruction sets, or 'all': the ladder of each operation (the best)", AllowMultipleArgumentsPerToken = true };
        var group = new Option<int>("--group-size") { Description = "Quantised weights that share a scale: 32, 64 or 128 (64)", DefaultValueFactory = _ => 64 };
        group.AcceptOnlyFromAmong("32", "64", "128");
        var json = new Option<string?>("--json") { Description = "File to write the results to" };
        var command = new Command("kernels", "Times every operation at the model's own sizes beside the time its operations and bytes take at the machine's ceilings")
        {
            filter, iterations, threads, isa, group, json,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            string?[] sets = parsed.GetValue(isa) switch
            {
                ["all"] => [.. CpuBackend.InstructionSets],
                { Length: > 0 } given => given,
                _ => new string?[] { null },
            };
            var results = new List<KernelResult>();
            var probes = new List<Ceilings>();
            foreach (string? set in sets)
            {
                using var backend = new CpuBackend(parsed.GetValue(threads), set);
                using var bench = new KernelBench(backend, Math.Max(1, parsed.GetValue(iterations)), parsed.GetValue(group));
                probes.Add(Ceilings.Measure(backend.Info.Threads));
                results.AddRange(bench.Run(parsed.GetValue(filter), cancellation));
                probes.Add(Ceilings.Measure(backend.Info.Threads));
            }
            if (results.Count == 0)
            {
                await Console.Error.WriteLineAsync($"no operation has '{parsed.GetValue(filter)}' in its name");
                return 2;
            }
            var report = new KernelReport(results, probes);
            report.Print(Console.Out);
            if (parsed.GetValue(json) is { } path)
            {
                await using var stream = File.Create(path);
                report.WriteJson(stream);
            }
            return 0;
        });
        return command;
    }
}
