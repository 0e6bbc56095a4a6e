using System.Runtime.InteropServices;
using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

internal static class SelectionCases
{
    private const string Select = nameof(ComputeQueue.SelectTokens);

    /// <summary>A group that changes nothing: the best by logits.</summary>
    public static SelectionGroup Plain(int firstRow = 0, int rows = 1) => new()
    {
        FirstRow = firstRow,
        RowCount = rows,
        RepetitionPenalty = 1,
        Temperature = 1,
        TopP = 1,
        MinTokensToKeep = 1,
    };

    public static IEnumerable<ConformanceCase> All
    {
        get
        {
            var beam = Plain(0, 3) with { UseLogProbs = 1 };
            yield return Case("best by logits", 100, 1, [Plain()]);
            yield return Case("more candidates than tokens", 3, 5, [Plain()]);
            yield return Case("penalty on logits of both signs", 40, 4, [Plain() with { RepetitionPenalty = 1.5f }],
                penalty: [[0, 3, 7, 39]]);
            yield return Case("banned ids", 12, 12, [Plain()], banned: [[0, 5, 11]]);
            yield return Case("beams over three rows", 50, 10, [beam]);
            yield return Case("beams, penalty on log-probabilities, bans", 50, 10, [beam with { RepetitionPenalty = 1.5f }],
                penalty: [[1, 2], [], [4, 8, 49]], banned: [[2]]);
            yield return Case("several groups of unlike kinds", 64, 6,
                [Plain(0, 1), beam with { FirstRow = 1, RowCount = 2 }, Plain(3, 1) with { Sample = 1, SeedLow = 9 }, beam with { FirstRow = 4, RowCount = 4 }],
                penalty: [[], [1], [2], [3], [], [], [5], [6]], banned: [[1], [], [0], []]);
            foreach (int step in Enumerable.Range(0, 4))
            {
                var sample = Plain() with { Sample = 1, SeedLow = 7, SeedHigh = 1, Step = (uint)step };
                yield return Case($"sampling, step {step}", 200, 3, [sample]);
                yield return Case($"temperature, top-k, top-p, step {step}", 200, 8,
                    [sample with { Temperature = 0.7f, TopK = 20, TopP = 0.8f }]);
                yield return Case($"beam sampling, step {step}", 200, 10,
                    [beam with { Sample = 1, SeedLow = 3, Step = (uint)step, TopK = 50, TopP = 0.9f, MinTokensToKeep = 2 }]);
            }
            yield return Case("top-p of almost nothing keeps two", 30, 6,
                [Plain() with { Sample = 1, TopP = 1e-6f, MinTokensToKeep = 2 }]);
            yield return new(Select, "ties go by row and token", p =>
                Run(p, [1, 5, 5, 0, 5, 5, 1, 0], 4, 6, [Plain(0, 2)], [], [], [0, 0]));
            yield return new(Select, "top-k keeps ties", p =>
                Run(p, [1, 5, 5, 0, 5, 3, 1, 0], 8, 8, [Plain() with { Sample = 1, TopK = 2 }], [], [], [0]));
            foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
            {
                yield return new(Select, $"{bad} is reported, the other group goes on", p =>
                    Run(p, [1, 2, bad, 3, 4, 5, 7, 6], 4, 3, [Plain(0, 1), Plain(1, 1)], [], [], [0, 0]));
            }
            foreach (int vocabulary in new[] { 1, 17, 32001 })
            {
                yield return new(nameof(ComputeQueue.TokenLogProbs), $"vocabulary of {vocabulary}", p =>
                    p.Queue.TokenLogProbs(p.Input(1, 3, vocabulary, 2, 4, ElementType.F32),
                        p.Indices(0, vocabulary - 1, vocabulary / 2), p.Output("y", 1, 1, 3, type: ElementType.F32)));
            }
        }
    }

    /// <summary>Enqueues a choice.</summary>
    /// <param name="p">Where.</param>
    /// <param name="logits">[rows, vocabulary].</param>
    /// <param name="vocabulary">Tokens.</param>
    /// <param name="candidates">Per group.</param>
    /// <param name="groups">Parameters.</param>
    /// <param name="penalty">Ids per row.</param>
    /// <param name="banned">Ids per group.</param>
    /// <param name="scores">Running score per row.</param>
    public static SelectionOutputs Run(Probe p, float[] logits, int vocabulary, int candidates, SelectionGroup[] groups,
        int[][] penalty, int[][] banned, float[] scores)
    {
        int rows = scores.Length;
        var outputs = new SelectionOutputs(
            p.Output("scores", 1, groups.Length, candidates, type: ElementType.F32),
            p.Output("rows", 1, groups.Length, candidates, type: ElementType.I32),
            p.Output("tokens", 1, groups.Length, candidates, type: ElementType.I32),
            p.Output("non-finite", 1, 1, groups.Length, type: ElementType.I32));
        // Two selection rows may read one row of the logits; here each has its own, in reverse order of storage.
        float[] reversed = [.. Enumerable.Range(0, rows).SelectMany(r => logits[((rows - 1 - r) * vocabulary)..((rows - r) * vocabulary)])];
        p.Queue.SelectTokens(p.Table(reversed, rows, vocabulary, pad: 3),
            new SelectionInputs(
                p.Ints(MemoryMarshal.Cast<SelectionGroup, int>(groups).ToArray(), groups.Length, SelectionGroup.Columns),
                p.Indices([.. Enumerable.Range(0, rows).Reverse()]), p.Input(scores, 1, 1, rows, type: ElementType.F32),
                Lists(p, penalty, rows), Lists(p, banned, groups.Length)),
            outputs);
        return outputs;
    }

    private static ConformanceCase Case(string name, int vocabulary, int candidates, SelectionGroup[] groups,
        int[][]? penalty = null, int[][]? banned = null) => new(Select, name, p =>
    {
        int rows = groups.Sum(g => g.RowCount);
        Run(p, p.Random(rows * vocabulary, 3), vocabulary, candidates, groups, penalty ?? [], banned ?? [],
            [.. p.Random(rows, 2).Select(v => -Math.Abs(v))]);
    });

    private static TensorView Lists(Probe p, int[][] lists, int rows)
    {
        int widest = Math.Max(1, lists.Select(l => l.Length).DefaultIfEmpty(0).Max());
        int[] all = [.. Enumerable.Range(0, rows).SelectMany(r =>
        {
            int[] list = r < lists.Length ? lists[r] : [];
            return list.Concat(Enumerable.Repeat(-1, widest - list.Length));
        })];
        return p.Ints(all, rows, widest, pad: 1);
    }
}
