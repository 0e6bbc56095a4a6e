namespace SamEngine.Data.Scores;

/// <summary>CIDEr as pycocoevalcap computes it (n = 4, sigma = 6, one reference): clipped counts and a length penalty as in
/// CIDEr-D, document frequencies from the references of the set itself.</summary>
internal static class Cider
{
    private const double Sigma = 6;

    /// <summary>Score of every sample, at most 10; the corpus score is their mean.</summary>
    public static double[] Scores(IReadOnlyList<(string[] Prediction, string[] Reference)> samples)
    {
        var frequency = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var (_, reference) in samples)
        {
            for (int n = 1; n <= NGrams.Longest; n++)
            {
                foreach (string key in NGrams.Count(reference, n).Keys)
                {
                    frequency[key] = frequency.GetValueOrDefault(key) + 1;
                }
            }
        }
        double logCount = Math.Log(samples.Count);
        return [.. samples.Select(s => Score(s.Prediction, s.Reference, frequency, logCount))];
    }

    private static double Score(string[] prediction, string[] reference, Dictionary<string, int> frequency, double logCount)
    {
        double total = 0;
        // The script takes the number of bigrams as the length.
        double delta = Math.Max(0, prediction.Length - 1) - Math.Max(0, reference.Length - 1);
        double penalty = Math.Exp(-(delta * delta) / (2 * Sigma * Sigma));
        for (int n = 1; n <= NGrams.Longest; n++)
        {
            var (h, hNorm) = Vector(prediction, n, frequency, logCount);
            var (r, rNorm) = Vector(reference, n, frequency, logCount);
            double value = 0;
            foreach (var (key, weight) in h)
            {
                double other = r.GetValueOrDefault(key);
                value += Math.Min(weight, other) * other;
            }
            if (hNorm != 0 && rNorm != 0)
            {
                value /= hNorm * rNorm;
            }
            total += value * penalty;
        }
        return total / NGrams.Longest * 10;
    }

    private static (Dictionary<string, double> Weights, double Norm) Vector(string[] words, int n,
        Dictionary<string, int> frequency, double logCount)
    {
        var weights = NGrams.Count(words, n).ToDictionary(
            p => p.Key,
            p => p.Value * (logCount - Math.Log(Math.Max(1, frequency.GetValueOrDefault(p.Key)))),
            StringComparer.Ordinal);
        return (weights, Math.Sqrt(weights.Values.Sum(w => w * w)));
    }
}
