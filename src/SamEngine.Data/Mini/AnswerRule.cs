using SamEngine.Data.Scores;

namespace SamEngine.Data.Mini;

/// <summary>When an answer counts as right: as words, it names everything required and nothing else of the data set's
/// vocabulary of required names.</summary>
internal static class AnswerRule
{
    public static bool IsRight(string answer, IReadOnlyList<string> required, IReadOnlyList<string> vocabulary)
    {
        string words = Padded(answer);
        return required.All(r => words.Contains(Padded(r), StringComparison.Ordinal))
            && !vocabulary.Any(v => !required.Contains(v) && words.Contains(Padded(v), StringComparison.Ordinal));
    }

    private static string Padded(string text) => " " + string.Join(' ', AnswerText.Words(AnswerText.Process(text))) + " ";
}
