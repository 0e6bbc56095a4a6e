using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using SamEngine.Data;
using SamEngine.Decoding;

namespace SamEngine.Cli;

/// <summary><c>sam eval</c>: a model's answers to a data set, and their scores.</summary>
internal static class EvalCommand
{
    public static Command Create()
    {
        var data = CommandOptions.PathArgument("data", "Folder with annotations.json and pictures (the MmLINK form)");
        var output = CommandOptions.Path("--out", "Folder for pred.json, eval.json, eval_score.json; a run that was ended goes on", "-o");
        output.Required = true;
        var guidance = CommandOptions.Choice<Guidance>("--guidance", "Whether the pictures guide each other (auto: where the model can)");
        var pictures = CommandOptions.Choice<PictureControl>("--pictures",
            "What the model is shown; controls: blank, every picture plain grey; first, the first of a group alone (all)");
        var limit = CommandOptions.Whole<int>("--limit", "Only the first samples (all)", least: 1);
        var atOnce = CommandOptions.Whole<int>("--at-once", "Samples under way together (8)", least: 1);
        var beams = CommandOptions.Beams();
        var maxLength = CommandOptions.Whole<int>("--max-length", "Most ids, the start id counted (model's default, else 256)");
        var json = new Option<bool>("--json") { Description = "Print the scores as one JSON object" };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Nothing but the scores and errors" };
        var command = new Command("eval", "Answer a data set and score the answers as the reference's scripts do")
        {
            data, output, guidance, pictures, limit, atOnce, beams, maxLength, json, quiet,
        };
        var model = new ModelOptions();
        model.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            var dataset = MmLinkDataset.Open(parsed.GetRequiredValue(data));
            var options = new GenerationOptions { NumBeams = parsed.GetValue(beams), MaxLength = parsed.GetValue(maxLength) };
            options.Validate();
            string folder = parsed.GetRequiredValue(output)!;
            OutputFolder.Require(folder, mustBeEmpty: false);
            using var loaded = await model.LoadAsync(parsed, parsed.GetValue(quiet), cancellation, options);
            var guided = parsed.GetValue(guidance) ?? Guidance.Auto;
            var shown = parsed.GetValue(pictures) ?? PictureControl.All;
            var settings = new Dictionary<string, string>(model.Settings(parsed, loaded), StringComparer.Ordinal)
            {
                ["guidance"] = guided.ToString(),
                ["limit"] = parsed.GetValue(limit)?.ToString(CultureInfo.InvariantCulture) ?? "none",
            };
            foreach (var (key, value) in GenerationConfig.Named(options.Over(loaded.Info.GenerationDefaults)))
            {
                settings[key] = value;
            }
            var run = new EvaluationRun(dataset, folder, settings, parsed.GetValue(limit), shown);
            if (run.Progress.Done > 0 && !parsed.GetValue(quiet))
            {
                await Console.Error.WriteLineAsync($"going on: {run.Progress.Done} of {run.Progress.Total} samples are answered");
            }
            Task<EvaluationResult> Answer(IProgress<(int Done, int Total)>? progress) => run.RunAsync(
                async (sample, cancel) => (await loaded.DescribeToEndAsync(new DescribeRequest
                {
                    Images = dataset.ImagesOf(sample, shown, cancel),
                    Prompt = sample.Instruction,
                    Guidance = guided,
                    Options = options,
                }, cancel)).Text,
                parsed.GetValue(atOnce) ?? 8, progress, cancellation);
            var result = parsed.GetValue(quiet) ? await Answer(null) : await ProgressBar.RunAsync("answering", report =>
                Answer(new Reports<(int Done, int Total)>(p => report(p.Done, p.Total))).GetAwaiter().GetResult());
            if (parsed.GetValue(json))
            {
                WriteJson(result, shown);
                return ExitCodes.Success;
            }
            var s = result.Scores;
            string control = shown == PictureControl.All ? "" : $", pictures: {shown}".ToLowerInvariant();
            Console.Out.WriteLine(FormattableString.Invariant(
                $"CIDEr {100 * s.Cider:F2}  BLEU-4 {100 * s.Bleu[3]:F2}  ROUGE-L {100 * s.Rouge:F2}  ({s.Samples.Count} samples{control})"));
            foreach (var family in result.Accuracy)
            {
                Console.Out.WriteLine(FormattableString.Invariant(
                    $"{family.Family}: {100.0 * family.Right / family.Samples:F1} % right ({family.Right} of {family.Samples}; majority answer: {100.0 * family.Majority / family.Samples:F1} %)"));
            }
            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>Scores are percentages, as the reference prints them.</summary>
    private static void WriteJson(EvaluationResult result, PictureControl shown)
    {
        var stream = StandardStreams.Output;
        using (var json = new Utf8JsonWriter(stream, Json.Options))
        {
            json.WriteStartObject();
            json.WriteNumber("samples", result.Scores.Samples.Count);
            json.WriteString("pictures", shown.ToString().ToLowerInvariant());
            json.WriteNumber("cider", 100 * result.Scores.Cider);
            json.WriteNumber("bleu4", 100 * result.Scores.Bleu[3]);
            json.WriteNumber("rouge_l", 100 * result.Scores.Rouge);
            json.WriteStartArray("families");
            foreach (var family in result.Accuracy)
            {
                json.WriteStartObject();
                json.WriteString("family", family.Family);
                json.WriteNumber("samples", family.Samples);
                json.WriteNumber("right", family.Right);
                json.WriteNumber("majority", family.Majority);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        stream.Write("\n"u8);
    }
}
