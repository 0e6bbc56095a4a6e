using SamEngine.Compute;

namespace SamEngine.Testing.Reference;

/// <summary>Token selection as <see cref="ComputeQueue.SelectTokens"/> describes it, by sorting whole lists.</summary>
internal static class ReferenceSelection
{
    public delegate ReadOnlySpan<float> RowOfFloats(int row);

    public delegate ReadOnlySpan<int> RowOfInts(int row);

    public static void Run(RowOfFloats logits, ReadOnlySpan<SelectionGroup> groups, ReadOnlySpan<int> logitRows,
        ReadOnlySpan<float> rowScores, RowOfInts penaltyIds, RowOfInts bannedIds, int candidates, Span<float> scores,
        Span<int> rows, Span<int> tokens, Span<int> nonFinite)
    {
        for (int g = 0; g < groups.Length; g++)
        {
            var group = groups[g];
            var all = new List<(float Key, float Score, int Row, int Token)>();
            bool finite = true;
            for (int row = 0; row < group.RowCount; row++)
            {
                int at = group.FirstRow + row;
                var raw = logits(logitRows[at]);
                foreach (float value in raw)
                {
                    finite &= float.IsFinite(value);
                }
                if (!finite)
                {
                    break;
                }
                float[] s = Scores(group, raw, rowScores[at], penaltyIds(at), bannedIds(g));
                double total = group.UseLogProbs != 0 ? 0 : LogSumExp(s);
                for (int token = 0; token < s.Length; token++)
                {
                    if (!float.IsNegativeInfinity(s[token]))
                    {
                        float noise = group.Sample == 0 ? 0
                            : Philox.Gumbel(group.SeedLow, group.SeedHigh, group.Step, (uint)row, (uint)token);
                        all.Add((s[token] + noise, (float)(s[token] - total), row, token));
                    }
                }
            }
            nonFinite[g] = finite ? 0 : 1;
            var chosen = finite ? all.OrderByDescending(c => c.Key).ThenBy(c => c.Row).ThenBy(c => c.Token)
                .Take(candidates).ToList() : [];
            if (group.UseLogProbs != 0)
            {
                chosen = [.. chosen.OrderByDescending(c => c.Score).ThenBy(c => c.Row).ThenBy(c => c.Token)];
            }
            for (int i = 0; i < candidates; i++)
            {
                int to = g * candidates + i;
                (scores[to], rows[to], tokens[to]) = i < chosen.Count
                    ? (chosen[i].Score, chosen[i].Row, chosen[i].Token) : (float.NegativeInfinity, -1, -1);
            }
        }
    }

    /// <summary>log(sum(exp(s))).</summary>
    public static double LogSumExp(ReadOnlySpan<float> s)
    {
        double largest = double.NegativeInfinity;
        foreach (float value in s)
        {
            largest = Math.Max(largest, value);
        }
        double sum = 0;
        foreach (float value in s)
        {
            sum += Math.Exp(value - largest);
        }
        return largest + Math.Log(sum);
    }

    /// <summary>The scores of one row after penalty, bans, running score and warpers.</summary>
    public static float[] Scores(SelectionGroup group, ReadOnlySpan<float> logits, float rowScore,
        ReadOnlySpan<int> penaltyIds, ReadOnlySpan<int> bannedIds)
    {
        float[] s = logits.ToArray();
        if (group.UseLogProbs != 0)
        {
            double total = LogSumExp(logits);
            s = [.. s.Select(v => (float)(v - total))];
        }
        foreach (int id in penaltyIds)
        {
            if (id < 0)
            {
                break;
            }
            s[id] = s[id] < 0 ? s[id] * group.RepetitionPenalty : s[id] / group.RepetitionPenalty;
        }
        foreach (int id in bannedIds)
        {
            if (id < 0)
            {
                break;
            }
            s[id] = float.NegativeInfinity;
        }
        if (group.UseLogProbs != 0)
        {
            s = [.. s.Select(v => v + rowScore)];
        }
        if (group.Sample != 0)
        {
            s = [.. s.Select(v => v / group.Temperature)];
            Warp(group, s);
        }
        return s;
    }

    private static void Warp(SelectionGroup group, float[] s)
    {
        int keep = Math.Max(1, group.MinTokensToKeep);
        if (group.TopK > 0)
        {
            int k = Math.Min(Math.Max(group.TopK, keep), s.Length);
            float least = s.OrderDescending().ElementAt(k - 1);
            for (int i = 0; i < s.Length; i++)
            {
                s[i] = s[i] < least ? float.NegativeInfinity : s[i];
            }
        }
        if (group.TopP < 1)
        {
            double total = LogSumExp(s);
            var ascending = Enumerable.Range(0, s.Length).Where(i => !float.IsNegativeInfinity(s[i]))
                .OrderBy(i => s[i]).ThenBy(i => i).ToList();
            double sum = 0;
            foreach (int i in ascending.Take(Math.Max(0, ascending.Count - keep)).ToList())
            {
                sum += Math.Exp(s[i] - total);
                if (sum > 1 - (double)group.TopP)
                {
                    break;
                }
                s[i] = float.NegativeInfinity;
            }
        }
    }
}
