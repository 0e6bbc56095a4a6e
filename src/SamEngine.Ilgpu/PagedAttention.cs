using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Algorithms;

namespace SamEngine.Ilgpu;

/// <summary>One layer of the key/value cache as kernels see it: [blocks * block size, width].</summary>
internal readonly struct CacheView(ArrayView<float> keys, ArrayView<float> values, int heads, int headDim, int blockSize)
{
    public readonly ArrayView<float> Keys = keys;
    public readonly ArrayView<float> Values = values;
    public readonly int Heads = heads;
    public readonly int HeadDim = headDim;
    public readonly int BlockSize = blockSize;

    /// <summary>Index of the first element of a slot.</summary>
    public long SlotAt(int slot) => (long)slot * (Heads * HeadDim);
}

/// <summary>What paged attention reads and writes; the scratch has a row of scores for every thread.</summary>
internal readonly struct PagedAttentionArguments(DeviceView<float> q, CacheView cache, int heads, float scale,
    DeviceView<int> positions, DeviceView<int> rowStarts, DeviceView<int> blockTable, DeviceView<float> y, ArrayView<float> scratch)
{
    public readonly DeviceView<float> Q = q;
    public readonly CacheView Cache = cache;
    public readonly int Heads = heads;
    public readonly float Scale = scale;
    public readonly DeviceView<int> Positions = positions;
    public readonly DeviceView<int> RowStarts = rowStarts;
    public readonly DeviceView<int> BlockTable = blockTable;
    public readonly DeviceView<float> Y = y;
    public readonly ArrayView<float> Scratch = scratch;

    /// <summary>Most keys that a row can see.</summary>
    public int MostKeys => BlockTable.Columns * Cache.BlockSize;

    /// <summary>Where the block table of a row's sequence begins.</summary>
    public long TableAt(int row)
    {
        int sequence = 0;
        while (row >= RowStarts.Data[RowStarts.Offset + sequence + 1])
        {
            sequence++;
        }
        return BlockTable.RowAt(sequence);
    }

    /// <summary>Index in the cache of a key's first element, by the sequence's block table.</summary>
    public long KeyAt(long table, int key) =>
        Cache.SlotAt(BlockTable.Data[table + key / Cache.BlockSize] * Cache.BlockSize + key % Cache.BlockSize);
}

/// <summary>Causal attention over the cache, a thread per row and query head.</summary>
internal static class PagedAttention
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows(PagedAttentionArguments a)
    {
        int width = a.Cache.HeadDim;
        int queriesPerHead = a.Heads / a.Cache.Heads;
        long items = (long)a.Q.Rows * a.Heads;
        long p = (long)Worker.Index * a.MostKeys;
        for (long item = Worker.Index; item < items; item += Worker.Count)
        {
            int row = (int)(item / a.Heads);
            int head = (int)(item % a.Heads);
            long table = a.TableAt(row);
            int keys = a.Positions.Data[a.Positions.Offset + row] + 1;
            long q = a.Q.RowAt(row) + head * width;
            long y = a.Y.RowAt(row) + head * width;
            int shift = head / queriesPerHead * width;
            float largest = float.MinValue;
            for (int key = 0; key < keys; key++)
            {
                float score = a.Scale * Attention.Dot(a.Q.Data, q, a.Cache.Keys, a.KeyAt(table, key) + shift, width);
                a.Scratch[p + key] = score;
                largest = XMath.Max(largest, score);
            }
            float total = Attention.Exponentials(a.Scratch, p, keys, largest);
            for (int i = 0; i < width; i += 4)
            {
                int i1 = XMath.Min(i + 1, width - 1);
                int i2 = XMath.Min(i + 2, width - 1);
                int i3 = XMath.Min(i + 3, width - 1);
                float y0 = 0, y1 = 0, y2 = 0, y3 = 0;
                for (int key = 0; key < keys; key++)
                {
                    float weight = a.Scratch[p + key];
                    long from = a.KeyAt(table, key) + shift;
                    y0 += weight * a.Cache.Values[from + i];
                    y1 += weight * a.Cache.Values[from + i1];
                    y2 += weight * a.Cache.Values[from + i2];
                    y3 += weight * a.Cache.Values[from + i3];
                }
                a.Y.Data[y + i] = y0 / total;
                a.Y.Data[y + i1] = y1 / total;
                a.Y.Data[y + i2] = y2 / total;
                a.Y.Data[y + i3] = y3 / total;
            }
        }
    }
}
