using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Decoding;
using SamEngine.Model;
using Xunit;

namespace SamEngine.Testing;

/// <summary>Greedy texts of a backend that rounds, beside those of one that does not: wherever the best two logits are further
/// apart than the measured error of the logits, the same token must be chosen.</summary>
internal static class GreedyIds
{
    /// <summary>Compares the texts of every recorded case; returns how many tokens were decided alike.</summary>
    public static async Task<int> Check(GoldenModel golden, SamCheckpoint checkpoint, Backend exact, Backend rounding, int tokens)
    {
        int decided = 0;
        foreach (string name in golden.Cases)
        {
            var input = golden.Input(name);
            var (expected, expectedLogits) = await Run(checkpoint, exact, input, tokens);
            var (actual, actualLogits) = await Run(checkpoint, rounding, input, tokens);
            for (int step = 0; step < Math.Min(expected.Length, actual.Length); step++)
            {
                float[] e = expectedLogits[step];
                float[] a = actualLogits[step];
                float error = Enumerable.Range(0, e.Length).Max(i => Math.Abs(e[i] - a[i]));
                float[] best = [.. e.OrderDescending().Take(2)];
                // The error may lift the second and lower the first.
                if (best[0] - best[1] > 2 * error)
                {
                    Assert.True(expected[step] == actual[step], $"{name}, token {step}: {actual[step]}, expected {expected[step]}, " +
                        $"although {best[0]} and {best[1]} are further apart than the error {error}");
                    decided++;
                }
                if (expected[step] != actual[step])
                {
                    break;
                }
            }
        }
        return decided;
    }

    private static async Task<(int[] Tokens, List<float[]> Logits)> Run(SamCheckpoint checkpoint, Backend backend, EngineInput input,
        int tokens)
    {
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        var logits = new List<float[]>();
        engine.Trace = (stage, view) =>
        {
            if (stage == "llm_logits")
            {
                float[] row = new float[view.Count];
                engine.Queue.ReadBack<float>(view, row);
                logits.Add(row);
            }
        };
        var llm = checkpoint.Config.Llm;
        var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 1, MaxLength = tokens + 1, RepetitionPenalty = 1 },
            llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
        var work = new GenerationWork(input, settings, TokenSearch.Create(settings), null, default);
        engine.Submit(work);
        await work.Completion;
        return (work.Search.Results()[0].Tokens, logits);
    }
}
