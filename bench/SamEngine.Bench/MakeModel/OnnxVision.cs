using System.Numerics.Tensors;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Bench.MakeModel;

/// <summary>
/// The vision encoder of a folder as an ONNX model, in the form that ONNX Runtime is fastest with: attention and GELU are its
/// own operators; "int8" is what its dynamic quantisation makes, symmetric weights with a scale per output and activations
/// quantised at run time, everything else fp32.
/// </summary>
internal static class OnnxVision
{
    public const string BlocksKey = "vision_blocks";
    public const string FullBlocksKey = "vision_blocks_full";
    public const string Input = "pixels";
    public const string Output = "features";

    public static IReadOnlyList<string> Formats { get; } = ["f32", "int8"];

    /// <param name="store">Tensors of a model folder.</param>
    /// <param name="config">Its dimensions.</param>
    /// <param name="path">File to write; the weights go to <c>path.data</c>.</param>
    /// <param name="format">"f32" or "int8".</param>
    /// <param name="blocks">Blocks to take, from the first.</param>
    /// <param name="cancellation">Looked at between blocks.</param>
    public static void Write(TensorStore store, SamConfig config, string path, string format, int blocks, CancellationToken cancellation)
    {
        var v = config.Vision;
        long perBlock = (4L * v.Width * v.Width + 2L * v.Width * v.MlpHidden) * (format == "int8" ? 1 : 4);
        FreeDisk.Require(path, blocks * perBlock);
        using var graph = new OnnxGraph(path);
        var writer = new Encoder(store, graph, v, format == "int8");
        string x = writer.Embed();
        for (int i = 0; i < blocks; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            x = writer.Block(i, x);
        }
        writer.Norm(x, "ln_vision", config.LnVisionEps, Output);
        graph.Complete((Input, [-1, v.Channels, v.ImageSize, v.ImageSize]), (Output, [-1, v.Tokens, v.Width]),
            (BlocksKey, FormattableString.Invariant($"{blocks}")),
            (FullBlocksKey, FormattableString.Invariant($"{Compare.MeasureCommand.FullDepth(config).Vision.Depth}")));
    }

    private sealed class Encoder(TensorStore store, OnnxGraph graph, VisionConfig v, bool int8)
    {
        private const string Root = "visual_encoder.";

        /// <summary>Patches, class token, positions.</summary>
        public string Embed()
        {
            string patches = graph.Node("Conv", "patches", [Input, Values("patch_embed.proj.weight", v.Width, v.Channels, v.PatchSize, v.PatchSize),
                Values("patch_embed.proj.bias", v.Width)], [("strides", new long[] { v.PatchSize, v.PatchSize })]);
            string flat = graph.Node("Reshape", "patches.flat", [patches, graph.Inline("patches.shape", 0, v.Width, -1)]);
            string rows = graph.Node("Transpose", "patches.rows", [flat], [("perm", new long[] { 0, 2, 1 })]);
            string batch = graph.Node("Shape", "batch", [Input], [("start", 0L), ("end", 1L)]);
            string shape = graph.Node("Concat", "cls.shape", [batch, graph.Inline("cls.row", 1, v.Width)], [("axis", 0L)]);
            string cls = graph.Node("Expand", "cls", [Values("cls_token", 1, 1, v.Width), shape]);
            string all = graph.Node("Concat", "tokens", [cls, rows], [("axis", 1L)]);
            return graph.Node("Add", "embed", [all, Values("pos_embed", 1, v.Tokens, v.Width)]);
        }

        public string Block(int index, string x)
        {
            string b = FormattableString.Invariant($"blocks.{index}.");
            float[] zeros = new float[v.Width];
            string qkvBias = graph.Constant<float>(b + "attn.qkv.bias", OnnxType.Float,
                [.. Read(b + "attn.q_bias"), .. zeros, .. Read(b + "attn.v_bias")], 3 * v.Width);
            string h = Norm(x, Root + b + "norm1", v.LayerNormEps, b + "h1");
            string qkv = Linear(h, b + "attn.qkv", 3 * v.Width, v.Width, qkvBias);
            string[] parts = [b + "q", b + "k", b + "v"];
            graph.Nodes("Split", parts, [qkv, graph.Inline(b + "split", v.Width, v.Width, v.Width)], [("axis", 2L)]);
            string attention = graph.Node("MultiHeadAttention", b + "attention", parts, [("num_heads", (long)v.Heads)], contrib: true);
            string proj = Linear(attention, b + "attn.proj", v.Width, v.Width, Values(b + "attn.proj.bias", v.Width));
            x = graph.Node("Add", b + "x1", [x, proj]);
            h = Norm(x, Root + b + "norm2", v.LayerNormEps, b + "h2");
            string fc1 = Linear(h, b + "mlp.fc1", v.MlpHidden, v.Width, Values(b + "mlp.fc1.bias", v.MlpHidden));
            string gelu = graph.Node("Gelu", b + "gelu", [fc1], contrib: true);
            string fc2 = Linear(gelu, b + "mlp.fc2", v.Width, v.MlpHidden, Values(b + "mlp.fc2.bias", v.Width));
            return graph.Node("Add", b + "x2", [x, fc2]);
        }

        public string Norm(string x, string name, float eps, string output) => graph.Node("LayerNormalization", output,
            [x, Values(name + ".weight", v.Width), Values(name + ".bias", v.Width)], [("axis", -1L), ("epsilon", eps)]);

        /// <summary>x W^T + bias; ONNX multiplies with [inputs, outputs].</summary>
        private string Linear(string x, string name, int outputs, int inputs, string bias)
        {
            float[] rows = Read(name + ".weight");
            string product;
            if (int8)
            {
                float[] scales = new float[outputs];
                sbyte[] codes = new sbyte[(long)outputs * inputs];
                for (int r = 0; r < outputs; r++)
                {
                    var row = rows.AsSpan(r * inputs, inputs);
                    scales[r] = MathF.Abs(TensorPrimitives.MaxMagnitude<float>(row)) / 127;
                    for (int c = 0; c < inputs; c++)
                    {
                        codes[(long)c * outputs + r] = (sbyte)MathF.Round(row[c] / scales[r]);
                    }
                }
                string w = graph.Constant<sbyte>(name + ".codes", OnnxType.Int8, codes, inputs, outputs);
                string scale = graph.Constant<float>(name + ".scales", OnnxType.Float, scales, outputs);
                string[] quantised = [name + ".x", name + ".x.scale", name + ".x.zero"];
                graph.Nodes("DynamicQuantizeLinear", quantised, [x]);
                string sum = graph.Node("MatMulInteger", name + ".sum", [quantised[0], w, quantised[2]]);
                string wide = graph.Node("Cast", name + ".wide", [sum], [("to", (long)OnnxType.Float)]);
                product = graph.Node("Mul", name + ".product", [wide, graph.Node("Mul", name + ".scale", [quantised[1], scale])]);
            }
            else
            {
                float[] columns = new float[rows.Length];
                for (int r = 0; r < outputs; r++)
                {
                    for (int c = 0; c < inputs; c++)
                    {
                        columns[(long)c * outputs + r] = rows[(long)r * inputs + c];
                    }
                }
                product = graph.Node("MatMul", name + ".product", [x, graph.Constant<float>(name + ".weight", OnnxType.Float, columns, inputs, outputs)]);
            }
            return graph.Node("Add", name, [product, bias]);
        }

        private string Values(string name, params long[] shape) => graph.Constant<float>(name, OnnxType.Float, Read(name), shape);

        private float[] Read(string name)
        {
            string full = name.StartsWith(Root, StringComparison.Ordinal) || name.StartsWith("ln_vision", StringComparison.Ordinal) ? name : Root + name;
            return store.TryGet(full, out var tensor) ? tensor.ToFloats() : throw new CheckpointException(store.Path, $"has no tensor '{full}'");
        }
    }
}
