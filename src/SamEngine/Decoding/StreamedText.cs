using SamEngine.Text;

namespace SamEngine.Decoding;

/// <summary>The text of a running search, piece by piece, none of which is ever taken back.</summary>
internal sealed class StreamedText(VicunaTokenizer tokenizer, IReadOnlyList<string> stopStrings)
{
    private readonly StreamingDetokenizer _stream = new(tokenizer, stopStrings);
    private int _taken;

    /// <summary>A search for <paramref name="settings"/> that ends where the text holds a stop string.</summary>
    public static TokenSearch Search(GenerationSettings settings, VicunaTokenizer tokenizer)
    {
        var stops = settings.StopStrings;
        return TokenSearch.Create(settings,
            stops.Count > 0 ? ids => StreamingDetokenizer.HoldsStop(tokenizer, ids, stops) : null);
    }

    /// <summary>What became final since the last call, token by token; mostly nothing or one piece.</summary>
    public void Take(TokenSearch search, Action<string> onPiece)
    {
        for (; _taken < search.StableTokens.Length; _taken++)
        {
            if (_stream.Append(search.StableTokens[_taken]) is { Length: > 0 } piece)
            {
                onPiece(piece);
            }
        }
    }

    /// <summary>The rest, once the search is done.</summary>
    public string Finish() => _stream.Finish();
}
