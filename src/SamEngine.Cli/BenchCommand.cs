using System.CommandLine;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Cli;

/// <summary><c>sam bench make-model</c>: a model of the published shape, or of any other, with random weights.</summary>
internal static class BenchCommand
{
    public static Command Create() => new("bench", "For measuring") { MakeModel() };

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
            await Console.Error.WriteLineAsync("wrote " + folder);
            return ExitCodes.Success;
        });
        return command;
    }

    private sealed class Reporter(Action<long, long> report) : IProgress<ConvertProgress>
    {
        public void Report(ConvertProgress value) => report(value.BytesDone, value.BytesTotal);
    }
}
