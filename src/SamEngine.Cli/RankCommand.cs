using System.CommandLine;
using System.Text.Json;

namespace SamEngine.Cli;

/// <summary><c>sam rank</c>: which of several texts follows pictures and prompt best.</summary>
internal static class RankCommand
{
    public static Command Create()
    {
        var images = new Argument<string[]>("pictures") { Description = "Picture files, in order", Arity = ArgumentArity.OneOrMore };
        var prompt = new Option<string>("--prompt", "-p") { Description = "What the candidates answer", Required = true };
        var candidates = new Option<string[]>("--candidate", "-c")
        {
            Description = "A candidate text; give at least one, repeated",
            Required = true,
        };
        var mode = new Option<RankingMode>("--mode") { Description = "Reference (by sum) or PerTokenMean" };
        var guidance = new Option<Guidance>("--guidance")
        {
            Description = "Whether the pictures guide each other; the reference ranks without",
            DefaultValueFactory = _ => Guidance.Off,
        };
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
            using var loaded = await model.LoadAsync(parsed, parsed.GetValue(quiet), cancellation);
            var ranked = await loaded.RankAsync(new RankRequest
            {
                Images = [.. parsed.GetRequiredValue(images).Select(SamImage.FromFile)],
                Prompt = parsed.GetRequiredValue(prompt),
                Candidates = parsed.GetRequiredValue(candidates),
                Mode = parsed.GetValue(mode),
                Guidance = parsed.GetValue(guidance),
            }, cancellation);
            if (!parsed.GetValue(json))
            {
                foreach (var candidate in ranked)
                {
                    await Console.Out.WriteLineAsync(FormattableString.Invariant($"{candidate.Loss:0.0000}\t{candidate.Text}"));
                }
                return ExitCodes.Success;
            }
            using var stream = Console.OpenStandardOutput();
            using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
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
