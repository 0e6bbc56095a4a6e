namespace SamEngine.Imaging;

/// <summary>The pixels of one picture, handed out from top to bottom: R, G, B and an ignored byte, rows without gaps. A source
/// may keep only a few rows in memory at a time.</summary>
internal abstract class PixelSource : IDisposable
{
    /// <summary>Pixels in a row.</summary>
    public required int Width { get; init; }

    /// <summary>Number of rows.</summary>
    public required int Height { get; init; }

    /// <summary>Bytes of a row.</summary>
    public int RowBytes => checked(Width * 4);

    /// <summary>The next whole rows, at least one; valid until the next call.</summary>
    /// <exception cref="ImageFormatException">The data is damaged or ends early.</exception>
    public abstract ReadOnlySpan<byte> NextRows();

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>All rows. Only before <see cref="NextRows"/> has been called.</summary>
    public virtual PixelBuffer ReadAll()
    {
        var whole = new PixelBuffer(Width, Height);
        try
        {
            for (int filled = 0; filled < whole.Bytes.Length;)
            {
                var rows = NextRows();
                rows.CopyTo(whole.Bytes[filled..]);
                filled += rows.Length;
            }
            return whole;
        }
        catch
        {
            whole.Dispose();
            throw;
        }
    }
}

/// <summary>A damaged, unsupported or too large picture; the reader of a request's picture adds index, name and
/// advice.</summary>
internal sealed class ImageFormatException(string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>What to do about it; most files that can't be read are damaged.</summary>
    public string Advice { get; init; } = "expected a whole file: copy it again, or save it anew as PNG or JPEG";

    /// <summary>The data is fine as far as it goes, but ends before the picture does.</summary>
    public bool IsIncomplete { get; init; }
}
