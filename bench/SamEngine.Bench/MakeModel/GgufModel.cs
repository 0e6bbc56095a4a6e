using System.Runtime.InteropServices;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Bench.MakeModel;

/// <summary>
/// The language model of a folder as a llama.cpp model without a vocabulary. All matrices have one type, embedding and head
/// included; norms are F32. llama.cpp rotates neighbouring columns, so rows of q and k are put in that order. Rows of
/// embedding and head beyond a multiple of 32 (the [PAD] row) are left out: llama.cpp's repacked kernels refuse other sizes,
/// and peers are to be at their best.
/// </summary>
internal static class GgufModel
{
    private const int VocabularyStep = 32;
    private const int PieceRows = 256;

    /// <param name="store">Tensors of a model folder.</param>
    /// <param name="config">Its dimensions.</param>
    /// <param name="path">File to write.</param>
    /// <param name="type">Type of the matrices.</param>
    /// <param name="layers">Language layers to take, from the first.</param>
    /// <param name="cancellation">Looked at between pieces.</param>
    public static void Write(TensorStore store, SamConfig config, string path, GgmlType type, int layers, CancellationToken cancellation)
    {
        var plan = Plan(config, type, layers);
        FreeDisk.Require(path, plan.Sum(p => p.Tensor.ByteLength));
        using var writer = new GgufWriter(path, Metadata(config, type, layers), [.. plan.Select(p => p.Tensor)]);
        foreach (var (tensor, source, heads) in plan)
        {
            var data = store.TryGet(source, out var found) ? found : throw new CheckpointException(store.Path, $"has no tensor '{source}'");
            WriteTensor(writer, tensor, data, heads, cancellation);
        }
        writer.Complete();
    }

    private static List<(GgufTensor Tensor, string Source, int Heads)> Plan(SamConfig config, GgmlType type, int layers)
    {
        var l = config.Llm;
        int vocabulary = l.VocabularySize / VocabularyStep * VocabularyStep;
        int kv = l.KeyValueHeads * l.HeadDim;
        GgufTensor Matrix(string name, long rows, long columns) => new(name + ".weight", type, rows, columns);
        GgufTensor Norm(string name) => new(name + ".weight", GgmlType.F32, 0, l.HiddenSize);
        const string Model = "llm_model.model.";
        var plan = new List<(GgufTensor, string, int)> { (Matrix("token_embd", vocabulary, l.HiddenSize), Model + "embed_tokens.weight", 0) };
        for (int i = 0; i < layers; i++)
        {
            string block = FormattableString.Invariant($"blk.{i}.");
            string layer = FormattableString.Invariant($"{Model}layers.{i}.");
            plan.AddRange(
            [
                (Norm(block + "attn_norm"), layer + "input_layernorm.weight", 0),
                (Matrix(block + "attn_q", l.HiddenSize, l.HiddenSize), layer + "self_attn.q_proj.weight", l.Heads),
                (Matrix(block + "attn_k", kv, l.HiddenSize), layer + "self_attn.k_proj.weight", l.KeyValueHeads),
                (Matrix(block + "attn_v", kv, l.HiddenSize), layer + "self_attn.v_proj.weight", 0),
                (Matrix(block + "attn_output", l.HiddenSize, l.HiddenSize), layer + "self_attn.o_proj.weight", 0),
                (Norm(block + "ffn_norm"), layer + "post_attention_layernorm.weight", 0),
                (Matrix(block + "ffn_gate", l.IntermediateSize, l.HiddenSize), layer + "mlp.gate_proj.weight", 0),
                (Matrix(block + "ffn_up", l.IntermediateSize, l.HiddenSize), layer + "mlp.up_proj.weight", 0),
                (Matrix(block + "ffn_down", l.HiddenSize, l.IntermediateSize), layer + "mlp.down_proj.weight", 0),
            ]);
        }
        plan.Add((Norm("output_norm"), Model + "norm.weight", 0));
        plan.Add((Matrix("output", vocabulary, l.HiddenSize), "llm_model.lm_head.weight", 0));
        return plan;
    }

    private static IReadOnlyList<(string, object)> Metadata(SamConfig config, GgmlType type, int layers)
    {
        var l = config.Llm;
        return
        [
            ("general.architecture", "llama"),
            ("general.name", layers == l.Layers ? "random weights" : FormattableString.Invariant($"random weights, {layers} of {l.Layers} layers")),
            ("general.file_type", type.FileType),
            ("general.quantization_version", 2u),
            ("llama.context_length", (uint)l.MaxPositions),
            ("llama.embedding_length", (uint)l.HiddenSize),
            ("llama.block_count", (uint)layers),
            ("llama.feed_forward_length", (uint)l.IntermediateSize),
            ("llama.rope.dimension_count", (uint)l.HeadDim),
            ("llama.rope.freq_base", (float)l.RopeTheta),
            ("llama.attention.head_count", (uint)l.Heads),
            ("llama.attention.head_count_kv", (uint)l.KeyValueHeads),
            ("llama.attention.layer_norm_rms_epsilon", l.RmsNormEps),
            ("llama.vocab_size", (uint)(l.VocabularySize / VocabularyStep * VocabularyStep)),
            ("tokenizer.ggml.model", "no_vocab"),
        ];
    }

    private static void WriteTensor(GgufWriter writer, GgufTensor tensor, TensorData data, int heads, CancellationToken cancellation)
    {
        int columns = (int)tensor.Columns;
        int rows = (int)Math.Max(1, tensor.Rows);
        if (columns % tensor.Type.BlockValues != 0)
        {
            throw new CheckpointException(tensor.Name, $"has {columns} columns; {tensor.Type.Name} needs multiples of {tensor.Type.BlockValues}");
        }
        int rowBytes = (int)tensor.Type.ByteLength(columns);
        byte[] bytes = new byte[PieceRows * rowBytes];
        for (int at = 0; at < rows; at += PieceRows)
        {
            cancellation.ThrowIfCancellationRequested();
            int piece = Math.Min(PieceRows, rows - at);
            int first = at;
            Parallel.For(0, piece, () => new float[columns], (i, _, values) =>
            {
                long row = heads == 0 ? first + i : SourceRow(first + i, rows / heads);
                data.Part(row * columns, columns).CopyAs(TensorDType.F32, MemoryMarshal.AsBytes(values.AsSpan()));
                tensor.Type.Encode(values, bytes.AsSpan(i * rowBytes, rowBytes));
                return values;
            }, _ => { });
            writer.Write(bytes.AsSpan(0, piece * rowBytes));
        }
    }

    /// <summary>Row 2 i of a head is row i of the checkpoint, row 2 i + 1 its partner in the other half.</summary>
    private static int SourceRow(int row, int headDim)
    {
        int inHead = row % headDim;
        return row - inHead + inHead / 2 + inHead % 2 * (headDim / 2);
    }
}

/// <summary>Room on a disk, looked at before gigabytes are written.</summary>
internal static class FreeDisk
{
    private const long Spare = 1L << 30;

    /// <exception cref="CheckpointException">Too little is free.</exception>
    public static void Require(string path, long bytes)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        if (!Directory.Exists(folder))
        {
            throw new CheckpointException(path, "can't be written: its folder does not exist");
        }
        long free = new DriveInfo(folder).AvailableFreeSpace;
        if (free < bytes + Spare)
        {
            throw new CheckpointException(path, FormattableString.Invariant(
                $"needs {bytes / 1e9:0.0} GB of disk and 1 GB to spare, {free / 1e9:0.0} GB are free"));
        }
    }
}
