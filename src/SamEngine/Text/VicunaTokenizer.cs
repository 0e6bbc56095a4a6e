using System.Text;
using Microsoft.ML.Tokenizers;

namespace SamEngine.Text;

/// <summary>
/// The language model's tokenizer: SentencePiece BPE with byte fallback as transformers 4.33's slow, legacy
/// <c>LlamaTokenizer</c> drives it, with the reference's special tokens: start, end and unknown are all <c>&lt;/s&gt;</c>
/// (id 2), and <c>[PAD]</c> stands behind the vocabulary.
/// </summary>
public sealed class VicunaTokenizer : TokenizerBase
{
    internal const char Space = '\u2581';

    private readonly SentencePieceModel _model;
    private readonly Dictionary<string, int> _ids;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _normal;
    private readonly LiteralSplitter _literals;
    private readonly int[] _byteIds = new int[256];
    private readonly int[] _byteOfId;
    private readonly int _longestPiece;

    private VicunaTokenizer(SentencePieceModel model, string path)
    {
        _model = model;
        int count = model.Pieces.Count;
        _ids = new Dictionary<string, int>(count, StringComparer.Ordinal);
        var normal = new Dictionary<string, int>(count, StringComparer.Ordinal);
        _byteOfId = new int[count];
        Array.Fill(_byteOfId, -1);
        Array.Fill(_byteIds, -1);
        for (int id = 0; id < count; id++)
        {
            var piece = model.Pieces[id];
            _ids.Add(piece.Text, id);
            if (piece.Type == SentencePieceModel.PieceType.Normal)
            {
                normal.Add(piece.Text, id);
                _longestPiece = Math.Max(_longestPiece, piece.Text.Length);
            }
            else if (piece.Type == SentencePieceModel.PieceType.Byte)
            {
                if (piece.Text.Length != 6 || !piece.Text.StartsWith("<0x", StringComparison.Ordinal)
                    || !byte.TryParse(piece.Text.AsSpan(3, 2), System.Globalization.NumberStyles.HexNumber, null, out byte b))
                {
                    throw new CheckpointException(path, $"byte piece '{piece.Text}' is not of the form <0xNN>");
                }
                _byteIds[b] = id;
                _byteOfId[id] = b;
            }
        }
        if (_byteIds.Contains(-1) && _byteIds.Any(id => id >= 0))
        {
            // A character of which only some bytes have a piece could not be written.
            throw new CheckpointException(path, $"has no byte piece <0x{Array.IndexOf(_byteIds, -1):X2}>, expected all 256 or none");
        }
        _normal = normal.GetAlternateLookup<ReadOnlySpan<char>>();
        PieceCount = count;
        _literals = new LiteralSplitter([(model.Pieces[2].Text, 2), (model.Pieces[1].Text, 1), (model.Pieces[0].Text, 0),
            ("[PAD]", PadTokenId)]);
    }

    /// <summary>Pieces of the model file.</summary>
    public int PieceCount { get; }

    /// <summary>Most characters of a piece.</summary>
    internal int LongestPiece => _longestPiece;

    /// <summary>Ids in all, <c>[PAD]</c> included.</summary>
    public int VocabularySize => PieceCount + 1;

    /// <summary>Id of <c>[PAD]</c>.</summary>
    public int PadTokenId => PieceCount;

    /// <summary>The id every prompt starts with; the reference makes it <c>&lt;/s&gt;</c>.</summary>
    public int BosTokenId { get; } = 2;

    /// <summary>The id that ends a text.</summary>
    public int EosTokenId { get; } = 2;

    /// <summary>Loads a SentencePiece <c>tokenizer.model</c>.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The tokenizer.</returns>
    /// <exception cref="CheckpointException">Missing, damaged, or not a BPE model like LLaMA's.</exception>
    public static VicunaTokenizer Load(string path) => new(SentencePieceModel.Load(path), path);

    /// <summary>The ids of a prompt, start id first.</summary>
    /// <param name="text">The prompt.</param>
    /// <returns>Its ids, at least the start id.</returns>
    public int[] EncodePrompt(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return [BosTokenId, .. EncodeText(text)];
    }

    /// <summary>The ids of a text, without a start id.</summary>
    /// <param name="text">The text.</param>
    /// <returns>Its ids.</returns>
    public int[] EncodeText(string text)
    {
        var tokens = new List<EncodedToken>();
        Tokenize(text, tokens);
        return [.. tokens.Select(t => t.Id)];
    }

    /// <summary>Ids to text.</summary>
    /// <param name="ids">The ids.</param>
    /// <param name="skipSpecialTokens">Leave out ids 2 and <c>[PAD]</c>.</param>
    /// <returns>The text.</returns>
    public string Decode(IEnumerable<int> ids, bool skipSpecialTokens)
    {
        ArgumentNullException.ThrowIfNull(ids);
        if (skipSpecialTokens)
        {
            var whole = new PieceDecoder(this);
            var text = new StringBuilder();
            foreach (int id in ids)
            {
                if (id != EosTokenId && id != PadTokenId)
                {
                    whole.Add(id, text);
                }
            }
            whole.Finish(text);
            return text.ToString();
        }
        // [PAD] is an added token: it stands between spaces, and what is between two of them is decoded by itself.
        var parts = new List<string>();
        var run = new List<int>();
        foreach (int id in ids)
        {
            if (id == PadTokenId)
            {
                if (run.Count > 0)
                {
                    parts.Add(DecodeWithEnd(run));
                    run.Clear();
                }
                parts.Add("[PAD]");
            }
            else
            {
                run.Add(id);
            }
        }
        if (run.Count > 0)
        {
            parts.Add(DecodeWithEnd(run));
        }
        return string.Join(' ', parts);
    }

    internal string PieceText(int id) => (uint)id < (uint)PieceCount ? _model.Pieces[id].Text
        : throw new ArgumentOutOfRangeException(nameof(id), id, $"pieces are 0 to {PieceCount - 1}");

    /// <summary>The byte a piece stands for, or -1.</summary>
    internal int ByteOf(int id) => _byteOfId[id];

    /// <summary>The id of a piece's text; 0 (unknown) where there is none.</summary>
    internal int IdOf(string piece) => _ids.GetValueOrDefault(piece, 0);

    internal bool IsControl(int id) => _model.Pieces[id].Type == SentencePieceModel.PieceType.Control;

    internal bool ConsumesSpace => _model.AddDummyPrefix;

    private protected override string DecodeAll(IEnumerable<int> ids) => Decode(ids, skipSpecialTokens: true);

    private protected override void Tokenize(ReadOnlySpan<char> text, List<EncodedToken> tokens)
    {
        var parts = _literals.Split(text);
        for (int i = 0; i < parts.Count; i++)
        {
            var part = parts[i];
            var range = new Range(part.Start, part.Start + part.Length);
            if (part.Id >= 0)
            {
                tokens.Add(new EncodedToken(part.Id, text[range].ToString(), range));
                continue;
            }
            // White space beside a literal goes; every segment gets a dummy prefix of its own (legacy behaviour).
            var segment = text[range];
            int start = part.Start;
            if (i > 0)
            {
                var trimmed = PythonText.TrimStart(segment);
                start += segment.Length - trimmed.Length;
                segment = trimmed;
            }
            if (i < parts.Count - 1)
            {
                segment = PythonText.TrimEnd(segment);
            }
            EncodeSegment(segment, start, tokens);
        }
    }

    /// <summary>Merges the best pair (highest score, then leftmost) until none is left.</summary>
    private void EncodeSegment(ReadOnlySpan<char> segment, int offset, List<EncodedToken> tokens)
    {
        if (segment.IsEmpty)
        {
            return;
        }
        int shift = _model.AddDummyPrefix ? 1 : 0;
        char[] text = new char[segment.Length + shift];
        text.AsSpan(0, shift).Fill(Space);
        segment.CopyTo(text.AsSpan(shift));
        text.AsSpan().Replace(' ', Space);

        // Symbols are slices of the text in a linked list; a merged one keeps its left half's place.
        int[] length = new int[text.Length];
        int[] previous = new int[text.Length];
        int[] next = new int[text.Length];
        var queue = new PriorityQueue<(int Left, int Right, int Length), (float NegativeScore, int Left)>();
        int last = -1;
        for (int i = 0; i < text.Length;)
        {
            int size = char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]) ? 2 : 1;
            length[i] = size;
            previous[i] = last;
            next[i] = -1;
            if (last >= 0)
            {
                next[last] = i;
            }
            last = i;
            i += size;
        }
        void Offer(int left, int right)
        {
            if (left < 0 || right < 0)
            {
                return;
            }
            int size = length[left] + length[right];
            if (size <= _longestPiece && _normal.TryGetValue(text.AsSpan(left, size), out int id))
            {
                queue.Enqueue((left, right, size), (-_model.Pieces[id].Score, left));
            }
        }
        for (int i = 0; i >= 0; i = next[i])
        {
            Offer(i, next[i]);
        }
        while (queue.TryDequeue(out var pair, out _))
        {
            var (left, right, size) = pair;
            if (length[left] == 0 || length[right] == 0 || next[left] != right || length[left] + length[right] != size)
            {
                continue; // one of the two was merged otherwise
            }
            length[left] = size;
            length[right] = 0;
            next[left] = next[right];
            if (next[right] >= 0)
            {
                previous[next[right]] = left;
            }
            Offer(previous[left], left);
            Offer(left, next[left]);
        }
        Span<byte> bytes = stackalloc byte[4];
        for (int i = 0; i >= 0; i = next[i])
        {
            var symbol = text.AsSpan(i, length[i]);
            var range = new Range(offset + Math.Max(0, i - shift), offset + Math.Max(0, i + length[i] - shift));
            if (_normal.TryGetValue(symbol, out int id))
            {
                tokens.Add(new EncodedToken(id, _model.Pieces[id].Text, range));
                continue;
            }
            Rune.DecodeFromUtf16(symbol, out var rune, out _); // a lone surrogate becomes U+FFFD
            int count = rune.EncodeToUtf8(bytes);
            if (_byteIds[bytes[0]] < 0)
            {
                tokens.Add(new EncodedToken(0, PieceText(0), range));
                continue;
            }
            for (int b = 0; b < count; b++)
            {
                tokens.Add(new EncodedToken(_byteIds[bytes[b]], PieceText(_byteIds[bytes[b]]), range));
            }
        }
    }

    /// <summary>Pieces with <c>&lt;/s&gt;</c> kept: what lies between is decoded by itself; a space goes before it unless
    /// it is first or follows another.</summary>
    private string DecodeWithEnd(List<int> ids)
    {
        var text = new StringBuilder();
        var run = new List<int>();
        bool previousSpecial = false;
        bool first = true;
        void Flush()
        {
            var decoder = new PieceDecoder(this, first);
            foreach (int id in run)
            {
                decoder.Add(id, text, isWhole: false);
            }
            decoder.Finish(text);
            run.Clear();
        }
        for (int i = 0; i < ids.Count; i++)
        {
            if (ids[i] == EosTokenId)
            {
                if (!previousSpecial && i != 0)
                {
                    text.Append(' ');
                }
                Flush();
                text.Append(PieceText(EosTokenId));
                previousSpecial = true;
                first = false;
            }
            else
            {
                run.Add(ids[i]);
                previousSpecial = false;
            }
        }
        Flush();
        return text.ToString();
    }
}
