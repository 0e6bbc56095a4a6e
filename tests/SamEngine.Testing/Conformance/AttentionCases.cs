using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

internal static class AttentionCases
{
    public static IEnumerable<ConformanceCase> All
    {
        get
        {
            yield return Case("one query, one key", 1, 1, 1, 1, 1);
            yield return Case("head width 3", 2, 5, 7, 2, 3, pad: 1);
            yield return Case("head width 17", 1, 4, 33, 3, 17, pad: 2);
            yield return Case("more keys than queries, probabilities", 2, 6, 40, 2, 16, pad: 3, probabilities: true);
            yield return Case("one key", 3, 4, 1, 2, 8, probabilities: true);
            yield return Case("one query", 2, 1, 70, 2, 64);
            yield return Case("vision: 257 tokens, head width 88", 1, 257, 257, 2, 88);
            yield return Case("Q-Former: 32 queries on 257 patches", 2, 32, 257, 2, 64, probabilities: true);
            yield return Case("scores of a thousand", 1, 8, 50, 2, 32, queryScale: 300);
            // Rows of whole vectors, as in the real model: what fast kernels take.
            yield return Case("aligned, 257 tokens, head width 88", 1, 257, 257, 2, 88, valuePad: 0);
            yield return Case("aligned, 32 queries on 257 patches, head width 64", 2, 32, 257, 2, 64, pad: 8, valuePad: 16);
            yield return Case("aligned, head width 128", 1, 70, 129, 3, 128, valuePad: 8);
            yield return Case("aligned, head width 24, three keys", 2, 65, 3, 2, 24, pad: 8, valuePad: 8);
            yield return Case("aligned, scores of a thousand", 1, 8, 70, 2, 32, queryScale: 300, valuePad: 0);
            yield return new(nameof(ComputeQueue.Attention), "aligned slices of one joint projection", p =>
            {
                var qkv = p.Input(2, 66, 3 * 48, 8);
                p.Queue.Attention(qkv.SliceColumns(0, 48), qkv.SliceColumns(48, 48), qkv.SliceColumns(96, 48), 3, 0.3f,
                    p.Output("y", 2, 66, 48, 1));
            });
            yield return new(nameof(ComputeQueue.Attention), "slices of one joint projection", p =>
            {
                var qkv = p.Input(2, 9, 3 * 24, 5);
                p.Queue.Attention(qkv.SliceColumns(0, 24), qkv.SliceColumns(24, 24), qkv.SliceColumns(48, 24), 3, 0.3f,
                    p.Output("y", 2, 9, 24, 1));
            });
            yield return new(nameof(ComputeQueue.Attention), "keys shared by the batch", p =>
                p.Queue.Attention(p.Input(3, 4, 16), p.Input(1, 11, 16, 1).RepeatBatch(3), p.Input(1, 11, 16).RepeatBatch(3),
                    2, 0.35f, p.Output("y", 3, 4, 16)));
        }
    }

    public static ConformanceCase Drawn(int seed)
    {
        var random = new Random(seed);
        return Case($"drawn {seed}", random.Next(1, 4), random.Next(1, 40), random.Next(1, 90), random.Next(1, 4),
            random.Next(1, 70), random.Next(0, 6), random.Next(2) == 0);
    }

    private static ConformanceCase Case(string name, int batch, int queries, int keys, int heads, int width, int pad = 0,
        bool probabilities = false, double queryScale = 1, int? valuePad = null) => new(nameof(ComputeQueue.Attention), name, p =>
    {
        int columns = heads * width;
        p.Queue.Attention(p.Input(batch, queries, columns, pad, queryScale), p.Input(batch, keys, columns, pad),
            p.Input(batch, keys, columns, valuePad ?? pad + 1), heads, 1 / MathF.Sqrt(width), p.Output("y", batch, queries, columns, pad),
            probabilities ? p.Output("probabilities", batch * heads, queries, keys, pad, ElementType.F32) : default);
    }, queryScale > 1 ? 2e-3 : 2e-5);
}
