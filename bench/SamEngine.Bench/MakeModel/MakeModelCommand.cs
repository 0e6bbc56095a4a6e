using System.CommandLine;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Bench.MakeModel;

/// <summary><c>make-model</c>: one set of random weights in the forms that this engine and its peers read.</summary>
internal static class MakeModelCommand
{
    public static Command Create()
    {
        var output = new Argument<string>("output") { Description = "Folder (sam) or file (gguf, onnx) to write" };
        var format = new Option<string>("--format") { Description = "sam: a model folder with random weights; gguf, onnx: the weights of --source for the peers", Required = true };
        format.AcceptOnlyFromAmong("sam", "gguf", "onnx");
        var source = new Option<string?>("--source") { Description = "gguf, onnx: model folder with unquantised weights" };
        var types = (string[])[.. GgmlType.All.Select(t => t.Name), .. OnnxVision.Formats, "bf16"];
        var type = new Option<string?>("--type")
        {
            Description = $"gguf: {string.Join(", ", GgmlType.All.Select(t => t.Name))} (q4_0); onnx: {string.Join(", ", OnnxVision.Formats)} (f32); " +
                "sam: bf16, f16 or f32 (bf16)",
        };
        type.AcceptOnlyFromAmong([.. types.Distinct()]);
        var layers = new Option<int?>("--layers") { Description = "Take only so many vision blocks and language layers of full width; written into the file and said by every report" };
        var command = new Command("make-model", "Writes the same random weights for this engine and for its peers; free disk is checked first")
        {
            output, format, source, type, layers,
        };
        command.SetAction((parsed, cancellation) =>
        {
            string path = parsed.GetRequiredValue(output);
            string form = parsed.GetRequiredValue(format);
            if (form == "sam")
            {
                var full = SamConfig.Published;
                var config = full with
                {
                    Vision = full.Vision with { Depth = Depth(parsed.GetValue(layers), full.Vision.Depth) },
                    Llm = full.Llm with { Layers = Depth(parsed.GetValue(layers), full.Llm.Layers) },
                };
                RandomModelWriter.Write(path, config, parsed.GetValue(type) ?? "bf16", 1, null, cancellation);
                Say(config.Vision.Depth, full.Vision.Depth, "vision blocks");
                Say(config.Llm.Layers, full.Llm.Layers, "language layers");
            }
            else
            {
                string folder = parsed.GetValue(source) ?? throw new CheckpointException(path, $"--format {form} needs --source, a model folder");
                var config = SamConfig.Load(Path.Combine(folder, SamCheckpoint.ConfigName));
                using var store = SafetensorsFolder.Open(folder);
                Write(store, config, path, form, parsed.GetValue(type), parsed.GetValue(layers), cancellation);
            }
            Console.WriteLine("wrote " + path);
            return Task.FromResult(0);
        });
        return command;
    }

    private static void Write(TensorStore store, SamConfig config, string path, string form, string? type, int? layers, CancellationToken cancellation)
    {
        // Written beside and renamed, so that a file that is there is whole.
        string partial = path + ".partial";
        try
        {
            if (form == "gguf")
            {
                var stored = GgmlType.All.FirstOrDefault(t => t.Name == (type ?? "q4_0"))
                    ?? throw new CheckpointException(path, $"--type {type} is not one of gguf's: {string.Join(", ", GgmlType.All.Select(t => t.Name))}");
                int depth = Depth(layers, config.Llm.Layers);
                GgufModel.Write(store, config, partial, stored, depth, cancellation);
                File.Move(partial, path, overwrite: true);
                Say(depth, Compare.MeasureCommand.FullDepth(config).Llm.Layers, "language layers");
            }
            else
            {
                string stored = OnnxVision.Formats.Contains(type ?? "f32") ? type ?? "f32"
                    : throw new CheckpointException(path, $"--type {type} is not one of onnx's: {string.Join(", ", OnnxVision.Formats)}");
                int depth = Depth(layers, config.Vision.Depth);
                // The model names its data file, so it is written under its own name.
                OnnxVision.Write(store, config, path, stored, depth, cancellation);
                Say(depth, Compare.MeasureCommand.FullDepth(config).Vision.Depth, "vision blocks");
            }
        }
        finally
        {
            File.Delete(partial);
        }
    }

    private static int Depth(int? wanted, int full) => Math.Clamp(wanted ?? full, 1, full);

    private static void Say(int depth, int full, string what)
    {
        if (depth < full)
        {
            Console.WriteLine(FormattableString.Invariant($"ONLY {depth} OF {full} {what.ToUpperInvariant()}"));
        }
    }
}
