using System.CommandLine;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using SamEngine;
using SamEngine.Bench.Compare;
using SamEngine.Peers;
using SamEngine.Training;

Console.OutputEncoding = new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
var root = new RootCommand("libtorch and ONNX Runtime as contenders of 'SamEngine.Bench compare'") { Measure(), Check() };
try
{
    return await root.Parse(args).InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception e) when (e is SamException or OnnxRuntimeException or ArgumentException or InvalidOperationException or ExternalException or IOException)
{
    await Console.Error.WriteLineAsync("error: " + e.Message);
    return 1;
}

static Command Measure()
{
    var engine = new Option<string>("--engine") { Description = "torch or onnx", Required = true };
    engine.AcceptOnlyFromAmong("torch", "onnx");
    var format = new Option<string>("--format") { Description = "torch: bf16 or f32; onnx: what the file holds", Required = true };
    var source = new Option<string?>("--source") { Description = "torch: model folder with unquantised weights" };
    var layers = new Option<int>("--layers") { Description = "torch: language layers to load", DefaultValueFactory = _ => 8 };
    var onnx = new Option<string?>("--onnx") { Description = "onnx: the model file" };
    var threads = new Option<int>("--threads") { DefaultValueFactory = _ => Environment.ProcessorCount };
    var iterations = new Option<int>("--iterations") { DefaultValueFactory = _ => 3 };
    var items = new Option<string[]>("--items") { AllowMultipleArgumentsPerToken = true, Required = true };
    items.AcceptOnlyFromAmong([.. WorkItems.Names]);
    var command = new Command("measure", "Times work items and prints them as JSON") { engine, format, source, layers, onnx, threads, iterations, items };
    command.SetAction(parsed =>
    {
        string[] wanted = parsed.GetRequiredValue(items);
        string stored = parsed.GetRequiredValue(format);
        ContenderReport report;
        if (parsed.GetRequiredValue(engine) == "torch")
        {
            TorchLibrary.Ensure();
            using var torch = new TorchEngine(Needed(parsed.GetValue(source), "--source"), stored, parsed.GetValue(layers), parsed.GetValue(threads),
                parsed.GetValue(iterations));
            report = new ContenderReport(TorchEngine.Version, torch.Measure(wanted));
        }
        else
        {
            using var runtime = new OnnxEngine(Needed(parsed.GetValue(onnx), "--onnx"), stored, parsed.GetValue(threads));
            report = new ContenderReport(OnnxEngine.Version, runtime.Measure(wanted, parsed.GetValue(iterations)));
        }
        Console.WriteLine(report.ToJson());
    });
    return command;
}

static Command Check()
{
    var source = new Argument<string>("source") { Description = "Model folder with unquantised weights; a small or shallow one is enough" };
    var onnx = new Option<string[]>("--onnx") { Description = "FORMAT=FILE made from the same folder", AllowMultipleArgumentsPerToken = true };
    var command = new Command("check", "Compares the peers' results with this engine's, so that times are of the same work. Exit code 1 when they differ")
    {
        source, onnx,
    };
    command.SetAction(async (parsed, cancellation) =>
    {
        TorchLibrary.Ensure();
        return await PeerCheck.RunAsync(parsed.GetRequiredValue(source), parsed.GetValue(onnx) ?? [], Console.Out, cancellation) ? 0 : 1;
    });
    return command;
}

static string Needed(string? value, string option) => value ?? throw new ArgumentException($"{option} is missing");
