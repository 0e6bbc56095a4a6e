using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;

namespace SamEngine.Cli;

/// <summary><c>sam describe</c>: pictures and a prompt in, text out as it is generated.</summary>
internal static class DescribeCommand
{
    public const string DefaultPrompt = "Sum up the common factor in these pictures.";

    public static Command Create()
    {
        var images = CommandOptions.Pictures();
        var prompt = new Option<string>("--prompt", "-p")
        {
            Description = "What to say about them",
            DefaultValueFactory = _ => DefaultPrompt,
        };
        var beams = CommandOptions.Beams();
        var maxLength = CommandOptions.Whole<int>("--max-length", "Most ids, the start id counted (model's default, else 256)");
        var minLength = CommandOptions.Whole<int>("--min-length", "Least ids before the text may end (model's default, else 1)");
        var repetition = CommandOptions.Number("--repetition-penalty", "1: off (model's default, else 1.5)");
        var length = CommandOptions.Number("--length-penalty", "Power of the length that divides scores (model's default, else 1)");
        var sample = new Option<bool?>("--sample") { Description = "Draw tokens; with several beams: beam sampling" };
        var temperature = CommandOptions.Number("--temperature", "Of the draws (model's default, else 1)");
        var topK = CommandOptions.Whole<int>("--top-k", "Draw among the best k; 0: all (model's default, else 50)");
        var topP = CommandOptions.Number("--top-p", "Draw among the smallest set with this probability (model's default, else 0.9)");
        var seed = CommandOptions.Whole<ulong>("--seed", "Of the draws");
        var stop = new Option<string[]>("--stop") { Description = "Text that ends the generation; may be repeated" };
        var best = CommandOptions.Whole<int>("--n-best", "Texts to return (model's default, else 1)");
        var guidance = CommandOptions.Choice<Guidance>("--guidance", "Whether the pictures guide each other (auto: where the model can)");
        var json = new Option<bool>("--json") { Description = "Print one JSON object at the end instead of text" };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Nothing but the text and errors" };
        var command = new Command("describe", "Say what links the pictures")
        {
            images, prompt, beams, maxLength, minLength, repetition, length, sample, temperature, topK, topP, seed, stop, best,
            guidance, json, quiet,
        };
        var model = new ModelOptions();
        model.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            bool silent = parsed.GetValue(quiet);
            var pictures = CommandOptions.ReadPictures(parsed, images);
            var request = new DescribeRequest
            {
                Images = pictures,
                Prompt = parsed.GetRequiredValue(prompt),
                Guidance = parsed.GetValue(guidance) ?? Guidance.Auto,
                Options = new GenerationOptions
                {
                    NumBeams = parsed.GetValue(beams),
                    MaxLength = parsed.GetValue(maxLength),
                    MinLength = parsed.GetValue(minLength),
                    RepetitionPenalty = parsed.GetValue(repetition),
                    LengthPenalty = parsed.GetValue(length),
                    DoSample = parsed.GetValue(sample),
                    Temperature = parsed.GetValue(temperature),
                    TopK = parsed.GetValue(topK),
                    TopP = parsed.GetValue(topP),
                    Seed = parsed.GetValue(seed),
                    StopStrings = parsed.GetValue(stop) is { Length: > 0 } stops ? stops : null,
                    NumReturnSequences = parsed.GetValue(best),
                },
            };
            // Said before a large model is loaded.
            request.Options.Validate();
            using var loaded = await model.LoadAsync(parsed, silent, cancellation, request.Options);
            bool asJson = parsed.GetValue(json);
            DescribeResult? result = null;
            // Null while there is no text, and where the whole text is empty.
            TimeSpan? firstText = null;
            try
            {
                await foreach (var piece in loaded.DescribeAsync(request, cancellation))
                {
                    if (piece.Text.Length > 0)
                    {
                        firstText ??= SinceProcessStart();
                        if (!asJson)
                        {
                            await Console.Out.WriteAsync(piece.Text);
                        }
                    }
                    result = piece.Result;
                }
            }
            catch (Exception e) when (!asJson && firstText is not null && e is not IOException)
            {
                // What was streamed stays, as a whole line.
                await Console.Out.WriteLineAsync();
                throw;
            }
            if (asJson)
            {
                WriteJson(result!, loaded.Info.Folder, firstText);
                return ExitCodes.Success;
            }
            await Console.Out.WriteLineAsync();
            foreach (var other in result!.Texts.Skip(1))
            {
                await Console.Out.WriteLineAsync(other.Text);
            }
            if (!silent)
            {
                var u = result.Usage;
                string first = firstText is { } t ? $"; first text {Units.Time(t)} after the process started" : "";
                string seeded = result.Seed is { } s ? $", seed {s}" : "";
                await Console.Error.WriteLineAsync(
                    $"{u.InputTokens} tokens in ({u.VisualTokens} visual), {u.OutputTokens} out, guidance " +
                    $"{(result.Guided ? "on" : "off")}{seeded}; images {Units.Time(u.Images)}, vision {Units.Time(u.Vision)}, " +
                    $"q-former {Units.Time(u.QFormer)}, prefill {Units.Time(u.Prefill)}, decode {Units.Time(u.Decode)}{first}");
            }
            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>What a user waits for: starting the runtime and loading the model included.</summary>
    private static TimeSpan SinceProcessStart()
    {
        using var process = Process.GetCurrentProcess();
        return DateTime.UtcNow - process.StartTime.ToUniversalTime();
    }

    private static void WriteJson(DescribeResult result, string model, TimeSpan? firstText)
    {
        var stream = StandardStreams.Output;
        using (var json = new Utf8JsonWriter(stream, Json.Options))
        {
            json.WriteStartObject();
            json.WriteString("model", model);
            json.WriteString("text", result.Text);
            json.WriteStartArray("texts");
            foreach (var text in result.Texts)
            {
                json.WriteStartObject();
                json.WriteString("text", text.Text);
                json.WriteNumber("score", text.Score);
                json.WriteString("finish_reason", text.FinishReason switch
                {
                    FinishReason.EndOfText => "end_of_text",
                    FinishReason.StopString => "stop_string",
                    _ => "length",
                });
                json.WriteStartArray("token_ids");
                foreach (int id in text.TokenIds)
                {
                    json.WriteNumberValue(id);
                }
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteBoolean("guided", result.Guided);
            if (result.ImageWeights is { } weights)
            {
                json.WriteStartArray("image_weights");
                foreach (double weight in weights)
                {
                    json.WriteNumberValue(weight);
                }
                json.WriteEndArray();
            }
            if (result.Seed is { } seed)
            {
                json.WriteNumber("seed", seed);
            }
            json.WriteStartObject("usage");
            var u = result.Usage;
            json.WriteNumber("input_tokens", u.InputTokens);
            json.WriteNumber("visual_tokens", u.VisualTokens);
            json.WriteNumber("output_tokens", u.OutputTokens);
            json.WriteNumber("images_ms", u.Images.TotalMilliseconds);
            json.WriteNumber("queued_ms", u.Queued.TotalMilliseconds);
            json.WriteNumber("vision_ms", u.Vision.TotalMilliseconds);
            json.WriteNumber("qformer_ms", u.QFormer.TotalMilliseconds);
            json.WriteNumber("prefill_ms", u.Prefill.TotalMilliseconds);
            json.WriteNumber("decode_ms", u.Decode.TotalMilliseconds);
            json.WriteNumber("total_ms", u.Total.TotalMilliseconds);
            if (firstText is { } first)
            {
                json.WriteNumber("process_start_to_first_text_ms", first.TotalMilliseconds);
            }
            json.WriteNumber("qformer_layer_runs", u.QFormerLayerRuns);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        stream.Write("\n"u8);
    }
}
