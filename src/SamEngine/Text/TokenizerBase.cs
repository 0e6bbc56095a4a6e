using System.Buffers;
using Microsoft.ML.Tokenizers;

namespace SamEngine.Text;

/// <summary>What both tokenizers need to be a <see cref="Tokenizer"/>: they provide tokens and decoding.</summary>
public abstract class TokenizerBase : Tokenizer
{
    private protected TokenizerBase()
    {
    }

    private protected abstract void Tokenize(ReadOnlySpan<char> text, List<EncodedToken> tokens);

    private protected abstract string DecodeAll(IEnumerable<int> ids);

    /// <inheritdoc/>
    protected override EncodeResults<EncodedToken> EncodeToTokens(string? text, ReadOnlySpan<char> textSpan,
        EncodeSettings settings)
    {
        var span = text is null ? textSpan : text.AsSpan();
        var tokens = new List<EncodedToken>();
        Tokenize(span, tokens);
        int consumed = span.Length;
        if (tokens.Count > settings.MaxTokenCount)
        {
            consumed = tokens[settings.MaxTokenCount].Offset.Start.Value;
            tokens.RemoveRange(settings.MaxTokenCount, tokens.Count - settings.MaxTokenCount);
        }
        return new EncodeResults<EncodedToken> { Tokens = tokens, CharsConsumed = consumed };
    }

    /// <inheritdoc/>
    public override string Decode(IEnumerable<int> ids) => DecodeAll(ids);

    /// <inheritdoc/>
    public override OperationStatus Decode(IEnumerable<int> ids, Span<char> destination, out int idsConsumed,
        out int charsWritten)
    {
        int[] all = [.. ids];
        string text = DecodeAll(all);
        if (text.Length > destination.Length)
        {
            idsConsumed = charsWritten = 0;
            return OperationStatus.DestinationTooSmall;
        }
        text.CopyTo(destination);
        idsConsumed = all.Length;
        charsWritten = text.Length;
        return OperationStatus.Done;
    }
}
