using ILGPU;

namespace SamEngine.Ilgpu;

/// <summary>Writes to the key/value cache.</summary>
internal static class KvCacheKernels
{
    /// <summary>Rotates queries in place, stores rotated keys and values. A thread per row and pair of columns of a head;
    /// behind the queries' and keys' pairs come those of the values.</summary>
    public static void RotaryStore(DeviceView<float> qkv, CacheView cache, int heads, DeviceView<float> cosSin,
        DeviceView<int> positions, DeviceView<int> slots)
    {
        int half = cache.HeadDim / 2;
        int pairs = (heads + 2 * cache.Heads) * half;
        for (long item = Worker.Index; item < (long)qkv.Rows * pairs; item += Worker.Count)
        {
            int row = (int)(item / pairs);
            int pair = (int)(item % pairs);
            int head = pair / half;
            int i = pair % half;
            long low = qkv.RowAt(row) + (long)head * cache.HeadDim + i;
            float a = qkv.Data[low];
            float b = qkv.Data[low + half];
            int stored = head - heads;
            if (stored < cache.Heads)
            {
                long table = cosSin.RowAt(positions.Data[positions.Offset + row]) + i;
                float cos = cosSin.Data[table];
                float sin = cosSin.Data[table + half];
                float rotated = a * cos - b * sin;
                b = b * cos + a * sin;
                a = rotated;
            }
            if (stored < 0)
            {
                qkv.Data[low] = a;
                qkv.Data[low + half] = b;
                continue;
            }
            long slot = cache.SlotAt(slots.Data[slots.Offset + row]);
            if (stored < cache.Heads)
            {
                long to = slot + stored * cache.HeadDim + i;
                cache.Keys[to] = a;
                cache.Keys[to + half] = b;
            }
            else
            {
                long to = slot + (stored - cache.Heads) * cache.HeadDim + i;
                cache.Values[to] = a;
                cache.Values[to + half] = b;
            }
        }
    }

    /// <summary>Copies whole blocks in every layer, a thread per element of a pair's blocks. Keys and values are [layers, layer],
    /// a block has <paramref name="block"/> elements.</summary>
    public static void CopyBlocks(ArrayView<float> keys, ArrayView<float> values, DeviceView<int> pairs, int layers, long layer,
        int block)
    {
        long perPair = (long)layers * block;
        for (long item = Worker.Index; item < pairs.Rows * perPair; item += Worker.Count)
        {
            long pair = pairs.Offset + item / perPair * 2;
            int from = pairs.Data[pair];
            int to = pairs.Data[pair + 1];
            if (from < 0 || to < 0)
            {
                continue;
            }
            long at = item % perPair / block * layer + item % block;
            keys[at + (long)to * block] = keys[at + (long)from * block];
            values[at + (long)to * block] = values[at + (long)from * block];
        }
    }
}
