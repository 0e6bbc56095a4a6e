using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace SamEngine.Data.Scores;

/// <summary>The text processing of the reference's evaluation script (<c>Eval.process</c> in evaluate_score.py), with its
/// accidents: they change the scores.</summary>
internal static partial class AnswerText
{
    private const string Punctuation = ";/[]\"{}()=+\\_-><@`,?!";

    /// <summary>The script passes re.UNICODE where the count belongs.</summary>
    private const int MostPeriods = 32;

    public static string Process(string text)
    {
        text = Strip(text.Replace('\n', ' ').Replace('\t', ' '));
        // Looked up in the original: one number such as 1,000 makes every mark vanish instead of becoming a space.
        bool hasNumber = DigitCommaDigit().IsMatch(text);
        string result = text;
        foreach (char p in Punctuation)
        {
            bool vanish = hasNumber || text.Contains($"{p} ", StringComparison.Ordinal)
                || text.Contains($" {p}", StringComparison.Ordinal);
            result = result.Replace(p.ToString(), vanish ? "" : " ", StringComparison.Ordinal);
        }
        result = PeriodBeforeNoDigit().Replace(result, "", MostPeriods);
        result = Strip(result.Trim('\'').Trim('"'));
        return Lower(result);
    }

    /// <summary>Words as Python's <c>split()</c> gives them.</summary>
    public static string[] Words(string text)
    {
        var words = new List<string>();
        int start = -1;
        for (int i = 0; i <= text.Length; i++)
        {
            bool space = i == text.Length || SamEngine.Text.PythonText.IsWhiteSpace(text[i]);
            if (space && start >= 0)
            {
                words.Add(text[start..i]);
                start = -1;
            }
            else if (!space && start < 0)
            {
                start = i;
            }
        }
        return [.. words];
    }

    private static string Strip(string text) =>
        SamEngine.Text.PythonText.TrimEnd(SamEngine.Text.PythonText.TrimStart(text)).ToString();

    /// <summary>Python's <c>lower()</c>: simple mappings, and the two that are not.</summary>
    private static string Lower(string text)
    {
        var lower = new StringBuilder(text.Length);
        int at = 0;
        foreach (var rune in text.EnumerateRunes())
        {
            switch (rune.Value)
            {
                case 0x130:
                    lower.Append("i\u0307");
                    break;
                case 0x3A3:
                    lower.Append(IsFinalSigma(text, at) ? 'ς' : 'σ');
                    break;
                default:
                    lower.Append(Rune.ToLowerInvariant(rune).ToString());
                    break;
            }
            at += rune.Utf16SequenceLength;
        }
        return lower.ToString();
    }

    /// <summary>Unicode's Final_Sigma: a cased letter before, none after, case-ignorable characters skipped.</summary>
    private static bool IsFinalSigma(string text, int at)
    {
        int before = at - 1;
        while (before >= 0 && IsCaseIgnorable(text[before]))
        {
            before--;
        }
        int after = at + 1;
        while (after < text.Length && IsCaseIgnorable(text[after]))
        {
            after++;
        }
        return before >= 0 && IsCased(text[before]) && !(after < text.Length && IsCased(text[after]));
    }

    private static bool IsCased(char c) => CharUnicodeInfo.GetUnicodeCategory(c) is UnicodeCategory.UppercaseLetter
        or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter;

    private static bool IsCaseIgnorable(char c) => c is '\'' or '.' or ':' or '^' or '`' or '\u00b7' or '\u2019'
        || CharUnicodeInfo.GetUnicodeCategory(c) is UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark
            or UnicodeCategory.Format or UnicodeCategory.ModifierLetter or UnicodeCategory.ModifierSymbol;

    [GeneratedRegex(@"\d,\d")]
    private static partial Regex DigitCommaDigit();

    // The script's look-behind is mistyped and never holds; only the look-ahead counts.
    [GeneratedRegex(@"\.(?!\d)")]
    private static partial Regex PeriodBeforeNoDigit();
}
