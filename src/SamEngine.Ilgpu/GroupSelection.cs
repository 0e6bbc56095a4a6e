using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary><see cref="SelectTokens"/> for GPUs: a group per row; the rows' lists are merged by
/// <see cref="SelectTokens.Groups"/>, which has little to do.</summary>
internal static class GroupSelection
{
    /// <inheritdoc cref="SelectTokens.Rows"/>
    public static void Rows(SelectionArguments a)
    {
        var shared = SharedMemory.Allocate<double>(GroupReduction.Most);
        var tokens = SharedMemory.Allocate<int>(GroupReduction.Most);
        int row = Grid.IdxX;
        int group = a.GroupOf(row);
        if (group >= 0)
        {
            Row(a, row, group, shared, tokens);
        }
    }

    /// <inheritdoc cref="SelectTokens.TokenLogProbs"/>
    public static void TokenLogProbs(DeviceView<float> logits, DeviceView<int> targets, DeviceView<float> y)
    {
        var shared = SharedMemory.Allocate<double>(GroupReduction.Most);
        int row = Grid.IdxX;
        long from = logits.RowAt(row);
        double total = LogSumExp(logits.Data, from, logits.Columns, shared);
        if (Group.IdxX == 0)
        {
            y.Data[y.Offset + row] = (float)(logits.Data[from + targets.Data[targets.Offset + row]] - total);
        }
    }

    private static void Row(SelectionArguments a, int row, int group, ArrayView<double> shared, ArrayView<int> tokens)
    {
        int n = a.Vocabulary;
        long s = (long)row * n;
        var scores = a.Scratch.Scores;
        long from = a.Logits.RowAt(a.LogitRows.Data[a.LogitRows.Offset + row]);
        int strange = 0;
        for (int i = Group.IdxX; i < n; i += Group.DimX)
        {
            strange += SelectTokens.IsFinite(a.Logits.Data[from + i]) ? 0 : 1;
        }
        bool finite = GroupReduction.Sum(strange, shared) == 0;
        if (Group.IdxX == 0)
        {
            a.Scratch.Finite[row] = finite ? 1 : 0;
            a.Scratch.Counts[row] = 0;
        }
        if (!finite)
        {
            return;
        }
        bool useLogProbs = a.Int(group, SelectTokens.UseLogProbs) != 0;
        bool sample = a.Int(group, SelectTokens.Sample) != 0;
        double total = useLogProbs ? LogSumExp(a.Logits.Data, from, n, shared) : 0;
        for (int i = Group.IdxX; i < n; i += Group.DimX)
        {
            scores[s + i] = (float)(a.Logits.Data[from + i] - total);
        }
        GroupReduction.Wait();
        PenaliseAndBan(a, row, group, s);
        float offset = useLogProbs ? a.RowScores.Data[a.RowScores.Offset + row] : 0;
        float temperature = sample ? a.Float(group, SelectTokens.Temperature) : 1;
        // From here on a thread reads and writes its own scores only.
        for (int i = Group.IdxX; i < n; i += Group.DimX)
        {
            // Adding 0 also turns -0 into 0: below, order goes by bits.
            scores[s + i] = (scores[s + i] + offset) / temperature + 0f;
        }
        if (sample)
        {
            KeepTopK(a, group, s, shared);
            KeepTopP(a, group, s, shared);
        }
        total = useLogProbs ? 0 : LogSumExp(scores, s, n, shared);
        int count = OfferAll(a, row, group, s, sample, total, shared, tokens);
        if (Group.IdxX == 0)
        {
            a.Scratch.Counts[row] = count;
        }
    }

    private static void PenaliseAndBan(SelectionArguments a, int row, int group, long s)
    {
        var scores = a.Scratch.Scores;
        float penalty = a.Float(group, SelectTokens.RepetitionPenalty);
        long ids = a.PenaltyIds.RowAt(row);
        // The ids of a row are distinct.
        for (int i = Group.IdxX; i < a.PenaltyIds.Columns && a.PenaltyIds.Data[ids + i] >= 0; i += Group.DimX)
        {
            long at = s + a.PenaltyIds.Data[ids + i];
            scores[at] = scores[at] < 0 ? scores[at] * penalty : scores[at] / penalty;
        }
        GroupReduction.Wait();
        ids = a.BannedIds.RowAt(group);
        for (int i = Group.IdxX; i < a.BannedIds.Columns && a.BannedIds.Data[ids + i] >= 0; i += Group.DimX)
        {
            scores[s + a.BannedIds.Data[ids + i]] = float.NegativeInfinity;
        }
        GroupReduction.Wait();
    }

    /// <summary>As <see cref="SelectTokens"/> does, the counts being the group's.</summary>
    private static void KeepTopK(SelectionArguments a, int group, long s, ArrayView<double> shared)
    {
        int n = a.Vocabulary;
        int k = XMath.Max(a.Int(group, SelectTokens.TopK), SelectTokens.LeastKept(a, group));
        if (a.Int(group, SelectTokens.TopK) <= 0 || k >= n)
        {
            return;
        }
        var scores = a.Scratch.Scores;
        uint threshold = 0;
        for (int bit = 31; bit >= 0; bit--)
        {
            uint candidate = threshold | (1u << bit);
            int count = 0;
            for (int i = Group.IdxX; i < n; i += Group.DimX)
            {
                count += SelectTokens.Ordered(scores[s + i]) >= candidate ? 1 : 0;
            }
            threshold = GroupReduction.Sum(count, shared) >= k ? candidate : threshold;
        }
        for (int i = Group.IdxX; i < n; i += Group.DimX)
        {
            if (SelectTokens.Ordered(scores[s + i]) < threshold)
            {
                scores[s + i] = float.NegativeInfinity;
            }
        }
    }

    /// <summary>As <see cref="SelectTokens"/> does, the sums being the group's.</summary>
    private static void KeepTopP(SelectionArguments a, int group, long s, ArrayView<double> shared)
    {
        if (!(a.Float(group, SelectTokens.TopP) < 1))
        {
            return;
        }
        int n = a.Vocabulary;
        var scores = a.Scratch.Scores;
        double most = 1 - (double)a.Float(group, SelectTokens.TopP);
        double total = LogSumExp(scores, s, n, shared);
        int kept = 0;
        for (int i = Group.IdxX; i < n; i += Group.DimX)
        {
            kept += scores[s + i] == float.NegativeInfinity ? 0 : 1;
        }
        double mayGo = XMath.Max(0, GroupReduction.Sum(kept, shared) - SelectTokens.LeastKept(a, group));
        uint threshold = 0;
        double gone = 0;
        double goneCount = 0;
        for (int bit = 31; bit >= 0; bit--)
        {
            uint candidate = threshold | (1u << bit);
            double sum = 0;
            int count = 0;
            for (int i = Group.IdxX; i < n; i += Group.DimX)
            {
                float v = scores[s + i];
                if (v != float.NegativeInfinity && SelectTokens.Ordered(v) < candidate)
                {
                    sum += DoubleMath.Exp(v - total);
                    count++;
                }
            }
            sum = GroupReduction.Sum(sum, shared);
            double all = GroupReduction.Sum(count, shared);
            if (sum <= most && all <= mayGo)
            {
                threshold = candidate;
                gone = sum;
                goneCount = all;
            }
        }
        int equal = 0;
        float equalScore = float.NegativeInfinity;
        for (int i = Group.IdxX; i < n; i += Group.DimX)
        {
            float v = scores[s + i];
            if (v == float.NegativeInfinity)
            {
                continue;
            }
            uint order = SelectTokens.Ordered(v);
            if (order < threshold)
            {
                scores[s + i] = float.NegativeInfinity;
            }
            else if (order == threshold)
            {
                equal++;
                equalScore = v;
            }
        }
        double score = GroupReduction.Largest(equalScore, shared);
        double equals = GroupReduction.Sum(equal, shared);
        // All equals weigh the same: how many may go is known before it is known which.
        double weight = DoubleMath.Exp((float)score - total);
        int leaving = 0;
        while (leaving < equals && goneCount + leaving < mayGo && gone + weight <= most)
        {
            gone += weight;
            leaving++;
        }
        GroupReduction.Wait();
        if (leaving > 0 && Group.IdxX == 0)
        {
            for (int i = 0; leaving > 0; i++)
            {
                if (SelectTokens.Ordered(scores[s + i]) == threshold)
                {
                    scores[s + i] = float.NegativeInfinity;
                    leaving--;
                }
            }
        }
        GroupReduction.Wait();
    }

    /// <summary>Lists a row's best tokens in order and returns their number. Each thread offers the best of its own tokens; the
    /// group takes the best offer, and the thread that made it looks for its next.</summary>
    private static int OfferAll(SelectionArguments a, int row, int group, long s, bool sample, double total,
        ArrayView<double> shared, ArrayView<int> tokens)
    {
        long best = (long)row * a.Most;
        uint inGroup = (uint)(row - a.Int(group, SelectTokens.FirstRow));
        int thread = Group.IdxX;
        float key = 0;
        int token = -1;
        bool look = true;
        for (int place = 0; place < a.Most; place++)
        {
            if (look)
            {
                float lastKey = key;
                int last = token;
                token = -1;
                for (int i = thread; i < a.Vocabulary; i += Group.DimX)
                {
                    float value = a.Scratch.Scores[s + i];
                    if (value == float.NegativeInfinity)
                    {
                        continue;
                    }
                    value = sample ? value + SelectTokens.Gumbel(a, group, inGroup, (uint)i) : value;
                    // Tokens come in ascending order: an equal one goes behind.
                    bool isLeft = last < 0 || value < lastKey || (value == lastKey && i > last);
                    if (isLeft && (token < 0 || value > key))
                    {
                        key = value;
                        token = i;
                    }
                }
            }
            shared[thread] = key;
            tokens[thread] = token;
            Group.Barrier();
            for (int count = Group.DimX / 2; count > 0; count /= 2)
            {
                int other = thread + count;
                if (thread < count && tokens[other] >= 0 && (tokens[thread] < 0 || shared[other] > shared[thread]
                    || (shared[other] == shared[thread] && tokens[other] < tokens[thread])))
                {
                    shared[thread] = shared[other];
                    tokens[thread] = tokens[other];
                }
                Group.Barrier();
            }
            int taken = tokens[0];
            look = taken >= 0 && taken == token;
            if (taken < 0)
            {
                return place;
            }
            if (look)
            {
                a.Scratch.BestKeys[best + place] = key;
                a.Scratch.BestTokens[best + place] = token;
                a.Scratch.BestScores[best + place] = (float)(a.Scratch.Scores[s + token] - total);
            }
            Group.Barrier();
        }
        return a.Most;
    }

    private static double LogSumExp(ArrayView<float> values, long at, int count, ArrayView<double> shared)
    {
        float own = float.NegativeInfinity;
        for (int i = Group.IdxX; i < count; i += Group.DimX)
        {
            own = XMath.Max(own, values[at + i]);
        }
        double largest = GroupReduction.Largest(own, shared);
        double sum = 0;
        for (int i = Group.IdxX; i < count; i += Group.DimX)
        {
            sum += DoubleMath.Exp(values[at + i] - largest);
        }
        return largest + DoubleMath.Log(GroupReduction.Sum(sum, shared));
    }
}
