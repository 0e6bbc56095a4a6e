using System.Runtime.InteropServices;
using SamEngine.Compute;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Testing.Conformance;

/// <summary>Draws of <see cref="ComputeQueue.SelectTokens"/> against the exact distributions, by chi-square. Seeds are
/// fixed: a result is the same on every run.</summary>
internal static class SamplerDistributions
{
    private const int Draws = 20000;

    /// <summary>One token by temperature, top-k and top-p.</summary>
    public static void CheckSampling(Backend backend, float temperature, int topK, float topP, float penalty)
    {
        float[] logits = [.. Enumerable.Range(0, 24).Select(i => (float)Math.Sin(i * 1.7) * 2.5f)];
        var group = SelectionCases.Plain() with
        {
            Sample = 1,
            Temperature = temperature,
            TopK = topK,
            TopP = topP,
            RepetitionPenalty = penalty,
            SeedLow = 42,
        };
        int[] penalised = [0, 1, 2];
        float[] scores = ReferenceSelection.Scores(group, logits, 0, penalised, [5]);
        double total = ReferenceSelection.LogSumExp(scores);
        double[] probabilities = [.. scores.Select(s => Math.Exp(s - total))];
        int[] counts = new int[logits.Length];
        Draw(backend, logits, 1, [group], 1, [penalised], [5], [0], (_, tokens) => counts[tokens[0]]++);
        AssertDistribution($"temperature {temperature}, top-k {topK}, top-p {topP}, penalty {penalty}", counts, probabilities);
    }

    /// <summary>The first <paramref name="chosen"/> of all rows' candidates, without replacement: the distribution of the
    /// set.</summary>
    public static void CheckBeamSampling(Backend backend, int rows, int vocabulary, int chosen)
    {
        float[] logits = [.. Enumerable.Range(0, rows * vocabulary).Select(i => (float)Math.Cos(i * 2.3) * 1.5f)];
        float[] rowScores = [.. Enumerable.Range(0, rows).Select(r => -0.4f * r)];
        var group = SelectionCases.Plain(0, rows) with { Sample = 1, UseLogProbs = 1, SeedLow = 7, SeedHigh = 99 };
        double[] weights = [.. Enumerable.Range(0, rows).SelectMany(r => ReferenceSelection.Scores(group,
            logits.AsSpan(r * vocabulary, vocabulary), rowScores[r], [], []).Select(s => Math.Exp(s)))];
        var expected = new SortedDictionary<string, double>(StringComparer.Ordinal);
        Add(expected, weights, [], 1, chosen);
        var counts = expected.Keys.ToDictionary(k => k, _ => 0);
        Draw(backend, logits, rows, [group], chosen, [], [], rowScores, (from, tokens) =>
            counts[Key(Enumerable.Range(0, chosen).Select(i => from[i] * vocabulary + tokens[i]))]++);
        AssertDistribution($"{chosen} of {rows} x {vocabulary} without replacement",
            [.. expected.Keys.Select(k => counts[k])], [.. expected.Values]);
    }

    /// <summary>Probability of every set, by enumerating the orders in which it can be drawn.</summary>
    private static void Add(SortedDictionary<string, double> sets, double[] weights, List<int> drawn, double probability,
        int most)
    {
        if (drawn.Count == most)
        {
            string key = Key(drawn);
            sets[key] = sets.GetValueOrDefault(key) + probability;
            return;
        }
        double left = weights.Where((_, i) => !drawn.Contains(i)).Sum();
        for (int i = 0; i < weights.Length; i++)
        {
            if (!drawn.Contains(i))
            {
                Add(sets, weights, [.. drawn, i], probability * weights[i] / left, most);
            }
        }
    }

    private static string Key(IEnumerable<int> drawn) => string.Join(' ', drawn.Order());

    private static void Draw(Backend backend, float[] logits, int rows, SelectionGroup[] groups, int candidates,
        int[][] penalty, int[] banned, float[] rowScores, Action<int[], int[]> onDraw)
    {
        // Many steps in one call: a group per step, all reading the same rows.
        const int Batch = 500;
        int vocabulary = logits.Length / rows;
        for (int first = 0; first < Draws; first += Batch)
        {
            using var probe = new Probe(backend, 0);
            var all = Enumerable.Range(0, Batch).SelectMany(i => groups.Select(g => g with
            {
                Step = (uint)(first + i),
                FirstRow = i * rows,
            })).ToArray();
            int selectionRows = Batch * rows;
            int[] penaltyIds = penalty.Length == 0 ? Filled(selectionRows, -1)
                : [.. Enumerable.Range(0, selectionRows).SelectMany(_ => penalty[0])];
            int[] bannedIds = banned.Length == 0 ? Filled(all.Length, -1) : [.. all.SelectMany(_ => banned)];
            var outputs = new SelectionOutputs(
                probe.Output("scores", 1, all.Length, candidates, type: ElementType.F32),
                probe.Output("rows", 1, all.Length, candidates, type: ElementType.I32),
                probe.Output("tokens", 1, all.Length, candidates, type: ElementType.I32),
                probe.Output("non-finite", 1, 1, all.Length, type: ElementType.I32));
            probe.Queue.SelectTokens(probe.Table(logits, rows, vocabulary), new SelectionInputs(
                probe.Ints(MemoryMarshal.Cast<SelectionGroup, int>(all).ToArray(), all.Length, SelectionGroup.Columns),
                probe.Indices([.. Enumerable.Range(0, selectionRows).Select(r => r % rows)]),
                probe.Input([.. Enumerable.Range(0, selectionRows).Select(r => rowScores[r % rows])], 1, 1, selectionRows,
                    type: ElementType.F32),
                probe.Ints(penaltyIds, selectionRows, penaltyIds.Length / selectionRows),
                probe.Ints(bannedIds, all.Length, bannedIds.Length / all.Length)), outputs);
            var results = probe.Results();
            int[] fromRows = results.Single(r => r.Name == "rows").Ints;
            int[] tokens = results.Single(r => r.Name == "tokens").Ints;
            for (int i = 0; i < all.Length; i++)
            {
                onDraw(fromRows[(i * candidates)..((i + 1) * candidates)], tokens[(i * candidates)..((i + 1) * candidates)]);
            }
        }
    }

    private static int[] Filled(int count, int value)
    {
        int[] all = new int[count];
        Array.Fill(all, value);
        return all;
    }

    private static void AssertDistribution(string what, int[] counts, double[] probabilities)
    {
        Assert.Equal(1, probabilities.Sum(), 1e-6);
        Assert.Equal(Draws, counts.Sum());
        double chiSquare = 0;
        int cells = 0;
        double restExpected = 0;
        int restCount = 0;
        for (int i = 0; i < counts.Length; i++)
        {
            double expected = probabilities[i] * Draws;
            Assert.True(expected > 0 || counts[i] == 0, $"{what}: cell {i} can't happen and was drawn {counts[i]} times");
            if (expected < 5)
            {
                restExpected += expected;
                restCount += counts[i];
                continue;
            }
            chiSquare += (counts[i] - expected) * (counts[i] - expected) / expected;
            cells++;
        }
        if (restExpected >= 5)
        {
            chiSquare += (restCount - restExpected) * (restCount - restExpected) / restExpected;
            cells++;
        }
        // Wilson-Hilferty: the cube root of chi-square over its degrees of freedom is nearly normal.
        int freedom = cells - 1;
        Assert.True(freedom > 0, $"{what}: nothing to compare");
        double z = (Math.Cbrt(chiSquare / freedom) - (1 - 2.0 / (9 * freedom))) / Math.Sqrt(2.0 / (9 * freedom));
        Assert.True(z is < 3.5 and > -3.5, $"{what}: chi-square {chiSquare:F1} with {freedom} degrees of freedom, z = {z:F2}");
    }
}
