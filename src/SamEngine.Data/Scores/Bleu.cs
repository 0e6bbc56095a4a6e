namespace SamEngine.Data.Scores;

/// <summary>BLEU-1 to BLEU-4 as pycocoevalcap computes them with one reference.</summary>
internal sealed class Bleu
{
    private const double Tiny = 1e-15;
    private const double Small = 1e-9;
    private readonly long[] _correct = new long[NGrams.Longest];
    private readonly long[] _guess = new long[NGrams.Longest];
    private long _predictedLength;
    private long _referenceLength;

    /// <summary>Adds a sample to the corpus and returns its own scores, order 1 first.</summary>
    public double[] Add(string[] prediction, string[] reference)
    {
        long[] correct = new long[NGrams.Longest];
        long[] guess = new long[NGrams.Longest];
        for (int n = 1; n <= NGrams.Longest; n++)
        {
            var expected = NGrams.Count(reference, n);
            guess[n - 1] = Math.Max(0, prediction.Length - n + 1);
            correct[n - 1] = NGrams.Count(prediction, n).Sum(p => (long)Math.Min(p.Value, expected.GetValueOrDefault(p.Key)));
            _correct[n - 1] += correct[n - 1];
            _guess[n - 1] += guess[n - 1];
        }
        _predictedLength += prediction.Length;
        _referenceLength += reference.Length;
        return Scores(correct, guess, prediction.Length, reference.Length);
    }

    /// <summary>Scores of the corpus: on the sums of counts, not the mean of the samples.</summary>
    public double[] Corpus() => Scores(_correct, _guess, _predictedLength, _referenceLength);

    private static double[] Scores(long[] correct, long[] guess, long predictedLength, long referenceLength)
    {
        double[] scores = new double[NGrams.Longest];
        double product = 1;
        double ratio = (predictedLength + Tiny) / (referenceLength + Small);
        double brevity = ratio < 1 ? Math.Exp(1 - 1 / ratio) : 1;
        for (int k = 0; k < NGrams.Longest; k++)
        {
            product *= (correct[k] + Tiny) / (guess[k] + Small);
            scores[k] = Math.Pow(product, 1.0 / (k + 1)) * brevity;
        }
        return scores;
    }
}
