using System.CommandLine;
using System.Text.Json;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Cli;

/// <summary><c>sam bench</c>: what a request costs on this machine, stage by stage. <c>sam bench make-model</c>: a model of the
/// published shape, or of any other, with random weights.</summary>
internal static class BenchCommand
{
    private const int MadeUpPictures = 5;
    private const int Beams = 5;

    private const int PictureWidth = 1920;
    private const int PictureHeight = 1080;

    public static Command Create()
    {
        var pictures = new Argument<string[]>("pictures")
        {
            Description = $"Picture files; none: {MadeUpPictures} made-up ones of {PictureWidth}x{PictureHeight} pixels, which need no decoding",
            Arity = ArgumentArity.ZeroOrMore,
        };
        var tokens = CommandOptions.Whole<int>("--tokens", "Tokens to generate (60)", 1);
        var runs = CommandOptions.Whole<int>("--runs", "Timed runs of each search, after one that is not counted (3)", 1);
        var json = new Option<bool>("--json") { Description = "Print one JSON object instead of the table" };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Nothing but the figures and errors" };
        var command = new Command("bench", "Time a request on this machine, stage by stage: greedy and with five beams")
        {
            pictures, tokens, runs, json, quiet,
        };
        var model = new ModelOptions();
        model.AddTo(command);
        command.Subcommands.Add(MakeModel());
        command.SetAction(async (parsed, cancellation) =>
        {
            var images = parsed.GetValue(pictures) is { Length: > 0 } ? CommandOptions.ReadPictures(parsed, pictures)
                : [.. Enumerable.Range(1, MadeUpPictures).Select(MadeUp)];
            using var loaded = await model.LoadAsync(parsed, parsed.GetValue(quiet), cancellation);
            var searches = new List<SearchTimes>();
            foreach (int beams in (int[])[1, Beams])
            {
                searches.Add(await MeasureAsync(loaded, images, beams, parsed.GetValue(tokens) ?? 60, parsed.GetValue(runs) ?? 3, cancellation));
            }
            if (parsed.GetValue(tokens) is { } asked && searches[0].Any.OutputTokens < asked)
            {
                await Console.Error.WriteLineAsync($"note: the model's context holds {searches[0].Any.OutputTokens} of the {asked} tokens asked for");
            }
            if (parsed.GetValue(json))
            {
                WriteJson(loaded.Info, images.Count, searches);
            }
            else
            {
                WriteTable(images.Count, searches);
            }
            return ExitCodes.Success;
        });
        return command;
    }

    private static async Task<SearchTimes> MeasureAsync(SamModel model, IReadOnlyList<SamImage> images, int beams, int tokens, int runs,
        CancellationToken cancellation)
    {
        var request = new DescribeRequest
        {
            Images = images,
            Prompt = DescribeCommand.DefaultPrompt,
            // The start id counts; a text that ends early would time less.
            Options = new GenerationOptions { NumBeams = beams, MaxLength = tokens + 1, MinLength = tokens + 1 },
        };
        var usages = new List<RequestUsage>();
        for (int i = 0; i <= runs; i++)
        {
            var usage = (await model.DescribeToEndAsync(request, cancellation)).Usage;
            if (i > 0)
            {
                usages.Add(usage);
            }
        }
        return new SearchTimes(beams, usages);
    }

    private static SamImage MadeUp(int seed)
    {
        byte[] pixels = new byte[3 * PictureWidth * PictureHeight];
        new Random(seed).NextBytes(pixels);
        return SamImage.FromPixels(pixels, PictureWidth, PictureHeight);
    }

    private static void WriteTable(int images, IReadOnlyList<SearchTimes> searches)
    {
        Console.Out.WriteLine(FormattableString.Invariant($"{images} pictures, {searches[0].Any.InputTokens} tokens in, {searches[0].Any.OutputTokens} out; ") +
            FormattableString.Invariant($"median of {searches[0].Usages.Count} runs (least to most)"));
        string[] names = ["stage", .. searches.Select(s => s.Beams == 1 ? "greedy" : FormattableString.Invariant($"{s.Beams} beams"))];
        Console.Out.WriteLine(FormattableString.Invariant($"{names[0],-12}{names[1],32}{names[2],32}"));
        foreach (var (name, stage) in SearchTimes.Stages)
        {
            var cells = searches.Select(s => s.Of(stage)).Select(t =>
                FormattableString.Invariant($"{Units.Time(t.Median)} ({Units.Time(t.Least)} to {Units.Time(t.Most)})")).ToList();
            Console.Out.WriteLine(FormattableString.Invariant($"{name,-12}{cells[0],32}{cells[1],32}"));
        }
    }

    private static void WriteJson(SamModelInfo model, int images, IReadOnlyList<SearchTimes> searches)
    {
        var stream = StandardStreams.Output;
        using (var json = new Utf8JsonWriter(stream, Json.Options))
        {
            json.WriteStartObject();
            json.WriteString("device", model.Backend.Device);
            json.WriteString("instruction_set", model.Backend.InstructionSet);
            json.WriteNumber("threads", model.Backend.Threads);
            json.WriteNumber("weight_bytes", model.WeightBytes);
            json.WriteNumber("pictures", images);
            json.WriteStartArray("searches");
            foreach (var search in searches)
            {
                json.WriteStartObject();
                json.WriteNumber("beams", search.Beams);
                json.WriteNumber("input_tokens", search.Any.InputTokens);
                json.WriteNumber("output_tokens", search.Any.OutputTokens);
                foreach (var (name, stage) in SearchTimes.Stages)
                {
                    json.WriteStartArray(name.Replace("-", "", StringComparison.Ordinal) + "_ms");
                    foreach (var usage in search.Usages)
                    {
                        json.WriteNumberValue(stage(usage).TotalMilliseconds);
                    }
                    json.WriteEndArray();
                }
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        stream.Write("\n"u8);
    }

    private static Command MakeModel()
    {
        var output = CommandOptions.PathArgument("folder", "Folder to write");
        var config = CommandOptions.Path("--config", "config.json; without: the full Vicuna-7B shape (15 GB as bf16)");
        var dtype = new Option<string>("--dtype") { Description = "f32, f16 or bf16", DefaultValueFactory = _ => "bf16" };
        var seed = CommandOptions.Whole<ulong>("--seed", "Same seed, same bytes (1)");
        var tokenizers = CommandOptions.Path("--tokenizers", "Folder whose tokenizer.model and vocab.txt are copied in");
        var command = new Command("make-model", "Write a model folder with random weights (deterministic; it says nothing sensible)")
        {
            output, config, dtype, seed, tokenizers,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            string folder = parsed.GetRequiredValue(output);
            var shape = CommandOptions.MustExist(parsed.GetValue(config)) is { } path ? SamConfig.Load(path) : SamConfig.Published;
            // Looked for first: the full shape takes minutes to write.
            string[] copies = parsed.GetValue(tokenizers) is not { } source ? []
                : [.. ((string[])[SamCheckpoint.TokenizerName, SamCheckpoint.VocabularyName])
                    .Select(name => CommandOptions.MustExist(Path.Combine(source, name))!)];
            await ProgressBar.RunAsync("writing", report =>
            {
                RandomModelWriter.Write(folder, shape, parsed.GetRequiredValue(dtype), parsed.GetValue(seed) ?? 1,
                    new Reporter(report), cancellation);
                return true;
            });
            foreach (string file in copies)
            {
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
            }
            if (copies.Length == 0)
            {
                await Console.Error.WriteLineAsync($"note: without {SamCheckpoint.TokenizerName} and {SamCheckpoint.VocabularyName} (--tokenizers) " +
                    "the model takes no prompts; copy them there");
            }
            await Console.Error.WriteLineAsync("wrote " + folder);
            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>What the runs of one search took.</summary>
    private sealed record SearchTimes(int Beams, IReadOnlyList<RequestUsage> Usages)
    {
        /// <summary>The parts of a request, in order; "token" is one decode step.</summary>
        public static IReadOnlyList<(string Name, Func<RequestUsage, TimeSpan> Time)> Stages { get; } =
        [
            ("images", u => u.Images), ("vision", u => u.Vision), ("q-former", u => u.QFormer), ("prefill", u => u.Prefill),
            ("decode", u => u.Decode), ("token", u => u.Decode / Math.Max(1, u.OutputTokens - 1)), ("total", u => u.Total),
        ];

        /// <summary>Counts are the same in every run.</summary>
        public RequestUsage Any => Usages[0];

        public (TimeSpan Median, TimeSpan Least, TimeSpan Most) Of(Func<RequestUsage, TimeSpan> stage)
        {
            TimeSpan[] times = [.. Usages.Select(stage).Order()];
            return (times[times.Length / 2], times[0], times[^1]);
        }
    }

    private sealed class Reporter(Action<long, long> report) : IProgress<ConvertProgress>
    {
        public void Report(ConvertProgress value) => report(value.BytesDone, value.BytesTotal);
    }
}
