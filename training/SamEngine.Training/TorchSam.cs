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
        var patches = F.conv2d(pixels, P("visual_encoder.patch_embed.proj.weight"),
            P("visual_encoder.patch_embed.proj.bias"), strides: [v.PatchSize, v.PatchSize]);
        var x = patches.flatten(2).transpose(1, 2);
        x = cat([P("visual_encoder.cls_token").expand(x.shape[0], 1, v.Width), x], 1) + P("visual_encoder.pos_embed");
        for (int i = 0; i < v.Depth; i++)
        {
            string name = $"visual_encoder.blocks.{i}.";
            var h = LayerNorm(x, name + "norm1.", v.LayerNormEps);
            var bias = cat([P(name + "attn.q_bias"), zeros(v.Width), P(name + "attn.v_bias")]);
            var qkv = F.linear(h, P(name + "attn.qkv.weight"), bias).chunk(3, -1);
            x = x + Linear(Attention(qkv[0], qkv[1], qkv[2], v.Heads), name + "attn.proj.");
            h = LayerNorm(x, name + "norm2.", v.LayerNormEps);
            x = x + Linear(F.gelu(Linear(h, name + "mlp.fc1.")), name + "mlp.fc2.");
        }
        return LayerNorm(x, "ln_vision.", Config.LnVisionEps);
    }

    /// <summary>Visual tokens of groups of equal size.</summary>
    /// <param name="features">[groups, images, positions, width].</param>
    /// <param name="textIds">[groups, words], padded.</param>
    /// <param name="textMask">[groups, words]: true where there is a word.</param>
    /// <param name="guided">Whether the images of a group guide each other.</param>
    /// <returns>[groups, images * query tokens, llm width].</returns>
    public Tensor QFormer(Tensor features, Tensor textIds, Tensor textMask, bool guided)
    {
        var q = Config.QFormer;
        long groups = features.shape[0];
        long images = features.shape[1];
        Tensor Each(Tensor perGroup) => perGroup.unsqueeze(1)
            .expand([perGroup.shape[0], images, .. perGroup.shape[1..]]).reshape([groups * images, .. perGroup.shape[1..]]);
        var text = Rows(Bert + "embeddings.word_embeddings.weight", textIds)
            + P(Bert + "embeddings.position_embeddings.weight")[..(int)textIds.shape[1]];
        var start = LayerNorm(cat([P("query_tokens").expand(groups, q.QueryTokens, q.HiddenSize), text], 1),
            Bert + "embeddings.LayerNorm.", q.LayerNormEps);
        var mask = cat([ones(groups, q.QueryTokens, dtype: ScalarType.Bool), textMask], 1);
        // [groups, 1, 1, length], added to the scores.
        var groupMask = zeros(mask.shape).masked_fill(mask.logical_not(), float.NegativeInfinity).unsqueeze(1).unsqueeze(1);
        var imageMask = Each(groupMask);
        var own = features.reshape(groups * images, features.shape[2], features.shape[3]);
        var h1 = Each(start);
        Tensor h2 = start;
        Tensor context = own;
        if (guided)
        {
            // The adaptive adjustment: softmax over the images, per position.
            var weights = Linear(features, "attn.").softmax(1);
            context = (weights * features).sum(1);
        }
        for (int i = 0; i < q.Layers; i++)
        {
            if (guided && i <= q.MultipleToOneLayer)
            {
                bool perImage = i >= q.OneToMultipleLayer;
                if (i == q.OneToMultipleLayer)
                {
                    h2 = Each(h2) + Linear(h1, Bert + "encoder.one_2_muliple.0.");
                    context = Each(context);
                }
                h2 = Layer(i, h2, context, perImage ? imageMask : groupMask);
                if (i == q.MultipleToOneLayer)
                {
                    h1 = h1 + Linear(h2, Bert + "encoder.multiple_2_one.0.");
                }
            }
            h1 = Layer(i, h1, own, imageMask);
        }
        return Linear(h1[.., ..q.QueryTokens], "llm_proj.").reshape(groups, images * q.QueryTokens, Config.Llm.HiddenSize);
    }

    /// <summary>Logits of every position.</summary>
    /// <param name="visual">[groups, visual tokens, width].</param>
    /// <param name="ids">[groups, n]: what follows, padded behind.</param>
    /// <returns>[groups, visual tokens + n, vocabulary].</returns>
    public Tensor Llm(Tensor visual, Tensor ids) => LmHead(LlmHidden(visual, ids));

    /// <summary>Logits of hidden states, [.., width].</summary>
    public Tensor LmHead(Tensor hidden) => Project(hidden, "llm_model.lm_head.weight");

    /// <summary>What the head of the language model sees, [groups, visual tokens + n, width].</summary>
    public Tensor LlmHidden(Tensor visual, Tensor ids)
    {
        var l = Config.Llm;
        var x = cat([visual, Rows("llm_model.model.embed_tokens.weight", ids)], 1);
        var (cos, sin) = Rotary(x.shape[1]);
        for (int i = 0; i < l.Layers; i++)
        {
            string name = $"llm_model.model.layers.{i}.";
            var h = RmsNorm(x, name + "input_layernorm.weight");
            var attended = Attention(Project(h, name + "self_attn.q_proj.weight"), Project(h, name + "self_attn.k_proj.weight"),
                Project(h, name + "self_attn.v_proj.weight"), l.Heads, rotate: t => t * cos + RotateHalf(t) * sin, causal: true);
            x = x + Project(attended, name + "self_attn.o_proj.weight");
            h = RmsNorm(x, name + "post_attention_layernorm.weight");
            x = x + Project(F.silu(Project(h, name + "mlp.gate_proj.weight")) * Project(h, name + "mlp.up_proj.weight"),
                name + "mlp.down_proj.weight");
        }
        return RmsNorm(x, "llm_model.model.norm.weight");
    }

    public void Dispose()
    {
        foreach (var parameter in Parameters.Values)
        {
            parameter.Dispose();
        }
    }

    private TorchSharp.Modules.Parameter P(string name) => Parameters[name];

    /// <summary>Rows of a table, [.., width].</summary>
    private Tensor Rows(string name, Tensor ids) =>
        P(name).index_select(0, ids.flatten()).reshape([.. ids.shape, P(name).shape[1]]);

    private Tensor Linear(Tensor x, string name) => F.linear(x, P(name + "weight"), P(name + "bias"));

    private Tensor Project(Tensor x, string name) => F.linear(x, P(name));

    private Tensor LayerNorm(Tensor x, string name, float eps) =>
        F.layer_norm(x, [x.shape[^1]], P(name + "weight"), P(name + "bias"), eps);

    private Tensor RmsNorm(Tensor x, string name) =>
        x * rsqrt(x.square().mean([-1], keepdim: true) + Config.Llm.RmsNormEps) * P(name);

    /// <summary>One BERT layer, post-norm; queries and text have feed-forward parts of their own.</summary>
    private Tensor Layer(int index, Tensor x, Tensor features, Tensor mask)
    {
        var q = Config.QFormer;
        string name = $"{Bert}encoder.layer.{index}.";
        x = AttendBert(x, x, name + "attention.", mask);
        var queries = x[.., ..q.QueryTokens];
        var text = x[.., q.QueryTokens..];
        if (q.HasCrossAttention(index))
        {
            queries = AttendBert(queries, features, name + "crossattention.", null);
        }
        return cat([FeedForward(queries, name, "_query"), FeedForward(text, name, "")], 1);
    }

    private Tensor AttendBert(Tensor x, Tensor keys, string name, Tensor? mask)
    {
        var attended = Attention(Linear(x, name + "self.query."), Linear(keys, name + "self.key."),
            Linear(keys, name + "self.value."), Config.QFormer.Heads, mask);
        return LayerNorm(Linear(attended, name + "output.dense.") + x, name + "output.LayerNorm.", Config.QFormer.LayerNormEps);
    }

    private Tensor FeedForward(Tensor x, string name, string suffix) => LayerNorm(
        Linear(F.gelu(Linear(x, $"{name}intermediate{suffix}.dense.")), $"{name}output{suffix}.dense.") + x,
        $"{name}output{suffix}.LayerNorm.", Config.QFormer.LayerNormEps);

    private static Tensor Attention(Tensor q, Tensor k, Tensor v, int heads, Tensor? mask = null,
        Func<Tensor, Tensor>? rotate = null, bool causal = false)
    {
        long width = q.shape[2];
        Tensor Split(Tensor t) => t.reshape(t.shape[0], t.shape[1], heads, width / heads).transpose(1, 2);
        var (qh, kh) = (Split(q), Split(k));
        if (rotate is not null)
        {
            (qh, kh) = (rotate(qh), rotate(kh));
        }
        return F.scaled_dot_product_attention(qh, kh, Split(v), mask, is_casual: causal).transpose(1, 2)
            .reshape(q.shape[0], q.shape[1], width);
    }

    private (Tensor Cos, Tensor Sin) Rotary(long length)
    {
        int half = Config.Llm.HeadDim / 2;
        var inverse = tensor(Enumerable.Range(0, half)
            .Select(i => (float)(1 / Math.Pow(Config.Llm.RopeTheta, 2.0 * i / Config.Llm.HeadDim))).ToArray());
        var angles = arange(length, dtype: ScalarType.Float32).unsqueeze(1) * inverse.unsqueeze(0);
        angles = cat([angles, angles], 1);
        return (angles.cos(), angles.sin());
    }

    private static Tensor RotateHalf(Tensor t)
    {
        var halves = t.chunk(2, -1);
        return cat([-halves[1], halves[0]], -1);
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
