using SamEngine.Compute;

namespace SamEngine.Decoding;

/// <summary>One finished text of a search.</summary>
/// <param name="Tokens">Generated ids: without the start id, up to and including the end id if it was reached.</param>
/// <param name="Score">Beam search: sum of (penalised) log-probabilities over length^length_penalty, as the reference's
/// <c>sequences_scores</c>. Otherwise the sum of the log-probabilities of the drawn tokens.</param>
/// <param name="Reason">Why it ended.</param>
internal sealed record Hypothesis(int[] Tokens, double Score, FinishReason Reason);

/// <summary>
/// The bookkeeping of one request's decoding, without model or device. Each round: the caller computes logits for the rows
/// of <see cref="Parents"/>/<see cref="Tokens"/> (at first: one row, the end of the prompt), lets the device choose
/// candidates from what <see cref="Fill"/> and its companions describe, and hands them to <see cref="Advance"/>, until
/// <see cref="IsDone"/>. Steps allocate nothing.
/// </summary>
internal abstract class TokenSearch
{
    private readonly int[] _banned;
    private readonly int _suppressed;

    protected TokenSearch(GenerationSettings settings, Func<ReadOnlySpan<int>, bool>? endsText)
    {
        Settings = settings;
        EndsText = endsText;
        _suppressed = settings.SuppressTokens.Count;
        _banned = [.. settings.SuppressTokens, settings.EosTokenId];
    }

    /// <summary>The search that the settings ask for. <paramref name="endsText"/> says whether generated ids end in a stop
    /// string.</summary>
    public static TokenSearch Create(GenerationSettings settings, Func<ReadOnlySpan<int>, bool>? endsText = null) =>
        settings.NumBeams == 1 ? new SingleSearch(settings, endsText) : new BeamSearch(settings, endsText);

    /// <summary>Most rows fed to the model in a step.</summary>
    public int MaxRows => Settings.NumBeams;

    /// <summary>Candidates wanted from the device in a step.</summary>
    public abstract int Candidates { get; }

    /// <summary>Beam sampling draws a set of <see cref="Candidates"/> and orders it by score, so the best of a larger set
    /// would be another draw. Everything else is served as well by the beginning of a longer list.</summary>
    public bool TakesExactSet => Settings.DoSample && Settings.NumBeams > 1;

    /// <summary>Rows that take part in the coming selection.</summary>
    public abstract int SelectionRows { get; }

    /// <summary>Previous row that each row fed next continues.</summary>
    public abstract ReadOnlySpan<int> Parents { get; }

    /// <summary>Token that each row is fed next.</summary>
    public abstract ReadOnlySpan<int> Tokens { get; }

    /// <summary>Ids that cannot change any more, end id excluded.</summary>
    public abstract ReadOnlySpan<int> StableTokens { get; }

    /// <summary>No further step is wanted.</summary>
    public bool IsDone { get; protected set; }

    /// <summary>Steps taken.</summary>
    public int Steps { get; protected set; }

    /// <summary>Ids of a live row so far, the start id included.</summary>
    protected int Length => Steps + 1;

    protected GenerationSettings Settings { get; }

    protected Func<ReadOnlySpan<int>, bool>? EndsText { get; }

    /// <summary>Ids that can't be chosen in the coming step.</summary>
    public ReadOnlySpan<int> BannedIds => _banned.AsSpan(0, Length < Settings.MinLength ? _banned.Length : _suppressed);

    /// <summary>Which of the rows fed last gives the logits of a selection row.</summary>
    public abstract int LogitsRow(int row);

    /// <summary>Running score of a selection row.</summary>
    public abstract float RowScore(int row);

    /// <summary>Distinct ids to penalise in a selection row.</summary>
    public abstract ReadOnlySpan<int> PenaltyIds(int row);

    /// <summary>Parameters of the coming selection; the caller sets <see cref="SelectionGroup.FirstRow"/>.</summary>
    public void Fill(ref SelectionGroup group)
    {
        bool beams = Settings.NumBeams > 1;
        group.RowCount = SelectionRows;
        group.UseLogProbs = beams ? 1 : 0;
        group.Sample = Settings.DoSample ? 1 : 0;
        group.RepetitionPenalty = Settings.RepetitionPenalty;
        group.Temperature = Settings.Temperature;
        group.TopK = Settings.TopK;
        group.TopP = Settings.TopP;
        // transformers keeps two tokens a row for beams, so that a search never runs dry on the end id alone.
        group.MinTokensToKeep = beams ? 2 : 1;
        group.SeedLow = (uint)Settings.Seed;
        group.SeedHigh = (uint)(Settings.Seed >> 32);
        group.Step = (uint)Steps;
    }

    /// <summary>Takes the device's candidates: scores in order, rows of the selection, token ids (-1: no more).</summary>
    public abstract void Advance(ReadOnlySpan<float> scores, ReadOnlySpan<int> rows, ReadOnlySpan<int> tokens);

    /// <summary>The results, best first; also valid for a search that was stopped early.</summary>
    public abstract IReadOnlyList<Hypothesis> Results();
}
