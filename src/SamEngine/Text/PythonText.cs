namespace SamEngine.Text;

/// <summary>Notions of Python's <c>str</c> that the reference's tokenizers rest on.</summary>
internal static class PythonText
{
    /// <summary>White space as <c>str.strip</c> and <c>str.split</c> see it: .NET's, and U+001C to U+001F.</summary>
    public static bool IsWhiteSpace(char c) => char.IsWhiteSpace(c) || c is >= '\u001c' and <= '\u001f';

    public static ReadOnlySpan<char> TrimStart(ReadOnlySpan<char> text)
    {
        int start = 0;
        while (start < text.Length && IsWhiteSpace(text[start]))
        {
            start++;
        }
        return text[start..];
    }

    public static ReadOnlySpan<char> TrimEnd(ReadOnlySpan<char> text)
    {
        int end = text.Length;
        while (end > 0 && IsWhiteSpace(text[end - 1]))
        {
            end--;
        }
        return text[..end];
    }
}
