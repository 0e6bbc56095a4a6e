namespace SamEngine.Data.Scores;

/// <summary>ROUGE-L of one answer.</summary>
/// <param name="F">Harmonic mean.</param>
/// <param name="Precision">Share of the prediction's distinct words.</param>
/// <param name="Recall">Share of the reference's distinct words.</param>
internal readonly record struct RougeScore(double F, double Precision, double Recall);

/// <summary>Summary-level ROUGE-L as the package rouge 1.0.1 computes it with <c>exclusive=True</c>: on sets of words, the
/// union of matched words carried over from reference sentence to reference sentence.</summary>
internal static class RougeL
{
    /// <exception cref="DatasetException">A text has no sentence: it is empty or only periods.</exception>
    public static RougeScore Score(string prediction, string reference, string subject)
    {
        var predicted = Sentences(prediction);
        var expected = Sentences(reference);
        if (predicted.Count == 0 || expected.Count == 0)
        {
            throw new DatasetException(subject,
                $"the {(predicted.Count == 0 ? "prediction" : "reference")} has no words; ROUGE-L is undefined");
        }
        var union = new HashSet<string>(StringComparer.Ordinal);
        int matched = 0;
        foreach (string[] sentence in expected)
        {
            int before = union.Count;
            foreach (string[] other in predicted)
            {
                union.UnionWith(CommonWords(sentence, other));
            }
            matched += union.Count - before;
        }
        double precision = (double)matched / Distinct(predicted);
        double recall = (double)matched / Distinct(expected);
        return new RougeScore(2 * (precision * recall / (precision + recall + 1e-8)), precision, recall);
    }

    /// <summary>Pieces between periods, words divided by single spaces; a blank piece is one empty word.</summary>
    private static List<string[]> Sentences(string text) => [.. text.Split('.').Where(piece => piece.Length > 0)
        .Select(piece => AnswerText.Words(piece) is { Length: > 0 } words ? words : [""])];

    private static int Distinct(List<string[]> sentences) =>
        sentences.SelectMany(s => s).Distinct(StringComparer.Ordinal).Count();

    /// <summary>Words of the longest common subsequence that backtracking from the end finds; with ties the prediction is
    /// shortened first.</summary>
    private static IEnumerable<string> CommonWords(string[] x, string[] y)
    {
        int[,] table = new int[x.Length + 1, y.Length + 1];
        for (int a = 1; a <= x.Length; a++)
        {
            for (int b = 1; b <= y.Length; b++)
            {
                table[a, b] = x[a - 1] == y[b - 1] ? table[a - 1, b - 1] + 1 : Math.Max(table[a - 1, b], table[a, b - 1]);
            }
        }
        int i = x.Length;
        int j = y.Length;
        while (i > 0 && j > 0)
        {
            if (x[i - 1] == y[j - 1])
            {
                yield return x[i - 1];
                i--;
                j--;
            }
            else if (table[i - 1, j] > table[i, j - 1])
            {
                i--;
            }
            else
            {
                j--;
            }
        }
    }
}
