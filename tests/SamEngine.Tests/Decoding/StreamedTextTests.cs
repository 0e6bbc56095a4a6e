using System.Text;
using System.Text.Json;
using SamEngine.Checkpoints;
using SamEngine.Compute.Cpu;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using SamEngine.Text;
using Xunit;

namespace SamEngine.Tests.Decoding;

/// <summary>The streamed text of every golden case in every mode. The ids mean nothing to the tokenizer, most of them are
/// single bytes: broken characters, white space and special ids come in every order.</summary>
public sealed class StreamedTextTests
{
    private static readonly VicunaTokenizer Tokenizer = VicunaTokenizer.Load(Golden.Fixture("text", "tokenizer.model"));

    public static TheoryData<string, GenerationOptions> Modes
    {
        get
        {
            var modes = new TheoryData<string, GenerationOptions>
            {
                { "greedy", new GenerationOptions { NumBeams = 1, RepetitionPenalty = 1 } },
                { "greedy with penalty", new GenerationOptions { NumBeams = 1 } },
                { "beams", new GenerationOptions { NumBeams = 5 } },
                { "short beams", new GenerationOptions { NumBeams = 3, LengthPenalty = -1, MinLength = 5 } },
                { "n-best", new GenerationOptions { NumBeams = 5, NumReturnSequences = 5 } },
            };
            for (ulong seed = 0; seed < 3; seed++)
            {
                modes.Add($"sampling {seed}", new GenerationOptions { NumBeams = 1, DoSample = true, Seed = seed, TopK = 0 });
                modes.Add($"beam sampling {seed}", new GenerationOptions
                {
                    NumBeams = 4,
                    DoSample = true,
                    Seed = seed,
                    NumReturnSequences = 2,
                });
            }
            return modes;
        }
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public async Task Pieces_are_final_and_stop_strings_do_not_leak(string mode, GenerationOptions options)
    {
        int stopped = 0;
        foreach (string folder in Golden.Folders("tiny-"))
        {
            using var golden = new GoldenModel(folder);
            using var checkpoint = SamCheckpoint.Open(folder);
            using var backend = new CpuBackend();
            using var weights = SamWeights.Load(checkpoint, backend);
            using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
            foreach (string name in golden.Cases)
            {
                string what = $"{name}, {mode}";
                var input = golden.Input(name);
                var free = await Run(engine, golden.Config.Llm, input, options, [], what);
                Assert.True(free.Text.Length > 4, what);
                Assert.Equal(options.NumReturnSequences ?? 1, free.Results.Count);
                foreach (var stops in Stops(free.Text))
                {
                    var cut = await Run(engine, golden.Config.Llm, input, options, stops,
                        $"{what}, stops {JsonSerializer.Serialize(stops)}");
                    stopped += cut.Results[0].Reason == FinishReason.StopString ? 1 : 0;
                    int at = stops.Select(s => free.Text.IndexOf(s, StringComparison.Ordinal)).Where(i => i >= 0)
                        .DefaultIfEmpty(-1).Min();
                    if (options.NumBeams == 1)
                    {
                        // One row draws the same tokens up to the stop.
                        Assert.Equal(at < 0 ? free.Text : PythonText.TrimEnd(free.Text.AsSpan(0, at)).ToString(), cut.Text);
                    }
                }
            }
        }
        Assert.True(stopped > 5, $"only {stopped} texts ended at a stop string");
    }

    private static IEnumerable<string[]> Stops(string text)
    {
        int middle = text.Length / 2;
        string one = text.Substring(middle, 1);
        string two = text.Substring(middle, 2);
        string start = text[..2];
        yield return [text[..1]];
        yield return [one];
        yield return [text.Substring(middle, Math.Min(3, text.Length - middle))];
        yield return [text[^2..]];
        // Some begin like the text and never come.
        yield return [two, $"{one}never", $"{start}never"];
        yield return [$"{two}never"];
    }

    private static async Task<(string Text, IReadOnlyList<Hypothesis> Results)> Run(InferenceEngine engine, LlamaConfig llm,
        EngineInput input, GenerationOptions options, string[] stops, string what)
    {
        var settings = GenerationSettings.Create(options with { MaxLength = 33, StopStrings = stops }, llm.VocabularySize,
            llm.BosTokenId, llm.EosTokenId);
        var search = StreamedText.Search(settings, Tokenizer);
        var stream = new StreamedText(Tokenizer, stops);
        var text = new StringBuilder();
        int[] stable = [];
        var work = new GenerationWork(input, settings, search, s =>
        {
            Assert.True(s.StableTokens.StartsWith(stable), what);
            stable = s.StableTokens.ToArray();
            stream.Take(s, piece =>
            {
                Assert.NotEqual("", piece);
                text.Append(piece);
                // White space at the end waits, and so does half a character.
                Assert.False(PythonText.IsWhiteSpace(text[^1]) || char.IsHighSurrogate(text[^1]), what);
                Assert.All(stops, stop => Assert.DoesNotContain(stop, text.ToString(), StringComparison.Ordinal));
            });
        }, default);
        engine.Submit(work);
        await work.Completion;
        text.Append(stream.Finish());
        var results = search.Results();
        var best = results[0];
        string streamed = text.ToString();
        Assert.Equal(best.Reason == FinishReason.EndOfText ? best.Tokens[..^1] : best.Tokens, stable);
        Assert.Equal(StreamingDetokenizer.Decode(Tokenizer, best.Tokens, stops), streamed);
        foreach (var result in results)
        {
            // The whole text of a result is the decoded ids up to the first stop string, stripped.
            string raw = Raw(result);
            int at = stops.Select(s => raw.IndexOf(s, StringComparison.Ordinal)).Where(i => i >= 0).DefaultIfEmpty(raw.Length).Min();
            Assert.Equal(PythonText.TrimStart(PythonText.TrimEnd(raw.AsSpan(0, at))).ToString(),
                StreamingDetokenizer.Decode(Tokenizer, result.Tokens, stops));
            Assert.True(result.Reason != FinishReason.StopString || at < raw.Length, what);
        }
        Assert.Equal(results.OrderByDescending(r => r.Score), results);
        return (streamed, results);
    }

    /// <summary>All ids at once, with the white space.</summary>
    private static string Raw(Hypothesis result) =>
        Tokenizer.Decode(result.Tokens.Where(id => id != 0), skipSpecialTokens: true);
}
