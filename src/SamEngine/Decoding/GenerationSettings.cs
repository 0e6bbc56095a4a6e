using SamEngine.Checkpoints;

namespace SamEngine.Decoding;

/// <summary><see cref="GenerationOptions"/> with every value decided and checked.</summary>
internal sealed record GenerationSettings
{
    public const int MostBeams = 64;
    public const int MostSuppressed = 60;

    /// <summary>Most ids of a text, the start id counted.</summary>
    public const int MostIds = 1 << 20;

    public int NumBeams { get; init; } = 5;

    public int MaxLength { get; init; } = 256;

    public int MinLength { get; init; } = 1;

    public float RepetitionPenalty { get; init; } = 1.5f;

    public float LengthPenalty { get; init; } = 1;

    public bool DoSample { get; init; }

    public float Temperature { get; init; } = 1;

    public int TopK { get; init; } = 50;

    public float TopP { get; init; } = 0.9f;

    public ulong Seed { get; init; }

    public IReadOnlyList<string> StopStrings { get; init; } = [];

    public int NumReturnSequences { get; init; } = 1;

    /// <summary>Ids never generated.</summary>
    public IReadOnlyList<int> SuppressTokens { get; init; } = [];

    /// <summary>The id every search starts from: counted and penalised, never fed.</summary>
    public int BosTokenId { get; init; } = 1;

    public int EosTokenId { get; init; } = 2;

    public int VocabularySize { get; init; }

    /// <summary>Decides and checks all options.</summary>
    /// <param name="options">What the request asks for.</param>
    /// <param name="vocabularySize">Rows of the head.</param>
    /// <param name="bosTokenId">Start id.</param>
    /// <param name="eosTokenId">End id.</param>
    /// <param name="folder">The model folder's defaults, which count where <paramref name="options"/> say nothing.</param>
    /// <exception cref="RequestException">A value is out of range.</exception>
    public static GenerationSettings Create(GenerationOptions options, int vocabularySize, int bosTokenId, int eosTokenId,
        GenerationOptions? folder = null)
    {
        var request = options;
        options = folder is null ? options : options.Over(folder);
        var d = new GenerationSettings();
        var settings = new GenerationSettings
        {
            NumBeams = options.NumBeams ?? d.NumBeams,
            MaxLength = options.MaxLength ?? d.MaxLength,
            MinLength = options.MinLength ?? d.MinLength,
            RepetitionPenalty = options.RepetitionPenalty ?? d.RepetitionPenalty,
            LengthPenalty = options.LengthPenalty ?? d.LengthPenalty,
            DoSample = options.DoSample ?? d.DoSample,
            Temperature = options.Temperature ?? d.Temperature,
            TopK = options.TopK ?? d.TopK,
            TopP = options.TopP ?? d.TopP,
            Seed = options.Seed ?? unchecked((ulong)Random.Shared.NextInt64(long.MinValue, long.MaxValue)),
            // Copies: the lists are the caller's.
            StopStrings = [.. options.StopStrings ?? d.StopStrings],
            NumReturnSequences = options.NumReturnSequences ?? d.NumReturnSequences,
            SuppressTokens = [.. options.SuppressTokens ?? d.SuppressTokens],
            BosTokenId = bosTokenId,
            EosTokenId = eosTokenId,
            VocabularySize = vocabularySize,
        };
        settings.Check(request, folder);
        return settings;
    }

    /// <summary>Checks the values; one that the request left to the model folder is called by the name it has there.</summary>
    private void Check(GenerationOptions request, GenerationOptions? folder)
    {
        string Source(string option) => folder is not null && GenerationConfig.KeyIfTakenFrom(folder, request, option) is { } key
            ? $", {key} of the model folder's {SamCheckpoint.GenerationConfigName}" : "";
        void Require<T>(bool holds, string option, T value, string range)
        {
            if (!holds)
            {
                throw new RequestException(option, $"is {value}{Source(option)}, expected {range}");
            }
        }
        int mostBeams = Math.Min(MostBeams, VocabularySize / 2);
        Require(NumBeams >= 1 && NumBeams <= Math.Max(mostBeams, 1), nameof(GenerationOptions.NumBeams), NumBeams,
            $"1 to {mostBeams}");
        Require(MaxLength is >= 2 and <= MostIds, nameof(GenerationOptions.MaxLength), MaxLength,
            $"2 (one new token) to {MostIds}");
        Require(MinLength >= 0 && MinLength <= MaxLength, nameof(GenerationOptions.MinLength), MinLength,
            $"0 to MaxLength ({MaxLength}{Source(nameof(GenerationOptions.MaxLength))})");
        Require(RepetitionPenalty is >= 1e-3f and <= 1000, nameof(GenerationOptions.RepetitionPenalty), RepetitionPenalty,
            "0.001 to 1000 (1 is off)");
        Require(MathF.Abs(LengthPenalty) <= 100, nameof(GenerationOptions.LengthPenalty), LengthPenalty, "-100 to 100");
        Require(Temperature is >= 1e-3f and <= 1000, nameof(GenerationOptions.Temperature), Temperature,
            "0.001 to 1000 (for the best token each time leave DoSample off)");
        Require(TopK >= 0, nameof(GenerationOptions.TopK), TopK, "0 (all) or more");
        Require(TopP is > 0 and <= 1, nameof(GenerationOptions.TopP), TopP, "above 0, at most 1");
        Require(NumReturnSequences >= 1 && NumReturnSequences <= NumBeams, nameof(GenerationOptions.NumReturnSequences),
            NumReturnSequences, $"1 to NumBeams ({NumBeams}{Source(nameof(GenerationOptions.NumBeams))})");
        if (StopStrings.Any(string.IsNullOrEmpty))
        {
            throw new RequestException(nameof(GenerationOptions.StopStrings), "holds an empty text, which would end every " +
                "generation before it starts; leave it out");
        }
        Require(SuppressTokens.Count <= MostSuppressed, nameof(GenerationOptions.SuppressTokens), SuppressTokens.Count,
            $"at most {MostSuppressed} ids");
        foreach (int id in SuppressTokens)
        {
            Require(id >= 0 && id < VocabularySize, nameof(GenerationOptions.SuppressTokens), id,
                $"0 to {VocabularySize - 1}");
        }
        Require(SuppressTokens.Distinct().Count() + 2 * NumBeams <= VocabularySize,
            nameof(GenerationOptions.SuppressTokens), SuppressTokens.Count, "fewer than leave a choice");
    }
}
