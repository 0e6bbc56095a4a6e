using SamEngine.Compute;
using SamEngine.Model;

namespace SamEngine.Checkpoints;

/// <summary>
/// Writes a model folder with random weights: any dimensions, deterministic for a seed, streamed. Matrices are scaled by
/// 1/sqrt(columns), so that activations stay of order 1. For benchmarks and tests; it says nothing sensible.
/// </summary>
internal static class RandomModelWriter
{
    private const int PieceElements = 1 << 20;
    private const string Gain = "gain";
    private const string Bias = "bias";
    private const string Embedding = "embedding";
    private const string Matrix = "matrix";

    /// <summary>Writes config.json and model.safetensors into a new folder.</summary>
    /// <exception cref="OutputException">The folder holds something, can't be written, or the disk has no room.</exception>
    public static void Write(string folder, SamConfig config, string dtype, ulong seed,
        IProgress<ConvertProgress>? progress = null, CancellationToken cancellation = default)
    {
        var type = dtype.ToUpperInvariant() switch
        {
            "F32" => TensorDType.F32,
            "F16" => TensorDType.F16,
            "BF16" => TensorDType.BF16,
            _ => throw new RequestException("dtype", $"is '{dtype}', expected f32, f16 or bf16"),
        };
        var tensors = Tensors(config).Select(t =>
            (t.Name, DType: t.Shape.Length >= 2 && t.Shape[0] > 1 ? type : TensorDType.F32, t.Shape)).ToList();
        long total = tensors.Sum(t => SafetensorsWriter.ByteLength(t.DType, t.Shape));
        OutputFolder.Require(folder, mustBeEmpty: true);
        bool made = !Directory.Exists(folder);
        string partial = Path.Combine(folder, SafetensorsFolder.SingleName + ".partial");
        try
        {
            Directory.CreateDirectory(folder);
            long free = new DriveInfo(Path.GetFullPath(folder)).AvailableFreeSpace;
            if (free < total + (1L << 30))
            {
                throw new OutputException(folder, $"needs {total} bytes of disk and some to spare, {free} are free");
            }
            using (var writer = new SafetensorsWriter(partial, tensors))
            {
                byte[] buffer = new byte[PieceElements * 4];
                float[] values = new float[PieceElements];
                long done = 0;
                for (int i = 0; i < tensors.Count; i++)
                {
                    var (name, stored, shape) = tensors[i];
                    cancellation.ThrowIfCancellationRequested();
                    progress?.Report(new ConvertProgress(name, done, total));
                    writer.Begin(name);
                    long count = shape.Aggregate(1L, (a, b) => a * b);
                    for (long at = 0; at < count; at += PieceElements)
                    {
                        int n = (int)Math.Min(PieceElements, count - at);
                        Fill(values.AsSpan(0, n), name, shape, seed, (uint)i, at);
                        writer.Write(Encode(values.AsSpan(0, n), stored, buffer));
                    }
                    done += SafetensorsWriter.ByteLength(stored, shape);
                }
                writer.Complete();
                progress?.Report(new ConvertProgress("", total, total));
            }
            using (var json = File.Create(Path.Combine(folder, SamCheckpoint.ConfigName)))
            {
                config.Write(json);
            }
            File.Move(partial, Path.Combine(folder, SafetensorsFolder.SingleName));
        }
        catch (Exception e)
        {
            if (Directory.Exists(folder))
            {
                // It was empty before, so that the same command can be given again.
                foreach (string file in (string[])[partial, Path.Combine(folder, SamCheckpoint.ConfigName)])
                {
                    File.Delete(file);
                }
                if (made)
                {
                    Directory.Delete(folder);
                }
            }
            if (e is IOException or UnauthorizedAccessException)
            {
                throw OutputFolder.Failed(folder, e);
            }
            throw;
        }
    }

    /// <summary>Every tensor of a model, under its canonical name.</summary>
    public static IEnumerable<(string Name, long[] Shape)> Tensors(SamConfig config)
    {
        var v = config.Vision;
        yield return ("visual_encoder.cls_token", [1, 1, v.Width]);
        yield return ("visual_encoder.pos_embed", [1, v.Tokens, v.Width]);
        yield return ("visual_encoder.patch_embed.proj.weight", [v.Width, v.Channels, v.PatchSize, v.PatchSize]);
        yield return ("visual_encoder.patch_embed.proj.bias", [v.Width]);
        for (int i = 0; i < v.Depth; i++)
        {
            string block = $"visual_encoder.blocks.{i}.";
            foreach (string norm in (string[])["norm1", "norm2"])
            {
                yield return (block + norm + ".weight", [v.Width]);
                yield return (block + norm + ".bias", [v.Width]);
            }
            yield return (block + "attn.qkv.weight", [3 * v.Width, v.Width]);
            yield return (block + "attn.q_bias", [v.Width]);
            yield return (block + "attn.v_bias", [v.Width]);
            yield return (block + "attn.proj.weight", [v.Width, v.Width]);
            yield return (block + "attn.proj.bias", [v.Width]);
            yield return (block + "mlp.fc1.weight", [v.MlpHidden, v.Width]);
            yield return (block + "mlp.fc1.bias", [v.MlpHidden]);
            yield return (block + "mlp.fc2.weight", [v.Width, v.MlpHidden]);
            yield return (block + "mlp.fc2.bias", [v.Width]);
        }
        yield return ("ln_vision.weight", [v.Width]);
        yield return ("ln_vision.bias", [v.Width]);
        var q = config.QFormer;
        yield return ("query_tokens", [1, q.QueryTokens, q.HiddenSize]);
        yield return ("attn.weight", [1, q.EncoderWidth]);
        yield return ("attn.bias", [1]);
        const string Bert = "Qformer.bert.";
        yield return (Bert + "embeddings.word_embeddings.weight", [q.VocabularySize, q.HiddenSize]);
        yield return (Bert + "embeddings.position_embeddings.weight", [q.MaxPositions, q.HiddenSize]);
        yield return (Bert + "embeddings.LayerNorm.weight", [q.HiddenSize]);
        yield return (Bert + "embeddings.LayerNorm.bias", [q.HiddenSize]);
        foreach (string exchange in (string[])["one_2_muliple", "multiple_2_one"])
        {
            yield return ($"{Bert}encoder.{exchange}.0.weight", [q.HiddenSize, q.HiddenSize]);
            yield return ($"{Bert}encoder.{exchange}.0.bias", [q.HiddenSize]);
        }
        for (int i = 0; i < q.Layers; i++)
        {
            string layer = $"{Bert}encoder.layer.{i}.";
            string[] attentions = q.HasCrossAttention(i) ? ["attention", "crossattention"] : ["attention"];
            foreach (string attention in attentions)
            {
                int keyWidth = attention == "attention" ? q.HiddenSize : q.EncoderWidth;
                foreach (var (part, width) in (IEnumerable<(string, int)>)[("query", q.HiddenSize), ("key", keyWidth), ("value", keyWidth)])
                {
                    yield return ($"{layer}{attention}.self.{part}.weight", [q.HiddenSize, width]);
                    yield return ($"{layer}{attention}.self.{part}.bias", [q.HiddenSize]);
                }
                yield return ($"{layer}{attention}.output.dense.weight", [q.HiddenSize, q.HiddenSize]);
                yield return ($"{layer}{attention}.output.dense.bias", [q.HiddenSize]);
                yield return ($"{layer}{attention}.output.LayerNorm.weight", [q.HiddenSize]);
                yield return ($"{layer}{attention}.output.LayerNorm.bias", [q.HiddenSize]);
            }
            foreach (string suffix in (string[])["", "_query"])
            {
                yield return ($"{layer}intermediate{suffix}.dense.weight", [q.IntermediateSize, q.HiddenSize]);
                yield return ($"{layer}intermediate{suffix}.dense.bias", [q.IntermediateSize]);
                yield return ($"{layer}output{suffix}.dense.weight", [q.HiddenSize, q.IntermediateSize]);
                yield return ($"{layer}output{suffix}.dense.bias", [q.HiddenSize]);
                yield return ($"{layer}output{suffix}.LayerNorm.weight", [q.HiddenSize]);
                yield return ($"{layer}output{suffix}.LayerNorm.bias", [q.HiddenSize]);
            }
        }
        var l = config.Llm;
        yield return ("llm_proj.weight", [l.HiddenSize, q.HiddenSize]);
        yield return ("llm_proj.bias", [l.HiddenSize]);
        yield return ("llm_model.model.embed_tokens.weight", [l.VocabularySize, l.HiddenSize]);
        for (int i = 0; i < l.Layers; i++)
        {
            string layer = $"llm_model.model.layers.{i}.";
            int kv = l.KeyValueHeads * l.HeadDim;
            yield return (layer + "input_layernorm.weight", [l.HiddenSize]);
            yield return (layer + "self_attn.q_proj.weight", [l.HiddenSize, l.HiddenSize]);
            yield return (layer + "self_attn.k_proj.weight", [kv, l.HiddenSize]);
            yield return (layer + "self_attn.v_proj.weight", [kv, l.HiddenSize]);
            yield return (layer + "self_attn.o_proj.weight", [l.HiddenSize, l.HiddenSize]);
            yield return (layer + "post_attention_layernorm.weight", [l.HiddenSize]);
            yield return (layer + "mlp.gate_proj.weight", [l.IntermediateSize, l.HiddenSize]);
            yield return (layer + "mlp.up_proj.weight", [l.IntermediateSize, l.HiddenSize]);
            yield return (layer + "mlp.down_proj.weight", [l.HiddenSize, l.IntermediateSize]);
        }
        yield return ("llm_model.model.norm.weight", [l.HiddenSize]);
        yield return ("llm_model.lm_head.weight", [l.VocabularySize, l.HiddenSize]);
    }

    /// <summary>Tensors of one kind and shape have values of one distribution.</summary>
    private static string KindOf(string name, long[] shape)
    {
        bool gain = name.EndsWith("orm.weight", StringComparison.Ordinal) || name.Contains("norm1.weight", StringComparison.Ordinal)
            || name.Contains("norm2.weight", StringComparison.Ordinal) || name.EndsWith("layernorm.weight", StringComparison.Ordinal)
            || name == "ln_vision.weight";
        bool embedding = name.Contains("embed", StringComparison.Ordinal) || name.EndsWith("_token", StringComparison.Ordinal)
            || name == "query_tokens";
        return gain ? Gain : shape.Length < 2 ? Bias
            : embedding && !name.Contains("proj", StringComparison.Ordinal) ? Embedding : Matrix;
    }

    /// <summary>Values of a tensor from element <paramref name="start"/>, a multiple of 4.</summary>
    public static void Fill(Span<float> values, string name, long[] shape, ulong seed, uint tensor, long start)
    {
        long columns = shape.Skip(1).Aggregate(1L, (a, b) => a * b);
        string kind = KindOf(name, shape);
        // Uniform values of deviation 1/sqrt(columns) for matrices, small ones for biases, around 1 for gains.
        float scale = kind switch
        {
            Gain => 0.1f,
            Bias => 0.02f,
            Embedding => 0.5f,
            _ => 1.7320508f / MathF.Sqrt(columns),
        };
        float offset = kind == Gain ? 1 : 0;
        for (int i = 0; i < values.Length; i += 4)
        {
            ulong at = (ulong)(start + i) / 4;
            var (a, b, c, d) = Philox.Draw((uint)seed, (uint)(seed >> 32), (uint)at, (uint)(at >> 32), tensor, 0);
            values[i] = offset + scale * Unit(a);
            if (i + 1 < values.Length)
            {
                values[i + 1] = offset + scale * Unit(b);
            }
            if (i + 2 < values.Length)
            {
                values[i + 2] = offset + scale * Unit(c);
            }
            if (i + 3 < values.Length)
            {
                values[i + 3] = offset + scale * Unit(d);
            }
        }
    }

    /// <summary>-1 to 1.</summary>
    private static float Unit(uint bits) => (int)bits / 2147483648f;

    /// <summary>Values in another type, in the buffer's first bytes.</summary>
    private static unsafe ReadOnlySpan<byte> Encode(ReadOnlySpan<float> values, TensorDType type, byte[] buffer)
    {
        fixed (float* pointer = values)
        {
            var tensor = new TensorData("", TensorDType.F32, [values.Length], (nint)pointer, values.Length * 4L, buffer);
            var target = buffer.AsSpan(0, values.Length * type.ByteSize());
            tensor.CopyAs(type, target);
            return target;
        }
    }
}
