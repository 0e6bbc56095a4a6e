using System.Buffers;
using System.Text;

namespace SamEngine.Text;

/// <summary>
/// Decodes pieces one at a time as SentencePiece decodes the whole list: the tokenizer drops a space mark at the very start,
/// SentencePiece drops one more while its text is empty, runs of byte pieces are UTF-8 with one U+FFFD for each byte that
/// belongs to no character. A run's incomplete end waits for the next piece.
/// </summary>
internal sealed class PieceDecoder
{
    private readonly VicunaTokenizer _tokenizer;
    private readonly List<byte> _pending = [];
    private bool _first;
    private bool _atStart = true;
    private bool _consumed;
    private bool _hasText;

    /// <param name="tokenizer">The pieces.</param>
    /// <param name="stripsFirst">Whether the first piece loses a leading space mark.</param>
    public PieceDecoder(VicunaTokenizer tokenizer, bool stripsFirst = true)
    {
        _tokenizer = tokenizer;
        _first = stripsFirst;
    }

    /// <summary>Appends what this piece settles. Between calls at most an incomplete character is held back, unless
    /// <paramref name="isWhole"/> is false, when bytes wait for the end of their run.</summary>
    public void Add(int id, StringBuilder text, bool isWhole = true)
    {
        string piece = _tokenizer.PieceText(id);
        if (_first)
        {
            _first = false;
            if (piece[0] == VicunaTokenizer.Space)
            {
                piece = piece[1..];
                id = _tokenizer.IdOf(piece);
            }
        }
        if (_tokenizer.ByteOf(id) is var value and >= 0)
        {
            _pending.Add((byte)value);
            if (isWhole)
            {
                Flush(text, atEnd: false);
            }
            return;
        }
        Flush(text, atEnd: true);
        if (_consumed || _hasText)
        {
            _atStart = false;
        }
        _consumed = false;
        if (_tokenizer.IsControl(id))
        {
            return;
        }
        if (id == 0)
        {
            // A piece that is not in the vocabulary stays as it is; the unknown piece itself has a sign of its own.
            Append(text, piece == _tokenizer.PieceText(0) ? " \u2047 " : piece);
            return;
        }
        if (_atStart && _tokenizer.ConsumesSpace && piece[0] == VicunaTokenizer.Space)
        {
            piece = piece[1..];
            _consumed = true;
        }
        Append(text, piece.Replace(VicunaTokenizer.Space, ' '));
    }

    /// <summary>Appends what still waits.</summary>
    public void Finish(StringBuilder text) => Flush(text, atEnd: true);

    private void Append(StringBuilder text, string piece)
    {
        text.Append(piece);
        _hasText |= piece.Length > 0;
    }

    private void Flush(StringBuilder text, bool atEnd)
    {
        var bytes = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_pending);
        int done = 0;
        while (done < bytes.Length)
        {
            var status = Rune.DecodeFromUtf8(bytes[done..], out var rune, out int length);
            if (status == OperationStatus.NeedMoreData && !atEnd)
            {
                break;
            }
            if (status == OperationStatus.Done)
            {
                Append(text, rune.ToString());
                done += length;
            }
            else
            {
                Append(text, "\uFFFD");
                done++;
            }
        }
        _pending.RemoveRange(0, done);
    }
}
