using System.Buffers;
using System.Diagnostics.CodeAnalysis;

namespace SamEngine.Imaging;

/// <summary>A whole picture in pooled memory: R, G, B and an ignored byte for each pixel, rows without gaps.</summary>
internal sealed class PixelBuffer : PixelSource
{
    private byte[]? _bytes;
    private bool _handedOut;

    [SetsRequiredMembers]
    public PixelBuffer(int width, int height)
    {
        Width = width;
        Height = height;
        Length = checked(width * height * 4);
        _bytes = ArrayPool<byte>.Shared.Rent(Length);
    }

    /// <summary>The pixels; not cleared when the buffer is made.</summary>
    public Span<byte> Bytes => Rented.AsSpan(0, Length);

    private int Length { get; }

    private byte[] Rented => _bytes ?? throw new ObjectDisposedException(nameof(PixelBuffer));

    /// <inheritdoc/>
    public override ReadOnlySpan<byte> NextRows()
    {
        if (_handedOut)
        {
            throw new InvalidOperationException("no rows are left");
        }
        _handedOut = true;
        return Bytes;
    }

    /// <inheritdoc/>
    public override PixelBuffer ReadAll() => this;

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (Interlocked.Exchange(ref _bytes, null) is { } bytes)
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }
}
