using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary>What a stage must at least do: floating-point operations (a multiply-add is two) and bytes read from
/// memory.</summary>
internal readonly record struct Cost(double Operations, double Bytes)
{
    public static Cost operator +(Cost a, Cost b) => new(a.Operations + b.Operations, a.Bytes + b.Bytes);

    public static Cost operator *(double n, Cost a) => new(n * a.Operations, n * a.Bytes);

    /// <summary>Seconds below which no implementation of these operations with these weights gets.</summary>
    public double Bound(double operationsPerSecond, double bytesPerSecond) =>
        Math.Max(Operations / operationsPerSecond, Bytes / bytesPerSecond);
}

/// <summary>
/// The formulas. Counted are matrix products (2 m n k) and attention (2 m n d for the scores, as much for the weighted sum);
/// norms, activations, softmax and additions are left out (below one percent). Bytes are the weights as stored, each read
/// once, and the keys and values that the rows attend to; activations are assumed to stay in the caches.
/// </summary>
/// <param name="config">Dimensions of the model.</param>
/// <param name="bytesPerWeight">Bytes of a stored matrix element.</param>
/// <param name="keyValueBytes">Bytes of an element of the keys and values.</param>
internal sealed class StageCosts(SamConfig config, double bytesPerWeight, int keyValueBytes = sizeof(float))
{
    private readonly VisionConfig _v = config.Vision;
    private readonly QFormerConfig _q = config.QFormer;
    private readonly LlamaConfig _l = config.Llm;

    /// <summary>Vision encoder: patch embedding (patches x width x 3 patch^2), then per block four width^2 matrices, two of
    /// width x hidden, and attention of all tokens to all tokens.</summary>
    public Cost Vision(int images)
    {
        var embed = Product(images * _v.Patches, _v.Width, _v.Channels * _v.PatchSize * _v.PatchSize);
        double tokens = images * (double)_v.Tokens;
        var block = Product(tokens, 4L * _v.Width, _v.Width) + Product(tokens, 2L * _v.MlpHidden, _v.Width)
            + Attention(tokens * _v.Tokens, _v.Width);
        return embed + _v.Depth * block;
    }

    /// <summary>
    /// Q-Former of a guided group. With S = queries + words positions, layer runs (one layer over one sequence): per image one
    /// in every layer; the second stream one below layer l for the whole group, then one per image up to layer k. A run:
    /// four h^2 matrices and attention over S; where the layer has cross-attention, two h^2 on the queries, two
    /// encoder x h on the positions of the features, attention of queries to those; feed-forward 2 h i over S. Then the two
    /// exchanges (h^2 over S per image) and the projection of the queries. Weights count once: they stay in the cache
    /// between the runs of a layer only if they fit, but no implementation must read them more often.
    /// </summary>
    public Cost QFormer(int images, int words)
    {
        double queries = _q.QueryTokens;
        double length = queries + words;
        int h = _q.HiddenSize;
        var total = new Cost(0, 0);
        for (int i = 0; i < _q.Layers; i++)
        {
            double runs = images + (i < _q.OneToMultipleLayer ? 1 : i <= _q.MultipleToOneLayer ? images : 0);
            total += Product(runs * length, 4L * h, h) + Attention(runs * length * length, h);
            if (_q.HasCrossAttention(i))
            {
                total += Product(runs * queries, 2L * h, h) + Product(runs * _v.Tokens, 2L * h, _q.EncoderWidth)
                    + Attention(runs * queries * _v.Tokens, h);
            }
            // Queries and words have feed-forward parts of their own.
            total += Product(runs * queries, 2L * _q.IntermediateSize, h) + Product(runs * words, 2L * _q.IntermediateSize, h);
        }
        return total + Product(images * length, 2L * h, h) + Product(images * queries, _l.HiddenSize, h);
    }

    /// <summary>
    /// Language model over rows at positions first .. first + rows - 1 of each of some sequences: per layer the products with
    /// q, k, v, o and the three of the feed-forward part; a row at position p attends to p + 1 keys. The head is applied to
    /// <paramref name="logits"/> rows.
    /// </summary>
    /// <param name="sequences">Sequences that run together.</param>
    /// <param name="first">Tokens each has in the cache already.</param>
    /// <param name="shared">Of those, tokens that are the same memory for all sequences (the prompt of a beam search).</param>
    /// <param name="rows">Tokens fed to each.</param>
    /// <param name="logits">Rows whose logits are computed.</param>
    public Cost Language(int sequences, int first, int shared, int rows, int logits)
    {
        double all = (double)sequences * rows;
        int kv = _l.KeyValueHeads * _l.HeadDim;
        long perLayer = 2L * _l.HiddenSize + 2L * kv + 3L * _l.IntermediateSize;
        double pairs = sequences * (rows * (double)first + rows * (rows + 1) / 2.0);
        // Keys and values are read at least once, whatever the number of rows.
        double keysAndValues = 2.0 * kv * keyValueBytes * (shared + sequences * (double)(first - shared + rows));
        var layer = Product(all, perLayer, _l.HiddenSize) + Attention(pairs, _l.HiddenSize) + new Cost(0, keysAndValues);
        return _l.Layers * layer + Product(logits, _l.VocabularySize, _l.HiddenSize);
    }

    private static Cost Attention(double pairs, double width) => new(4 * pairs * width, 0);

    private Cost Product(double m, double n, double k) => new(2 * m * n * k, n * k * bytesPerWeight);
}
