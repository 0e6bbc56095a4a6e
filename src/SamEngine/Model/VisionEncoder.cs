using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>
/// EVA-ViT-g/14 and <c>ln_vision</c> (LAVIS <c>eva_vit.py</c>, <c>blip2.py</c>): pre-norm blocks, no key bias, exact GELU,
/// learned absolute positions, no final norm inside. All images of a call run as one batch.
/// </summary>
internal sealed class VisionEncoder
{
    private readonly VisionConfig _config;
    private readonly float _lnVisionEps;
    private readonly Weight _patchEmbed;
    private readonly TensorView _patchEmbedBias;
    private readonly TensorView _clsToken;
    private readonly TensorView _posEmbed;
    private readonly Block[] _blocks;
    private readonly TensorView _lnVisionGain;
    private readonly TensorView _lnVisionBias;

    public VisionEncoder(WeightLoader load)
    {
        _config = load.Config.Vision;
        _lnVisionEps = load.Config.LnVisionEps;
        int width = _config.Width;
        _patchEmbed = load.Matrix("visual_encoder.patch_embed.proj.weight", width,
            _config.Channels, _config.PatchSize, _config.PatchSize);
        _patchEmbedBias = load.Vector("visual_encoder.patch_embed.proj.bias", width);
        _clsToken = load.Table("visual_encoder.cls_token", 1, width, 1, 1, width);
        _posEmbed = load.Table("visual_encoder.pos_embed", _config.Tokens, width, 1, _config.Tokens, width);
        _blocks = [.. Enumerable.Range(0, _config.Depth).Select(i => new Block(load, $"visual_encoder.blocks.{i}."))];
        _lnVisionGain = load.Vector("ln_vision.weight", width);
        _lnVisionBias = load.Vector("ln_vision.bias", width);
    }

    /// <summary>Encodes preprocessed pictures.</summary>
    /// <param name="queue">Where the work is enqueued.</param>
    /// <param name="workspace">Scratch memory; the result is <c>vision.features</c> in it.</param>
    /// <param name="pixels">F32 [images, 3 * side, side], normalised.</param>
    /// <param name="trace">Receives <c>vit.embed</c>, <c>vit.block.i</c> and <c>ln_vision</c>.</param>
    /// <param name="cancellation">Looked at between blocks.</param>
    /// <returns>Features [images, tokens, width].</returns>
    public TensorView Encode(ComputeQueue queue, Workspace workspace, TensorView pixels, StageTrace? trace,
        CancellationToken cancellation)
    {
        int images = pixels.Batch;
        int tokens = _config.Tokens;
        int width = _config.Width;
        var patches = workspace.Rent("vision.patches", images, _config.Patches, _patchEmbed.Columns);
        var x = workspace.Rent("vision.x", images, tokens, width);
        queue.ExtractPatches(pixels, _config.Channels, _config.PatchSize, patches);
        queue.Linear(patches, _patchEmbed, x.SliceRows(1, _config.Patches), _patchEmbedBias);
        queue.Copy(_clsToken.RepeatBatch(images), x.SliceRows(0, 1));
        queue.Add(x, _posEmbed.RepeatBatch(images), x);
        trace?.Invoke("vit.embed", x);
        for (int i = 0; i < _blocks.Length; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            _blocks[i].Run(queue, workspace, x);
            trace?.Invoke($"vit.block.{i}", x);
        }
        var features = workspace.Rent("vision.features", images, tokens, width);
        queue.LayerNorm(x, _lnVisionGain, _lnVisionBias, _lnVisionEps, features);
        trace?.Invoke("ln_vision", features);
        return features;
    }

    private sealed class Block
    {
        private readonly VisionConfig _config;
        private readonly TensorView _norm1Gain;
        private readonly TensorView _norm1Bias;
        private readonly Weight _qkv;
        private readonly TensorView _qkvBias;
        private readonly Weight _proj;
        private readonly TensorView _projBias;
        private readonly TensorView _norm2Gain;
        private readonly TensorView _norm2Bias;
        private readonly Weight _fc1;
        private readonly TensorView _fc1Bias;
        private readonly Weight _fc2;
        private readonly TensorView _fc2Bias;

        public Block(WeightLoader load, string name)
        {
            _config = load.Config.Vision;
            int width = _config.Width;
            _norm1Gain = load.Vector(name + "norm1.weight", width);
            _norm1Bias = load.Vector(name + "norm1.bias", width);
            _qkv = load.Matrix(name + "attn.qkv.weight", 3 * width, width);
            _qkvBias = load.Vectors([(name + "attn.q_bias", width), (null, width), (name + "attn.v_bias", width)]);
            _proj = load.Matrix(name + "attn.proj.weight", width, width);
            _projBias = load.Vector(name + "attn.proj.bias", width);
            _norm2Gain = load.Vector(name + "norm2.weight", width);
            _norm2Bias = load.Vector(name + "norm2.bias", width);
            _fc1 = load.Matrix(name + "mlp.fc1.weight", _config.MlpHidden, width);
            _fc1Bias = load.Vector(name + "mlp.fc1.bias", _config.MlpHidden);
            _fc2 = load.Matrix(name + "mlp.fc2.weight", width, _config.MlpHidden);
            _fc2Bias = load.Vector(name + "mlp.fc2.bias", width);
        }

        public void Run(ComputeQueue queue, Workspace workspace, TensorView x)
        {
            int width = _config.Width;
            var h = workspace.Rent("vision.h", x.Batch, x.Rows, width);
            var qkv = workspace.Rent("vision.qkv", x.Batch, x.Rows, 3 * width);
            var hidden = workspace.Rent("vision.hidden", x.Batch, x.Rows, _config.MlpHidden);
            queue.LayerNorm(x, _norm1Gain, _norm1Bias, _config.LayerNormEps, h);
            queue.Linear(h, _qkv, qkv, _qkvBias);
            queue.Attention(qkv.SliceColumns(0, width), qkv.SliceColumns(width, width),
                qkv.SliceColumns(2 * width, width), _config.Heads, 1 / MathF.Sqrt(_config.HeadDim), h);
            queue.Linear(h, _proj, x, _projBias, residual: x);
            queue.LayerNorm(x, _norm2Gain, _norm2Bias, _config.LayerNormEps, h);
            queue.Linear(h, _fc1, hidden, _fc1Bias, Activation.Gelu);
            queue.Linear(hidden, _fc2, x, _fc2Bias, residual: x);
        }
    }
}
