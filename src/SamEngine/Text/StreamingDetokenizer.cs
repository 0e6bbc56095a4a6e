using System.Text;

namespace SamEngine.Text;

/// <summary>
/// Turns generated ids into pieces of text that never have to be taken back. Together they are the reference's output: id 0
/// counts as 2, special ids are skipped, white space at both ends is stripped. White space at the end waits until something
/// follows it, an incomplete character until it is complete.
/// </summary>
internal sealed class StreamingDetokenizer(VicunaTokenizer tokenizer)
{
    private readonly PieceDecoder _decoder = new(tokenizer);
    private readonly StringBuilder _text = new();
    private bool _started;

    /// <summary>Adds an id and returns the text it settles, often empty.</summary>
    public string Append(int id)
    {
        if (id != 0 && id != tokenizer.EosTokenId && id != tokenizer.PadTokenId)
        {
            _decoder.Add(id, _text);
        }
        return Emit();
    }

    /// <summary>The rest: call once, after the last id.</summary>
    public string Finish()
    {
        _decoder.Finish(_text);
        return Emit();
    }

    private string Emit()
    {
        int start = 0;
        if (!_started)
        {
            while (start < _text.Length && PythonText.IsWhiteSpace(_text[start]))
            {
                start++;
            }
            _started = start < _text.Length;
        }
        int end = _text.Length;
        while (end > start && PythonText.IsWhiteSpace(_text[end - 1]))
        {
            end--;
        }
        if (end <= start)
        {
            if (!_started)
            {
                _text.Clear();
            }
            return "";
        }
        string piece = _text.ToString(start, end - start);
        _text.Remove(0, end);
        return piece;
    }
}
