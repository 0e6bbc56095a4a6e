using System.Diagnostics.CodeAnalysis;
using SamEngine.Imaging;

namespace SamEngine;

/// <summary>Order of the bytes of a pixel given to <see cref="SamImage.FromPixels"/>.</summary>
public enum PixelFormat
{
    /// <summary>Three bytes: red, green, blue.</summary>
    Rgb,

    /// <summary>Four bytes: red, green, blue and one that is ignored (alpha; not composited).</summary>
    Rgba,

    /// <summary>Four bytes: blue, green, red and one that is ignored (alpha; not composited).</summary>
    Bgra,
}

/// <summary>One picture of a request. Creating it reads nothing: files and streams are read when a request runs, and what is
/// wrong with them is reported there, as an <see cref="ImageException"/> with the picture's position.
/// PNG, JPEG, WebP, GIF (first frame), BMP and TIFF are told apart by their content. As in the reference, transparency is
/// dropped without compositing and the EXIF orientation is not applied unless asked for.</summary>
public sealed class SamImage
{
    private readonly Func<int, ImageLimits, CancellationToken, ReadOnlyMemory<byte>>? _read;

    private SamImage(string name, Func<int, ImageLimits, CancellationToken, ReadOnlyMemory<byte>> read)
    {
        Name = name;
        _read = read;
    }

    private SamImage(string name, RawPixels pixels)
    {
        Name = name;
        Pixels = pixels;
    }

    /// <summary>What errors call the picture: the path, the name given, or "stream", "12345 bytes", "640x480 pixels".</summary>
    public string Name { get; }

    /// <summary>The pixels of an already decoded picture, null for an encoded one.</summary>
    internal RawPixels? Pixels { get; }

    /// <summary>A picture in a file.</summary>
    /// <param name="path">Its path; errors call the picture so.</param>
    /// <returns>The picture, not read yet.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    public static SamImage FromFile(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return new SamImage(path, (index, limits, cancel) => ImageReader.ReadFile(path, index, limits, cancel));
    }

    /// <summary>A picture at the stream's position. Read once, on first use, to its end or to
    /// <see cref="ImageLimits.MaxFileBytes"/>, and kept from then on; the caller disposes the stream, after that use.</summary>
    /// <param name="stream">A readable stream; it need not seek.</param>
    /// <param name="name">What errors call the picture; "stream" when null.</param>
    /// <returns>The picture, not read yet.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="stream"/> is null.</exception>
    public static SamImage FromStream(Stream stream, string? name = null)
    {
        ArgumentNullException.ThrowIfNull(stream);
        name ??= "stream";
        var content = new StreamContent(stream, name);
        return new SamImage(name, content.Read);
    }

    /// <summary>An encoded picture in memory, which must not change until the request has ended.</summary>
    /// <param name="encoded">The bytes of a picture file.</param>
    /// <param name="name">What errors call the picture; its length when null.</param>
    /// <returns>The picture, not decoded yet.</returns>
    public static SamImage FromBytes(ReadOnlyMemory<byte> encoded, string? name = null)
    {
        name ??= FormattableString.Invariant($"{encoded.Length} bytes");
        return new SamImage(name, (index, limits, _) => encoded.Length <= limits.MaxFileBytes
            ? encoded
            : throw ImageReader.TooManyBytes(index, name, encoded.Length, limits));
    }

    /// <summary>Decoded pixels, 8 bits a channel, rows from top to bottom. The memory must not change until the request has
    /// ended.</summary>
    /// <param name="pixels">At least (height - 1) * stride + width * bytes per pixel bytes.</param>
    /// <param name="width">Pixels in a row.</param>
    /// <param name="height">Number of rows.</param>
    /// <param name="format">Order of a pixel's bytes.</param>
    /// <param name="stride">Bytes from one row to the next; 0 when rows follow each other directly.</param>
    /// <param name="name">What errors call the picture; its size when null.</param>
    /// <returns>The picture.</returns>
    /// <exception cref="RequestException">The size, the stride and the length of the memory do not fit each other.</exception>
    public static SamImage FromPixels(
        ReadOnlyMemory<byte> pixels,
        int width,
        int height,
        PixelFormat format = PixelFormat.Rgb,
        int stride = 0,
        string? name = null)
    {
        if (!Enum.IsDefined(format))
        {
            throw new RequestException(nameof(format), $"{format} is not a pixel format");
        }
        if (width < 1 || height < 1)
        {
            throw new RequestException(nameof(width), $"a picture of {width} x {height} pixels is empty");
        }
        long rowBytes = (long)width * (format == PixelFormat.Rgb ? 3 : 4);
        if (stride == 0 && rowBytes <= int.MaxValue)
        {
            stride = (int)rowBytes;
        }
        if (stride < rowBytes)
        {
            throw new RequestException(nameof(stride), $"{stride} bytes is less than a row, {rowBytes} bytes");
        }
        long needed = ((long)stride * (height - 1)) + rowBytes;
        if (pixels.Length < needed)
        {
            throw new RequestException(nameof(pixels),
                $"{pixels.Length} bytes, but {width} x {height} pixels {format} with stride {stride} take {needed}");
        }
        return new SamImage(
            name ?? FormattableString.Invariant($"{width}x{height} pixels"),
            new RawPixels(pixels, width, height, format, stride));
    }

    /// <summary>A picture in a file, as <see cref="FromFile"/> makes it.</summary>
    /// <param name="path">Its path.</param>
    /// <returns>The picture, not read yet; null for null, which a request reports with its position.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is empty.</exception>
    [return: NotNullIfNotNull(nameof(path))]
    public static implicit operator SamImage?(string? path) => path is null ? null : FromFile(path);

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>The encoded bytes, read now where they are not in memory yet.</summary>
    /// <exception cref="ImageException">They can't be read or are over the limit.</exception>
    internal ReadOnlyMemory<byte> ReadEncoded(int index, ImageLimits limits, CancellationToken cancel) =>
        _read is null ? throw new InvalidOperationException("decoded pixels") : _read(index, limits, cancel);

    /// <summary>Pixels as the caller laid them out; sizes have been checked against the memory.</summary>
    internal sealed record RawPixels(ReadOnlyMemory<byte> Memory, int Width, int Height, PixelFormat Format, int Stride);

    /// <summary>A stream that is read by whichever request comes first.</summary>
    private sealed class StreamContent(Stream stream, string name)
    {
        private readonly Lock _lock = new();
        private ReadOnlyMemory<byte>? _bytes;
        private Exception? _failure;

        public ReadOnlyMemory<byte> Read(int index, ImageLimits limits, CancellationToken cancel)
        {
            lock (_lock)
            {
                if (_failure is not null)
                {
                    throw new ImageException(
                        index, name, "an earlier request read part of the stream and failed: " + _failure.Message, _failure);
                }
                if (_bytes is null)
                {
                    try
                    {
                        _bytes = ImageReader.ReadStream(stream, name, index, limits, cancel);
                    }
                    catch (Exception e)
                    {
                        _failure = e;
                        throw;
                    }
                }
                return _bytes.Value.Length <= limits.MaxFileBytes
                    ? _bytes.Value
                    : throw ImageReader.TooManyBytes(index, name, _bytes.Value.Length, limits);
            }
        }
    }
}
