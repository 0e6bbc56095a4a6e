using System.CommandLine;
using System.Text.Json;

namespace SamEngine.Cli;

/// <summary><c>sam rank</c>: which of several texts follows pictures and prompt best.</summary>
internal static class RankCommand
{
    public static Command Create()
    {
        var images = CommandOptions.Pictures();
        var prompt = new Option<string>("--prompt", "-p") { Description = "What the candidates answer", Required = true };
        var candidates = new Option<string[]>("--candidate", "-c")
        {
            Description = "A candidate text; give at least one, repeated",
            Required = true,
        };
        var mode = CommandOptions.Choice<RankingMode>("--mode", "How to score (reference: by sum, which favours short candidates)");
        var guidance = CommandOptions.Choice<Guidance>("--guidance",
            "Whether the pictures guide each other (off, as the reference ranks)");
        var json = new Option<bool>("--json") { Description = "Print JSON" };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Nothing but the result and errors" };
        var command = new Command("rank", "Put candidate texts in order, best first")
        {
            images, prompt, candidates, mode, guidance, json, quiet,
        };
        var model = new ModelOptions();
        model.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            var pictures = CommandOptions.ReadPictures(parsed, images);
            using var loaded = await model.LoadAsync(parsed, parsed.GetValue(quiet), cancellation);
            var ranked = await loaded.RankAsync(new RankRequest
            {
                Images = pictures,
                Prompt = parsed.GetRequiredValue(prompt),
                Candidates = parsed.GetRequiredValue(candidates),
                Mode = parsed.GetValue(mode) ?? RankingMode.Reference,
                Guidance = parsed.GetValue(guidance) ?? Guidance.Off,
            }, cancellation);
            if (!parsed.GetValue(json))
            {
                foreach (var candidate in ranked)
                {
                    await Console.Out.WriteLineAsync(FormattableString.Invariant($"{candidate.Loss:0.0000}\t{candidate.Text}"));
                }
                return ExitCodes.Success;
            }
            var stream = StandardStreams.Output;
            using (var writer = new Utf8JsonWriter(stream, Json.Options))
            {
                writer.WriteStartArray();
                foreach (var candidate in ranked)
                {
                    writer.WriteStartObject();
                    writer.WriteNumber("index", candidate.Index);
                    writer.WriteString("text", candidate.Text);
                    writer.WriteNumber("loss", candidate.Loss);
                    writer.WriteEndObject();
                }
                writer.WriteEndArray();
            }
            stream.Write("\n"u8);
            return ExitCodes.Success;
        });
        return command;
    }
}
