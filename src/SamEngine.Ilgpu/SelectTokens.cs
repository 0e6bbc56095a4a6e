using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Algorithms;
using SamEngine.Compute;

namespace SamEngine.Ilgpu;

/// <summary>What selection reads and writes. Scratch: the rows' scores [rows, vocabulary], and for each row its best candidates
/// in order (keys, scores, tokens: [rows, most]), their number, and whether all its logits are finite.</summary>
internal readonly struct SelectionArguments(DeviceView<float> logits, DeviceView<int> groups, DeviceView<int> logitRows,
    DeviceView<float> rowScores, DeviceView<int> penaltyIds, DeviceView<int> bannedIds, SelectionScratch scratch,
    DeviceView<float> scores, DeviceView<int> rows, DeviceView<int> tokens, DeviceView<int> nonFinite)
{
    public readonly DeviceView<float> Logits = logits;
    public readonly DeviceView<int> Groups = groups;
    public readonly DeviceView<int> LogitRows = logitRows;
    public readonly DeviceView<float> RowScores = rowScores;
    public readonly DeviceView<int> PenaltyIds = penaltyIds;
    public readonly DeviceView<int> BannedIds = bannedIds;
    public readonly SelectionScratch Scratch = scratch;
    public readonly DeviceView<float> Scores = scores;
    public readonly DeviceView<int> Rows = rows;
    public readonly DeviceView<int> Tokens = tokens;
    public readonly DeviceView<int> NonFinite = nonFinite;

    /// <summary>Candidates of a group.</summary>
    public int Most => Scores.Columns;

    public int Vocabulary => Logits.Columns;

    /// <summary>The group that a selection row belongs to; -1 when none has it.</summary>
    public int GroupOf(int row)
    {
        for (int group = 0; group < Groups.Rows; group++)
        {
            int first = Int(group, 0);
            if (row >= first && row < first + Int(group, 1))
            {
                return group;
            }
        }
        return -1;
    }

    /// <summary>A field of <see cref="SelectionGroup"/> by its place.</summary>
    public int Int(int group, int field) => Groups.Data[Groups.Offset + (long)group * SelectionGroup.Columns + field];

    /// <inheritdoc cref="Int"/>
    public float Float(int group, int field) => Interop.IntAsFloat((uint)Int(group, field));
}

/// <summary>Memory between the two launches of a selection.</summary>
internal readonly struct SelectionScratch(ArrayView<float> scores, ArrayView<float> bestKeys, ArrayView<float> bestScores,
    ArrayView<int> bestTokens, ArrayView<int> counts, ArrayView<int> finite)
{
    public readonly ArrayView<float> Scores = scores;
    public readonly ArrayView<float> BestKeys = bestKeys;
    public readonly ArrayView<float> BestScores = bestScores;
    public readonly ArrayView<int> BestTokens = bestTokens;
    public readonly ArrayView<int> Counts = counts;
    public readonly ArrayView<int> Finite = finite;
}

/// <summary>Choice of the next tokens (semantics at <see cref="ComputeQueue.SelectTokens"/>): the best of each row, then of each
/// group; and log-probabilities of given tokens. Exponentials are summed in double.</summary>
internal static class SelectTokens
{
    // Places in SelectionGroup.
    public const int FirstRow = 0;
    private const int RowCount = 1;
    public const int UseLogProbs = 2;
    public const int Sample = 3;
    public const int RepetitionPenalty = 4;
    public const int Temperature = 5;
    public const int TopK = 6;
    public const int TopP = 7;
    private const int MinTokensToKeep = 8;
    private const int SeedLow = 9;
    private const int SeedHigh = 10;
    private const int Step = 11;

    /// <summary>A thread per selection row: scores, warpers, the row's best candidates.</summary>
    public static void Rows(SelectionArguments a)
    {
        for (int row = Worker.Index; row < a.LogitRows.Columns; row += Worker.Count)
        {
            int group = a.GroupOf(row);
            if (group >= 0)
            {
                Row(a, row, group);
            }
        }
    }

    /// <summary>A thread per group: merges its rows' candidates.</summary>
    public static void Groups(SelectionArguments a)
    {
        for (int group = Worker.Index; group < a.Groups.Rows; group += Worker.Count)
        {
            Merge(a, group);
        }
    }

    /// <summary>y[i] = log_softmax(logits[i])[targets[i]], a thread per row.</summary>
    public static void TokenLogProbs(DeviceView<float> logits, DeviceView<int> targets, DeviceView<float> y)
    {
        for (int row = Worker.Index; row < logits.Rows; row += Worker.Count)
        {
            long from = logits.RowAt(row);
            int target = targets.Data[targets.Offset + row];
            y.Data[y.Offset + row] = (float)(logits.Data[from + target] - LogSumExp(logits.Data, from, logits.Columns));
        }
    }

    /// <summary>Penalty, then bans, on one row's scores.</summary>
    private static void PenaliseAndBan(SelectionArguments a, int row, int group, long s)
    {
        var scores = a.Scratch.Scores;
        float penalty = a.Float(group, RepetitionPenalty);
        long ids = a.PenaltyIds.RowAt(row);
        for (int i = 0; i < a.PenaltyIds.Columns && a.PenaltyIds.Data[ids + i] >= 0; i++)
        {
            long at = s + a.PenaltyIds.Data[ids + i];
            scores[at] = scores[at] < 0 ? scores[at] * penalty : scores[at] / penalty;
        }
        ids = a.BannedIds.RowAt(group);
        for (int i = 0; i < a.BannedIds.Columns && a.BannedIds.Data[ids + i] >= 0; i++)
        {
            scores[s + a.BannedIds.Data[ids + i]] = float.NegativeInfinity;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Row(SelectionArguments a, int row, int group)
    {
        int n = a.Vocabulary;
        long s = (long)row * n;
        var scores = a.Scratch.Scores;
        long from = a.Logits.RowAt(a.LogitRows.Data[a.LogitRows.Offset + row]);
        int finite = 1;
        for (int i = 0; i < n; i++)
        {
            finite = IsFinite(a.Logits.Data[from + i]) ? finite : 0;
        }
        a.Scratch.Finite[row] = finite;
        a.Scratch.Counts[row] = 0;
        if (finite == 0)
        {
            return;
        }
        bool useLogProbs = a.Int(group, UseLogProbs) != 0;
        bool sample = a.Int(group, Sample) != 0;
        double total = useLogProbs ? LogSumExp(a.Logits.Data, from, n) : 0;
        for (int i = 0; i < n; i++)
        {
            scores[s + i] = (float)(a.Logits.Data[from + i] - total);
        }
        PenaliseAndBan(a, row, group, s);
        float offset = useLogProbs ? a.RowScores.Data[a.RowScores.Offset + row] : 0;
        float temperature = sample ? a.Float(group, Temperature) : 1;
        for (int i = 0; i < n; i++)
        {
            // Adding 0 also turns -0 into 0: below, order goes by bits.
            scores[s + i] = (scores[s + i] + offset) / temperature + 0f;
        }
        if (sample)
        {
            KeepTopK(a, group, s);
            KeepTopP(a, group, s);
        }
        OfferAll(a, row, group, s, sample);
        total = useLogProbs ? 0 : LogSumExp(scores, s, n);
        for (int i = 0; i < a.Scratch.Counts[row]; i++)
        {
            long at = (long)row * a.Most + i;
            a.Scratch.BestScores[at] = (float)(scores[s + a.Scratch.BestTokens[at]] - total);
        }
    }

    /// <summary>Scores below the k-th largest go. The k-th is found bit by bit in the order of floats' bits.</summary>
    private static void KeepTopK(SelectionArguments a, int group, long s)
    {
        int n = a.Vocabulary;
        int k = XMath.Max(a.Int(group, TopK), LeastKept(a, group));
        if (a.Int(group, TopK) <= 0 || k >= n)
        {
            return;
        }
        uint threshold = 0;
        for (int bit = 31; bit >= 0; bit--)
        {
            uint candidate = threshold | (1u << bit);
            int count = 0;
            for (int i = 0; i < n; i++)
            {
                count += Ordered(a.Scratch.Scores[s + i]) >= candidate ? 1 : 0;
            }
            threshold = count >= k ? candidate : threshold;
        }
        for (int i = 0; i < n; i++)
        {
            if (Ordered(a.Scratch.Scores[s + i]) < threshold)
            {
                a.Scratch.Scores[s + i] = float.NegativeInfinity;
            }
        }
    }

    /// <summary>Tokens go in ascending order (score, then token) while the sum of probabilities up to and with each is at most
    /// 1 - p and enough are left. The first score that stays is found bit by bit; among its equals order goes by token.</summary>
    private static void KeepTopP(SelectionArguments a, int group, long s)
    {
        if (!(a.Float(group, TopP) < 1))
        {
            return;
        }
        int n = a.Vocabulary;
        var scores = a.Scratch.Scores;
        double most = 1 - (double)a.Float(group, TopP);
        double total = LogSumExp(scores, s, n);
        int kept = 0;
        for (int i = 0; i < n; i++)
        {
            kept += scores[s + i] == float.NegativeInfinity ? 0 : 1;
        }
        int mayGo = XMath.Max(0, kept - LeastKept(a, group));
        uint threshold = 0;
        for (int bit = 31; bit >= 0; bit--)
        {
            uint candidate = threshold | (1u << bit);
            double sum = 0;
            int count = 0;
            for (int i = 0; i < n; i++)
            {
                float v = scores[s + i];
                if (v != float.NegativeInfinity && Ordered(v) < candidate)
                {
                    sum += DoubleMath.Exp(v - total);
                    count++;
                }
            }
            threshold = sum <= most && count <= mayGo ? candidate : threshold;
        }
        double gone = 0;
        int goneCount = 0;
        for (int i = 0; i < n; i++)
        {
            float v = scores[s + i];
            if (v != float.NegativeInfinity && Ordered(v) < threshold)
            {
                gone += DoubleMath.Exp(v - total);
                goneCount++;
                scores[s + i] = float.NegativeInfinity;
            }
        }
        for (int i = 0; i < n && goneCount < mayGo; i++)
        {
            float v = scores[s + i];
            if (v != float.NegativeInfinity && Ordered(v) == threshold)
            {
                gone += DoubleMath.Exp(v - total);
                if (gone > most)
                {
                    return;
                }
                goneCount++;
                scores[s + i] = float.NegativeInfinity;
            }
        }
    }

    /// <summary>Sorts a row's tokens into its list of the best.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void OfferAll(SelectionArguments a, int row, int group, long s, bool sample)
    {
        long best = (long)row * a.Most;
        int count = 0;
        uint inGroup = (uint)(row - a.Int(group, FirstRow));
        for (int i = 0; i < a.Vocabulary; i++)
        {
            float key = a.Scratch.Scores[s + i];
            if (key == float.NegativeInfinity)
            {
                continue;
            }
            key = sample ? key + Gumbel(a, group, inGroup, (uint)i) : key;
            // Tokens come in ascending order: an equal key that is there already goes first.
            if (count == a.Most && !(key > a.Scratch.BestKeys[best + count - 1]))
            {
                continue;
            }
            int place = count < a.Most ? count : count - 1;
            for (; place > 0 && key > a.Scratch.BestKeys[best + place - 1]; place--)
            {
                a.Scratch.BestKeys[best + place] = a.Scratch.BestKeys[best + place - 1];
                a.Scratch.BestTokens[best + place] = a.Scratch.BestTokens[best + place - 1];
            }
            a.Scratch.BestKeys[best + place] = key;
            a.Scratch.BestTokens[best + place] = i;
            count = XMath.Min(count + 1, a.Most);
        }
        a.Scratch.Counts[row] = count;
    }

    /// <summary>Candidates of a group in order, from its rows' lists.</summary>
    private static void Merge(SelectionArguments a, int group)
    {
        int first = a.Int(group, FirstRow);
        int rows = a.Int(group, RowCount);
        int finite = 1;
        for (int row = 0; row < rows; row++)
        {
            finite &= a.Scratch.Finite[first + row];
        }
        a.NonFinite.Data[a.NonFinite.Offset + group] = 1 - finite;
        long to = (long)group * a.Most;
        float lastKey = 0;
        int lastRow = -1;
        int lastToken = -1;
        for (int i = 0; i < a.Most; i++)
        {
            float bestKey = 0;
            long best = -1;
            int bestRow = -1;
            int bestToken = -1;
            for (int row = 0; row < rows && finite != 0 && (i == 0 || lastRow >= 0); row++)
            {
                long list = (long)(first + row) * a.Most;
                for (int j = 0; j < a.Scratch.Counts[first + row]; j++)
                {
                    float key = a.Scratch.BestKeys[list + j];
                    int token = a.Scratch.BestTokens[list + j];
                    if (i > 0 && !IsBetter(lastKey, lastRow, lastToken, key, row, token))
                    {
                        continue;
                    }
                    // The first of a list that is left is its best.
                    if (best < 0 || IsBetter(key, row, token, bestKey, bestRow, bestToken))
                    {
                        best = list + j;
                        bestKey = key;
                        bestRow = row;
                        bestToken = token;
                    }
                    break;
                }
            }
            lastKey = bestKey;
            lastRow = bestRow;
            lastToken = bestToken;
            Insert(a, to, i, best < 0 ? float.NegativeInfinity : a.Scratch.BestScores[best], bestRow, bestToken,
                best >= 0 && a.Int(group, UseLogProbs) != 0);
        }
    }

    /// <summary>Writes the <paramref name="place"/>-th candidate; where asked, before those of lower score.</summary>
    private static void Insert(SelectionArguments a, long to, int place, float score, int row, int token, bool byScore)
    {
        for (; byScore && place > 0; place--)
        {
            long before = to + place - 1;
            if (IsBetter(a.Scores.Data[a.Scores.Offset + before], a.Rows.Data[a.Rows.Offset + before],
                a.Tokens.Data[a.Tokens.Offset + before], score, row, token))
            {
                break;
            }
            a.Scores.Data[a.Scores.Offset + before + 1] = a.Scores.Data[a.Scores.Offset + before];
            a.Rows.Data[a.Rows.Offset + before + 1] = a.Rows.Data[a.Rows.Offset + before];
            a.Tokens.Data[a.Tokens.Offset + before + 1] = a.Tokens.Data[a.Tokens.Offset + before];
        }
        a.Scores.Data[a.Scores.Offset + to + place] = score;
        a.Rows.Data[a.Rows.Offset + to + place] = row;
        a.Tokens.Data[a.Tokens.Offset + to + place] = token;
    }

    private static bool IsBetter(float keyA, int rowA, int tokenA, float keyB, int rowB, int tokenB)
    {
        if (keyA != keyB)
        {
            return keyA > keyB;
        }
        return rowA != rowB ? rowA < rowB : tokenA < tokenB;
    }

    public static int LeastKept(SelectionArguments a, int group) => XMath.Max(1, a.Int(group, MinTokensToKeep));

    /// <summary>log(sum(exp)) of a row with at least one finite score.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double LogSumExp(ArrayView<float> values, long at, int count)
    {
        float largest = float.NegativeInfinity;
        for (int i = 0; i < count; i++)
        {
            largest = XMath.Max(largest, values[at + i]);
        }
        double sum = 0;
        for (int i = 0; i < count; i++)
        {
            sum += DoubleMath.Exp((double)values[at + i] - largest);
        }
        return largest + DoubleMath.Log(sum);
    }

    public static bool IsFinite(float value) => (Interop.FloatAsInt(value) & 0x7F800000) != 0x7F800000;

    /// <summary>The bits of a float so that they order as the floats do.</summary>
    public static uint Ordered(float value)
    {
        uint bits = Interop.FloatAsInt(value);
        return (bits & 0x80000000) != 0 ? ~bits : bits | 0x80000000;
    }

    /// <summary><see cref="Philox.Gumbel"/>, with ILGPU's functions.</summary>
    public static float Gumbel(SelectionArguments a, int group, uint row, uint token)
    {
        uint k0 = (uint)a.Int(group, SeedLow);
        uint k1 = (uint)a.Int(group, SeedHigh);
        uint c0 = token;
        uint c1 = row;
        uint c2 = (uint)a.Int(group, Step);
        uint c3 = 0;
        for (int round = 0; round < 10; round++)
        {
            ulong p0 = 0xD2511F53UL * c0;
            ulong p1 = 0xCD9E8D57UL * c2;
            c0 = (uint)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint)p1;
            c2 = (uint)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint)p0;
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        double u = (c0 + 0.5) / 4294967296.0;
        return (float)-DoubleMath.Log(-DoubleMath.Log(u));
    }
}
