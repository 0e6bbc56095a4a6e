using SamEngine.Model;

namespace SamEngine.Training;

/// <summary>Dimensions of SAM-mini: the engine's architecture, small.</summary>
internal static class MiniModelConfig
{
    /// <param name="bertVocabulary">Rows of the Q-Former's word embedding, [DEC] included.</param>
    /// <param name="llmVocabulary">Rows of the language model's embedding, [PAD] included.</param>
    /// <param name="queryTokens">Learned queries, and so visual tokens of a picture.</param>
    public static SamConfig Create(int bertVocabulary, int llmVocabulary, int queryTokens) => new()
    {
        Vision = new VisionConfig { ImageSize = 112, PatchSize = 14, Width = 128, Depth = 4, Heads = 4, MlpHidden = 384 },
        QFormer = new QFormerConfig
        {
            HiddenSize = 128,
            Layers = 4,
            Heads = 4,
            IntermediateSize = 256,
            EncoderWidth = 128,
            QueryTokens = queryTokens,
            VocabularySize = bertVocabulary,
            MaxPositions = 128,
            OneToMultipleLayer = 3,
            MultipleToOneLayer = 3,
        },
        Llm = new LlamaConfig
        {
            HiddenSize = 160,
            Layers = 4,
            Heads = 4,
            KeyValueHeads = 4,
            IntermediateSize = 432,
            VocabularySize = llmVocabulary,
            MaxPositions = 256,
            PadTokenId = llmVocabulary - 1,
        },
        MaxTextLength = 128,
    };
}
