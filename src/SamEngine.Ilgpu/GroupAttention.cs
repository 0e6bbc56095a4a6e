using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>Both attentions for GPUs: the scores never leave a group. The softmax goes on over stretches of keys: when a larger
/// score comes, what was summed so far shrinks.</summary>
internal static class GroupAttention
{
    private const int MostSide = 16;
    private const int MostWidth = 8 * MostSide;
    private const int Pitch = MostWidth + 1;

    /// <summary>The widest head that <see cref="Rows"/> computes in groups of this many threads.</summary>
    public static int WidestHead(int groupSize) => groupSize >= 256 ? 128 : groupSize >= 64 ? 64 : 32;

    /// <summary>A group takes as many query rows of one head as a side of it has threads, and as many keys at a time: each
    /// thread makes one score, then sums up to eight columns of one row.</summary>
    public static void Rows(AttentionArguments a)
    {
        var qs = SharedMemory.Allocate<float>(MostSide * Pitch);
        var ks = SharedMemory.Allocate<float>(MostSide * Pitch);
        var vs = SharedMemory.Allocate<float>(MostSide * Pitch);
        var weights = SharedMemory.Allocate<float>(MostSide * (MostSide + 1));
        int side = GroupReduction.Side;
        int width = a.Q.Columns / a.Heads;
        int keys = a.K.Rows;
        int tiles = (a.Q.Rows + side - 1) / side;
        int first = Grid.IdxX % tiles * side;
        int head = Grid.IdxX / tiles % a.Heads;
        int batch = Grid.IdxX / tiles / a.Heads;
        long k = a.K.RowAt(batch * keys) + head * width;
        long v = a.V.RowAt(batch * keys) + head * width;
        int thread = Group.IdxX;
        int line = thread / side;
        int across = thread % side;
        for (int i = thread; i < side * width; i += Group.DimX)
        {
            // Past the end the last row comes again; its results are not stored.
            int row = XMath.Min(first + i / width, a.Q.Rows - 1);
            qs[i / width * Pitch + i % width] = a.Q.Data[a.Q.RowAt(batch * a.Q.Rows + row) + head * width + i % width];
        }
        float largest = float.MinValue;
        float total = 0;
        float y0 = 0, y1 = 0, y2 = 0, y3 = 0, y4 = 0, y5 = 0, y6 = 0, y7 = 0;
        for (int start = 0; start < keys; start += side)
        {
            int count = XMath.Min(side, keys - start);
            for (int i = thread; i < count * width; i += Group.DimX)
            {
                int key = i / width;
                int column = i % width;
                ks[key * Pitch + column] = a.K.Data[k + (start + key) * a.K.RowStride + column];
                vs[key * Pitch + column] = a.V.Data[v + (start + key) * a.V.RowStride + column];
            }
            Group.Barrier();
            if (across < count)
            {
                float score = 0;
                for (int i = 0; i < width; i++)
                {
                    score += qs[line * Pitch + i] * ks[across * Pitch + i];
                }
                weights[line * (MostSide + 1) + across] = a.Scale * score;
            }
            Group.Barrier();
            float before = largest;
            for (int key = 0; key < count; key++)
            {
                largest = XMath.Max(largest, weights[line * (MostSide + 1) + key]);
            }
            float shrink = XMath.Exp(before - largest);
            total *= shrink;
            y0 *= shrink;
            y1 *= shrink;
            y2 *= shrink;
            y3 *= shrink;
            y4 *= shrink;
            y5 *= shrink;
            y6 *= shrink;
            y7 *= shrink;
            for (int key = 0; key < count; key++)
            {
                float e = XMath.Exp(weights[line * (MostSide + 1) + key] - largest);
                // Columns past the head's are memory of the pitch or the next key's: summed, not stored.
                int at = key * Pitch + across;
                total += e;
                y0 += e * vs[at];
                y1 += e * vs[XMath.Min(at + side, MostSide * Pitch - 1)];
                y2 += e * vs[XMath.Min(at + 2 * side, MostSide * Pitch - 1)];
                y3 += e * vs[XMath.Min(at + 3 * side, MostSide * Pitch - 1)];
                y4 += e * vs[XMath.Min(at + 4 * side, MostSide * Pitch - 1)];
                y5 += e * vs[XMath.Min(at + 5 * side, MostSide * Pitch - 1)];
                y6 += e * vs[XMath.Min(at + 6 * side, MostSide * Pitch - 1)];
                y7 += e * vs[XMath.Min(at + 7 * side, MostSide * Pitch - 1)];
            }
            Group.Barrier();
        }
        if (first + line >= a.Q.Rows)
        {
            return;
        }
        long y = a.Y.RowAt(batch * a.Q.Rows + first + line) + head * width;
        Store(a, y, across, width, y0 / total);
        Store(a, y, across + side, width, y1 / total);
        Store(a, y, across + 2 * side, width, y2 / total);
        Store(a, y, across + 3 * side, width, y3 / total);
        Store(a, y, across + 4 * side, width, y4 / total);
        Store(a, y, across + 5 * side, width, y5 / total);
        Store(a, y, across + 6 * side, width, y6 / total);
        Store(a, y, across + 7 * side, width, y7 / total);
    }

    /// <summary>A group per row and query head takes as many keys at a time as it has threads: a score each, then a column of
    /// the result each.</summary>
    public static void PagedRows(PagedAttentionArguments a)
    {
        var reduction = SharedMemory.Allocate<double>(GroupReduction.Most);
        var weights = SharedMemory.Allocate<float>(GroupReduction.Most);
        var places = SharedMemory.Allocate<long>(GroupReduction.Most);
        int width = a.Cache.HeadDim;
        int row = Grid.IdxX / a.Heads;
        int head = Grid.IdxX % a.Heads;
        int shift = head / (a.Heads / a.Cache.Heads) * width;
        long table = a.TableAt(row);
        int keys = a.Positions.Data[a.Positions.Offset + row] + 1;
        long q = a.Q.RowAt(row) + head * width;
        long y = a.Y.RowAt(row) + head * width;
        int thread = Group.IdxX;
        float largest = float.MinValue;
        double total = 0;
        for (int start = 0; start < keys; start += Group.DimX)
        {
            int count = XMath.Min(Group.DimX, keys - start);
            float score = float.MinValue;
            if (thread < count)
            {
                long place = a.KeyAt(table, start + thread) + shift;
                places[thread] = place;
                score = a.Scale * Attention.Dot(a.Q.Data, q, a.Cache.Keys, place, width);
            }
            float before = largest;
            largest = XMath.Max(largest, (float)GroupReduction.Largest(score, reduction));
            float shrink = XMath.Exp(before - largest);
            float weight = thread < count ? XMath.Exp(score - largest) : 0;
            weights[thread] = weight;
            // Its barriers also show the weights and places to all.
            total = total * shrink + GroupReduction.Sum(weight, reduction);
            for (int i = thread; i < width; i += Group.DimX)
            {
                float sum = start == 0 ? 0 : a.Y.Data[y + i] * shrink;
                for (int key = 0; key < count; key++)
                {
                    sum += weights[key] * a.Cache.Values[places[key] + i];
                }
                a.Y.Data[y + i] = start + count < keys ? sum : sum / (float)total;
            }
            Group.Barrier();
        }
    }

    private static void Store(AttentionArguments a, long y, int column, int width, float value)
    {
        if (column < width)
        {
            a.Y.Data[y + column] = value;
        }
    }
}
