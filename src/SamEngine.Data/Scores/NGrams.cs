namespace SamEngine.Data.Scores;

/// <summary>Counts of word sequences.</summary>
internal static class NGrams
{
    /// <summary>Longest sequence that BLEU and CIDEr look at.</summary>
    public const int Longest = 4;

    /// <summary>How often each sequence of <paramref name="n"/> words occurs; the key joins words by U+001F, which no word
    /// from a split contains (it is white space).</summary>
    public static Dictionary<string, int> Count(string[] words, int n)
    {
        var counts = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int i = 0; i + n <= words.Length; i++)
        {
            string key = string.Join('\u001f', words, i, n);
            counts[key] = counts.GetValueOrDefault(key) + 1;
        }
        return counts;
    }
}
