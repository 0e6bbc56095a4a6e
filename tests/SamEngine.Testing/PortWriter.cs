using System.Text.Json.Nodes;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Testing;

/// <summary>
/// Writes canonical weights as the Hugging Face port of InstructBLIP has them, after transformers'
/// <c>convert_instructblip_original_to_pytorch.py</c>: the same replacements, in its order.
/// </summary>
internal static class PortWriter
{
    public const string AdaptersName = "adapters.safetensors";

    /// <summary>Writes a model folder's weights, SAM's adapters in a file of their own.</summary>
    public static void Write(string model, string folder)
    {
        using var store = SafetensorsFolder.Open(model);
        Write(folder, store, SamConfig.Load(Path.Combine(model, SamCheckpoint.ConfigName)));
        SafetensorsFiles.Write(Path.Combine(folder, AdaptersName), [.. store.Names.Where(SamCheckpoint.IsAdapter)
            .Select(n => TensorSource.Of(n, store.TryGet(n, out var tensor) ? tensor : throw new KeyNotFoundException(n)))]);
    }

    /// <summary>Writes a folder of three shards with its index and <c>config.json</c>, without SAM's adapters.</summary>
    /// <param name="folder">Made if it is missing.</param>
    /// <param name="store">The canonical weights.</param>
    /// <param name="config">Their configuration.</param>
    /// <param name="torch">As torch files instead of safetensors.</param>
    /// <param name="later">With the prefixes of later versions of transformers.</param>
    /// <param name="change">Changes the tensors before they are written.</param>
    public static void Write(string folder, TensorStore store, SamConfig config, bool torch = false, bool later = false,
        Func<List<TensorSource>, List<TensorSource>>? change = null) =>
        Write(folder, [.. store.Names.Select(n => TensorSource.Of(n,
            store.TryGet(n, out var tensor) ? tensor : throw new KeyNotFoundException(n)))], config, torch, later, change);

    /// <summary>Writes canonical tensors that are made as they are written.</summary>
    public static void Write(string folder, IReadOnlyList<TensorSource> canonical, SamConfig config, bool torch, bool later = false,
        Func<List<TensorSource>, List<TensorSource>>? change = null)
    {
        Directory.CreateDirectory(folder);
        var tensors = Tensors(canonical);
        if (later)
        {
            tensors = [.. tensors.Select(t => t with { Name = Later(t.Name) })];
        }
        tensors = (change ?? (t => t))(tensors);
        const int Shards = 3;
        var map = new JsonObject();
        string stem = torch ? "pytorch_model" : "model";
        string extension = torch ? "bin" : "safetensors";
        for (int i = 0; i < Shards; i++)
        {
            string file = $"{stem}-0000{i + 1}-of-0000{Shards}.{extension}";
            var part = tensors.Where((_, j) => j % Shards == i).ToList();
            part.ForEach(t => map[t.Name] = file);
            if (torch)
            {
                TorchFileWriter.Write(Path.Combine(folder, file), part);
            }
            else
            {
                SafetensorsFiles.Write(Path.Combine(folder, file), part);
            }
        }
        var index = new JsonObject { ["metadata"] = new JsonObject(), ["weight_map"] = map };
        File.WriteAllText(Path.Combine(folder, $"{stem}.{extension}.index.json"), index.ToJsonString());
        File.WriteAllText(Path.Combine(folder, SamCheckpoint.ConfigName), Config(config).ToJsonString());
    }

    /// <summary>The port's config.json; start and end ids are wrong, as in the published one.</summary>
    public static JsonObject Config(SamConfig config) => new()
    {
        ["architectures"] = new JsonArray("InstructBlipForConditionalGeneration"),
        ["model_type"] = "instructblip",
        ["num_query_tokens"] = config.QFormer.QueryTokens,
        ["vision_config"] = new JsonObject
        {
            ["hidden_size"] = config.Vision.Width,
            ["intermediate_size"] = config.Vision.MlpHidden,
            ["num_hidden_layers"] = config.Vision.Depth,
            ["num_attention_heads"] = config.Vision.Heads,
            ["image_size"] = config.Vision.ImageSize,
            ["patch_size"] = config.Vision.PatchSize,
            ["layer_norm_eps"] = 1e-6,
            ["hidden_act"] = "gelu",
            ["qkv_bias"] = true,
        },
        ["qformer_config"] = new JsonObject
        {
            ["vocab_size"] = config.QFormer.VocabularySize,
            ["hidden_size"] = config.QFormer.HiddenSize,
            ["num_hidden_layers"] = config.QFormer.Layers,
            ["num_attention_heads"] = config.QFormer.Heads,
            ["intermediate_size"] = config.QFormer.IntermediateSize,
            ["max_position_embeddings"] = config.QFormer.MaxPositions,
            ["cross_attention_frequency"] = config.QFormer.CrossAttentionFrequency,
            ["encoder_hidden_size"] = config.QFormer.EncoderWidth,
        },
        ["text_config"] = new JsonObject
        {
            ["model_type"] = "llama",
            ["bos_token_id"] = 0,
            ["eos_token_id"] = 1,
            ["pad_token_id"] = -1,
            ["hidden_act"] = "silu",
            ["vocab_size"] = config.Llm.VocabularySize,
            ["hidden_size"] = config.Llm.HiddenSize,
            ["num_hidden_layers"] = config.Llm.Layers,
            ["num_attention_heads"] = config.Llm.Heads,
            ["intermediate_size"] = config.Llm.IntermediateSize,
            ["max_position_embeddings"] = config.Llm.MaxPositions,
            ["rms_norm_eps"] = config.Llm.RmsNormEps,
        },
    };

    private static List<TensorSource> Tensors(IReadOnlyList<TensorSource> canonical)
    {
        var tensors = new List<TensorSource>();
        foreach (var tensor in canonical.Where(t => !SamCheckpoint.IsAdapter(t.Name)))
        {
            string name = tensor.Name;
            if (name.EndsWith(".attn.v_bias", StringComparison.Ordinal))
            {
                continue;
            }
            if (name.EndsWith(".attn.q_bias", StringComparison.Ordinal))
            {
                var values = canonical.Single(t => t.Name == name.Replace("q_bias", "v_bias", StringComparison.Ordinal));
                long width = tensor.Shape[0];
                tensors.Add(new TensorSource(Rename(name.Replace("attn.q_bias", "attn.qkv.bias", StringComparison.Ordinal)),
                    tensor.DType, [3 * width], () => [.. tensor.Bytes(), new byte[width * tensor.DType.ByteSize()], .. values.Bytes()]));
                continue;
            }
            tensors.Add(tensor with { Name = Rename(name) });
        }
        return tensors;
    }

    private static string Rename(string name)
    {
        const string Vision = "visual_encoder.";
        if (name.StartsWith(Vision, StringComparison.Ordinal) || name.StartsWith("ln_vision.", StringComparison.Ordinal))
        {
            return "vision_model." + name switch
            {
                "visual_encoder.cls_token" => "embeddings.class_embedding",
                "visual_encoder.pos_embed" => "embeddings.position_embedding",
                _ => name.Replace("ln_vision", "post_layernorm", StringComparison.Ordinal)
                    .Replace("visual_encoder.patch_embed.proj", "embeddings.patch_embedding", StringComparison.Ordinal)
                    .Replace("visual_encoder.blocks", "encoder.layers", StringComparison.Ordinal)
                    .Replace("norm1", "layer_norm1", StringComparison.Ordinal)
                    .Replace("norm2", "layer_norm2", StringComparison.Ordinal)
                    .Replace("attn.proj", "self_attn.projection", StringComparison.Ordinal)
                    .Replace("attn.qkv", "self_attn.qkv", StringComparison.Ordinal),
            };
        }
        name = name.Replace("Qformer.bert.embeddings.LayerNorm", "qformer.embeddings.layernorm", StringComparison.Ordinal);
        if (name.StartsWith("Qformer.bert", StringComparison.Ordinal))
        {
            name = name.Replace("Qformer.bert", "qformer", StringComparison.Ordinal);
        }
        if (name.Contains("attention.self", StringComparison.Ordinal))
        {
            name = name.Replace("self", "attention", StringComparison.Ordinal);
        }
        name = name.Replace("llm_proj", "language_projection", StringComparison.Ordinal);
        return name.StartsWith("llm_model", StringComparison.Ordinal)
            ? name.Replace("llm_model", "language_model", StringComparison.Ordinal) : name;
    }

    private static string Later(string name) => name == "language_model.lm_head.weight" ? "lm_head.weight"
        : "model." + name.Replace("language_model.model.", "language_model.", StringComparison.Ordinal);
}
