using System.Text.Json;
using SamEngine.Model;

namespace SamEngine.Checkpoints;

/// <summary>The <c>config.json</c> of the Hugging Face port of InstructBLIP, as a <see cref="SamConfig"/>. What it does not
/// state has transformers' defaults. Its ids of start and end are passed over: the published ones contradict the
/// tokenizer.</summary>
internal static class PortConfig
{
    /// <summary>Reads a model folder's <c>config.json</c> of either kind.</summary>
    /// <exception cref="CheckpointException">Neither, or stating something impossible.</exception>
    public static SamConfig LoadEither(string path)
    {
        byte[] json = SmallFile.Read(path, SamConfig.MostBytes);
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 16 });
            var root = document.RootElement;
            return root.ValueKind == JsonValueKind.Object && root.TryGetProperty("qformer_config", out _)
                ? Parse(new ConfigSection(root, path, ""), path) : SamConfig.Parse(json, path);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException(path, "is not valid JSON: " + e.Message, e);
        }
    }

    private static SamConfig Parse(ConfigSection root, string path)
    {
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
        var qformer = new QFormerConfig
        {
            HiddenSize = q.Int("hidden_size", d.QFormer.HiddenSize),
            Layers = layers,
            Heads = q.Int("num_attention_heads", d.QFormer.Heads),
            IntermediateSize = q.Int("intermediate_size", d.QFormer.IntermediateSize),
            CrossAttentionFrequency = q.Int("cross_attention_frequency", d.QFormer.CrossAttentionFrequency),
            EncoderWidth = q.Int("encoder_hidden_size", vision.Width),
            QueryTokens = root.Int("num_query_tokens", d.QFormer.QueryTokens),
            VocabularySize = q.Int("vocab_size", 30522),
            MaxPositions = q.Int("max_position_embeddings", d.QFormer.MaxPositions),
            LayerNormEps = q.Float("layer_norm_eps", d.QFormer.LayerNormEps),
            OneToMultipleLayer = layers - 1,
            MultipleToOneLayer = layers - 1,
        };
        var t = root.Section("text_config");
        t.RequireOneOf("model_type", "llama");
        t.RequireOneOf("hidden_act", "silu");
        var rope = t.Section("rope_parameters");
        rope.RequireOneOf("rope_type", "default");
        var scaling = t.Section("rope_scaling");
        scaling.RequireOneOf("rope_type", "default");
        scaling.RequireOneOf("type", "default");
        int heads = t.Int("num_attention_heads", d.Llm.Heads);
        int vocabulary = t.Int("vocab_size", 32000);
        var llm = new LlamaConfig
        {
            HiddenSize = t.Int("hidden_size", d.Llm.HiddenSize),
            Layers = t.Int("num_hidden_layers", d.Llm.Layers),
            Heads = heads,
            KeyValueHeads = t.Int("num_key_value_heads", heads),
            IntermediateSize = t.Int("intermediate_size", d.Llm.IntermediateSize),
            VocabularySize = vocabulary,
            RmsNormEps = t.Float("rms_norm_eps", d.Llm.RmsNormEps),
            RopeTheta = rope.Double("rope_theta", t.Double("rope_theta", d.Llm.RopeTheta)),
            MaxPositions = t.Int("max_position_embeddings", d.Llm.MaxPositions),
            PadTokenId = Math.Min(d.Llm.PadTokenId, vocabulary - 1),
        };
        t.RequireValue("head_dim", llm.HeadDim);
        var config = new SamConfig
        {
            Vision = vision,
            LnVisionEps = vision.LayerNormEps,
            QFormer = qformer,
            Llm = llm,
        };
        config = config with { MaxTextLength = Math.Min(config.MaxTextLength, qformer.MaxPositions) };
        config.Validate(path);
        return config;
    }
}
