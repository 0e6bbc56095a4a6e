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
        var output = new Argument<string>("folder") { Description = "Folder to write" };
        var config = new Option<string?>("--config") { Description = "config.json; without: the full Vicuna-7B shape (15 GB as bf16)" };
        var dtype = new Option<string>("--dtype") { Description = "f32, f16 or bf16", DefaultValueFactory = _ => "bf16" };
        var seed = new Option<ulong>("--seed") { Description = "Same seed, same bytes", DefaultValueFactory = _ => 1 };
        var tokenizers = new Option<string?>("--tokenizers")
        {
            Description = "Folder whose tokenizer.model and vocab.txt are copied in",
        };
        var command = new Command("make-model", "Write a model folder with random weights (deterministic; it says nothing sensible)")
        {
            output, config, dtype, seed, tokenizers,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            string folder = parsed.GetRequiredValue(output);
            var shape = parsed.GetValue(config) is { } path ? SamConfig.Load(path) : SamConfig.Published;
            await ProgressBar.RunAsync("writing", report =>
            {
                RandomModelWriter.Write(folder, shape, parsed.GetRequiredValue(dtype), parsed.GetValue(seed),
                    new Reporter(report), cancellation);
                return true;
            });
            if (parsed.GetValue(tokenizers) is { } source)
            {
                foreach (string name in (string[])[SamCheckpoint.TokenizerName, SamCheckpoint.VocabularyName])
                {
                    File.Copy(Path.Combine(source, name), Path.Combine(folder, name));
                }
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
