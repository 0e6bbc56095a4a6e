using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using SkiaSharp;

namespace SamEngine.Imaging;

/// <summary>An open codec of SkiaSharp, asked for the pixels as stored: no colour management, no premultiplication, no
/// orientation. Its libjpeg-turbo, libpng and libwebp give Pillow's values.</summary>
internal sealed unsafe class SkiaDecoder : IDisposable
{
    private readonly MemoryHandle _pin;
    private readonly SKData _data;
    private readonly SKCodec _codec;

    private SkiaDecoder(MemoryHandle pin, SKData data, SKCodec codec)
    {
        _pin = pin;
        _data = data;
        _codec = codec;
    }

    /// <summary>Pixels in a row, as the header says.</summary>
    public int Width => _codec.Info.Width;

    /// <summary>Number of rows, as the header says.</summary>
    public int Height => _codec.Info.Height;

    /// <summary>The EXIF orientation, 1 to 8.</summary>
    public int Orientation => (int)_codec.EncodedOrigin;

    private SKImageInfo Layout => new(Width, Height, SKColorType.Rgba8888, SKAlphaType.Unpremul, null);

    /// <summary>Reads the header of <paramref name="encoded"/>, which stays pinned until disposal.</summary>
    /// <exception cref="ImageFormatException">There is no valid header of this format.</exception>
    public static SkiaDecoder Open(ReadOnlyMemory<byte> encoded, SKEncodedImageFormat format)
    {
        var pin = encoded.Pin();
        SKData? data = null;
        SKCodec? codec = null;
        try
        {
            data = SKData.Create((nint)pin.Pointer, encoded.Length);
            codec = SKCodec.Create(data);
            return codec is not null && codec.EncodedFormat == format && codec.Info is { Width: > 0, Height: > 0 }
                ? new SkiaDecoder(pin, data, codec)
                : throw new ImageFormatException(
                    $"has the signature of a {ImageFormats.Name(format)} file but no valid header (truncated or damaged?)");
        }
        catch
        {
            codec?.Dispose();
            data?.Dispose();
            pin.Dispose();
            throw;
        }
    }

    /// <summary>Decodes everything at once.</summary>
    /// <param name="acceptIncomplete">Take a picture whose data ends early; the missing rows are black.</param>
    /// <exception cref="ImageFormatException">The data is damaged or ends early.</exception>
    public PixelBuffer ReadAll(bool acceptIncomplete = false)
    {
        var whole = new PixelBuffer(Width, Height);
        try
        {
            SKCodecResult result;
            fixed (byte* target = whole.Bytes)
            {
                result = _codec.GetPixels(Layout, (nint)target, whole.RowBytes, SKCodecOptions.Default);
            }
            return result == SKCodecResult.Success || (result == SKCodecResult.IncompleteInput && acceptIncomplete)
                ? whole
                : throw Failure(result);
        }
        catch
        {
            whole.Dispose();
            throw;
        }
    }

    /// <summary>Decodes a few rows at a time, of formats that allow it (JPEG). The rows take over this decoder.</summary>
    /// <param name="skip">Rows that are decoded but not handed out, at the top.</param>
    public PixelSource ReadRows(int skip = 0) => new Rows(this, skip);

    /// <inheritdoc/>
    public void Dispose()
    {
        _codec.Dispose();
        _data.Dispose();
        _pin.Dispose();
    }

    private ImageFormatException Failure(SKCodecResult result)
    {
        string format = ImageFormats.Name(_codec.EncodedFormat);
        return result == SKCodecResult.IncompleteInput
            ? new($"the {format} data ends before the picture is complete (truncated file?)") { IsIncomplete = true }
            : new($"the {format} data is damaged ({result})");
    }

    private sealed class Rows : PixelSource
    {
        /// <summary>About what stays in a second-level cache until the rows are resized.</summary>
        private const int StripBytes = 1 << 18;

        private readonly SkiaDecoder _decoder;
        private readonly int _stripRows;
        private readonly int _skip;
        private PixelBuffer? _strip;
        private int _row;

        [SetsRequiredMembers]
        public Rows(SkiaDecoder decoder, int skip)
        {
            _decoder = decoder;
            _skip = skip;
            Width = decoder.Width;
            Height = decoder.Height;
            // Whole JPEG blocks.
            _stripRows = Math.Min(Height, Math.Max(16, StripBytes / RowBytes / 16 * 16));
        }

        /// <inheritdoc/>
        public override ReadOnlySpan<byte> NextRows()
        {
            if (_strip is null)
            {
                var started = _decoder._codec.StartScanlineDecode(_decoder.Layout);
                if (started != SKCodecResult.Success)
                {
                    throw _decoder.Failure(started);
                }
                _strip = new PixelBuffer(Width, _stripRows);
                while (_row < _skip)
                {
                    Take(Math.Min(_stripRows, _skip - _row));
                }
            }
            int count = Math.Min(_stripRows, Height - _row);
            if (count == 0)
            {
                throw new InvalidOperationException("no rows are left");
            }
            Take(count);
            return _strip.Bytes[..(count * RowBytes)];
        }

        /// <inheritdoc/>
        public override void Dispose()
        {
            _strip?.Dispose();
            _decoder.Dispose();
        }

        private void Take(int count)
        {
            int got;
            fixed (byte* target = _strip!.Bytes)
            {
                got = _decoder._codec.GetScanlines((nint)target, count, RowBytes);
            }
            if (got != count)
            {
                throw _decoder.Failure(SKCodecResult.IncompleteInput);
            }
            _row += count;
        }
    }
}
