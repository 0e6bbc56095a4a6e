using System.CommandLine;
using SamEngine.Checkpoints;
using SamEngine.Data;
using Spectre.Console;

namespace SamEngine.Cli;

/// <summary><c>sam model convert</c>, <c>quantize</c>, <c>compare</c> and <c>inspect</c>.</summary>
internal static class ModelCommand
{
    public static Command Create() => new("model", "Make and look into model folders") { Convert(), Quantize(), Compare(), Inspect() };

    private static Command Convert()
    {
        var instructBlip = CommandOptions.Path("--instructblip", "LAVIS checkpoint (.pth); goes with --llm");
        var port = CommandOptions.Path("--hf", "Instead of both: a folder with the Hugging Face port of InstructBLIP");
        var sam = CommandOptions.Path("--sam", "SAM checkpoint with the adapters (.pth); without: plain InstructBLIP");
        var llm = CommandOptions.Path("--llm", "Vicuna-7B v1.1, a Hugging Face folder");
        var vocabulary = CommandOptions.Path("--bert-vocab", "vocab.txt of bert-base-uncased");
        var output = CommandOptions.Path("--output", "Folder to write", "-o");
        output.Required = true;
        var dtype = new Option<string>("--dtype") { Description = "f32, f16 or bf16", DefaultValueFactory = _ => "bf16" };
        var config = CommandOptions.Path("--config", "config.json with what the checkpoints do not state");
        var shard = CommandOptions.Whole<long>("--max-shard-size", "Most bytes of a file (4 GiB)", least: 1);
        var command = new Command("convert", "Write one model folder from the published checkpoints (executes nothing in them)")
        {
            instructBlip, llm, port, sam, vocabulary, output, dtype, config, shard,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            var options = new ConvertOptions
            {
                InstructBlip = CommandOptions.MustExist(parsed.GetValue(instructBlip)),
                HuggingFace = parsed.GetValue(port),
                Sam = CommandOptions.MustExist(parsed.GetValue(sam)),
                Llm = parsed.GetValue(llm),
                BertVocabulary = CommandOptions.MustExist(parsed.GetValue(vocabulary)),
                Output = parsed.GetRequiredValue(output)!,
                DType = parsed.GetRequiredValue(dtype),
                Config = CommandOptions.MustExist(parsed.GetValue(config)),
                MaxShardBytes = parsed.GetValue(shard) ?? 4L << 30,
            };
            var notes = await ProgressBar.RunAsync("converting", report => CheckpointConverter.Convert(options,
                new Reports<ConvertProgress>(p => report(p.BytesDone, p.BytesTotal)), cancellation));
            foreach (string note in notes)
            {
                await Console.Error.WriteLineAsync("note: " + note);
            }
            await Console.Error.WriteLineAsync("wrote " + options.Output);
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Quantize()
    {
        var source = CommandOptions.PathArgument("source", "Model folder");
        var output = CommandOptions.PathArgument("output", "Folder to write");
        var weights = new Option<string>("--weights")
        {
            Description = "f32, f16, bf16, q8 or q4, or by part: vision=q8,qformer=bf16,llm=q4; parts not named stay as stored",
            Required = true,
        };
        var group = CommandOptions.Whole<int>("--group-size", "Weights that share a scale: 32, 64 or 128 (64)");
        var allowTorch = new Option<bool>("--allow-torch") { Description = "Open torch files (.bin) too (nothing in them is executed)" };
        var shard = CommandOptions.Whole<long>("--max-shard-size", "Most bytes of a file (4 GiB)", least: 1);
        var command = new Command("quantize", "Write a model folder with its matrices in other formats, to be used where it is mapped; " +
            "stopped or killed, the same command goes on")
        {
            source, output, weights, group, allowTorch, shard,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            var formats = WeightFormats.Parse(parsed.GetRequiredValue(weights));
            var options = new QuantizeOptions
            {
                Source = parsed.GetRequiredValue(source),
                Output = parsed.GetRequiredValue(output),
                Weights = formats with { GroupSize = parsed.GetValue(group) ?? formats.GroupSize },
                AllowTorchFiles = parsed.GetValue(allowTorch),
                MaxShardBytes = parsed.GetValue(shard) ?? 4L << 30,
            };
            var notes = await ProgressBar.RunAsync("quantizing", report => ModelQuantizer.Quantize(options,
                new Reports<ConvertProgress>(p => report(p.BytesDone, p.BytesTotal)), cancellation));
            foreach (string note in notes)
            {
                await Console.Error.WriteLineAsync("note: " + note);
            }
            await Console.Error.WriteLineAsync("wrote " + options.Output);
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Compare()
    {
        var original = CommandOptions.PathArgument("original", "Model folder that was quantized");
        var quantized = CommandOptions.PathArgument("quantized", "What came of it");
        var data = CommandOptions.Path("--data", "Folder with annotations.json and pictures: compare logits over its answers too");
        var limit = CommandOptions.Whole<int>("--limit", "Only the first samples of --data (all)", least: 1);
        var command = new Command("compare", "Print how far every quantized matrix is from its original, and how far plain rounding " +
            "in blocks of 32 would be; with --data, how far its next-token distributions are") { original, quantized, data, limit };
        command.SetAction(async (parsed, cancellation) =>
        {
            var dataset = parsed.GetValue(data) is { } folder ? MmLinkDataset.Open(folder) : null;
            // Not on this thread, which has yet to start listening for Ctrl-C.
            await Task.Run(() =>
            {
                bool any = false;
                foreach (var e in QuantizationError.Compare(parsed.GetRequiredValue(original), parsed.GetRequiredValue(quantized), cancellation))
                {
                    if (!any)
                    {
                        Console.Out.WriteLine("tensor\tformat\trelative error\tcosine\tplain rounding");
                        any = true;
                    }
                    Console.Out.WriteLine(FormattableString.Invariant(
                        $"{e.Name}\t{e.Format}\t{e.RelativeError:0.0000}\t{e.Cosine:0.000000}\t{e.PlainError:0.0000}"));
                }
                if (!any)
                {
                    Console.Error.WriteLine($"note: nothing in {parsed.GetRequiredValue(quantized)} is quantised");
                }
            }, cancellation);
            if (dataset is null)
            {
                return ExitCodes.Success;
            }
            using var right = await SamModel.LoadAsync(parsed.GetRequiredValue(original), cancellationToken: cancellation);
            using var found = await SamModel.LoadAsync(parsed.GetRequiredValue(quantized), cancellationToken: cancellation);
            var distance = await ProgressBar.RunAsync("comparing", report => LogitComparison.CompareAsync(right, found, dataset,
                parsed.GetValue(limit), new Reports<(int Done, int Total)>(p => report(p.Done, p.Total)), cancellation).GetAwaiter().GetResult());
            Console.Out.WriteLine(FormattableString.Invariant(
                $"logits: KL {distance.MeanKl:0.000000} nats on average, {distance.WorstKl:0.0000} at most; the same likeliest token in {100 * distance.Top1Agreement:0.00} % ({distance.Positions} positions of {distance.Samples} answers)"));
            return ExitCodes.Success;
        });
        return command;
    }

    private static Command Inspect()
    {
        var path = CommandOptions.PathArgument("path",
            $"Model folder, safetensors file, or torch .pth/.bin file ({BundledModel.Name}, which comes with the command)");
        path.Arity = ArgumentArity.ZeroOrOne;
        var all = new Option<bool>("--tensors") { Description = "List every tensor" };
        var command = new Command("inspect", "Print parts, shapes, formats, parameter counts, and what is missing") { path, all };
        command.SetAction(parsed =>
        {
            if (parsed.GetValue(path) is not { } target)
            {
                target = BundledModel.Require();
                Console.Error.WriteLine($"model: {BundledModel.Name}, as no path is given, {target}");
            }
            var report = CheckpointInspector.Inspect(Directory.Exists(target) ? target : CommandOptions.MustExist(target)!);
            var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Out) });
            if (Console.IsOutputRedirected)
            {
                // A pipe has no width to wrap at.
                console.Profile.Width = 1000;
            }
            var table = new Table().Border(TableBorder.Simple).AddColumns("part", "tensors", "parameters", "bytes", "formats");
            foreach (var part in report.Parts)
            {
                table.AddRow(Markup.Escape(part.Name), $"{part.Tensors}", $"{part.Parameters:N0}", Units.Bytes(part.Bytes),
                    Markup.Escape(part.Formats));
            }
            console.Write(table);
            if (parsed.GetValue(all))
            {
                foreach (var tensor in report.Tensors)
                {
                    Console.Out.WriteLine($"{tensor.Name}\t{tensor.DType}\t[{string.Join(", ", tensor.Shape)}]");
                }
            }
            foreach (string note in report.Notes)
            {
                Console.Out.WriteLine(note);
            }
            return report.IsComplete ? ExitCodes.Success : ExitCodes.Checkpoint;
        });
        return command;
    }
}
