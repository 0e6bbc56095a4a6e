namespace SamEngine.Text;

/// <summary>Splits a text at literal special tokens, the longest at the leftmost place first, as transformers does before
/// tokenising.</summary>
internal sealed class LiteralSplitter(IReadOnlyList<(string Literal, int Id)> literals)
{
    /// <summary>A part of the text: a literal with its id, or ordinary text with id -1.</summary>
    public readonly record struct Part(int Start, int Length, int Id);

    public List<Part> Split(ReadOnlySpan<char> text)
    {
        var parts = new List<Part>();
        int plain = 0;
        for (int at = 0; at < text.Length;)
        {
            int id = -1;
            int length = 0;
            foreach (var (literal, literalId) in literals)
            {
                if (literal.Length > length && text[at..].StartsWith(literal, StringComparison.Ordinal))
                {
                    (id, length) = (literalId, literal.Length);
                }
            }
            if (length == 0)
            {
                at++;
                continue;
            }
            if (at > plain)
            {
                parts.Add(new Part(plain, at - plain, -1));
            }
            parts.Add(new Part(at, length, id));
            at += length;
            plain = at;
        }
        if (plain < text.Length)
        {
            parts.Add(new Part(plain, text.Length - plain, -1));
        }
        return parts;
    }
}
