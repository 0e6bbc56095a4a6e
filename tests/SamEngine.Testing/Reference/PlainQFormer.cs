using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Testing.Reference;

/// <summary>
/// The guided Q-Former as the official code runs it, written down with plain matrices in double: every image by itself,
/// both streams through every layer, nothing shared. The exchange sits at any layers l &lt;= k, which the recorded fixtures
/// do not cover.
/// </summary>
internal sealed class PlainQFormer(QFormerConfig config, SafetensorsFile file)
{
    private const string Bert = "Qformer.bert.";
    private readonly QFormerConfig _config = config;
    private readonly Dictionary<string, double[]> _tensors = file.Names
        .Where(n => !n.StartsWith("llm_model.", StringComparison.Ordinal))
        .ToDictionary(n => n, n => file.TryGet(n, out var t) ? t.ToFloats().Select(v => (double)v).ToArray() : []);

    /// <summary>Visual tokens [images][query tokens][llm width].</summary>
    /// <param name="features">[images][positions][encoder width].</param>
    /// <param name="textIds">The instruction with [CLS] and [SEP].</param>
    public double[][][] Encode(double[][][] features, int[] textIds)
    {
        double[][] context = Context(features);
        return [.. features.Select(image =>
        {
            double[][] h1 = Embeddings(textIds);
            double[][] h2 = Embeddings(textIds);
            for (int i = 0; i < _config.Layers; i++)
            {
                if (i == _config.OneToMultipleLayer)
                {
                    h2 = Sum(h2, Linear(h1, Bert + "encoder.one_2_muliple.0."));
                }
                h2 = Layer(i, h2, context);
                if (i == _config.MultipleToOneLayer)
                {
                    h1 = Sum(h1, Linear(h2, Bert + "encoder.multiple_2_one.0."));
                }
                h1 = Layer(i, h1, image);
            }
            return Linear(h1[.._config.QueryTokens], "llm_proj.");
        })];
    }

    private double[][] Context(double[][][] features) => [.. Enumerable.Range(0, features[0].Length).Select(p =>
    {
        double[] a = [.. features.Select(f => Linear([f[p]], "attn.")[0][0])];
        double[] w = Softmax(a);
        return features[0][p].Select((_, i) => features.Select((f, j) => w[j] * f[p][i]).Sum()).ToArray();
    })];

    private double[][] Embeddings(int[] textIds)
    {
        int width = _config.HiddenSize;
        double[] Row(string name, int row) => _tensors[name][(row * width)..((row + 1) * width)];
        return LayerNorm(
        [
            .. Enumerable.Range(0, _config.QueryTokens).Select(i => Row("query_tokens", i)),
            .. textIds.Select((id, i) => Row(Bert + "embeddings.word_embeddings.weight", id)
                .Zip(Row(Bert + "embeddings.position_embeddings.weight", i), (a, b) => a + b).ToArray()),
        ], Bert + "embeddings.LayerNorm.");
    }

    private double[][] Layer(int index, double[][] h, double[][] keys)
    {
        string name = $"{Bert}encoder.layer.{index}.";
        h = Attend(h, h, name + "attention.");
        double[][] queries = h[.._config.QueryTokens];
        double[][] text = h[_config.QueryTokens..];
        if (index % _config.CrossAttentionFrequency == 0)
        {
            queries = Attend(queries, keys, name + "crossattention.");
        }
        return [.. FeedForward(queries, name, "_query"), .. FeedForward(text, name, "")];
    }

    private double[][] Attend(double[][] x, double[][] keys, string name)
    {
        double[][] q = Linear(x, name + "self.query.");
        double[][] k = Linear(keys, name + "self.key.");
        double[][] v = Linear(keys, name + "self.value.");
        int d = _config.HeadDim;
        double[][] attended = [.. q.Select(row =>
        {
            double[] result = new double[row.Length];
            for (int h = 0; h < _config.Heads; h++)
            {
                double[] p = Softmax([.. k.Select(key =>
                    Enumerable.Range(h * d, d).Sum(i => row[i] * key[i]) / Math.Sqrt(d))]);
                for (int i = h * d; i < (h + 1) * d; i++)
                {
                    result[i] = v.Select((value, j) => p[j] * value[i]).Sum();
                }
            }
            return result;
        })];
        return LayerNorm(Sum(Linear(attended, name + "output.dense."), x), name + "output.LayerNorm.");
    }

    private double[][] FeedForward(double[][] x, string name, string suffix)
    {
        double[][] hidden = [.. Linear(x, $"{name}intermediate{suffix}.dense.")
            .Select(r => r.Select(a => 0.5 * a * (1 + ReferenceQueue.Erf(a / Math.Sqrt(2)))).ToArray())];
        return LayerNorm(Sum(Linear(hidden, $"{name}output{suffix}.dense."), x), $"{name}output{suffix}.LayerNorm.");
    }

    private double[][] Linear(double[][] x, string name)
    {
        double[] w = _tensors[name + "weight"];
        double[] b = _tensors[name + "bias"];
        return [.. x.Select(row => b.Select((bias, n) => bias + row.Select((a, i) => a * w[n * row.Length + i]).Sum()).ToArray())];
    }

    private double[][] LayerNorm(double[][] x, string name) => [.. x.Select(row =>
    {
        double mean = row.Average();
        double scale = 1 / Math.Sqrt(row.Sum(a => (a - mean) * (a - mean)) / row.Length + _config.LayerNormEps);
        return row.Select((a, i) => (a - mean) * scale * _tensors[name + "weight"][i] + _tensors[name + "bias"][i]).ToArray();
    })];

    private static double[][] Sum(double[][] a, double[][] b) =>
        [.. a.Zip(b, (r, s) => r.Zip(s, (x, y) => x + y).ToArray())];

    private static double[] Softmax(double[] a)
    {
        double largest = a.Max();
        double total = a.Sum(v => Math.Exp(v - largest));
        return [.. a.Select(v => Math.Exp(v - largest) / total)];
    }
}
