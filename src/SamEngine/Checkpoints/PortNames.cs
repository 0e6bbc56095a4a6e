namespace SamEngine.Checkpoints;

/// <summary>
/// Tensor names of the Hugging Face port of InstructBLIP (<c>InstructBlipForConditionalGeneration</c>) and the canonical
/// ones they stand for. The port stores the query and value biases of the vision encoder as one <c>qkv.bias</c> with a key
/// part of zeros.
/// </summary>
internal static class PortNames
{
    /// <summary>Ends the canonical spelling of a <c>qkv.bias</c>, which stands for two tensors.</summary>
    public const string QkvBias = ".attn.qkv.bias";

    public const string QBias = ".attn.q_bias";
    public const string VBias = ".attn.v_bias";

    private const string VisionLayers = "vision_model.encoder.layers.";
    private const string LanguageModel = "language_model.";

    /// <summary>Beginnings, the longer ones first.</summary>
    private static readonly (string Port, string Canonical)[] Beginnings =
    [
        ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
        ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
        ("vision_model.embeddings.patch_embedding.", "visual_encoder.patch_embed.proj."),
        ("vision_model.post_layernorm.", "ln_vision."),
        (VisionLayers, "visual_encoder.blocks."),
        ("qformer.embeddings.layernorm.", "Qformer.bert.embeddings.LayerNorm."),
        ("qformer.", "Qformer.bert."),
        ("language_projection.", "llm_proj."),
        (LanguageModel, "llm_model."),
    ];

    private static readonly (string Port, string Canonical)[] VisionParts =
    [
        (".layer_norm1.", ".norm1."),
        (".layer_norm2.", ".norm2."),
        (".self_attn.qkv.", ".attn.qkv."),
        (".self_attn.projection.", ".attn.proj."),
    ];

    /// <summary>Attention and cross-attention alike.</summary>
    private static readonly (string Port, string Canonical) QFormerPart = ("attention.attention.", "attention.self.");

    /// <summary>Whether these are the port's names.</summary>
    public static bool ArePort(IEnumerable<string> names) =>
        names.Any(n => Plain(n).StartsWith("vision_model.", StringComparison.Ordinal));

    /// <summary>The canonical spelling; a name that is not the port's stays as it is.</summary>
    public static string ToCanonical(string name)
    {
        string plain = Plain(name);
        foreach (var (port, canonical) in Beginnings)
        {
            if (plain.StartsWith(port, StringComparison.Ordinal))
            {
                string rest = plain[port.Length..];
                rest = port == VisionLayers
                    ? VisionParts.Aggregate(rest, (r, p) => r.Replace(p.Port, p.Canonical, StringComparison.Ordinal))
                    : port == "qformer." ? rest.Replace(QFormerPart.Port, QFormerPart.Canonical, StringComparison.Ordinal) : rest;
                return canonical + rest;
            }
        }
        return plain;
    }

    /// <summary>The port's spelling of a canonical name, for errors.</summary>
    public static string FromCanonical(string name)
    {
        name = name.Replace(QBias, QkvBias, StringComparison.Ordinal).Replace(VBias, QkvBias, StringComparison.Ordinal);
        foreach (var (port, canonical) in Beginnings)
        {
            if (name.StartsWith(canonical, StringComparison.Ordinal))
            {
                string rest = name[canonical.Length..];
                rest = port == VisionLayers
                    ? VisionParts.Aggregate(rest, (r, p) => r.Replace(p.Canonical, p.Port, StringComparison.Ordinal))
                    : port == "qformer." ? rest.Replace(QFormerPart.Canonical, QFormerPart.Port, StringComparison.Ordinal) : rest;
                return port + rest;
            }
        }
        return name;
    }

    /// <summary>The spelling of the first versions: later ones of transformers put a <c>model.</c> in front, keep the head
    /// beside it, and leave out the language model's own <c>model.</c>.</summary>
    private static string Plain(string name)
    {
        const string Model = "model.";
        if (name.StartsWith(Model, StringComparison.Ordinal)
            && (name[Model.Length..] == "query_tokens" || Beginnings.Any(b =>
                name.AsSpan(Model.Length).StartsWith(b.Port, StringComparison.Ordinal))))
        {
            name = name[Model.Length..];
        }
        if (name.StartsWith("lm_head.", StringComparison.Ordinal))
        {
            return LanguageModel + name;
        }
        bool isBare = name.StartsWith(LanguageModel, StringComparison.Ordinal)
            && !name.AsSpan(LanguageModel.Length).StartsWith(Model, StringComparison.Ordinal)
            && !name.AsSpan(LanguageModel.Length).StartsWith("lm_head.", StringComparison.Ordinal);
        return isBare ? LanguageModel + Model + name[LanguageModel.Length..] : name;
    }
}
