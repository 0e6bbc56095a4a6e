using System.Runtime.InteropServices;

namespace SamEngine.Compute;

/// <summary>Per-group parameters of <see cref="ComputeQueue.SelectTokens"/>, read on the device: 48 bytes, stored as 12 I32
/// columns of <see cref="SelectionInputs.Groups"/>.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal struct SelectionGroup
{
    /// <summary>Number of I32 columns this takes in a device buffer.</summary>
    public const int Columns = 12;

    /// <summary>First selection row of the group.</summary>
    public int FirstRow;

    /// <summary>Selection rows of the group.</summary>
    public int RowCount;

    /// <summary>0: scores are penalised logits (greedy, sampling). 1: penalised log-probabilities plus the row's running
    /// score (beam search).</summary>
    public int UseLogProbs;

    /// <summary>1: draw without replacement (Gumbel noise on the scores) instead of taking the best.</summary>
    public int Sample;

    /// <summary>1 changes nothing.</summary>
    public float RepetitionPenalty;

    /// <summary>1 changes nothing. Used only when <see cref="Sample"/> is set, like the two below.</summary>
    public float Temperature;

    /// <summary>0 keeps all.</summary>
    public int TopK;

    /// <summary>1 keeps all.</summary>
    public float TopP;

    /// <summary>Least tokens that top-k and top-p keep in a row.</summary>
    public int MinTokensToKeep;

    /// <summary>Low half of the seed.</summary>
    public uint SeedLow;

    /// <summary>High half of the seed.</summary>
    public uint SeedHigh;

    /// <summary>Step number: a new draw for every step of a seed.</summary>
    public uint Step;
}

/// <summary>
/// Inputs of <see cref="ComputeQueue.SelectTokens"/>; all views live on the device.
/// </summary>
/// <param name="Groups">I32 [groups, <see cref="SelectionGroup.Columns"/>].</param>
/// <param name="LogitRows">I32 [1, rows]: the row of the logits that each selection row reads (rows may share one).</param>
/// <param name="RowScores">F32 [1, rows]: running scores, used with <see cref="SelectionGroup.UseLogProbs"/>.</param>
/// <param name="PenaltyIds">I32 [rows, most ids]: distinct token ids to penalise; -1 ends a shorter list.</param>
/// <param name="BannedIds">I32 [groups, most banned]: ids that can't be chosen; -1 ends a shorter list.</param>
internal readonly record struct SelectionInputs(
    TensorView Groups, TensorView LogitRows, TensorView RowScores, TensorView PenaltyIds, TensorView BannedIds);

/// <summary>
/// Outputs of <see cref="ComputeQueue.SelectTokens"/>: per group the candidates in total order (score descending, then
/// row * vocabulary + token ascending).
/// </summary>
/// <param name="Scores">F32 [groups, candidates].</param>
/// <param name="Rows">I32 [groups, candidates]: row inside the group; -1 where there are fewer candidates.</param>
/// <param name="Tokens">I32 [groups, candidates]: token id; -1 where there are fewer candidates.</param>
/// <param name="NonFinite">I32 [1, groups]: 1 when a logit of the group is NaN or infinite.</param>
internal readonly record struct SelectionOutputs(
    TensorView Scores, TensorView Rows, TensorView Tokens, TensorView NonFinite);
