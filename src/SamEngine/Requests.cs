namespace SamEngine;

/// <summary>Whether the pictures of a group guide each other (the paper's bidirectional semantic guidance).</summary>
public enum Guidance
{
    /// <summary>On where the checkpoint has SAM's adapters, else off; the result says which.</summary>
    Auto,

    /// <summary>On; an error where the checkpoint has no adapters.</summary>
    On,

    /// <summary>Off: each picture by itself, plain InstructBLIP.</summary>
    Off,
}

/// <summary>A group of pictures and what to say about them.</summary>
public sealed record DescribeRequest
{
    /// <summary>The pictures, in order. One picture is a group of one.</summary>
    public required IReadOnlyList<SamImage> Images { get; init; }

    /// <summary>The instruction; the Q-Former and the language model both read it.</summary>
    public required string Prompt { get; init; }

    /// <summary>How the text is generated; null takes the model's defaults.</summary>
    public GenerationOptions? Options { get; init; }

    /// <summary>Whether the pictures guide each other.</summary>
    public Guidance Guidance { get; init; }
}

/// <summary>A piece of the text as it is generated.</summary>
/// <param name="Text">Final: no later piece changes it. Empty in a last piece that only carries the result.</param>
/// <param name="Result">The whole result, in the last piece only.</param>
public sealed record DescribePiece(string Text, DescribeResult? Result = null);

/// <summary>One generated text.</summary>
/// <param name="Text">The text; its pieces put together.</param>
/// <param name="Score">Beam search: log-probability (with penalties) over length^length_penalty. Else the sum of the
/// log-probabilities of the tokens.</param>
/// <param name="FinishReason">Why it ended.</param>
/// <param name="TokenIds">Generated ids, the end id included where it was reached.</param>
public sealed record GeneratedText(string Text, double Score, FinishReason FinishReason, IReadOnlyList<int> TokenIds);

/// <summary>What a request gave and what it cost.</summary>
public sealed record DescribeResult
{
    /// <summary>The best text.</summary>
    public string Text => Texts[0].Text;

    /// <summary>As many texts as <see cref="GenerationOptions.NumReturnSequences"/> asked for, best first.</summary>
    public required IReadOnlyList<GeneratedText> Texts { get; init; }

    /// <summary>Whether the pictures guided each other.</summary>
    public required bool Guided { get; init; }

    /// <summary>With guidance: the part of the group's visual context that each picture made, 0 to 1, in the pictures' order (the
    /// adaptive adjustment's weights, mean over all positions).</summary>
    public IReadOnlyList<double>? ImageWeights { get; init; }

    /// <summary>Seed of the draws; null without sampling.</summary>
    public ulong? Seed { get; init; }

    /// <summary>Tokens and times.</summary>
    public required RequestUsage Usage { get; init; }
}

/// <summary>Tokens and times of a request.</summary>
public sealed record RequestUsage
{
    /// <summary>Tokens the language model read: visual tokens and prompt.</summary>
    public required int InputTokens { get; init; }

    /// <summary>Of those, visual tokens.</summary>
    public required int VisualTokens { get; init; }

    /// <summary>Tokens of the best text.</summary>
    public required int OutputTokens { get; init; }

    /// <summary>Reading, decoding and resizing the pictures.</summary>
    public TimeSpan Images { get; init; }

    /// <summary>Waiting for the engine.</summary>
    public TimeSpan Queued { get; init; }

    /// <summary>Vision encoder.</summary>
    public TimeSpan Vision { get; init; }

    /// <summary>Adaptive adjustment, Q-Former and W-former.</summary>
    public TimeSpan QFormer { get; init; }

    /// <summary>Language model over the prompt.</summary>
    public TimeSpan Prefill { get; init; }

    /// <summary>Language model, token by token.</summary>
    public TimeSpan Decode { get; init; }

    /// <summary>From the call to the end.</summary>
    public TimeSpan Total { get; init; }

    /// <summary>Layer runs of the Q-Former (one layer over one sequence), both streams.</summary>
    public int QFormerLayerRuns { get; init; }
}

/// <summary>How candidate texts are scored.</summary>
public enum RankingMode
{
    /// <summary>As the reference does it: by the sum of the negative log-probabilities, which favours short candidates.
    /// <see cref="RankedCandidate.Loss"/> says over what it is divided.</summary>
    Reference,

    /// <summary>By the mean over each candidate's tokens.</summary>
    PerTokenMean,
}

/// <summary>Candidate texts to put in order.</summary>
public sealed record RankRequest
{
    /// <summary>The pictures, in order.</summary>
    public required IReadOnlyList<SamImage> Images { get; init; }

    /// <summary>The prompt that the candidates follow.</summary>
    public required string Prompt { get; init; }

    /// <summary>The candidates.</summary>
    public required IReadOnlyList<string> Candidates { get; init; }

    /// <summary>How they are scored.</summary>
    public RankingMode Mode { get; init; }

    /// <summary>The reference ranks without guidance, even a group: off by default.</summary>
    public Guidance Guidance { get; init; } = Guidance.Off;
}

/// <summary>A candidate's place.</summary>
/// <param name="Index">Its position in the request.</param>
/// <param name="Text">Its text.</param>
/// <param name="Loss">Lower is better. <see cref="RankingMode.PerTokenMean"/>: the mean negative log-probability of its tokens.
/// <see cref="RankingMode.Reference"/>: their sum over one less than the rows of pictures, prompt and longest candidate; the
/// other candidates of a call change it, so compare it within a call only.</param>
public sealed record RankedCandidate(int Index, string Text, double Loss);

/// <summary>What a loading model reports.</summary>
/// <param name="Tensor">The tensor being loaded.</param>
/// <param name="BytesDone">Bytes of tensors so far, as stored.</param>
/// <param name="BytesTotal">Bytes of all tensors, as stored.</param>
public readonly record struct LoadProgress(string Tensor, long BytesDone, long BytesTotal);

/// <summary>A loaded model, for people and logs.</summary>
public sealed record SamModelInfo
{
    /// <summary>The model folder.</summary>
    public required string Folder { get; init; }

    /// <summary>Dimensions.</summary>
    public required Model.SamConfig Config { get; init; }

    /// <summary>What computes.</summary>
    public required Compute.BackendInfo Backend { get; init; }

    /// <summary>Bytes of weights as stored.</summary>
    public required long WeightBytes { get; init; }

    /// <summary>Whether the checkpoint has SAM's adapters.</summary>
    public required bool HasGuidance { get; init; }

    /// <summary>What the folder's <c>generation_config.json</c> states, taken where a request says nothing; null where it is
    /// silent too.</summary>
    public required GenerationOptions GenerationDefaults { get; init; }

    /// <summary>What a user should know about the checkpoint.</summary>
    public required IReadOnlyList<string> Notes { get; init; }
}

/// <summary>What the engine looked at: the answer, and maps over the patches of every picture.</summary>
public sealed record Explanation
{
    /// <summary>The answer.</summary>
    public required DescribeResult Result { get; init; }

    /// <summary>Patches in a row, and rows of patches, of a picture.</summary>
    public required int PatchesAcross { get; init; }

    /// <summary>With guidance: the adaptive adjustment's weight of each picture at each patch, [pictures][patches], rows from
    /// top to bottom; at a patch the weights of all pictures sum to 1. Empty without.</summary>
    public required IReadOnlyList<IReadOnlyList<float>> ImageWeights { get; init; }

    /// <summary>Cross-attention of the query tokens, in the order it was computed.</summary>
    public required IReadOnlyList<CrossAttentionMap> CrossAttention { get; init; }
}

/// <summary>Where the query tokens of a layer looked.</summary>
/// <param name="Layer">Layer of the Q-Former, from 0.</param>
/// <param name="Stream">1: the Q-Former over one picture; 2: the W-former over the group's visual context.</param>
/// <param name="Image">The picture; null where stream 2 is still the same for the whole group.</param>
/// <param name="Patches">Mean over heads and queries, [patches], rows from top to bottom; with the class token's share, left
/// out here, they sum to 1.</param>
public sealed record CrossAttentionMap(int Layer, int Stream, int? Image, IReadOnlyList<float> Patches);
