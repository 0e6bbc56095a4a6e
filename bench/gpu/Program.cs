using System.CommandLine;
using System.Text.Json;
using SamEngine;
using SamEngine.Compute;
using SamEngine.Cuda;
using SamEngine.GpuBench;
using SamEngine.Model;

Console.OutputEncoding = new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
var device = new Option<int?>("--device") { Description = "Number of the GPU; the first usable one when left out" };
var formats = new Option<WeightFormat[]>("--formats")
{
    Description = "Formats of the weights, one after the other",
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [WeightFormat.F16, WeightFormat.Q8, WeightFormat.Q4],
};
var config = new Option<string?>("--config") { Description = "config.json of another shape than the published one" };
var runs = new Option<int>("--runs") { Description = "Timed runs of a stage", DefaultValueFactory = _ => 20 };
var tokens = new Option<int>("--tokens") { Description = "New tokens of a request", DefaultValueFactory = _ => 60 };
var copy = new Option<int>("--copy-mib") { Description = "Size of the copy that the bandwidth is measured with", DefaultValueFactory = _ => 2048 };
var rounds = new Option<int>("--rounds") { Description = "Rounds of the loop that the matrix rate is measured with", DefaultValueFactory = _ => 20000 };
var torch = new Option<string?>("--torch") { Description = "JSON that torch_bench.py wrote, to print beside" };
var json = new Option<string?>("--json") { Description = "File to write every time to" };
var root = new RootCommand("Times the stages of a request on an NVIDIA GPU, beside what it can do in the same run. Prints times, asserts none.")
{
    device, formats, config, runs, tokens, copy, rounds, torch, json,
};
root.SetAction(parsed =>
{
    var shape = parsed.GetValue(config) is { } path ? SamConfig.Load(path) : SamConfig.Published;
    using var backend = new CudaBackend(parsed.GetValue(device), ElementType.F16);
    var ceilings = DeviceCeilings.Measure(backend, (long)parsed.GetValue(copy) << 20, parsed.GetValue(rounds), 5);
    var all = new List<Run>();
    foreach (var format in parsed.GetRequiredValue(formats))
    {
        using var stages = new DeviceStages(shape, backend, format, parsed.GetValue(runs), parsed.GetValue(tokens));
        var results = new List<Result>();
        foreach (var result in stages.Run())
        {
            Console.Error.WriteLine(FormattableString.Invariant($"{result.Id}: {result.Median * 1e3:0.000} ms"));
            results.Add(result);
        }
        all.Add(new Run(backend.Info.Device, CudaProvider.DriverVersion, backend.Info.InstructionSet,
            $"{(parsed.GetValue(config) is null ? "InstructBLIP-Vicuna-7B's shape" : "the given shape")}, {stages.Description}", ceilings, results));
        if (parsed.GetValue(json) is { } file)
        {
            // After each format: what was measured stays, whatever comes.
            File.WriteAllText(file, JsonSerializer.Serialize(all, RunJson.Default.ListRun));
        }
    }
    JsonElement? peer = parsed.GetValue(torch) is { } other && File.Exists(other)
        ? JsonDocument.Parse(File.ReadAllText(other)).RootElement : null;
    Report.Print(Console.Out, all, peer);
    return 0;
});
try
{
    return await root.Parse(args).InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception e) when (e is SamException or IOException or JsonException)
{
    await Console.Error.WriteLineAsync("error: " + e.Message);
    return 1;
}
