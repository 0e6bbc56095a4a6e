using System.Buffers;

namespace SamEngine.Imaging;

/// <summary>From pictures to the vision encoder's input, with the reference's numbers: RGB without alpha, Pillow's antialiased
/// bicubic resize to a square (the aspect ratio is not kept), /255, normalisation (LAVIS <c>BlipImageEvalProcessor</c>).
/// Thread-safe.</summary>
internal sealed class ImagePreprocessor
{
    private readonly ImageLimits _limits;

    /// <summary>The float of every level of every channel: [3, 256].</summary>
    private readonly float[] _levels;

    /// <summary>Prepares the value of every level.</summary>
    /// <param name="size">Side of the output, pixels.</param>
    /// <param name="mean">What is subtracted from each of R, G, B in 0..1.</param>
    /// <param name="std">What the difference is divided by.</param>
    /// <param name="limits">What a picture may at most demand.</param>
    /// <exception cref="RequestException">The limits are out of range.</exception>
    public ImagePreprocessor(int size, ReadOnlySpan<float> mean, ReadOnlySpan<float> std, ImageLimits limits)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(size);
        ArgumentOutOfRangeException.ThrowIfNotEqual(mean.Length, 3);
        ArgumentOutOfRangeException.ThrowIfNotEqual(std.Length, 3);
        limits.Validate();
        Size = size;
        _limits = limits;
        _levels = new float[3 * 256];
        for (int i = 0; i < _levels.Length; i++)
        {
            // torchvision: ToTensor divides by 255, Normalize subtracts, then divides, each rounded to float32.
            _levels[i] = (((i & 255) / 255f) - mean[i >> 8]) / std[i >> 8];
        }
    }

    /// <summary>Mean of the reference (CLIP's).</summary>
    public static ReadOnlySpan<float> ReferenceMean => [0.48145466f, 0.4578275f, 0.40821073f];

    /// <summary>Standard deviation of the reference (CLIP's).</summary>
    public static ReadOnlySpan<float> ReferenceStd => [0.26862954f, 0.26130258f, 0.27577711f];

    /// <summary>Side of the output, pixels.</summary>
    public int Size { get; }

    /// <summary>Floats of one picture: 3 x Size x Size.</summary>
    public int ImageLength => checked(3 * Size * Size);

    /// <summary>Turn pictures as their EXIF orientation says. The reference does not.</summary>
    public bool ApplyOrientation { get; init; }

    /// <summary>Preprocesses the pictures of a group, several at a time.</summary>
    /// <param name="images">The pictures.</param>
    /// <param name="destination">Receives [images, 3, Size, Size].</param>
    /// <param name="cancel">Looked at between pictures and between reads.</param>
    /// <exception cref="ImageException">A picture can't be read; of several, the first of the group.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void Load(IReadOnlyList<SamImage> images, Memory<float> destination, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentOutOfRangeException.ThrowIfNotEqual(destination.Length, (long)images.Count * ImageLength);
        cancel.ThrowIfCancellationRequested();
        if (images.Count == 1)
        {
            Load(images[0], 0, destination.Span, cancel);
            return;
        }
        var failures = new Exception?[images.Count];
        var options = new ParallelOptions
        {
            MaxDegreeOfParallelism = Environment.ProcessorCount,
            CancellationToken = cancel,
        };
        Parallel.For(0, images.Count, options, (i, state) =>
        {
            try
            {
                Load(images[i], i, destination.Span.Slice(i * ImageLength, ImageLength), cancel);
            }
            catch (Exception e)
            {
                failures[i] = e;
                // Earlier pictures still run, so that the same group always reports the same error.
                state.Break();
            }
        });
        if (failures.FirstOrDefault(e => e is not null) is { } first)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(first);
        }
    }

    /// <summary>Decodes one picture without resizing it.</summary>
    /// <param name="image">The picture.</param>
    /// <param name="index">Its position in the request, for errors.</param>
    /// <param name="width">Pixels in a row.</param>
    /// <param name="height">Number of rows.</param>
    /// <param name="cancel">Looked at between reads.</param>
    /// <returns>R, G, B, rows from top to bottom.</returns>
    /// <exception cref="ImageException">The picture can't be read.</exception>
    public byte[] Decode(SamImage image, int index, out int width, out int height, CancellationToken cancel = default)
    {
        try
        {
            using var pixels = Open(image, index, cancel).ReadAll();
            (width, height) = (pixels.Width, pixels.Height);
            var rgba = pixels.Bytes;
            byte[] rgb = new byte[rgba.Length / 4 * 3];
            for (int i = 0, j = 0; j < rgb.Length; i += 4, j += 3)
            {
                rgb[j] = rgba[i];
                rgb[j + 1] = rgba[i + 1];
                rgb[j + 2] = rgba[i + 2];
            }
            return rgb;
        }
        catch (Exception e) when (e is ImageFormatException or OutOfMemoryException)
        {
            throw Failure(image, index, e);
        }
    }

    private void Load(SamImage image, int index, Span<float> destination, CancellationToken cancel)
    {
        int pixels = Size * Size;
        byte[] rented = ArrayPool<byte>.Shared.Rent(checked(pixels * 4));
        try
        {
            var resized = rented.AsSpan(0, pixels * 4);
            using (var source = Open(image, index, cancel))
            {
                new PillowResize(source.Width, source.Height, Size, Size).Resize(source, resized, cancel);
            }
            var red = destination[..pixels];
            var green = destination.Slice(pixels, pixels);
            var blue = destination.Slice(2 * pixels, pixels);
            ReadOnlySpan<float> levels = _levels;
            for (int i = 0; i < pixels; i++)
            {
                red[i] = levels[resized[4 * i]];
                green[i] = levels[256 + resized[(4 * i) + 1]];
                blue[i] = levels[512 + resized[(4 * i) + 2]];
            }
        }
        catch (Exception e) when (e is ImageFormatException or OutOfMemoryException)
        {
            throw Failure(image, index, e);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    private PixelSource Open(SamImage image, int index, CancellationToken cancel)
    {
        if (image is null)
        {
            throw new ImageException(index, "null", "is null, expected a picture");
        }
        if (image.Pixels is { } raw)
        {
            ImageDecoder.CheckSize(raw.Width, raw.Height, _limits);
            return FromPixels(raw);
        }
        return ImageDecoder.Open(image.ReadEncoded(index, _limits, cancel), _limits, ApplyOrientation);
    }

    private static PixelBuffer FromPixels(SamImage.RawPixels raw)
    {
        var pixels = new PixelBuffer(raw.Width, raw.Height);
        var to = pixels.Bytes;
        for (int y = 0; y < raw.Height; y++)
        {
            var row = raw.Memory.Span[(int)((long)y * raw.Stride)..];
            switch (raw.Format)
            {
                case PixelFormat.Rgba:
                    row[..pixels.RowBytes].CopyTo(to);
                    break;
                case PixelFormat.Bgra:
                    for (int i = 0; i < pixels.RowBytes; i += 4)
                    {
                        (to[i], to[i + 1], to[i + 2], to[i + 3]) = (row[i + 2], row[i + 1], row[i], row[i + 3]);
                    }
                    break;
                default:
                    for (int x = 0; x < raw.Width; x++)
                    {
                        (to[4 * x], to[(4 * x) + 1], to[(4 * x) + 2], to[(4 * x) + 3]) =
                            (row[3 * x], row[(3 * x) + 1], row[(3 * x) + 2], 255);
                    }
                    break;
            }
            to = to[pixels.RowBytes..];
        }
        return pixels;
    }

    private static ImageException Failure(SamImage image, int index, Exception e) => new(
        index,
        image.Name,
        e is ImageFormatException format
            ? $"{e.Message}; {format.Advice}"
            : "does not fit into memory; scale the picture down or send fewer at a time",
        e);
}
