using System.Globalization;
using System.Text;
using Microsoft.ML.Tokenizers;
using SamEngine.Checkpoints;

namespace SamEngine.Text;

/// <summary>
/// The Q-Former's tokenizer: bert-base-uncased WordPiece as transformers' slow <c>BertTokenizer</c> computes it, with
/// <c>[DEC]</c> added behind the vocabulary. Works without ICU (invariant globalization).
/// </summary>
public sealed class QFormerTokenizer : TokenizerBase
{
    private const int LongestWord = 100;
    private const int MostVocabularyBytes = 64 << 20;
    private static readonly Lazy<Dictionary<int, string>> Decompositions = new(LoadDecompositions);

    private readonly Dictionary<string, int> _ids;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _lookup;
    private readonly string[] _pieces;
    private readonly LiteralSplitter _literals;
    private readonly int _unknown;
    private readonly int _longestPiece;

    private QFormerTokenizer(string[] pieces, string path)
    {
        _pieces = pieces;
        _ids = new Dictionary<string, int>(pieces.Length, StringComparer.Ordinal);
        for (int i = 0; i < pieces.Length; i++)
        {
            // Of a repeated line the last one counts, as in transformers.
            _ids[pieces[i]] = i;
            _longestPiece = Math.Max(_longestPiece, pieces[i].Length);
        }
        _lookup = _ids.GetAlternateLookup<ReadOnlySpan<char>>();
        int Special(string name) => _ids.TryGetValue(name, out int id) ? id
            : throw new CheckpointException(path, $"has no line '{name}': not a BERT vocabulary");
        _unknown = Special("[UNK]");
        ClsTokenId = Special("[CLS]");
        SepTokenId = Special("[SEP]");
        PadTokenId = Special("[PAD]");
        DecTokenId = pieces.Length;
        var literals = new List<(string, int)>
        {
            ("[UNK]", _unknown), ("[CLS]", ClsTokenId), ("[SEP]", SepTokenId), ("[PAD]", PadTokenId), ("[DEC]", DecTokenId),
        };
        if (_ids.TryGetValue("[MASK]", out int mask))
        {
            literals.Add(("[MASK]", mask));
        }
        _literals = new LiteralSplitter(literals);
    }

    /// <summary>Ids in all, <c>[DEC]</c> included.</summary>
    public int VocabularySize => _pieces.Length + 1;

    /// <summary>Id of <c>[CLS]</c>.</summary>
    public int ClsTokenId { get; }

    /// <summary>Id of <c>[SEP]</c>.</summary>
    public int SepTokenId { get; }

    /// <summary>Id of <c>[PAD]</c>.</summary>
    public int PadTokenId { get; }

    /// <summary>Id of <c>[DEC]</c>, behind the vocabulary.</summary>
    public int DecTokenId { get; }

    /// <summary>Loads a <c>vocab.txt</c>: one piece a line, UTF-8.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The tokenizer.</returns>
    /// <exception cref="CheckpointException">Missing, not UTF-8, or without the special tokens.</exception>
    public static QFormerTokenizer Load(string path)
    {
        try
        {
            string text = new UTF8Encoding(false, throwOnInvalidBytes: true)
                .GetString(SmallFile.Read(path, MostVocabularyBytes));
            string[] lines = text.Split('\n');
            int count = lines[^1].Length == 0 ? lines.Length - 1 : lines.Length;
            return new QFormerTokenizer([.. lines.Take(count).Select(l => l.TrimEnd('\r'))], path);
        }
        catch (ArgumentException e)
        {
            throw new CheckpointException(path, "is not UTF-8: " + e.Message, e);
        }
    }

    /// <summary>The instruction as the Q-Former reads it: <c>[CLS]</c>, the last <paramref name="maxLength"/> - 2 pieces,
    /// <c>[SEP]</c>.</summary>
    /// <param name="text">The instruction.</param>
    /// <param name="maxLength">Most ids, at least 2.</param>
    /// <returns>The ids.</returns>
    public int[] EncodeInstruction(string text, int maxLength = 128)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxLength, 2);
        var tokens = new List<EncodedToken>();
        Tokenize(text, tokens);
        int kept = Math.Min(tokens.Count, maxLength - 2);
        return [ClsTokenId, .. tokens.Skip(tokens.Count - kept).Select(t => t.Id), SepTokenId];
    }

    private protected override void Tokenize(ReadOnlySpan<char> text, List<EncodedToken> tokens)
    {
        var word = new StringBuilder();
        foreach (var part in _literals.Split(text))
        {
            if (part.Id >= 0)
            {
                tokens.Add(new EncodedToken(part.Id, Piece(part.Id), new Range(part.Start, part.Start + part.Length)));
            }
            else
            {
                TokenizeSegment(text.Slice(part.Start, part.Length), part.Start, word, tokens);
            }
        }
    }

    /// <summary>Pieces back to text: a space before each piece that does not continue a word.</summary>
    private protected override string DecodeAll(IEnumerable<int> ids)
    {
        var text = new StringBuilder();
        foreach (int id in ids)
        {
            string piece = Piece(id);
            bool continues = piece.StartsWith("##", StringComparison.Ordinal);
            if (!continues && text.Length > 0)
            {
                text.Append(' ');
            }
            text.Append(piece, continues ? 2 : 0, piece.Length - (continues ? 2 : 0));
        }
        return text.ToString();
    }

    private string Piece(int id) => id == DecTokenId ? "[DEC]"
        : (uint)id < (uint)_pieces.Length ? _pieces[id]
        : throw new ArgumentOutOfRangeException(nameof(id), id, $"ids are 0 to {DecTokenId}");

    /// <summary>Cleans, splits into words and looks them up, a word at a time.</summary>
    private void TokenizeSegment(ReadOnlySpan<char> segment, int offset, StringBuilder word, List<EncodedToken> tokens)
    {
        word.Clear();
        int wordStart = 0;
        int at = 0;
        void Flush(int end)
        {
            if (word.Length > 0)
            {
                Lookup(word.ToString(), new Range(offset + wordStart, offset + end), tokens);
                word.Clear();
            }
            wordStart = end;
        }
        while (at < segment.Length)
        {
            int start = at;
            var status = Rune.DecodeFromUtf16(segment[at..], out var rune, out int length);
            at += length;
            if (status != System.Buffers.OperationStatus.Done)
            {
                continue; // lone surrogates are of category Cs and go like all of C*
            }
            // Per code point, as transformers does it: no final sigma; U+0130 leaves its dot to the marks dropped below.
            rune = rune.Value == 0x130 ? new Rune('i') : Rune.ToLowerInvariant(rune);
            var category = Rune.GetUnicodeCategory(rune);
            if (rune.Value is '\t' or '\n' or '\r' || category is UnicodeCategory.SpaceSeparator
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator)
            {
                Flush(start);
                wordStart = at;
                continue;
            }
            if (rune.Value is 0 or 0xFFFD || category is UnicodeCategory.Control or UnicodeCategory.Format
                or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned or UnicodeCategory.Surrogate)
            {
                continue;
            }
            if (IsIdeograph(rune.Value))
            {
                Flush(start);
                AppendDecomposed(rune, word);
                Flush(at);
                continue;
            }
            if (word.Length == 0)
            {
                wordStart = start;
            }
            AppendWithPunctuation(rune, word, start, at, Flush);
        }
        Flush(segment.Length);
    }

    private static void AppendWithPunctuation(Rune rune, StringBuilder word, int start, int end, Action<int> flush)
    {
        int before = word.Length;
        AppendDecomposed(rune, word);
        // Decomposition comes before punctuation is split off, and can bring some forth (U+037E is a semicolon).
        for (int i = before; i < word.Length;)
        {
            Rune.DecodeFromUtf16(word.ToString(i, Math.Min(2, word.Length - i)), out var part, out int length);
            if (IsPunctuation(part))
            {
                string tail = word.ToString(i + length, word.Length - i - length);
                word.Length = i;
                flush(start);
                word.Append(part.ToString());
                flush(end);
                word.Append(tail);
                i = 0;
                continue;
            }
            i += length;
        }
    }

    /// <summary>Greedy longest match; lengths count code points.</summary>
    private void Lookup(string word, Range range, List<EncodedToken> tokens)
    {
        int codePoints = 0;
        foreach (var _ in word.EnumerateRunes())
        {
            codePoints++;
        }
        int first = tokens.Count;
        if (codePoints <= LongestWord)
        {
            Span<char> buffer = stackalloc char[2 + 2 * LongestWord + 2];
            "##".CopyTo(buffer);
            int start = 0;
            while (start < word.Length)
            {
                int prefix = start > 0 ? 2 : 0;
                int end = Math.Min(word.Length, start + _longestPiece);
                int id = -1;
                for (; end > start; end--)
                {
                    if (end < word.Length && char.IsLowSurrogate(word[end]))
                    {
                        continue;
                    }
                    word.AsSpan(start, end - start).CopyTo(buffer[2..]);
                    if (_lookup.TryGetValue(buffer[(2 - prefix)..(2 + end - start)], out id))
                    {
                        break;
                    }
                    id = -1;
                }
                if (id < 0)
                {
                    break;
                }
                tokens.Add(new EncodedToken(id, _pieces[id], range));
                start = end;
            }
            if (start == word.Length)
            {
                return;
            }
        }
        tokens.RemoveRange(first, tokens.Count - first);
        tokens.Add(new EncodedToken(_unknown, "[UNK]", range));
    }

    /// <summary>NFD without nonspacing marks.</summary>
    private static void AppendDecomposed(Rune rune, StringBuilder word)
    {
        const int HangulBase = 0xAC00;
        const int HangulCount = 11172;
        int syllable = rune.Value - HangulBase;
        if ((uint)syllable < HangulCount)
        {
            word.Append((char)(0x1100 + syllable / 588)).Append((char)(0x1161 + syllable % 588 / 28));
            if (syllable % 28 != 0)
            {
                word.Append((char)(0x11A7 + syllable % 28));
            }
        }
        else if (Decompositions.Value.TryGetValue(rune.Value, out string? decomposed))
        {
            word.Append(decomposed);
        }
        else if (Rune.GetUnicodeCategory(rune) != UnicodeCategory.NonSpacingMark)
        {
            word.Append(rune.ToString());
        }
    }

    private static bool IsPunctuation(Rune rune) => rune.Value is >= 33 and <= 47 or >= 58 and <= 64 or >= 91 and <= 96
        or >= 123 and <= 126 || Rune.GetUnicodeCategory(rune) is >= UnicodeCategory.ConnectorPunctuation
        and <= UnicodeCategory.OtherPunctuation;

    private static bool IsIdeograph(int c) => c is >= 0x4E00 and <= 0x9FFF or >= 0x3400 and <= 0x4DBF
        or >= 0x20000 and <= 0x2A6DF or >= 0x2A700 and <= 0x2B73F or >= 0x2B740 and <= 0x2B81F
        or >= 0x2B820 and <= 0x2CEAF or >= 0xF900 and <= 0xFAFF or >= 0x2F800 and <= 0x2FA1F;

    private static Dictionary<int, string> LoadDecompositions()
    {
        using var stream = typeof(QFormerTokenizer).Assembly.GetManifestResourceStream("SamEngine.Text.decompositions.txt")!;
        using var reader = new StreamReader(stream);
        var table = new Dictionary<int, string>();
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
            {
                continue;
            }
            foreach (string entry in line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                int equals = entry.IndexOf('=', StringComparison.Ordinal);
                int code = int.Parse(entry.AsSpan(0, equals), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                table[code] = string.Concat(entry[(equals + 1)..].Split(',', StringSplitOptions.RemoveEmptyEntries)
                    .Select(hex => char.ConvertFromUtf32(int.Parse(hex, NumberStyles.HexNumber, CultureInfo.InvariantCulture))));
            }
        }
        return table;
    }
}
