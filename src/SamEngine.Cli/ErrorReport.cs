using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.RegularExpressions;
using SamEngine.Checkpoints;

namespace SamEngine.Cli;

/// <summary>Says on standard error what went wrong, in the words of the command line, and gives the exit code.</summary>
internal static partial class ErrorReport
{
    /// <summary>What the engine's options and arguments are called here.</summary>
    private static readonly Dictionary<string, string> Names = new()
    {
        [nameof(DescribeRequest.Images)] = "pictures",
        [nameof(DescribeRequest.Prompt)] = "--prompt",
        [nameof(DescribeRequest.Guidance)] = "--guidance",
        [nameof(RankRequest.Candidates)] = "--candidate",
        [nameof(GenerationOptions.NumBeams)] = "--beams",
        [nameof(GenerationOptions.MaxLength)] = "--max-length",
        [nameof(GenerationOptions.MinLength)] = "--min-length",
        [nameof(GenerationOptions.RepetitionPenalty)] = "--repetition-penalty",
        [nameof(GenerationOptions.LengthPenalty)] = "--length-penalty",
        [nameof(GenerationOptions.DoSample)] = "--sample",
        [nameof(GenerationOptions.Temperature)] = "--temperature",
        [nameof(GenerationOptions.TopK)] = "--top-k",
        [nameof(GenerationOptions.TopP)] = "--top-p",
        [nameof(GenerationOptions.StopStrings)] = "--stop",
        [nameof(GenerationOptions.NumReturnSequences)] = "--n-best",
        [nameof(SamModelOptions.Adapters)] = "--adapters",
        [nameof(SamModelOptions.Weights)] = "--weights",
        [nameof(WeightFormats.GroupSize)] = "--group-size",
        [nameof(SamModelOptions.Threads)] = "--threads",
        [nameof(SamModelOptions.InstructionSet)] = "--isa",
        ["Device"] = "--device",
        [nameof(Cuda.CudaProvider.ActivationType)] = "--activations",
        [nameof(SamModelOptions.KvCacheTokens)] = "--kv-tokens",
        [nameof(ConvertOptions.InstructBlip)] = "--instructblip",
        [nameof(ConvertOptions.Llm)] = "--llm",
        [nameof(ConvertOptions.HuggingFace)] = "--hf",
        [nameof(ConvertOptions.DType)] = "--dtype",
        ["dtype"] = "--dtype",
        [nameof(Data.Mini.MmLinkMiniOptions.Train)] = "--train",
        [nameof(Data.Mini.MmLinkMiniOptions.Test)] = "--test",
        [nameof(Data.Mini.MmLinkMiniOptions.Side)] = "--side",
    };

    /// <summary>Arguments that do not parse.</summary>
    public static async Task<int> WrongUseAsync(ParseResult parsed)
    {
        string command = CommandPath(parsed.CommandResult);
        // Where a word is unknown, the other errors follow from it.
        IEnumerable<string> messages = parsed.UnmatchedTokens is [var unknown, ..]
            ? [$"'{unknown}' is not a command or option of '{command}'{Suggestion(parsed.CommandResult.Command, unknown)}"]
            : parsed.Errors.Select(e => e.Message);
        foreach (string message in messages)
        {
            await Console.Error.WriteLineAsync("sam: " + message);
        }
        await Console.Error.WriteLineAsync($"See '{command} --help'.");
        return ExitCodes.Usage;
    }

    /// <summary>A command that failed.</summary>
    public static async Task<int> FailureAsync(ParseResult parsed, Exception error, bool verbose)
    {
        if (error is ReaderGoneException)
        {
            return ExitCodes.Success;
        }
        int code = ExitCodes.For(error);
        string message = verbose ? error.ToString() : error switch
        {
            OperationCanceledException => "cancelled",
            RequestException request => InItsWords(request),
            ImageException => LimitAdvice().Replace(error.Message, ""),
            OutputException when parsed.CommandResult.Children.OfType<OptionResult>()
                .FirstOrDefault(o => o.Option.Name is "--out" or "--output") is { } option => $"{option.Option.Name}: {error.Message}",
            SamException or IOException or UnauthorizedAccessException => error.Message,
            _ => $"internal error: {error.GetType().Name}: {error.Message} (--verbose shows where)",
        };
        await Console.Error.WriteLineAsync("sam: " + message);
        return code;
    }

    /// <summary>The message with the engine's names translated; what the user wrote stands between quotes and stays.</summary>
    private static string InItsWords(RequestException error)
    {
        string rest = error.Message[error.Option.Length..];
        int first = rest.IndexOf(" '", StringComparison.Ordinal);
        int last = rest.LastIndexOf('\'') + 1;
        static string Translated(string text) =>
            OptionName().Replace(text, m => Names.GetValueOrDefault(m.Groups[1].Value, m.Value));
        return Names.GetValueOrDefault(error.Option, error.Option)
            + (first < 0 ? Translated(rest) : Translated(rest[..first]) + rest[first..last] + Translated(rest[last..]));
    }

    /// <summary>The command or option that a mistyped word is most like: at most two letters are wrong.</summary>
    private static string Suggestion(Command command, string word)
    {
        var near = command.Subcommands.Select(c => c.Name).Concat(command.Options.Select(o => o.Name))
            .Select(n => (Name: n, Distance: Distance(n, word))).Where(n => n.Distance <= 2).OrderBy(n => n.Distance).ToList();
        return near.Count > 0 ? $"; did you mean '{near[0].Name}'?" : "";
    }

    /// <summary>Letters to insert, remove or replace to make one word of the other.</summary>
    private static int Distance(string first, string second)
    {
        int[] row = [.. Enumerable.Range(0, second.Length + 1)];
        for (int i = 1; i <= first.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= second.Length; j++)
            {
                int above = row[j];
                row[j] = Math.Min(Math.Min(above, row[j - 1]) + 1, diagonal + (first[i - 1] == second[j - 1] ? 0 : 1));
                diagonal = above;
            }
        }
        return row[^1];
    }

    private static string CommandPath(CommandResult result) => result.Parent is CommandResult parent
        ? $"{CommandPath(parent)} {result.Command.Name}" : "sam";

    /// <summary>Limits of pictures are an application's to raise; the command has no option for them.</summary>
    [GeneratedRegex(@" or raise ImageLimits\.\w+$")]
    private static partial Regex LimitAdvice();

    [GeneratedRegex(@"\b(?:SamModelOptions\.)?([A-Z]\w+|dtype)\b")]
    private static partial Regex OptionName();
}
