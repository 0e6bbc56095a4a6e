using System.Text.Json;
using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Decoding;
using SamEngine.Model;
using Xunit;

namespace SamEngine.Testing;

/// <summary>The generations of a golden folder's generation.json, ids exact, on any backend.</summary>
internal static class GoldenGenerations
{
    /// <summary>Makes every recorded generation on a checkpoint and compares ids and scores.</summary>
    public static async Task Check(GoldenModel golden, SamCheckpoint checkpoint, Backend backend)
    {
        using var weights = SamWeights.Load(checkpoint, backend);
        using var engine = new InferenceEngine(weights, backend, cacheTokens: 0);
        int compared = 0;
        foreach (var entry in golden.Generation.GetProperty("cases").EnumerateObject())
        {
            if (entry.Name != "predict_class")
            {
                compared += await CheckCase(golden, engine, entry.Name, entry.Value);
            }
        }
        Assert.True(compared >= 10, $"{golden.Folder}: only {compared} runs compared");
    }

    /// <summary>Makes one case's generations; returns how many.</summary>
    public static async Task<int> CheckCase(GoldenModel golden, InferenceEngine engine, string name, JsonElement recorded)
    {
        // Early-stop cases reuse the pictures of another case.
        string source = golden.Cases.Contains(name) ? name : golden.Cases.First(c => GoldenModel.IsGuided(c));
        int compared = 0;
        JsonElement? basis = recorded.TryGetProperty("beam5", out var b) && b.TryGetProperty("max_length", out _) ? b
            : recorded.TryGetProperty("beam5_return3", out var r) && r.TryGetProperty("max_length", out _) ? r : null;
        bool batch = recorded.GetProperty("llm_prompt_ids")[0].ValueKind == JsonValueKind.Array;
        for (int sample = 0; sample < (batch ? recorded.GetProperty("llm_prompt_ids").GetArrayLength() : 1); sample++)
        {
            var qformer = recorded.GetProperty("qformer_input_ids");
            var prompt = recorded.GetProperty("llm_prompt_ids");
            var input = new EngineInput(golden.Images(source), golden.Pixels(source, sample),
                Ints(batch ? qformer[sample] : qformer), Ints(batch ? prompt[sample] : prompt), GoldenModel.IsGuided(name));
            foreach (var run in recorded.EnumerateObject().Where(p => p.Value.ValueKind == JsonValueKind.Object
                && (p.Name.StartsWith("greedy", StringComparison.Ordinal) || p.Name.StartsWith("beam", StringComparison.Ordinal))))
            {
                await CheckRun(golden, engine, input, $"{name}.{run.Name}", run.Value, basis, batch ? sample : null);
                compared++;
            }
        }
        return compared;
    }

    private static async Task CheckRun(GoldenModel golden, InferenceEngine engine, EngineInput input, string what,
        JsonElement run, JsonElement? basis, int? sample)
    {
        double Value(string key, double missing) =>
            run.TryGetProperty(key, out var v) || (basis is { } o && o.TryGetProperty(key, out v)) ? v.GetDouble() : missing;
        int beams = (int)Value("num_beams", 5);
        bool several = run.TryGetProperty("sequences_raw", out var sequences);
        var llm = golden.Config.Llm;
        var settings = GenerationSettings.Create(new GenerationOptions
        {
            NumBeams = beams,
            RepetitionPenalty = (float)Value("repetition_penalty", 1.5),
            LengthPenalty = (float)Value("length_penalty", 1),
            MaxLength = (int)Value("max_length", 24),
            MinLength = (int)Value("min_length", 1),
            NumReturnSequences = several && sample is null ? sequences.GetArrayLength() : 1,
        }, llm.VocabularySize, llm.BosTokenId, llm.EosTokenId);
        var stable = new List<int>();
        var search = TokenSearch.Create(settings);
        var work = new GenerationWork(input, settings, search, s =>
        {
            // What was called stable before is still the beginning.
            Assert.True(s.StableTokens.StartsWith(stable.ToArray()));
            stable = [.. s.StableTokens];
        }, default);
        engine.Submit(work);
        await work.Completion;
        var results = search.Results();
        int longest = results.Max(h => h.Tokens.Length);
        for (int i = 0; i < results.Count; i++)
        {
            int[] expected = several ? Ints(sequences[sample ?? i]) : Ints(run.GetProperty("sequence_raw"));
            int[] raw = [llm.BosTokenId, .. results[i].Tokens];
            // Rows are padded with 0 to the longest of the call; here a row stands alone.
            Assert.True(expected.AsSpan().StartsWith(raw), $"{what}[{sample ?? i}]: [{string.Join(", ", raw)}], expected " +
                $"[{string.Join(", ", expected)}]");
            Assert.True(expected.Skip(raw.Length).All(id => id == 0), what);
            string scores = several ? "sequences_scores" : "sequences_score";
            if (run.TryGetProperty(scores, out var score))
            {
                double wanted = several ? score[sample ?? i].GetDouble() : score.GetDouble();
                Assert.True(Math.Abs(results[i].Score - wanted) <= 5e-4 + 5e-4 * Math.Abs(wanted),
                    $"{what}: score {results[i].Score}, expected {wanted}");
            }
        }
        int[] best = results[0].Reason == FinishReason.EndOfText ? results[0].Tokens[..^1] : results[0].Tokens;
        Assert.Equal(best, stable);
        Assert.True(longest < settings.MaxLength);
    }

    /// <summary>A list of numbers.</summary>
    public static int[] Ints(JsonElement list) => [.. list.EnumerateArray().Select(v => v.GetInt32())];
}
