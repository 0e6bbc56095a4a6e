using System.CommandLine;
using System.Diagnostics;
using SamEngine.Model;

namespace SamEngine.Bench.Compare;

/// <summary><c>measure</c>: this engine as one contender; what <c>compare</c> runs as a child.</summary>
internal static class MeasureCommand
{
    public static Command Create()
    {
        var model = new Option<string>("--model") { Description = "Model folder", Required = true };
        var items = new Option<string[]>("--items")
        {
            Description = "Some of: " + string.Join(", ", WorkItems.Names),
            AllowMultipleArgumentsPerToken = true,
            Required = true,
        };
        items.AcceptOnlyFromAmong([.. WorkItems.Names]);
        var iterations = new Option<int>("--iterations") { Description = "Timed runs of each item", DefaultValueFactory = _ => 3 };
        var threads = new Option<int>("--threads") { Description = "Threads; 0: one per processor" };
        var command = new Command("measure", "Times work items of this engine and prints them as JSON; 'compare' runs it")
        {
            model, items, iterations, threads,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            string folder = parsed.GetRequiredValue(model);
            string[] wanted = parsed.GetRequiredValue(items);
            var stored = new StoredBytes();
            var options = new SamModelOptions { Threads = parsed.GetValue(threads) };
            using var loaded = await SamModel.LoadAsync(folder, options, stored, cancellation);
            var config = loaded.Info.Config;
            var done = new List<Measurement>();
            if (wanted.Contains(WorkItems.Load))
            {
                done.Add(await LoadAsync(loaded));
            }
            var full = FullDepth(config);
            var bench = new StageBench(loaded, stored, full, parsed.GetValue(iterations), WorkItems.PromptIds);
            foreach (string item in WorkItems.Names.Where(n => n != WorkItems.Load && wanted.Contains(n)))
            {
                await Console.Error.WriteLineAsync("timing " + item);
                var result = (await bench.MeasureAsync(item))[^1];
                done.Add(new Measurement(item, Format(result.BytesPerWeight),
                    [.. result.Times.Select(t => t.WithLayers(result.DepthFactor))], Note(item, config, full)));
            }
            var backend = loaded.Info.Backend;
            Console.WriteLine(new ContenderReport($"SamEngine, {backend.InstructionSet}, {backend.Threads} threads", done).ToJson());
        });
        return command;
    }

    /// <summary>The published depth for a model of the published widths; any other model is compared as it is.</summary>
    public static SamConfig FullDepth(SamConfig config)
    {
        var full = config with
        {
            Vision = config.Vision with { Depth = SamConfig.Published.Vision.Depth },
            Llm = config.Llm with { Layers = SamConfig.Published.Llm.Layers },
        };
        return config.Vision.Width == SamConfig.Published.Vision.Width && config.Llm.HiddenSize == SamConfig.Published.Llm.HiddenSize
            ? full : config;
    }

    /// <summary>Says which layers were multiplied.</summary>
    private static string? Note(string item, SamConfig config, SamConfig full)
    {
        bool request = item is WorkItems.Request1 or WorkItems.Request5;
        var shallow = new List<string>();
        if (config.Vision.Depth < full.Vision.Depth && (request || item is WorkItems.Vision1 or WorkItems.Vision5))
        {
            shallow.Add($"{config.Vision.Depth} of {full.Vision.Depth} vision blocks");
        }
        if (config.Llm.Layers < full.Llm.Layers && (request || item is WorkItems.Prefill or WorkItems.Decode or WorkItems.Beam5))
        {
            shallow.Add($"{config.Llm.Layers} of {full.Llm.Layers} language layers");
        }
        return shallow.Count == 0 ? null : string.Join(" and ", shallow) + " ran; their time is multiplied";
    }

    /// <summary>From the start of this process until the model is open, and the first prefill. What pictures cost is left out:
    /// the peers of this item have none.</summary>
    private static async Task<Measurement> LoadAsync(SamModel model)
    {
        double open = (DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds;
        var input = Samples.Request(model.Info.Config, 1, WorkItems.Words, model.Info.Config.QFormer.QueryTokens + 1);
        var run = await EngineRun.RunAsync(model, input, 1, 1, EngineStage.Prefill);
        return new Measurement(WorkItems.Load, "", [open + run.Prefill.Total], $"prefill of {model.Engine.PromptRows(input)} rows");
    }

    /// <summary>What a stored element's bytes say about its format, scales included.</summary>
    private static string Format(double bytesPerWeight) => bytesPerWeight switch
    {
        0 => "",
        < 1 => "q4",
        < 2 => "q8",
        2 => "16 bit",
        _ => "f32",
    };
}
