using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Testing;

/// <summary>
/// Rewrites a model folder as transformers' InstructBlipForConditionalGeneration would save it: its names (as its
/// conversion script makes them from LAVIS's), its joint biases, its config.json. SAM's adapters, which it does not know, go to a
/// file of their own.
/// </summary>
internal static partial class PortWriter
{
    public const string AdaptersName = "adapters.safetensors";

    public static void Write(string model, string folder)
    {
        Directory.CreateDirectory(folder);
        using var source = SafetensorsFolder.Open(model);
        var config = SamConfig.Load(Path.Combine(model, SamCheckpoint.ConfigName));
        var port = new SortedDictionary<string, (long[] Shape, float[] Values)>(StringComparer.Ordinal);
        var adapters = new SortedDictionary<string, (long[] Shape, float[] Values)>(StringComparer.Ordinal);
        foreach (string name in source.Names)
        {
            source.TryGet(name, out var tensor);
            var entry = (tensor!.Shape.ToArray(), tensor.ToFloats());
            if (name.StartsWith("attn.", StringComparison.Ordinal) || name.Contains("one_2_muliple", StringComparison.Ordinal)
                || name.Contains("multiple_2_one", StringComparison.Ordinal))
            {
                adapters.Add(name, entry);
            }
            else if (name.EndsWith(".attn.q_bias", StringComparison.Ordinal))
            {
                source.TryGet(name.Replace("q_bias", "v_bias", StringComparison.Ordinal), out var v);
                float[] all = [.. entry.Item2, .. new float[entry.Item2.Length], .. v!.ToFloats()];
                port.Add(Renamed(name).Replace("attn.q_bias", "self_attn.qkv.bias", StringComparison.Ordinal), ([all.Length], all));
            }
            else if (!name.EndsWith(".attn.v_bias", StringComparison.Ordinal))
            {
                port.Add(Renamed(name), entry);
            }
        }
        Save(Path.Combine(folder, SafetensorsFolder.SingleName), port);
        Save(Path.Combine(folder, AdaptersName), adapters);
        File.WriteAllText(Path.Combine(folder, SamCheckpoint.ConfigName), Config(config).ToJsonString(new JsonSerializerOptions
        {
            WriteIndented = true,
        }));
    }

    private static string Renamed(string name)
    {
        name = name switch
        {
            "visual_encoder.cls_token" => "vision_model.embeddings.class_embedding",
            "visual_encoder.pos_embed" => "vision_model.embeddings.position_embedding",
            _ => name,
        };
        name = name.Replace("visual_encoder.patch_embed.proj", "vision_model.embeddings.patch_embedding", StringComparison.Ordinal)
            .Replace("ln_vision", "vision_model.post_layernorm", StringComparison.Ordinal);
        name = Blocks().Replace(name, "vision_model.encoder.layers.$1.");
        if (name.StartsWith("vision_model.encoder", StringComparison.Ordinal))
        {
            name = name.Replace("norm1", "layer_norm1", StringComparison.Ordinal)
                .Replace("norm2", "layer_norm2", StringComparison.Ordinal)
                .Replace("attn.qkv.weight", "self_attn.qkv.weight", StringComparison.Ordinal)
                .Replace("attn.proj", "self_attn.projection", StringComparison.Ordinal);
        }
        if (name.StartsWith("Qformer.bert", StringComparison.Ordinal))
        {
            name = name.Replace("Qformer.bert", "qformer", StringComparison.Ordinal)
                .Replace("embeddings.LayerNorm", "embeddings.layernorm", StringComparison.Ordinal);
        }
        return name.Replace("attention.self", "attention.attention", StringComparison.Ordinal)
            .Replace("llm_proj", "language_projection", StringComparison.Ordinal)
            .Replace("llm_model", "language_model", StringComparison.Ordinal);
    }

    private static JsonObject Config(SamConfig c) => new()
    {
        ["architectures"] = new JsonArray("InstructBlipForConditionalGeneration"),
        ["model_type"] = "instructblip",
        ["num_query_tokens"] = c.QFormer.QueryTokens,
        ["vision_config"] = new JsonObject
        {
            ["hidden_act"] = "gelu",
            ["hidden_size"] = c.Vision.Width,
            ["image_size"] = c.Vision.ImageSize,
            ["intermediate_size"] = c.Vision.MlpHidden,
            ["layer_norm_eps"] = 1e-6,
            ["num_attention_heads"] = c.Vision.Heads,
            ["num_hidden_layers"] = c.Vision.Depth,
            ["patch_size"] = c.Vision.PatchSize,
            ["qkv_bias"] = true,
        },
        ["qformer_config"] = new JsonObject
        {
            ["cross_attention_frequency"] = c.QFormer.CrossAttentionFrequency,
            ["encoder_hidden_size"] = c.QFormer.EncoderWidth,
            ["hidden_act"] = "gelu",
            ["hidden_size"] = c.QFormer.HiddenSize,
            ["intermediate_size"] = c.QFormer.IntermediateSize,
            ["layer_norm_eps"] = c.QFormer.LayerNormEps,
            ["max_position_embeddings"] = c.QFormer.MaxPositions,
            ["num_attention_heads"] = c.QFormer.Heads,
            ["num_hidden_layers"] = c.QFormer.Layers,
            ["vocab_size"] = c.QFormer.VocabularySize,
        },
        ["text_config"] = new JsonObject
        {
            ["hidden_act"] = "silu",
            ["hidden_size"] = c.Llm.HiddenSize,
            ["intermediate_size"] = c.Llm.IntermediateSize,
            ["max_position_embeddings"] = c.Llm.MaxPositions,
            ["model_type"] = "llama",
            ["num_attention_heads"] = c.Llm.Heads,
            ["num_hidden_layers"] = c.Llm.Layers,
            ["num_key_value_heads"] = c.Llm.KeyValueHeads,
            ["rms_norm_eps"] = c.Llm.RmsNormEps,
            ["vocab_size"] = c.Llm.VocabularySize,
        },
    };

    private static void Save(string path, SortedDictionary<string, (long[] Shape, float[] Values)> tensors)
    {
        using var writer = new SafetensorsWriter(path, [.. tensors.Select(t => (t.Key, TensorDType.F32, t.Value.Shape))]);
        foreach (var (name, (_, values)) in tensors)
        {
            writer.Begin(name);
            writer.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values));
        }
        writer.Complete();
    }

    [GeneratedRegex(@"^visual_encoder\.blocks\.(\d+)\.")]
    private static partial Regex Blocks();
}
