using System.Text;

namespace SamEngine.Text;

/// <summary>
/// Turns generated ids into pieces of text that never have to be taken back. Together they are the reference's output: id 0
/// counts as 2, special ids are skipped, white space at both ends is stripped. White space at the end waits until something
/// follows it, an incomplete character until it is complete, the beginning of a stop string until it is not one; from a stop
/// string on nothing comes any more.
/// </summary>
internal sealed class StreamingDetokenizer(VicunaTokenizer tokenizer, IReadOnlyList<string>? stopStrings = null)
{
    private readonly PieceDecoder _decoder = new(tokenizer);
    private readonly IReadOnlyList<string> _stops = stopStrings ?? [];
    private readonly StringBuilder _raw = new();
    private readonly StringBuilder _text = new();
    private bool _started;

    /// <summary>A stop string was met; what follows is ignored.</summary>
    public bool Stopped { get; private set; }

    /// <summary>The whole output for ids that are complete.</summary>
    public static string Decode(VicunaTokenizer tokenizer, ReadOnlySpan<int> ids, IReadOnlyList<string>? stopStrings = null)
    {
        var stream = new StreamingDetokenizer(tokenizer, stopStrings);
        var text = new StringBuilder();
        foreach (int id in ids)
        {
            text.Append(stream.Append(id));
        }
        return text.Append(stream.Finish()).ToString();
    }

    /// <summary>Whether the text of these ids, white space included, holds a stop string.</summary>
    public static bool HoldsStop(VicunaTokenizer tokenizer, ReadOnlySpan<int> ids, IReadOnlyList<string> stopStrings)
    {
        var stream = new StreamingDetokenizer(tokenizer, stopStrings);
        foreach (int id in ids)
        {
            stream.Append(id);
            if (stream.Stopped)
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Adds an id and returns the text it settles, often empty.</summary>
    public string Append(int id)
    {
        if (Stopped)
        {
            return "";
        }
        if (id != 0 && id != tokenizer.EosTokenId && id != tokenizer.PadTokenId)
        {
            _decoder.Add(id, _raw);
        }
        return Pass(atEnd: false);
    }

    /// <summary>The rest: call once, after the last id.</summary>
    public string Finish()
    {
        if (Stopped)
        {
            return "";
        }
        _decoder.Finish(_raw);
        return Pass(atEnd: true);
    }

    /// <summary>Lets through what can't be part of a stop string, stripped.</summary>
    private string Pass(bool atEnd)
    {
        int safe = _raw.Length;
        if (_stops.Count > 0)
        {
            string raw = _raw.ToString();
            int cut = -1;
            foreach (string stop in _stops)
            {
                int at = raw.IndexOf(stop, StringComparison.Ordinal);
                cut = at >= 0 && (cut < 0 || at < cut) ? at : cut;
            }
            if (cut >= 0)
            {
                Stopped = true;
                safe = cut;
            }
            else if (!atEnd)
            {
                safe -= _stops.Max(stop => PartialMatch(raw, stop));
                if (safe > 0 && char.IsHighSurrogate(raw[safe - 1]))
                {
                    safe--;
                }
            }
        }
        _text.Append(_raw, 0, safe);
        _raw.Remove(0, safe);
        return Emit();
    }

    /// <summary>Length of the longest end of the text that a stop string begins with.</summary>
    private static int PartialMatch(string text, string stop)
    {
        for (int length = Math.Min(text.Length, stop.Length - 1); length > 0; length--)
        {
            if (text.AsSpan(text.Length - length).SequenceEqual(stop.AsSpan(0, length)))
            {
                return length;
            }
        }
        return 0;
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
