using System.Text.Json;
using SamEngine.Model;

namespace SamEngine.Checkpoints;

/// <summary>Where a canonical tensor lies: a stored tensor, or a third of one.</summary>
/// <param name="Store">The file or folder.</param>
/// <param name="Name">Name there.</param>
/// <param name="Third">0 or 2: the query or value part of a joint bias; -1: all of it.</param>
internal readonly record struct TensorHome(TensorStore Store, string Name, int Third = -1)
{
    /// <summary>The tensor; null where the store lacks it.</summary>
    /// <exception cref="CheckpointException">A joint bias does not split, or biases the keys.</exception>
    public TensorData? Open()
    {
        if (!Store.TryGet(Name, out var tensor))
        {
            return null;
        }
        if (Third < 0)
        {
            return tensor;
        }
        if (tensor.Shape.Count != 1 || tensor.Count % 3 != 0)
        {
            throw new CheckpointException(Store.FileOf(Name), $"tensor '{Name}' is [{string.Join(", ", tensor.Shape)}], " +
                "expected one dimension: the biases of queries, keys and values");
        }
        int width = checked((int)(tensor.Count / 3));
        if (tensor.Part(width, width).ToFloats().AsSpan().ContainsAnyExcept(0f))
        {
            throw new CheckpointException(Store.FileOf(Name), $"tensor '{Name}' has biases for the keys; EVA-ViT-g has " +
                "none, so this is another model");
        }
        return tensor.Part((long)Third * width, width);
    }
}

/// <summary>
/// The Hugging Face port of InstructBLIP (transformers <c>InstructBlipForConditionalGeneration</c>): its tensor names and
/// its config.json. Biases of queries and values are stored as one, with a zero part for the keys.
/// </summary>
internal static class HuggingFacePort
{
    private static readonly (string Port, string Canonical)[] Vision =
    [
        ("embeddings.class_embedding", "visual_encoder.cls_token"),
        ("embeddings.position_embedding", "visual_encoder.pos_embed"),
        ("embeddings.patch_embedding.", "visual_encoder.patch_embed.proj."),
        ("post_layernorm.", "ln_vision."),
    ];

    private static readonly (string Port, string Canonical)[] Block =
    [
        ("layer_norm1.", "norm1."), ("layer_norm2.", "norm2."), ("self_attn.qkv.weight", "attn.qkv.weight"),
        ("self_attn.projection.", "attn.proj."), ("mlp.fc1.", "mlp.fc1."), ("mlp.fc2.", "mlp.fc2."),
    ];

    /// <summary>Whether these are the port's names.</summary>
    public static bool IsPort(TensorStore store) =>
        store.Names.Any(n => n.StartsWith("vision_model.", StringComparison.Ordinal))
        && store.Names.Any(n => n.StartsWith("language_projection.", StringComparison.Ordinal));

    /// <summary>The store's tensors under canonical names; a name that is not the port's keeps its own.</summary>
    public static IEnumerable<(string Canonical, TensorHome Home)> Homes(TensorStore store)
    {
        foreach (string name in store.Names)
        {
            if (name.StartsWith("vision_model.encoder.layers.", StringComparison.Ordinal)
                && name.EndsWith(".self_attn.qkv.bias", StringComparison.Ordinal))
            {
                string block = "visual_encoder.blocks." + name["vision_model.encoder.layers.".Length..^"self_attn.qkv.bias".Length];
                yield return (block + "attn.q_bias", new TensorHome(store, name, 0));
                yield return (block + "attn.v_bias", new TensorHome(store, name, 2));
            }
            else
            {
                yield return (Canonical(name), new TensorHome(store, name));
            }
        }
    }

    /// <summary>The dimensions a port's config.json states; what it leaves out has the published values, which are also
    /// transformers' defaults. With SAM's adapters on top <c>ln_vision</c> has SAM's epsilon.</summary>
    /// <exception cref="CheckpointException">Not readable, or stating something impossible.</exception>
    public static SamConfig LoadConfig(string path, bool hasAdapters)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path), new JsonDocumentOptions { MaxDepth = 32 });
            var root = new ConfigSection(json.RootElement, path, "");
            var d = SamConfig.Published;
            var v = root.Section("vision_config");
            v.RequireOneOf("hidden_act", "gelu");
            var vision = new VisionConfig
            {
                ImageSize = v.Int("image_size", d.Vision.ImageSize),
                PatchSize = v.Int("patch_size", d.Vision.PatchSize),
                Width = v.Int("hidden_size", d.Vision.Width),
                Depth = v.Int("num_hidden_layers", d.Vision.Depth),
                Heads = v.Int("num_attention_heads", d.Vision.Heads),
                MlpHidden = v.Int("intermediate_size", d.Vision.MlpHidden),
                LayerNormEps = v.Float("layer_norm_eps", d.Vision.LayerNormEps),
            };
            var q = root.Section("qformer_config");
            q.RequireOneOf("hidden_act", "gelu");
            q.RequireOneOf("position_embedding_type", "absolute");
            int layers = q.Int("num_hidden_layers", d.QFormer.Layers);
            var config = new SamConfig
            {
                Vision = vision,
                LnVisionEps = hasAdapters ? d.LnVisionEps : vision.LayerNormEps,
                QFormer = new QFormerConfig
                {
                    HiddenSize = q.Int("hidden_size", d.QFormer.HiddenSize),
                    Layers = layers,
                    Heads = q.Int("num_attention_heads", d.QFormer.Heads),
                    IntermediateSize = q.Int("intermediate_size", d.QFormer.IntermediateSize),
                    CrossAttentionFrequency = q.Int("cross_attention_frequency", d.QFormer.CrossAttentionFrequency),
                    EncoderWidth = q.Int("encoder_hidden_size", vision.Width),
                    QueryTokens = root.Int("num_query_tokens", d.QFormer.QueryTokens),
                    // transformers' default; the published checkpoint states its 30523.
                    VocabularySize = q.Int("vocab_size", 30522),
                    MaxPositions = q.Int("max_position_embeddings", d.QFormer.MaxPositions),
                    LayerNormEps = q.Float("layer_norm_eps", d.QFormer.LayerNormEps),
                    OneToMultipleLayer = layers - 1,
                    MultipleToOneLayer = layers - 1,
                },
                Llm = Llm(root.Section("text_config")),
                MaxTextLength = Math.Min(d.MaxTextLength, q.Int("max_position_embeddings", d.QFormer.MaxPositions)),
            };
            config.Validate(path);
            return config;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new CheckpointException(path, "can't be read: " + e.Message, e);
        }
    }

    /// <summary>Whether a config.json is the port's.</summary>
    public static bool IsConfig(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path), new JsonDocumentOptions { MaxDepth = 32 });
            return json.RootElement.ValueKind == JsonValueKind.Object
                && (json.RootElement.TryGetProperty("qformer_config", out _)
                    || json.RootElement.TryGetProperty("vision_config", out _));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            // Whoever reads it next says what is wrong.
            return false;
        }
    }

    private static LlamaConfig Llm(ConfigSection s)
    {
        s.RequireOneOf("model_type", "llama");
        s.RequireOneOf("hidden_act", "silu");
        // What a Llama file leaves out is transformers' default, 32000 words.
        return LlamaConfig.Parse(s, SamConfig.Published.Llm with { VocabularySize = 32000 });
    }

    private static string Canonical(string name)
    {
        const string VisionPrefix = "vision_model.";
        const string LayerPrefix = "vision_model.encoder.layers.";
        if (name.StartsWith(LayerPrefix, StringComparison.Ordinal))
        {
            int dot = name.IndexOf('.', LayerPrefix.Length);
            if (dot > 0)
            {
                string number = name[LayerPrefix.Length..dot];
                string rest = name[(dot + 1)..];
                foreach (var (port, canonical) in Block)
                {
                    if (rest.StartsWith(port, StringComparison.Ordinal))
                    {
                        return $"visual_encoder.blocks.{number}.{canonical}{rest[port.Length..]}";
                    }
                }
            }
            return name;
        }
        if (name.StartsWith(VisionPrefix, StringComparison.Ordinal))
        {
            string rest = name[VisionPrefix.Length..];
            foreach (var (port, canonical) in Vision)
            {
                if (rest.StartsWith(port, StringComparison.Ordinal))
                {
                    return canonical + rest[port.Length..];
                }
            }
            return name;
        }
        if (name.StartsWith("qformer.", StringComparison.Ordinal))
        {
            return "Qformer.bert." + name["qformer.".Length..]
                .Replace("attention.attention.", "attention.self.", StringComparison.Ordinal)
                .Replace("embeddings.layernorm.", "embeddings.LayerNorm.", StringComparison.Ordinal);
        }
        return name.StartsWith("language_projection.", StringComparison.Ordinal)
                ? "llm_proj." + name["language_projection.".Length..]
            : name.StartsWith("language_model.", StringComparison.Ordinal) ? "llm_model." + name["language_model.".Length..]
            : name;
    }
}
