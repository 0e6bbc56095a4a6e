using System.Text.Json;
using SamEngine.Checkpoints;

namespace SamEngine.Model;

/// <summary>Dimensions of the whole model: the <c>config.json</c> of a model folder. The defaults are the published
/// InstructBLIP-Vicuna-7B / SAM checkpoints, and stand in for what a file does not state.</summary>
public sealed record SamConfig
{
    internal const int MostBytes = 4 << 20;

    /// <summary>The vision encoder (EVA-ViT-g/14).</summary>
    public VisionConfig Vision { get; init; } = new();

    /// <summary>LayerNorm epsilon of <c>ln_vision</c>: 1e-5 in LAVIS, 1e-6 in the Hugging Face port.</summary>
    public float LnVisionEps { get; init; } = 1e-5f;

    /// <summary>The Q-Former, whose weights also make the W-former stream.</summary>
    public QFormerConfig QFormer { get; init; } = new();

    /// <summary>The language model (Vicuna-7B v1.1).</summary>
    public LlamaConfig Llm { get; init; } = new();

    /// <summary>Most instruction tokens the Q-Former reads, [CLS] and [SEP] included; longer ones lose their start.</summary>
    public int MaxTextLength { get; init; } = 128;

    /// <summary>The dimensions of the released checkpoints.</summary>
    public static SamConfig Published { get; } = new();

    /// <summary>Reads a <c>config.json</c>; fields it does not state come from <paramref name="defaults"/>
    /// (the published values when null).</summary>
    /// <param name="path">The file.</param>
    /// <param name="defaults">What counts where the file is silent.</param>
    /// <returns>The dimensions, checked against each other.</returns>
    /// <exception cref="CheckpointException">Missing, not JSON, or stating something impossible.</exception>
    public static SamConfig Load(string path, SamConfig? defaults = null)
    {
        return Parse(SmallFile.Read(path, MostBytes), path, defaults);
    }

    /// <summary>Parses the bytes of a <c>config.json</c>.</summary>
    /// <param name="json">The file's bytes, UTF-8.</param>
    /// <param name="path">The file, as errors name it.</param>
    /// <param name="defaults">What counts where it is silent; the published values when null.</param>
    /// <returns>The dimensions, checked against each other.</returns>
    /// <exception cref="CheckpointException">Not JSON, or stating something impossible.</exception>
    public static SamConfig Parse(ReadOnlyMemory<byte> json, string path, SamConfig? defaults = null)
    {
        defaults ??= Published;
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 16 });
            var root = new ConfigSection(document.RootElement, path, "");
            var vision = VisionConfig.Parse(root.Section("vit"), defaults.Vision);
            var config = new SamConfig
            {
                Vision = vision,
                LnVisionEps = root.Section("ln_vision").Float("eps", defaults.LnVisionEps),
                QFormer = QFormerConfig.Parse(root.Section("qformer"),
                    defaults.QFormer with { EncoderWidth = vision.Width }),
                Llm = LlamaConfig.Parse(root.Section("llm"), defaults.Llm),
                MaxTextLength = root.Int("max_txt_len", defaults.MaxTextLength),
            };
            config.Validate(path);
            return config;
        }
        catch (JsonException e)
        {
            throw new CheckpointException(path, "is not valid JSON: " + e.Message, e);
        }
    }

    /// <summary>Writes the form that <see cref="Load"/> reads.</summary>
    /// <param name="stream">Receives UTF-8.</param>
    public void Write(Stream stream)
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("model_type", "sam");
        Vision.Write(json);
        json.WriteStartObject("ln_vision");
        json.WriteNumber("eps", LnVisionEps);
        json.WriteEndObject();
        QFormer.Write(json);
        Llm.Write(json);
        json.WriteNumber("max_txt_len", MaxTextLength);
        json.WriteEndObject();
    }

    /// <summary>Checks that the parts fit each other.</summary>
    /// <param name="path">The file, as errors name it.</param>
    /// <exception cref="CheckpointException">They do not; the message names the fields.</exception>
    public void Validate(string path)
    {
        void Require(bool holds, string message)
        {
            if (!holds)
            {
                throw new CheckpointException(path, message);
            }
        }
        Require(Vision.ImageSize % Vision.PatchSize == 0,
            $"vit.image_size {Vision.ImageSize} is not a multiple of vit.patch_size {Vision.PatchSize}");
        Require(Vision.Channels == 3, $"vit.in_chans is {Vision.Channels}, expected 3 (RGB)");
        Require(Vision.Width % Vision.Heads == 0,
            $"vit.width {Vision.Width} is not a multiple of vit.heads {Vision.Heads}");
        Require(QFormer.HiddenSize % QFormer.Heads == 0,
            $"qformer.hidden_size {QFormer.HiddenSize} is not a multiple of num_attention_heads {QFormer.Heads}");
        Require(QFormer.EncoderWidth == Vision.Width,
            $"qformer.encoder_width {QFormer.EncoderWidth} differs from vit.width {Vision.Width}");
        Require(QFormer.OneToMultipleLayer <= QFormer.MultipleToOneLayer && QFormer.MultipleToOneLayer < QFormer.Layers,
            $"qformer.one_2_muliple_layer {QFormer.OneToMultipleLayer} must not come after multiple_2_one_layer " +
            $"{QFormer.MultipleToOneLayer}, and both must be below num_hidden_layers {QFormer.Layers}");
        Require(MaxTextLength >= 3 && MaxTextLength <= QFormer.MaxPositions,
            $"max_txt_len {MaxTextLength} must be 3 to qformer.max_position_embeddings {QFormer.MaxPositions}");
        Require(Llm.HiddenSize % Llm.Heads == 0 && Llm.HeadDim % 2 == 0,
            $"llm.hidden_size {Llm.HiddenSize} does not split into {Llm.Heads} heads of even width");
        Require(Llm.Heads % Llm.KeyValueHeads == 0,
            $"llm.num_attention_heads {Llm.Heads} is not a multiple of num_key_value_heads {Llm.KeyValueHeads}");
        // Bounds what the tables by position take.
        Require(Llm.MaxPositions <= 1 << 20,
            $"llm.max_position_embeddings is {Llm.MaxPositions}, expected at most {1 << 20}");
        Require(Llm.BosTokenId < Llm.VocabularySize,
            $"llm.bos_token_id {Llm.BosTokenId} is outside the vocabulary of {Llm.VocabularySize}");
        Require(Llm.EosTokenId < Llm.VocabularySize,
            $"llm.eos_token_id {Llm.EosTokenId} is outside the vocabulary of {Llm.VocabularySize}");
    }
}

/// <summary>EVA-ViT-g/14: a pre-norm transformer without a final norm.</summary>
public sealed record VisionConfig
{
    /// <summary>Side of the square input, pixels.</summary>
    public int ImageSize { get; init; } = 224;

    /// <summary>Side of a patch, pixels.</summary>
    public int PatchSize { get; init; } = 14;

    /// <summary>Input channels; always RGB.</summary>
    public int Channels { get; init; } = 3;

    /// <summary>Width of a token.</summary>
    public int Width { get; init; } = 1408;

    /// <summary>Number of blocks.</summary>
    public int Depth { get; init; } = 39;

    /// <summary>Attention heads.</summary>
    public int Heads { get; init; } = 16;

    /// <summary>Hidden width of the MLP: int(1408 * 4.3637).</summary>
    public int MlpHidden { get; init; } = 6144;

    /// <summary>LayerNorm epsilon inside the blocks.</summary>
    public float LayerNormEps { get; init; } = 1e-6f;

    /// <summary>Width of a head.</summary>
    public int HeadDim => Width / Heads;

    /// <summary>Patches of one image.</summary>
    public int Patches => ImageSize / PatchSize * (ImageSize / PatchSize);

    /// <summary>Tokens of one image: the class token and the patches.</summary>
    public int Tokens => Patches + 1;

    internal static VisionConfig Parse(ConfigSection s, VisionConfig d)
    {
        s.RequireOneOf("act", "gelu (erf)", "gelu");
        int width = s.Int("width", d.Width);
        var config = new VisionConfig
        {
            ImageSize = s.Int("image_size", d.ImageSize),
            PatchSize = s.Int("patch_size", d.PatchSize),
            Channels = s.Int("in_chans", d.Channels),
            Width = width,
            Depth = s.Int("depth", d.Depth),
            Heads = s.Int("heads", d.Heads),
            MlpHidden = s.Int("mlp_hidden", (int)(width * s.Double("mlp_ratio", 4.3637))),
            LayerNormEps = s.Float("ln_eps", d.LayerNormEps),
        };
        s.RequireValue("head_dim", config.HeadDim);
        return config;
    }

    internal void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("vit");
        json.WriteNumber("image_size", ImageSize);
        json.WriteNumber("patch_size", PatchSize);
        json.WriteNumber("in_chans", Channels);
        json.WriteNumber("width", Width);
        json.WriteNumber("depth", Depth);
        json.WriteNumber("heads", Heads);
        json.WriteNumber("mlp_hidden", MlpHidden);
        json.WriteNumber("ln_eps", LayerNormEps);
        json.WriteEndObject();
    }
}

/// <summary>The BERT-based Q-Former; the W-former stream uses the same weights.</summary>
public sealed record QFormerConfig
{
    /// <summary>Width of a token.</summary>
    public int HiddenSize { get; init; } = 768;

    /// <summary>Number of layers.</summary>
    public int Layers { get; init; } = 12;

    /// <summary>Attention heads.</summary>
    public int Heads { get; init; } = 12;

    /// <summary>Hidden width of the feed-forward parts.</summary>
    public int IntermediateSize { get; init; } = 3072;

    /// <summary>Layers 0, f, 2f, ... attend to the vision features.</summary>
    public int CrossAttentionFrequency { get; init; } = 2;

    /// <summary>Width of the vision features.</summary>
    public int EncoderWidth { get; init; } = 1408;

    /// <summary>Learned queries, and so visual tokens per image.</summary>
    public int QueryTokens { get; init; } = 32;

    /// <summary>Rows of the word embedding, [DEC] included.</summary>
    public int VocabularySize { get; init; } = 30523;

    /// <summary>Rows of the position embedding.</summary>
    public int MaxPositions { get; init; } = 512;

    /// <summary>LayerNorm epsilon.</summary>
    public float LayerNormEps { get; init; } = 1e-12f;

    /// <summary>The paper's layer l: before it <c>one_2_muliple</c> of stream 1 is added to stream 2. The last layer in the
    /// released weights.</summary>
    public int OneToMultipleLayer { get; init; } = 11;

    /// <summary>The paper's layer k: between its runs on stream 2 and on stream 1 <c>multiple_2_one</c> of stream 2 is added
    /// to stream 1. The last layer in the released weights.</summary>
    public int MultipleToOneLayer { get; init; } = 11;

    /// <summary>Width of a head.</summary>
    public int HeadDim => HiddenSize / Heads;

    /// <summary>Whether a layer attends to the vision features.</summary>
    /// <param name="layer">Its number, from 0.</param>
    /// <returns>True where it does.</returns>
    public bool HasCrossAttention(int layer) => layer % CrossAttentionFrequency == 0;

    internal static QFormerConfig Parse(ConfigSection s, QFormerConfig d)
    {
        s.RequireOneOf("act", "gelu (erf)", "gelu");
        int layers = s.Int("num_hidden_layers", d.Layers);
        int exchange = layers - 1;
        return new QFormerConfig
        {
            HiddenSize = s.Int("hidden_size", d.HiddenSize),
            Layers = layers,
            Heads = s.Int("num_attention_heads", d.Heads),
            IntermediateSize = s.Int("intermediate_size", d.IntermediateSize),
            CrossAttentionFrequency = s.Int("cross_attention_freq", d.CrossAttentionFrequency),
            EncoderWidth = s.Int("encoder_width", d.EncoderWidth),
            QueryTokens = s.Int("num_query_tokens", d.QueryTokens),
            VocabularySize = s.Int("vocab_size", d.VocabularySize),
            MaxPositions = s.Int("max_position_embeddings", d.MaxPositions),
            LayerNormEps = s.Float("layer_norm_eps", d.LayerNormEps),
            OneToMultipleLayer = s.Int("one_2_muliple_layer", exchange, 0),
            MultipleToOneLayer = s.Int("multiple_2_one_layer", exchange, 0),
        };
    }

    internal void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("qformer");
        json.WriteNumber("hidden_size", HiddenSize);
        json.WriteNumber("num_hidden_layers", Layers);
        json.WriteNumber("num_attention_heads", Heads);
        json.WriteNumber("intermediate_size", IntermediateSize);
        json.WriteNumber("cross_attention_freq", CrossAttentionFrequency);
        json.WriteNumber("encoder_width", EncoderWidth);
        json.WriteNumber("num_query_tokens", QueryTokens);
        json.WriteNumber("vocab_size", VocabularySize);
        json.WriteNumber("max_position_embeddings", MaxPositions);
        json.WriteNumber("layer_norm_eps", LayerNormEps);
        json.WriteNumber("one_2_muliple_layer", OneToMultipleLayer);
        json.WriteNumber("multiple_2_one_layer", MultipleToOneLayer);
        json.WriteEndObject();
    }
}

/// <summary>Llama-7B, the shape of Vicuna-7B v1.1.</summary>
public sealed record LlamaConfig
{
    /// <summary>Width of a token.</summary>
    public int HiddenSize { get; init; } = 4096;

    /// <summary>Number of layers.</summary>
    public int Layers { get; init; } = 32;

    /// <summary>Query heads.</summary>
    public int Heads { get; init; } = 32;

    /// <summary>Key/value heads.</summary>
    public int KeyValueHeads { get; init; } = 32;

    /// <summary>Hidden width of the SwiGLU part.</summary>
    public int IntermediateSize { get; init; } = 11008;

    /// <summary>Rows of the embedding and of the head, [PAD] included.</summary>
    public int VocabularySize { get; init; } = 32001;

    /// <summary>RMSNorm epsilon.</summary>
    public float RmsNormEps { get; init; } = 1e-6f;

    /// <summary>Base of the rotary frequencies.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>Longest context, visual tokens included.</summary>
    public int MaxPositions { get; init; } = 2048;

    /// <summary>The id a search starts from; counted and penalised but never fed to the model.</summary>
    public int BosTokenId { get; init; } = 1;

    /// <summary>The id that ends a text.</summary>
    public int EosTokenId { get; init; } = 2;

    /// <summary>The id the tokenizer calls [PAD].</summary>
    public int PadTokenId { get; init; } = 32000;

    /// <summary>Width of a head.</summary>
    public int HeadDim => HiddenSize / Heads;

    internal static LlamaConfig Parse(ConfigSection s, LlamaConfig d)
    {
        s.RequireOneOf("act", "silu");
        int heads = s.Int("num_attention_heads", d.Heads);
        int vocabulary = s.Int("vocab_size", d.VocabularySize);
        var config = new LlamaConfig
        {
            HiddenSize = s.Int("hidden_size", d.HiddenSize),
            Layers = s.Int("num_hidden_layers", d.Layers),
            Heads = heads,
            KeyValueHeads = s.Int("num_key_value_heads", heads),
            IntermediateSize = s.Int("intermediate_size", d.IntermediateSize),
            VocabularySize = vocabulary,
            RmsNormEps = s.Float("rms_norm_eps", d.RmsNormEps),
            RopeTheta = s.Double("rope_theta", d.RopeTheta),
            MaxPositions = s.Int("max_position_embeddings", d.MaxPositions),
            BosTokenId = s.Int("bos_token_id", d.BosTokenId, 0),
            EosTokenId = s.Int("eos_token_id", d.EosTokenId, 0),
            PadTokenId = s.Int("tokenizer_pad_id", vocabulary - 1, 0),
        };
        s.RequireValue("head_dim", config.HeadDim);
        return config;
    }

    internal void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("llm");
        json.WriteNumber("hidden_size", HiddenSize);
        json.WriteNumber("num_hidden_layers", Layers);
        json.WriteNumber("num_attention_heads", Heads);
        json.WriteNumber("num_key_value_heads", KeyValueHeads);
        json.WriteNumber("intermediate_size", IntermediateSize);
        json.WriteNumber("vocab_size", VocabularySize);
        json.WriteNumber("rms_norm_eps", RmsNormEps);
        json.WriteNumber("rope_theta", RopeTheta);
        json.WriteNumber("max_position_embeddings", MaxPositions);
        json.WriteNumber("bos_token_id", BosTokenId);
        json.WriteNumber("eos_token_id", EosTokenId);
        json.WriteNumber("tokenizer_pad_id", PadTokenId);
        json.WriteEndObject();
    }
}
