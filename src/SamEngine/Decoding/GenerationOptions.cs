using SamEngine.Decoding;

namespace SamEngine;

/// <summary>
/// How a text is generated. A property left null takes the model folder's <c>generation_config.json</c>, and where that is
/// silent the reference's default, given with each property (SAM <c>generate</c>, transformers 4.33.2).
/// </summary>
public sealed record GenerationOptions
{
    /// <summary>Beams of the search, 1 to 64; 1 is greedy search or plain sampling. Default 5.</summary>
    public int? NumBeams { get; init; }

    /// <summary>Most ids of the result, counting the start id that is never fed to the model: 256 gives 255 new tokens.
    /// Default 256.</summary>
    public int? MaxLength { get; init; }

    /// <summary>The end of the text is not allowed before this many ids (start id included). Default 1: no effect.</summary>
    public int? MinLength { get; init; }

    /// <summary>Scores of ids that were generated already are divided (positive) or multiplied (negative) by this, 0.001 to
    /// 1000; 1 is off.
    /// In beam search it acts on log-probabilities, else on logits. Default 1.5.</summary>
    public float? RepetitionPenalty { get; init; }

    /// <summary>A finished beam's score is its log-probability divided by length to this power. Default 1.</summary>
    public float? LengthPenalty { get; init; }

    /// <summary>Draw tokens instead of taking the best. With more than one beam this is beam sampling, as the reference's
    /// <c>use_nucleus_sampling</c> is. Default false.</summary>
    public bool? DoSample { get; init; }

    /// <summary>Divides the scores before drawing; 0.001 to 1000. Beam sampling carries divided sums on, as the reference
    /// does, so low temperatures add up from step to step. Default 1.</summary>
    public float? Temperature { get; init; }

    /// <summary>Draw among this many best tokens; 0 is all. Default 50, which transformers switches on by itself.</summary>
    public int? TopK { get; init; }

    /// <summary>Draw among the smallest set of tokens with this much probability; above 0, at most 1. Default 0.9.</summary>
    public float? TopP { get; init; }

    /// <summary>Seed of the draws; the same seed gives the same text on the same backend. Default: a new one each time,
    /// reported in the result.</summary>
    public ulong? Seed { get; init; }

    /// <summary>Texts that end the generation; they are not part of the result. Default none.</summary>
    public IReadOnlyList<string>? StopStrings { get; init; }

    /// <summary>Results to return, best first; at most <see cref="NumBeams"/>. Default 1.</summary>
    public int? NumReturnSequences { get; init; }

    /// <summary>Token ids that are never generated. Default none.</summary>
    public IReadOnlyList<int>? SuppressTokens { get; init; }

    /// <summary>Checks what can be checked without a model: the range of each value that is set, and of those that depend on each
    /// other. A request checks everything; this is for saying so before a model is loaded.</summary>
    /// <exception cref="RequestException">A value is out of range.</exception>
    public void Validate() => GenerationSettings.Create(
        Over(new GenerationOptions { NumBeams = GenerationSettings.MostBeams, MaxLength = GenerationSettings.MostIds }),
        int.MaxValue, bosTokenId: 1, eosTokenId: 2);

    /// <summary>These options, with <paramref name="defaults"/> for what they leave null.</summary>
    /// <param name="defaults">What counts where these say nothing.</param>
    /// <returns>New options; null is left where both are.</returns>
    public GenerationOptions Over(GenerationOptions defaults)
    {
        ArgumentNullException.ThrowIfNull(defaults);
        return new()
        {
            NumBeams = NumBeams ?? defaults.NumBeams,
            MaxLength = MaxLength ?? defaults.MaxLength,
            MinLength = MinLength ?? defaults.MinLength,
            RepetitionPenalty = RepetitionPenalty ?? defaults.RepetitionPenalty,
            LengthPenalty = LengthPenalty ?? defaults.LengthPenalty,
            DoSample = DoSample ?? defaults.DoSample,
            Temperature = Temperature ?? defaults.Temperature,
            TopK = TopK ?? defaults.TopK,
            TopP = TopP ?? defaults.TopP,
            Seed = Seed ?? defaults.Seed,
            StopStrings = StopStrings ?? defaults.StopStrings,
            NumReturnSequences = NumReturnSequences ?? defaults.NumReturnSequences,
            SuppressTokens = SuppressTokens ?? defaults.SuppressTokens,
        };
    }
}

/// <summary>Why a text ended.</summary>
public enum FinishReason
{
    /// <summary>The model ended it.</summary>
    EndOfText,

    /// <summary>It reached <see cref="GenerationOptions.MaxLength"/> or the model's context.</summary>
    Length,

    /// <summary>It ran into one of <see cref="GenerationOptions.StopStrings"/>.</summary>
    StopString,
}
