using System.Buffers.Binary;
using System.Runtime.InteropServices;
using SkiaSharp;

namespace SamEngine.Imaging;

/// <summary>Turns an encoded picture into the pixels that <c>PIL.Image.open(f).convert("RGB")</c> gives (Pillow 9.4).</summary>
internal static class ImageDecoder
{
    /// <summary>A progressive JPEG may ask for any number of passes over all its blocks; real ones have about ten.</summary>
    private const int MaxJpegScans = 500;

    /// <summary>Opens the picture; most of the decoding happens as rows are taken.</summary>
    /// <param name="file">The bytes of the file, unchanged until the source is disposed.</param>
    /// <param name="limits">Checked against the header before pixels are decoded.</param>
    /// <param name="applyOrientation">Turn the picture as its EXIF orientation says.</param>
    /// <exception cref="ImageFormatException">Not a picture, damaged, over a limit.</exception>
    public static PixelSource Open(ReadOnlyMemory<byte> file, ImageLimits limits, bool applyOrientation)
    {
        switch (ImageFormats.Detect(file.Span))
        {
            case ImageFormats.Kind.Png:
                return OpenPng(file.Span, limits, applyOrientation);
            case ImageFormats.Kind.Gif:
                return OpenGif(file.Span, limits);
            case ImageFormats.Kind.Tiff:
                return TiffDecoder.Decode(file, limits);
            case ImageFormats.Kind.Jpeg:
                return OpenJpeg(file, limits, applyOrientation);
            case ImageFormats.Kind.Webp:
                // The codec may do without the last bytes; Pillow does not.
                if (BinaryPrimitives.ReadUInt32LittleEndian(file.Span[4..]) > file.Length - 8)
                {
                    throw new ImageFormatException("the WEBP data ends before the picture is complete (truncated file?)");
                }
                return OpenOther(file, SKEncodedImageFormat.Webp, limits, applyOrientation);
            default:
                return OpenBmp(file, limits);
        }
    }

    /// <summary>Compares a picture's declared size with the limits.</summary>
    /// <exception cref="ImageFormatException">It is over one.</exception>
    public static void CheckSize(long width, long height, ImageLimits limits)
    {
        if (width > limits.MaxSide || height > limits.MaxSide)
        {
            throw new ImageFormatException($"is {width} x {height} pixels, over the limit of {limits.MaxSide} along a side")
            {
                Advice = "scale the picture down or raise ImageLimits.MaxSide",
            };
        }
        if (width * height > limits.MaxPixels)
        {
            throw new ImageFormatException($"is {width} x {height} = {width * height} pixels, over the limit of " +
                $"{limits.MaxPixels}")
            {
                Advice = "scale the picture down or raise ImageLimits.MaxPixels",
            };
        }
    }

    private static PixelBuffer OpenPng(ReadOnlySpan<byte> file, ImageLimits limits, bool applyOrientation)
    {
        var png = PngFile.Parse(file);
        CheckSize(png.Width, png.Height, limits);
        using var decoder = SkiaDecoder.Open(png.Bytes, SKEncodedImageFormat.Png);
        PixelBuffer pixels;
        try
        {
            pixels = decoder.ReadAll();
        }
        catch (ImageFormatException e) when (e.IsIncomplete && png.DataIsComplete())
        {
            using var again = SkiaDecoder.Open(png.Bytes, SKEncodedImageFormat.Png);
            pixels = again.ReadAll(acceptIncomplete: true);
        }
        if (png.IsGray16)
        {
            // Pillow reads 16-bit grey as integers, and converting those to RGB clips them.
            var bytes = pixels.Bytes;
            for (int i = 0; i < bytes.Length; i += 4)
            {
                byte clipped = bytes[i] != 0 ? (byte)255 : bytes[i + 3];
                bytes[i] = bytes[i + 1] = bytes[i + 2] = clipped;
            }
        }
        return applyOrientation ? Orientation.Apply(pixels, png.Orientation) : pixels;
    }

    private static PixelBuffer OpenGif(ReadOnlySpan<byte> file, ImageLimits limits)
    {
        var gif = GifFile.Parse(file);
        CheckSize(gif.Width, gif.Height, limits);
        using var decoder = SkiaDecoder.Open(gif.Bytes, SKEncodedImageFormat.Gif);
        PixelBuffer frame;
        try
        {
            frame = decoder.ReadAll();
        }
        catch (ImageFormatException e) when (gif.IsCut)
        {
            throw new ImageFormatException("the GIF data ends before the picture is complete (truncated file?)", e);
        }
        if (gif.Frame == (0, 0, gif.Width, gif.Height))
        {
            return frame;
        }
        using (frame)
        {
            var canvas = new PixelBuffer(gif.Width, gif.Height);
            var (r, g, b) = gif.Background;
            MemoryMarshal.Cast<byte, (byte, byte, byte, byte)>(canvas.Bytes).Fill((r, g, b, 255));
            for (int y = 0; y < frame.Height; y++)
            {
                frame.Bytes.Slice(y * frame.RowBytes, frame.RowBytes)
                    .CopyTo(canvas.Bytes[(((gif.Frame.Y + y) * canvas.RowBytes) + (gif.Frame.X * 4))..]);
            }
            return canvas;
        }
    }

    private static PixelBuffer OpenBmp(ReadOnlyMemory<byte> file, ImageLimits limits)
    {
        using var decoder = SkiaDecoder.Open(file, SKEncodedImageFormat.Bmp);
        CheckSize(decoder.Width, decoder.Height, limits);
        var pixels = decoder.ReadAll();
        // With 16 bits a pixel Pillow cuts v * 255 / 31 to an integer; Skia rounds. The header has been found valid.
        var header = file.Span[14..];
        if (BinaryPrimitives.ReadUInt32LittleEndian(header) >= 40 && header.Length >= 52 && header[14] == 16)
        {
            const int bitFields = 3, sixGreenBits = 0x7e0;
            bool has565 = header[16] == bitFields && BinaryPrimitives.ReadInt32LittleEndian(header[44..]) == sixGreenBits;
            var bytes = pixels.Bytes;
            for (int i = 0; i < bytes.Length; i++)
            {
                bytes[i] = (byte)(has565 && (i & 3) == 1 ? (bytes[i] >> 2) * 255 / 63 : (bytes[i] >> 3) * 255 / 31);
            }
        }
        return pixels;
    }

    private static PixelSource OpenJpeg(ReadOnlyMemory<byte> file, ImageLimits limits, bool applyOrientation)
    {
        // The codec knows no side longer than 65500 and would call a longer one no valid header.
        var (width, height, scans) = JpegMarkers.Read(file.Span);
        CheckSize(width, height, limits);
        if (scans > MaxJpegScans)
        {
            throw new ImageFormatException($"the JPEG has {scans} scans, expected at most {MaxJpegScans}");
        }
        return OpenOther(file, SKEncodedImageFormat.Jpeg, limits, applyOrientation);
    }

    private static PixelSource OpenOther(
        ReadOnlyMemory<byte> file, SKEncodedImageFormat format, ImageLimits limits, bool applyOrientation)
    {
        var decoder = SkiaDecoder.Open(file, format);
        bool keep = false;
        try
        {
            CheckSize(decoder.Width, decoder.Height, limits);
            int orientation = applyOrientation ? decoder.Orientation : Orientation.Upright;
            if (format == SKEncodedImageFormat.Jpeg)
            {
                var rows = BaselineJpegRows.Open(file, decoder);
                keep = true;
                if (orientation == Orientation.Upright)
                {
                    return rows;
                }
                using (rows)
                {
                    return Orientation.Apply(rows.ReadAll(), orientation);
                }
            }
            return Orientation.Apply(decoder.ReadAll(), orientation);
        }
        finally
        {
            if (!keep)
            {
                decoder.Dispose();
            }
        }
    }
}
