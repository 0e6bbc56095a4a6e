using System.Diagnostics;
using SamEngine.Bench.Compare;
using SamEngine.Bench.MakeModel;
using SamEngine.Model;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace SamEngine.Peers;

/// <summary>
/// The vision encoder and the language model written with libtorch's operators as an application would: stacked q, k, v and
/// gate, up projections, its fused attention, keys and values in memory laid out before. Language layers may be fewer than the
/// model's; their time is multiplied.
/// </summary>
internal sealed class TorchEngine : IDisposable
{
    private readonly SamConfig _config;
    private readonly SamConfig _full;
    private readonly ScalarType _type;
    private readonly string _format;
    private readonly int _iterations;
    private readonly PeerWeights _weights;
    private readonly SourceFolder _source;
    private readonly int _layers;

    public TorchEngine(string folder, string format, int layers, int threads, int iterations)
    {
        _source = new SourceFolder(folder);
        _config = _source.Config;
        _full = _source.FullDepth;
        _format = format;
        _type = format == "bf16" ? ScalarType.BFloat16 : ScalarType.Float32;
        _layers = Math.Clamp(layers, 1, _config.Llm.Layers);
        _iterations = iterations;
        _weights = new PeerWeights(_source, _type);
        set_num_threads(threads);
    }

    public static string Version => $"libtorch {__version__}";

    public IReadOnlyList<Measurement> Measure(IReadOnlyCollection<string> items)
    {
        using var _ = inference_mode();
        var done = new List<Measurement>();
        int[] batches = [.. ((string, int)[])[(WorkItems.Vision1, 1), (WorkItems.Vision5, WorkItems.Images)] is var v
            ? v.Where(b => items.Contains(b.Item1)).Select(b => b.Item2) : []];
        if (batches.Length > 0)
        {
            var vision = new TorchVision(_config, _weights);
            double factor = (double)_full.Vision.Depth / _config.Vision.Depth;
            foreach (int images in batches)
            {
                using var scope = NewDisposeScope();
                var pixels = rand(images, _config.Vision.Channels, _config.Vision.ImageSize, _config.Vision.ImageSize).to_type(_type);
                var times = Time(_iterations, () => vision.Run(pixels));
                done.Add(new Measurement(images == 1 ? WorkItems.Vision1 : WorkItems.Vision5, _format, [.. times.Select(t => t.At(factor))],
                    factor == 1 ? null : $"{_config.Vision.Depth} of {_full.Vision.Depth} blocks ran; their time is multiplied"));
            }
        }
        if (items.Any(i => i is WorkItems.Prefill or WorkItems.Decode or WorkItems.Beam5))
        {
            done.AddRange(MeasureLanguage(items));
        }
        return done;
    }

    /// <summary>Features of a batch of pictures, for comparing results.</summary>
    public float[] Features(float[] pixels, int images)
    {
        using var _ = inference_mode();
        using var scope = NewDisposeScope();
        var v = _config.Vision;
        var input = tensor(pixels, [images, v.Channels, v.ImageSize, v.ImageSize]).to_type(_type);
        return [.. new TorchVision(_config, _weights).Run(input).Result.to_type(ScalarType.Float32).data<float>()];
    }

    /// <summary>Logits of the last of some embedded rows, for comparing results: the first rows as a prefill, the others one by
    /// one.</summary>
    public float[] Logits(float[] embedded, int rows, int prefill)
    {
        using var _ = inference_mode();
        using var scope = NewDisposeScope();
        var llama = new TorchLlama(_config, _config.Llm.Layers, _weights, _type);
        var x = tensor(embedded, [1, rows, _config.Llm.HiddenSize]).to_type(_type);
        using var cache = llama.CreateCache(1, rows);
        var hidden = llama.Layers(x.narrow(1, 0, prefill), cache, 0);
        for (int i = prefill; i < rows; i++)
        {
            hidden = llama.Layers(x.narrow(1, i, 1), cache, i);
        }
        return [.. llama.Logits(hidden).to_type(ScalarType.Float32).data<float>()];
    }

    public void Dispose()
    {
        _weights.Dispose();
        _source.Dispose();
    }

    private List<Measurement> MeasureLanguage(IReadOnlyCollection<string> items)
    {
        const int Steps = 16;
        var done = new List<Measurement>();
        var llama = new TorchLlama(_config, _layers, _weights, _type);
        double factor = (double)_full.Llm.Layers / _layers;
        string? note = factor == 1 ? null : $"{_layers} of {_full.Llm.Layers} layers ran; their time is multiplied";
        int rows = WorkItems.Rows(_config);
        void Add(string item, IReadOnlyList<LayeredTime> times) =>
            done.Add(new Measurement(item, _format, [.. times.Select(t => t.At(factor))], note));
        foreach (var (item, sequences) in (IEnumerable<(string, int)>)[(WorkItems.Decode, 1), (WorkItems.Beam5, WorkItems.Beams)])
        {
            bool prefill = item == WorkItems.Decode && items.Contains(WorkItems.Prefill);
            if (!prefill && !items.Contains(item))
            {
                continue;
            }
            using var scope = NewDisposeScope();
            // Beams have copies of the prompt's keys and values, as a batch of sequences has.
            using var cache = llama.CreateCache(sequences, rows + Steps + 2);
            if (prefill)
            {
                using var prompt = randint(_config.Llm.VocabularySize, [1, rows], ScalarType.Int64);
                Add(WorkItems.Prefill, Time(_iterations, () => llama.Run(prompt, cache, 0)));
            }
            if (items.Contains(item))
            {
                using var token = randint(_config.Llm.VocabularySize, [sequences, 1], ScalarType.Int64);
                int at = rows;
                Add(item, Time(Steps, () => llama.Run(token, cache, at++)));
            }
        }
        return done;
    }

    /// <summary>One warm-up, then the timed runs.</summary>
    private static List<LayeredTime> Time(int runs, Func<(Tensor Result, double Layers)> run)
    {
        var times = new List<LayeredTime>();
        for (int i = 0; i <= runs; i++)
        {
            using var scope = NewDisposeScope();
            long start = Stopwatch.GetTimestamp();
            double layers = run().Layers;
            times.Add(new LayeredTime(Stopwatch.GetElapsedTime(start).TotalSeconds, layers));
        }
        return times[1..];
    }

    private readonly record struct LayeredTime(double Total, double Layers)
    {
        public double At(double factor) => Total - Layers + factor * Layers;
    }
}

/// <summary>EVA-ViT-g/14 and ln_vision.</summary>
internal sealed class TorchVision(SamConfig config, PeerWeights weights)
{
    private const string Root = "visual_encoder.";
    private readonly VisionConfig _v = config.Vision;
    private readonly Tensor _patch = weights[Root + "patch_embed.proj.weight"];
    private readonly Tensor _patchBias = weights[Root + "patch_embed.proj.bias"];
    private readonly Tensor _cls = weights[Root + "cls_token"];
    private readonly Tensor _positions = weights[Root + "pos_embed"];
    private readonly Tensor _gain = weights["ln_vision.weight"];
    private readonly Tensor _bias = weights["ln_vision.bias"];
    private readonly Block[] _blocks = [.. Enumerable.Range(0, config.Vision.Depth).Select(i => new Block(weights, FormattableString.Invariant($"{Root}blocks.{i}.")))];

    /// <summary>Features and the seconds that the blocks took.</summary>
    public (Tensor Result, double Layers) Run(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var patches = F.conv2d(pixels, _patch, _patchBias, strides: [_v.PatchSize, _v.PatchSize]).flatten(2).transpose(1, 2);
        var x = cat([_cls.expand(pixels.shape[0], 1, _v.Width), patches], 1) + _positions;
        long start = Stopwatch.GetTimestamp();
        foreach (var block in _blocks)
        {
            x = block.Run(x, _v);
        }
        double layers = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return (F.layer_norm(x, [_v.Width], _gain, _bias, config.LnVisionEps).MoveToOuterDisposeScope(), layers);
    }

    private sealed class Block(PeerWeights weights, string name)
    {
        private readonly Tensor _gain1 = weights[name + "norm1.weight"];
        private readonly Tensor _bias1 = weights[name + "norm1.bias"];
        private readonly Tensor _gain2 = weights[name + "norm2.weight"];
        private readonly Tensor _bias2 = weights[name + "norm2.bias"];
        private readonly Tensor _qkv = weights[name + "attn.qkv.weight"];
        private readonly Tensor _qkvBias = weights.Stacked(name + "attn.q_bias", null, name + "attn.v_bias");
        private readonly Tensor _proj = weights[name + "attn.proj.weight"];
        private readonly Tensor _projBias = weights[name + "attn.proj.bias"];
        private readonly Tensor _fc1 = weights[name + "mlp.fc1.weight"];
        private readonly Tensor _fc1Bias = weights[name + "mlp.fc1.bias"];
        private readonly Tensor _fc2 = weights[name + "mlp.fc2.weight"];
        private readonly Tensor _fc2Bias = weights[name + "mlp.fc2.bias"];

        public Tensor Run(Tensor x, VisionConfig v)
        {
            using var scope = NewDisposeScope();
            var h = F.layer_norm(x, [v.Width], _gain1, _bias1, v.LayerNormEps);
            var qkv = F.linear(h, _qkv, _qkvBias).view(x.shape[0], x.shape[1], 3, v.Heads, v.HeadDim).permute(2, 0, 3, 1, 4);
            var attention = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]);
            x = x + F.linear(attention.transpose(1, 2).reshape(x.shape), _proj, _projBias);
            h = F.layer_norm(x, [v.Width], _gain2, _bias2, v.LayerNormEps);
            return (x + F.linear(F.gelu(F.linear(h, _fc1, _fc1Bias)), _fc2, _fc2Bias)).MoveToOuterDisposeScope();
        }
    }
}

/// <summary>Llama with a cache of keys and values.</summary>
internal sealed class TorchLlama(SamConfig config, int layers, PeerWeights weights, ScalarType type)
{
    private const string Root = "llm_model.model.";
    private readonly LlamaConfig _l = config.Llm;
    private readonly Tensor _embedding = weights[Root + "embed_tokens.weight"];
    private readonly Tensor _norm = weights[Root + "norm.weight"];
    private readonly Tensor _head = weights["llm_model.lm_head.weight"];
    private readonly Layer[] _layers = [.. Enumerable.Range(0, layers).Select(i => new Layer(weights, FormattableString.Invariant($"{Root}layers.{i}.")))];

    public Cache CreateCache(int sequences, int length) => new(
        [.. _layers.Select(_ => zeros([2, sequences, _l.KeyValueHeads, length, _l.HeadDim], type))], Angles(length));

    /// <summary>Logits of the last row and the seconds that the layers took.</summary>
    /// <param name="ids">[sequences, rows].</param>
    /// <param name="cache">Keys and values of what was before.</param>
    /// <param name="start">Position of the first row.</param>
    public (Tensor Result, double Layers) Run(Tensor ids, Cache cache, int start)
    {
        using var scope = NewDisposeScope();
        var x = _embedding.index_select(0, ids.flatten()).view(ids.shape[0], ids.shape[1], _l.HiddenSize);
        long began = Stopwatch.GetTimestamp();
        x = Layers(x, cache, start);
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        return (Logits(x).MoveToOuterDisposeScope(), seconds);
    }

    /// <summary>Logits [sequences, 1, vocabulary] of each sequence's last row.</summary>
    public Tensor Logits(Tensor x) => F.linear(RmsNorm(x.narrow(1, x.shape[1] - 1, 1), _norm, _l.RmsNormEps), _head);

    public Tensor Layers(Tensor x, Cache cache, int start)
    {
        for (int i = 0; i < _layers.Length; i++)
        {
            x = _layers[i].Run(x, cache.KeysAndValues[i], cache.Angles, start, _l);
        }
        return x;
    }

    /// <summary>Statistics in fp32, as Llama's code does.</summary>
    private static Tensor RmsNorm(Tensor x, Tensor gain, float eps)
    {
        using var scope = NewDisposeScope();
        var wide = x.to_type(ScalarType.Float32);
        return (gain * (wide * rsqrt(wide.square().mean([-1], keepdim: true) + eps)).to_type(x.dtype)).MoveToOuterDisposeScope();
    }

    /// <summary>Cosines and sines [2, length, head width], halves alike.</summary>
    private Tensor Angles(int length)
    {
        using var scope = NewDisposeScope();
        var frequencies = pow(_l.RopeTheta, -arange(0, _l.HeadDim, 2, ScalarType.Float64) / _l.HeadDim);
        var angles = outer(arange(length, ScalarType.Float64), frequencies);
        angles = cat([angles, angles], -1);
        return stack([angles.cos(), angles.sin()]).to_type(type).MoveToOuterDisposeScope();
    }

    /// <summary>Memory of keys and values: of each layer [2, sequences, heads, length, head width].</summary>
    internal sealed record Cache(IReadOnlyList<Tensor> KeysAndValues, Tensor Angles) : IDisposable
    {
        public void Dispose()
        {
            foreach (var one in KeysAndValues)
            {
                one.Dispose();
            }
            Angles.Dispose();
        }
    }

    private sealed class Layer(PeerWeights weights, string name)
    {
        private readonly Tensor _norm1 = weights[name + "input_layernorm.weight"];
        private readonly Tensor _norm2 = weights[name + "post_attention_layernorm.weight"];
        private readonly Tensor _qkv = weights.Stacked(name + "self_attn.q_proj.weight", name + "self_attn.k_proj.weight", name + "self_attn.v_proj.weight");
        private readonly Tensor _output = weights[name + "self_attn.o_proj.weight"];
        private readonly Tensor _gateUp = weights.Stacked(name + "mlp.gate_proj.weight", name + "mlp.up_proj.weight");
        private readonly Tensor _down = weights[name + "mlp.down_proj.weight"];

        public Tensor Run(Tensor x, Tensor keysAndValues, Tensor angles, int start, LlamaConfig l)
        {
            using var scope = NewDisposeScope();
            long sequences = x.shape[0];
            long rows = x.shape[1];
            var qkv = F.linear(RmsNorm(x, _norm1, l.RmsNormEps), _qkv).view(sequences, rows, l.Heads + 2 * l.KeyValueHeads, l.HeadDim).transpose(1, 2);
            var cosine = angles[0].narrow(0, start, rows);
            var sine = angles[1].narrow(0, start, rows);
            var q = Rotate(qkv.narrow(1, 0, l.Heads), cosine, sine);
            keysAndValues[0].narrow(2, start, rows).copy_(Rotate(qkv.narrow(1, l.Heads, l.KeyValueHeads), cosine, sine));
            keysAndValues[1].narrow(2, start, rows).copy_(qkv.narrow(1, l.Heads + l.KeyValueHeads, l.KeyValueHeads));
            var k = keysAndValues[0].narrow(2, 0, start + rows);
            var v = keysAndValues[1].narrow(2, 0, start + rows);
            if (l.KeyValueHeads < l.Heads)
            {
                k = k.repeat_interleave(l.Heads / l.KeyValueHeads, 1);
                v = v.repeat_interleave(l.Heads / l.KeyValueHeads, 1);
            }
            var attention = F.scaled_dot_product_attention(q, k, v, is_casual: rows > 1);
            x = x + F.linear(attention.transpose(1, 2).reshape(sequences, rows, l.HiddenSize), _output);
            var gateUp = F.linear(RmsNorm(x, _norm2, l.RmsNormEps), _gateUp);
            var hidden = F.silu(gateUp.narrow(2, 0, l.IntermediateSize)) * gateUp.narrow(2, l.IntermediateSize, l.IntermediateSize);
            return (x + F.linear(hidden, _down)).MoveToOuterDisposeScope();
        }

        /// <summary>Column i pairs with i + half.</summary>
        private static Tensor Rotate(Tensor x, Tensor cosine, Tensor sine)
        {
            long half = x.shape[^1] / 2;
            var turned = cat([-x.narrow(3, half, half), x.narrow(3, 0, half)], -1);
            return x * cosine + turned * sine;
        }
    }
}
