using SamEngine.Checkpoints;
using SamEngine.Model;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace SamEngine.Training;

/// <summary>
/// The SAM model in TorchSharp: a second, independent statement of what the engine computes, with gradients. Parameters are
/// kept under their checkpoint names.
/// </summary>
internal sealed class TorchSam : IDisposable
{
    private const string Bert = "Qformer.bert.";

    public TorchSam(SamConfig config, int seed)
    {
        if (config.QFormer.OneToMultipleLayer < 1 || config.QFormer.Layers < 2)
        {
            throw new NotSupportedException("Training takes the first layer of a group's images together: the exchange must begin later.");
        }
        Config = config;
        using var generator = new Generator((ulong)seed);
        foreach (var (name, shape) in RandomModelWriter.Tensors(config))
        {
            Parameters.Add(name, new TorchSharp.Modules.Parameter(Initial(name, shape, generator)));
        }
    }

    public SamConfig Config { get; }

    /// <summary>All weights by checkpoint name.</summary>
    public Dictionary<string, TorchSharp.Modules.Parameter> Parameters { get; } = new(StringComparer.Ordinal);

    /// <summary>Names of what guidance adds.</summary>
    public static bool IsAdapter(string name) => name.StartsWith("attn.", StringComparison.Ordinal)
        || name.Contains("one_2_muliple", StringComparison.Ordinal) || name.Contains("multiple_2_one", StringComparison.Ordinal);

    /// <summary>Names of the vision encoder.</summary>
    public static bool IsVision(string name) => name.StartsWith("visual_encoder.", StringComparison.Ordinal)
        || name.StartsWith("ln_vision.", StringComparison.Ordinal);

    /// <summary>Features of pictures.</summary>
    /// <param name="pixels">[images, 3, side, side], normalised.</param>
    /// <returns>[images, tokens, width].</returns>
    public Tensor Vision(Tensor pixels)
    {
        var v = Config.Vision;
        // Patches don't overlap: the convolution is one product.
        long across = v.ImageSize / v.PatchSize;
        var patches = pixels.reshape(-1, 3, across, v.PatchSize, across, v.PatchSize).permute(0, 2, 4, 1, 3, 5)
            .reshape(-1, across * across, 3 * v.PatchSize * v.PatchSize);
        var x = F.linear(patches, P("visual_encoder.patch_embed.proj.weight").flatten(1), P("visual_encoder.patch_embed.proj.bias"));
        x = cat([P("visual_encoder.cls_token").expand(x.shape[0], 1, v.Width), x], 1) + P("visual_encoder.pos_embed");
        for (int i = 0; i < v.Depth; i++)
        {
            string name = $"visual_encoder.blocks.{i}.";
            var h = LayerNorm(x, name + "norm1.", v.LayerNormEps);
            var bias = cat([P(name + "attn.q_bias"), zeros(v.Width), P(name + "attn.v_bias")]);
            x = x + Linear(Attention(F.linear(h, P(name + "attn.qkv.weight"), bias), v.Heads), name + "attn.proj.");
            h = LayerNorm(x, name + "norm2.", v.LayerNormEps);
            x = x + Linear(F.gelu(Linear(h, name + "mlp.fc1.")), name + "mlp.fc2.");
        }
        return LayerNorm(x, "ln_vision.", Config.LnVisionEps);
    }

    /// <summary>Visual tokens of groups.</summary>
    /// <param name="features">[images of all groups, positions, width].</param>
    /// <param name="images">How many are each group's.</param>
    /// <param name="texts">Ids of each group's instruction.</param>
    /// <param name="guided">Whether the images of a group guide each other.</param>
    /// <returns>[images * query tokens, llm width].</returns>
    public Tensor QFormer(Tensor features, IReadOnlyList<int> images, IReadOnlyList<int[]> texts, bool guided)
    {
        var q = Config.QFormer;
        int groups = texts.Count;
        int k = q.QueryTokens;
        int[] groupOf = [.. images.SelectMany((count, group) => Enumerable.Repeat(group, count))];
        var groupRows = new PackedRows([.. texts.Select(_ => k)], [.. texts.Select(t => t.Length)]);
        var imageRows = new PackedRows([.. groupOf.Select(_ => k)], [.. groupOf.Select(g => texts[g].Length)]);
        // For every row of the images' sequences, the row of their group's.
        var rowOf = tensor(groupOf.SelectMany(g => Enumerable.Range(0, k).Select(i => (long)(g * k + i)))
            .Concat(groupOf.SelectMany(g => Enumerable.Range(0, texts[g].Length).Select(i => groupRows.Starts[g] + i))).ToArray());
        Tensor Each(Tensor perGroup) => perGroup.index_select(0, rowOf);

        var words = tensor(texts.SelectMany(t => t).Select(t => (long)t).ToArray());
        var text = Rows(Bert + "embeddings.word_embeddings.weight", words)
            + Rows(Bert + "embeddings.position_embeddings.weight", groupRows.Positions[groupRows.Prefixes..] - k);
        var start = LayerNorm(cat([P("query_tokens").expand(groups, k, q.HiddenSize).reshape(-1, q.HiddenSize), text], 0),
            Bert + "embeddings.LayerNorm.", q.LayerNormEps);
        // Pictures enter the first layer after its self-attention: till then all of a group's sequences are one.
        var (queries, same) = SelfAttend(0, start, groupRows);
        same = FeedForward(same, 0, "");
        var h1 = Each(cat([queries, same], 0));
        h1 = cat([Queries(0, h1[..imageRows.Prefixes], features), h1[imageRows.Prefixes..]], 0);
        var (h2, context) = (h1, features);
        if (guided)
        {
            context = Context(features, images);
            h2 = cat([Queries(0, queries, context), same], 0);
        }
        for (int i = 1; i < q.Layers; i++)
        {
            if (guided && i <= q.MultipleToOneLayer)
            {
                if (i == q.OneToMultipleLayer)
                {
                    h2 = Each(h2) + Linear(h1, Bert + "encoder.one_2_muliple.0.");
                    context = context.index_select(0, tensor(groupOf.Select(g => (long)g).ToArray()));
                }
                h2 = Layer(i, h2, i >= q.OneToMultipleLayer ? imageRows : groupRows, context);
                if (i == q.MultipleToOneLayer)
                {
                    h1 = h1 + Linear(h2, Bert + "encoder.multiple_2_one.0.");
                }
            }
            // Nothing reads the text after the last layer.
            h1 = i < q.Layers - 1 ? Layer(i, h1, imageRows, features) : Queries(i, SelfAttendQueries(i, h1, imageRows), features);
        }
        return Linear(h1, "llm_proj.");
    }

    /// <summary>Logits at the last positions of texts.</summary>
    /// <param name="visual">[visual tokens of all groups, width].</param>
    /// <param name="tokens">How many are each group's.</param>
    /// <param name="texts">Ids that follow, by group.</param>
    /// <param name="from">By group, the first of the text's positions whose logits are wanted.</param>
    /// <returns>[positions, vocabulary]: of all groups, one after the other.</returns>
    public Tensor Llm(Tensor visual, IReadOnlyList<int> tokens, IReadOnlyList<int[]> texts, IReadOnlyList<int> from)
    {
        var l = Config.Llm;
        var rows = new PackedRows(tokens, [.. texts.Select(t => t.Length)]);
        var wanted = tensor(texts.SelectMany((t, i) => Enumerable.Range(from[i], t.Length - from[i]).Select(k => rows.Starts[i] + k)).ToArray());
        var x = cat([visual, Rows("llm_model.model.embed_tokens.weight", tensor(texts.SelectMany(t => t).Select(t => (long)t).ToArray()))], 0);
        var turns = Turns(rows.Positions);
        for (int i = 0; i < l.Layers; i++)
        {
            string name = $"llm_model.model.layers.{i}.";
            var h = RmsNorm(x, name + "input_layernorm.weight");
            var projected = F.linear(h, cat([Pairs(P(name + "self_attn.q_proj.weight")), Pairs(P(name + "self_attn.k_proj.weight")),
                P(name + "self_attn.v_proj.weight")], 0));
            var turned = view_as_real(view_as_complex(projected.reshape(-1, 3 * l.Heads, l.HeadDim / 2, 2)) * turns).flatten(1);
            // A position sees only what is before it, and so no padding.
            var attended = rows.Attend(turned, (qkv, _) => Attention(qkv, l.Heads, causal: true));
            if (i == l.Layers - 1)
            {
                // Nothing reads the other rows any more.
                (x, attended) = (x.index_select(0, wanted), attended.index_select(0, wanted));
            }
            x = x + F.linear(attended, P(name + "self_attn.o_proj.weight"));
            h = RmsNorm(x, name + "post_attention_layernorm.weight");
            var parts = F.linear(h, cat([P(name + "mlp.gate_proj.weight"), P(name + "mlp.up_proj.weight")], 0)).chunk(2, -1);
            x = x + F.linear(F.silu(parts[0]) * parts[1], P(name + "mlp.down_proj.weight"));
        }
        return F.linear(RmsNorm(x, "llm_model.model.norm.weight"), P("llm_model.lm_head.weight"));
    }

    public void Dispose()
    {
        foreach (var parameter in Parameters.Values)
        {
            parameter.Dispose();
        }
    }

    private TorchSharp.Modules.Parameter P(string name) => Parameters[name];

    /// <summary>Rows of a table, [ids, width].</summary>
    private Tensor Rows(string name, Tensor ids) => P(name).index_select(0, ids);

    private Tensor Linear(Tensor x, string name) => F.linear(x, P(name + "weight"), P(name + "bias"));

    private Tensor LayerNorm(Tensor x, string name, float eps) =>
        F.layer_norm(x, [x.shape[^1]], P(name + "weight"), P(name + "bias"), eps);

    private Tensor RmsNorm(Tensor x, string name) =>
        x * rsqrt(linalg.vector_norm(x, ord: 2, dims: [-1], keepdim: true).square() / x.shape[^1] + Config.Llm.RmsNormEps) * P(name);

    /// <summary>One BERT layer, post-norm; queries and text have feed-forward parts of their own.</summary>
    private Tensor Layer(int index, Tensor x, PackedRows rows, Tensor features)
    {
        var (queries, text) = SelfAttend(index, x, rows);
        return cat([Queries(index, queries, features), FeedForward(text, index, "")], 0);
    }

    /// <summary>A layer's self-attention.</summary>
    private (Tensor Queries, Tensor Text) SelfAttend(int index, Tensor x, PackedRows rows)
    {
        var parts = AttentionOutput(Attended(index, x, rows), x, SelfAttention(index)).split([rows.Prefixes, x.shape[0] - rows.Prefixes], 0);
        return (parts[0], parts[1]);
    }

    /// <summary>The same where nothing reads the text any more.</summary>
    private Tensor SelfAttendQueries(int index, Tensor x, PackedRows rows) =>
        AttentionOutput(Attended(index, x, rows)[..rows.Prefixes], x[..rows.Prefixes], SelfAttention(index));

    private Tensor Attended(int index, Tensor x, PackedRows rows)
    {
        string name = SelfAttention(index);
        Tensor Parts(string kind) => cat([P($"{name}self.query.{kind}"), P($"{name}self.key.{kind}"), P($"{name}self.value.{kind}")], 0);
        return rows.Attend(F.linear(x, Parts("weight"), Parts("bias")), (qkv, absent) => Attention(qkv, Config.QFormer.Heads, absent));
    }

    private static string SelfAttention(int index) => $"{Bert}encoder.layer.{index}.attention.";

    /// <summary>What a layer does with the queries after self-attention.</summary>
    private Tensor Queries(int index, Tensor queries, Tensor features)
    {
        if (Config.QFormer.HasCrossAttention(index))
        {
            queries = CrossAttend(index, queries, features);
        }
        return FeedForward(queries, index, "_query");
    }

    /// <summary>
    /// Cross-attention without keys and values of every position: there are far fewer queries than positions, so the keys'
    /// weights are applied to the queries, and the values' to what was attended. The keys' bias adds the same to all scores of a
    /// query, which softmax does not see.
    /// </summary>
    /// <param name="index">Layer.</param>
    /// <param name="queries">[images * query tokens, width].</param>
    /// <param name="features">[images, positions, width].</param>
    private Tensor CrossAttend(int index, Tensor queries, Tensor features)
    {
        string name = $"{Bert}encoder.layer.{index}.crossattention.";
        int heads = Config.QFormer.Heads;
        long d = Config.QFormer.HiddenSize / heads;
        long width = features.shape[2];
        long images = features.shape[0];
        // [heads, images * query tokens, width] and [images, heads * query tokens, width].
        Tensor ByImage(Tensor t) => t.reshape(heads, images, -1, width).transpose(0, 1).reshape(images, -1, width);
        Tensor ByHead(Tensor t) => t.reshape(images, heads, -1, width).transpose(0, 1).reshape(heads, -1, width);
        var query = Linear(queries, name + "self.query.") * (1 / Math.Sqrt(d));
        var asked = ByImage(query.reshape(-1, heads, d).transpose(0, 1).bmm(P(name + "self.key.weight").reshape(heads, d, width)));
        var attended = ByHead(asked.bmm(features.transpose(1, 2)).softmax(-1).bmm(features));
        var values = attended.bmm(P(name + "self.value.weight").reshape(heads, d, width).transpose(1, 2));
        return AttentionOutput(values.transpose(0, 1).reshape(queries.shape) + P(name + "self.value.bias"), queries, name);
    }

    /// <summary>The contextual semantics of each group.</summary>
    /// <returns>[groups, positions, width].</returns>
    private Tensor Context(Tensor features, IReadOnlyList<int> images)
    {
        var parts = new List<Tensor>();
        int first = 0;
        for (int group = 0; group < images.Count;)
        {
            // Groups of equal size that follow each other, together.
            int count = images.Skip(group).TakeWhile(n => n == images[group]).Count();
            int next = first + count * images[group];
            var own = features[first..next].reshape(count, images[group], features.shape[1], features.shape[2]);
            // The adaptive adjustment: softmax over the images, per position.
            parts.Add((Linear(own, "attn.").softmax(1) * own).sum(1));
            (group, first) = (group + count, next);
        }
        return cat(parts, 0);
    }

    private Tensor AttentionOutput(Tensor attended, Tensor x, string name) =>
        LayerNorm(Linear(attended, name + "output.dense.") + x, name + "output.LayerNorm.", Config.QFormer.LayerNormEps);

    private Tensor FeedForward(Tensor x, int index, string suffix)
    {
        string name = $"{Bert}encoder.layer.{index}.";
        return LayerNorm(Linear(F.gelu(Linear(x, $"{name}intermediate{suffix}.dense.")), $"{name}output{suffix}.dense.") + x,
            $"{name}output{suffix}.LayerNorm.", Config.QFormer.LayerNormEps);
    }

    /// <param name="qkv">Queries, keys and values side by side, [sequences, n, 3 * width].</param>
    /// <param name="heads">Of equal width.</param>
    /// <param name="mask">Added to the scores.</param>
    /// <param name="causal">Whether a position sees only what is before it.</param>
    /// <returns>[sequences, n, width].</returns>
    private static Tensor Attention(Tensor qkv, int heads, Tensor? mask = null, bool causal = false)
    {
        var parts = qkv.chunk(3, -1).Select(t => t.reshape(t.shape[0], t.shape[1], heads, t.shape[2] / heads).transpose(1, 2)).ToArray();
        return F.scaled_dot_product_attention(parts[0], parts[1], parts[2], mask, is_casual: causal).transpose(1, 2).flatten(2);
    }

    /// <summary>A query's or key's weights in another order: the two numbers that rotary turns together side by side, as the real
    /// and imaginary part of one. Their products are the same.</summary>
    private Tensor Pairs(Tensor weight) =>
        weight.reshape(Config.Llm.Heads, 2, Config.Llm.HeadDim / 2, -1).transpose(1, 2).reshape(weight.shape);

    /// <summary>What rotary multiplies queries and keys by, and 1 for the values.</summary>
    /// <param name="positions">[rows].</param>
    /// <returns>[rows, 3 * heads, head width / 2], complex.</returns>
    private Tensor Turns(Tensor positions)
    {
        var l = Config.Llm;
        int half = l.HeadDim / 2;
        var inverse = tensor(Enumerable.Range(0, half).Select(i => (float)(1 / Math.Pow(l.RopeTheta, 2.0 * i / l.HeadDim))).ToArray());
        var angles = (positions.to(ScalarType.Float32).unsqueeze(1) * inverse.unsqueeze(0)).unsqueeze(1);
        angles = cat([angles.expand(-1, 2 * l.Heads, half), zeros(angles.shape[0], l.Heads, half)], 1);
        return complex(angles.cos(), angles.sin());
    }

    private static Tensor Initial(string name, long[] shape, Generator generator)
    {
        if (name.Contains("one_2_muliple", StringComparison.Ordinal) || name.Contains("multiple_2_one", StringComparison.Ordinal))
        {
            return zeros(shape);
        }
        bool gain = shape.Length == 1 && name.EndsWith("weight", StringComparison.Ordinal);
        if (gain)
        {
            return ones(shape);
        }
        if (name == "attn.weight" || name == "attn.bias")
        {
            // The default of a linear layer, as the reference leaves it.
            double bound = 1 / Math.Sqrt(shape.Length == 2 ? shape[1] : 128);
            return empty(shape).uniform_(-bound, bound, generator);
        }
        if (shape.Length == 1)
        {
            return zeros(shape);
        }
        bool table = name.Contains("embed", StringComparison.Ordinal) && !name.Contains("proj", StringComparison.Ordinal)
            || name is "query_tokens" or "visual_encoder.cls_token";
        long columns = shape.Skip(1).Aggregate(1L, (a, b) => a * b);
        double deviation = table ? 0.05 : Math.Min(0.06, 1 / Math.Sqrt(columns));
        return empty(shape).normal_(0, deviation, generator);
    }
}
