using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>
/// Vicuna-7B, a Llama decoder (transformers <c>modeling_llama.py</c>): RMSNorm, rotary positions in the half-split
/// convention, SwiGLU. A step runs over a ragged batch of sequences whose keys and values live in the blocks of a
/// <see cref="KvCache"/>; prefill and decode differ only in the number of rows.
/// </summary>
internal sealed class LanguageModel
{
    private readonly LlamaConfig _config;
    private readonly Weight _embedTokens;
    private readonly Layer[] _layers;
    private readonly TensorView _norm;
    private readonly Weight _head;

    public LanguageModel(WeightLoader load)
    {
        _config = load.Config.Llm;
        _embedTokens = load.Matrix("llm_model.model.embed_tokens.weight", _config.VocabularySize, _config.HiddenSize);
        var cosSin = load.Upload("rotary table", RotaryTable(_config), _config.MaxPositions, _config.HeadDim);
        _layers = [.. Enumerable.Range(0, _config.Layers).Select(i => new Layer(load, i, cosSin))];
        _norm = load.Vector("llm_model.model.norm.weight", _config.HiddenSize);
        _head = load.Matrix("llm_model.lm_head.weight", _config.VocabularySize, _config.HiddenSize);
    }

    /// <summary>x[i] = embed_tokens[ids[i]]; ids I32 [1, 1, n] inside the vocabulary, x [1, n, width].</summary>
    public void Embed(ComputeQueue queue, TensorView ids, TensorView x) => queue.Embedding(_embedTokens, ids, x);

    /// <summary>Runs all layers in place on x [1, rows, width] and leaves keys and values in the cache.</summary>
    public void Forward(ComputeQueue queue, Workspace workspace, TensorView x, KvCache cache, StepLayout layout,
        StageTrace? trace, CancellationToken cancellation)
    {
        for (int i = 0; i < _layers.Length; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            trace?.Invoke($"llm.hidden.{i}", x);
            _layers[i].Run(queue, workspace, x, cache, layout);
        }
    }

    /// <summary>Logits F32 [1, n, vocabulary] of the rows that <paramref name="rows"/> (I32 [1, 1, n]) names.</summary>
    public TensorView Logits(ComputeQueue queue, Workspace workspace, TensorView x, TensorView rows, StageTrace? trace)
    {
        var chosen = workspace.Rent("llm.chosen", 1, rows.Columns, _config.HiddenSize);
        queue.GatherRows(x, rows, chosen);
        queue.RmsNorm(chosen, _norm, _config.RmsNormEps, chosen);
        trace?.Invoke($"llm.hidden.{_layers.Length}", chosen);
        var logits = workspace.Rent("llm.logits", ElementType.F32, 1, rows.Columns, _config.VocabularySize);
        queue.Linear(chosen, _head, logits);
        trace?.Invoke("llm_logits", logits);
        return logits;
    }

    /// <summary>[positions, head width]: cosines of the half-width angles, then sines, rounded as transformers does (fp32
    /// inverse frequencies and products).</summary>
    private static float[] RotaryTable(LlamaConfig config)
    {
        int half = config.HeadDim / 2;
        float[] table = new float[checked(config.MaxPositions * config.HeadDim)];
        for (int i = 0; i < half; i++)
        {
            float inverse = 1f / (float)Math.Pow(config.RopeTheta, (float)(2 * i) / config.HeadDim);
            for (int p = 0; p < config.MaxPositions; p++)
            {
                float angle = p * inverse;
                table[p * config.HeadDim + i] = (float)Math.Cos(angle);
                table[p * config.HeadDim + half + i] = (float)Math.Sin(angle);
            }
        }
        return table;
    }

    private sealed class Layer
    {
        private readonly int _index;
        private readonly LlamaConfig _config;
        private readonly TensorView _cosSin;
        private readonly TensorView _inputNorm;
        private readonly Weight _qkv;
        private readonly Weight _o;
        private readonly TensorView _postAttentionNorm;
        private readonly Weight _gateUp;
        private readonly Weight _down;

        public Layer(WeightLoader load, int index, TensorView cosSin)
        {
            _index = index;
            _config = load.Config.Llm;
            _cosSin = cosSin;
            string name = $"llm_model.model.layers.{index}.";
            int width = _config.HiddenSize;
            int kvWidth = _config.KeyValueHeads * _config.HeadDim;
            _inputNorm = load.Vector(name + "input_layernorm.weight", width);
            _qkv = load.Stack([(name + "self_attn.q_proj.weight", width), (name + "self_attn.k_proj.weight", kvWidth),
                (name + "self_attn.v_proj.weight", kvWidth)], width);
            _o = load.Matrix(name + "self_attn.o_proj.weight", width, width);
            _postAttentionNorm = load.Vector(name + "post_attention_layernorm.weight", width);
            _gateUp = load.Stack([(name + "mlp.gate_proj.weight", _config.IntermediateSize),
                (name + "mlp.up_proj.weight", _config.IntermediateSize)], width);
            _down = load.Matrix(name + "mlp.down_proj.weight", width, _config.IntermediateSize);
        }

        public void Run(ComputeQueue queue, Workspace workspace, TensorView x, KvCache cache, StepLayout layout)
        {
            int rows = x.Rows;
            int width = _config.HiddenSize;
            var h = workspace.Rent("llm.h", 1, rows, width);
            var qkv = workspace.Rent("llm.qkv", 1, rows, _qkv.Rows);
            var gateUp = workspace.Rent("llm.gate_up", 1, rows, _gateUp.Rows);
            var hidden = workspace.Rent("llm.hidden", 1, rows, _config.IntermediateSize);
            queue.RmsNorm(x, _inputNorm, _config.RmsNormEps, h);
            queue.Linear(h, _qkv, qkv);
            queue.RotaryStoreKv(qkv, cache, _index, _config.Heads, _cosSin, layout);
            queue.PagedAttention(qkv.SliceColumns(0, width), cache, _index, _config.Heads,
                1 / MathF.Sqrt(_config.HeadDim), layout, h);
            queue.Linear(h, _o, x, residual: x);
            queue.RmsNorm(x, _postAttentionNorm, _config.RmsNormEps, h);
            queue.Linear(h, _gateUp, gateUp);
            queue.SwiGlu(gateUp, hidden);
            queue.Linear(hidden, _down, x, residual: x);
        }
    }
}
