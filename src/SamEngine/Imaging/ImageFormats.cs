using System.Buffers;
using System.Text;
using SkiaSharp;

namespace SamEngine.Imaging;

/// <summary>Tells picture formats apart by their first bytes.</summary>
internal static class ImageFormats
{
    /// <summary>A format that the engine reads.</summary>
    public enum Kind
    {
        /// <summary>Portable Network Graphics; of an animated one the default image.</summary>
        Png,

        /// <summary>JPEG in any of libjpeg's forms.</summary>
        Jpeg,

        /// <summary>WebP, lossy or lossless; of an animated one the first frame.</summary>
        Webp,

        /// <summary>GIF, the first frame.</summary>
        Gif,

        /// <summary>Windows bitmap.</summary>
        Bmp,

        /// <summary>TIFF, the first page.</summary>
        Tiff,
    }

    /// <summary>The name used in errors.</summary>
    public static string Name(SKEncodedImageFormat format) => format.ToString().ToUpperInvariant();

    /// <summary>The format of a file that starts like <paramref name="file"/>.</summary>
    /// <exception cref="ImageFormatException">None that is supported; says which where that can be told.</exception>
    public static Kind Detect(ReadOnlySpan<byte> file)
    {
        if (file.IsEmpty)
        {
            throw NoPicture("empty (0 bytes)");
        }
        if (file.StartsWith(PngFile.Signature))
        {
            return Kind.Png;
        }
        if (file.StartsWith((ReadOnlySpan<byte>)[0xff, 0xd8, 0xff]))
        {
            return Kind.Jpeg;
        }
        if (file.StartsWith("RIFF"u8) && file.Length >= 12 && file[8..].StartsWith("WEBP"u8))
        {
            return Kind.Webp;
        }
        if (file.StartsWith("GIF87a"u8) || file.StartsWith("GIF89a"u8))
        {
            return Kind.Gif;
        }
        if (file.StartsWith("BM"u8))
        {
            return Kind.Bmp;
        }
        if (file.StartsWith("II*\0"u8) || file.StartsWith("MM\0*"u8))
        {
            return Kind.Tiff;
        }
        throw NoPicture(Describe(file));
    }

    private static ImageFormatException NoPicture(string what) =>
        new($"is {what}") { Advice = "expected a picture: PNG, JPEG, WebP, GIF, BMP or TIFF" };

    private static string Describe(ReadOnlySpan<byte> file)
    {
        if (file.Length >= 12 && file[4..].StartsWith("ftyp"u8))
        {
            return file[8..].StartsWith("avi"u8) ? "an AVIF picture (not supported)"
                : file[8..].StartsWith("hei"u8) || file[8..].StartsWith("mif1"u8) ? "a HEIF picture (not supported)"
                : "an MP4 or QuickTime file";
        }
        if (file.StartsWith("\0\0\0\x0cjP  "u8))
        {
            return "a JPEG 2000 picture (not supported)";
        }
        if (file.StartsWith((ReadOnlySpan<byte>)[0xff, 0x0a]) || file.StartsWith("\0\0\0\x0cJXL "u8))
        {
            return "a JPEG XL picture (not supported)";
        }
        if (file.StartsWith("II+\0"u8) || file.StartsWith("MM\0+"u8))
        {
            return "a BigTIFF (not supported)";
        }
        if (file.StartsWith("%PDF"u8))
        {
            return "a PDF document";
        }
        return IsText(file[..Math.Min(file.Length, 64)])
            ? "text"
            : $"of an unknown format (starts with {Convert.ToHexStringLower(file[..Math.Min(8, file.Length)])})";
    }

    /// <summary>UTF-8 without control characters; the last character may be cut.</summary>
    private static bool IsText(ReadOnlySpan<byte> start)
    {
        while (!start.IsEmpty)
        {
            var status = Rune.DecodeFromUtf8(start, out var rune, out int length);
            if (status == OperationStatus.NeedMoreData)
            {
                break;
            }
            if (status != OperationStatus.Done || (Rune.IsControl(rune) && rune.Value is not ('\t' or '\n' or '\r')))
            {
                return false;
            }
            start = start[length..];
        }
        return true;
    }
}
