namespace SamEngine.Decoding;

/// <summary>Losses of candidate texts and their order, best first.</summary>
/// <param name="Losses">One per candidate, in the order given.</param>
/// <param name="Order">Indices of the candidates, best first.</param>
internal sealed record CandidateRanking(double[] Losses, int[] Order)
{
    /// <summary>The reference's <c>_predict_class</c>: the loss of a candidate is the sum of its ids' negative
    /// log-probabilities over T - 1, where T is the length of the whole padded batch; so the order is by sum.</summary>
    /// <param name="logProbs">Log-probability of every id of every candidate.</param>
    /// <param name="promptRows">Visual tokens and prompt.</param>
    public static CandidateRanking Reference(IReadOnlyList<float[]> logProbs, int promptRows)
    {
        int total = promptRows + logProbs.Max(p => p.Length);
        return ByLoss([.. logProbs.Select(p => -p.Sum(v => (double)v) / (total - 1))]);
    }

    /// <summary>By the mean over a candidate's own ids, so that long candidates are not at a disadvantage.</summary>
    public static CandidateRanking PerTokenMean(IReadOnlyList<float[]> logProbs) =>
        ByLoss([.. logProbs.Select(p => -p.Sum(v => (double)v) / p.Length)]);

    private static CandidateRanking ByLoss(double[] losses) =>
        new(losses, [.. Enumerable.Range(0, losses.Length).OrderBy(i => losses[i])]);
}
