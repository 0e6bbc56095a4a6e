using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

/// <summary>Rotary positions, storing keys and values, attention over the blocks, copying blocks. The cache is opaque: what
/// is in it shows in the attention.</summary>
internal static class KvCacheCases
{
    private const string Store = nameof(ComputeQueue.RotaryStoreKv);
    private const string Paged = nameof(ComputeQueue.PagedAttention);

    public static IEnumerable<ConformanceCase> All
    {
        get
        {
            yield return Prefill(Store, "head width 2", 1, 1, 2, 4, [(0, 3, [1])]);
            yield return Prefill(Store, "head width 18, gaps", 3, 3, 18, 4, [(0, 5, [2, 0])], pad: 3);
            yield return Prefill(Paged, "one row", 2, 2, 8, 4, [(0, 1, [3])]);
            yield return Prefill(Paged, "over several scattered blocks", 2, 2, 16, 4, [(0, 11, [5, 1, 4])]);
            yield return Prefill(Paged, "ragged sequences", 2, 2, 16, 4, [(0, 6, [5, 1]), (0, 1, [0]), (0, 9, [2, 6, 3])]);
            yield return Prefill(Paged, "language model width", 4, 4, 128, 16, [(0, 40, [2, 0, 1]), (0, 17, [3, 4])]);
            yield return Prefill(Paged, "grouped query heads", 6, 2, 10, 4, [(0, 7, [1, 2])]);
            yield return Prefill(Paged, "one key/value head", 4, 1, 32, 8, [(0, 13, [1, 0])]);
            yield return Prefill(Paged, "prefill, head width 32", 2, 1, 32, 16, [(0, 70, [4, 0, 2, 1, 3]), (0, 20, [5, 6])]);
            yield return Prefill(Paged, "prefill, head width 72", 2, 2, 72, 16, [(0, 3, [1]), (0, 66, [6, 5, 4, 3, 2])]);
            yield return Beams("beams of one prompt, head width 64", 2, 64, 5, 16);
            yield return Beams("beams of one prompt, head width 128, blocks of five tokens", 4, 128, 3, 5);
            yield return Beams("more rows than sixteen", 2, 16, 19, 16);
            yield return new(Paged, "decode steps after a prefill, prefix shared by two sequences", p =>
            {
                const int Heads = 2;
                const int Width = 16;
                var cache = p.Cache(new KvCacheShape(2, Heads, Width, 4, 8));
                var table = Rotary(p, 32, Width);
                Step(p, cache, 1, Heads, Heads, Width, table, p.Layout(4, (0, 8, [6, 2])), "prefill");
                // Both continue the same two blocks, each in a block of its own, one of them with three rows.
                Step(p, cache, 1, Heads, Heads, Width, table,
                    p.Layout(4, (8, 1, [6, 2, 3]), (8, 3, [6, 2, 5])), "first");
                Step(p, cache, 1, Heads, Heads, Width, table,
                    p.Layout(4, (9, 1, [6, 2, 3]), (11, 2, [6, 2, 5, 0])), "second");
            });
            yield return new(Paged, "layers keep apart", p =>
            {
                var cache = p.Cache(new KvCacheShape(3, 1, 8, 4, 2));
                var table = Rotary(p, 8, 8);
                for (int layer = 0; layer < 3; layer++)
                {
                    Step(p, cache, layer, 1, 1, 8, table, p.Layout(4, (0, 3, [1])), $"layer {layer}");
                }
                var layout = p.Layout(4, (0, 3, [1]));
                p.Queue.PagedAttention(p.Input(1, 3, 8), cache, 0, 1, 0.4f, layout, p.Output("again", 1, 3, 8));
            });
            yield return new(nameof(ComputeQueue.CopyKvBlocks), "a block copied in every layer, -1 skipped", p =>
            {
                var cache = p.Cache(new KvCacheShape(2, 2, 8, 4, 6));
                var table = Rotary(p, 16, 8);
                for (int layer = 0; layer < 2; layer++)
                {
                    Step(p, cache, layer, 2, 2, 8, table, p.Layout(4, (0, 6, [0, 1])), $"layer {layer}");
                }
                p.Queue.CopyKvBlocks(cache, p.Ints([1, 4, -1, -1, 0, 5], 3, 2));
                for (int layer = 0; layer < 2; layer++)
                {
                    // The copy is read, continued, and does not change the original.
                    Step(p, cache, layer, 2, 2, 8, table, p.Layout(4, (6, 1, [5, 4])), $"copy, layer {layer}");
                    p.Queue.PagedAttention(p.Input(1, 1, 16), cache, layer, 2, 0.3f, p.Layout(4, (5, 1, [0, 1])),
                        p.Output($"original, layer {layer}", 1, 1, 16));
                }
            });
        }
    }

    private static ConformanceCase Prefill(string operation, string name, int heads, int kvHeads, int width, int blockSize,
        (int First, int Rows, int[] Blocks)[] sequences, int pad = 0) => new(operation, name, p =>
    {
        int blocks = sequences.Max(s => s.Blocks.Max()) + 1;
        var cache = p.Cache(new KvCacheShape(1, kvHeads, width, blockSize, blocks));
        Step(p, cache, 0, heads, kvHeads, width, Rotary(p, 128, width), p.Layout(blockSize, sequences), "y", pad);
    });

    /// <summary>A prompt of 90 tokens, a second part of it, then two steps of sequences that share all its whole blocks. The last
    /// one has a prompt of its own.</summary>
    private static ConformanceCase Beams(string name, int heads, int width, int beams, int blockSize) => new(Paged, name, p =>
    {
        const int Prompt = 90;
        const int First = 70;
        int shared = Prompt / blockSize;
        int whole = (Prompt + 2 + blockSize - 1) / blockSize;
        int own = whole - shared;
        int[] prompt = [.. Enumerable.Range(0, whole).Select(i => i < shared ? shared - 1 - i : i)];
        int[] Blocks(int beam) => [.. Enumerable.Range(0, whole).Select(i =>
            i < shared ? prompt[i] : shared + own * (beam + 1) + i - shared)];
        int other = shared + own * (beams + 2);
        int[] alone = [.. Enumerable.Range(0, whole).Select(i => other + i)];
        var cache = p.Cache(new KvCacheShape(1, heads / 2, width, blockSize, other + whole));
        var table = Rotary(p, Prompt + 2, width);
        Step(p, cache, 0, heads, heads / 2, width, table, p.Layout(blockSize, (0, First, prompt), (0, 33, alone)), "prompt");
        Step(p, cache, 0, heads, heads / 2, width, table, p.Layout(blockSize, (First, Prompt - First, prompt)), "rest");
        for (int step = 0; step < 2; step++)
        {
            // What the prompt has in its last block, the beams lack: their tokens begin at the block's start.
            int at = shared * blockSize + step;
            Step(p, cache, 0, heads, heads / 2, width, table, p.Layout(blockSize,
                [.. Enumerable.Range(0, beams).Select(b => (at, 1, Blocks(b))), (33 + step, 1, alone)]), $"step {step}");
        }
    });

    private static void Step(Probe p, KvCache cache, int layer, int heads, int kvHeads, int width, TensorView table,
        StepLayout layout, string name, int pad = 0)
    {
        var qkv = p.InOut($"{name} qkv", 1, layout.Rows, (heads + 2 * kvHeads) * width, pad);
        p.Queue.RotaryStoreKv(qkv, cache, layer, heads, table, layout);
        p.Queue.PagedAttention(qkv.SliceColumns(0, heads * width), cache, layer, heads, 1 / MathF.Sqrt(width), layout,
            p.Output($"{name} attention", 1, layout.Rows, heads * width, pad));
    }

    private static TensorView Rotary(Probe p, int positions, int width)
    {
        float[] values = new float[positions * width];
        for (int position = 0; position < positions; position++)
        {
            for (int i = 0; i < width / 2; i++)
            {
                double angle = position / Math.Pow(10000, 2.0 * i / width);
                values[position * width + i] = (float)Math.Cos(angle);
                values[position * width + width / 2 + i] = (float)Math.Sin(angle);
            }
        }
        return p.Table(values, positions, width);
    }
}
