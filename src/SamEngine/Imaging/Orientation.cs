using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace SamEngine.Imaging;

/// <summary>The eight EXIF orientations.</summary>
internal static class Orientation
{
    /// <summary>The orientation of a picture that is stored as it is to be seen.</summary>
    public const int Upright = 1;

    /// <summary>The orientation in the first directory of EXIF data; <see cref="Upright"/> where there is none.</summary>
    public static int FromExif(ReadOnlySpan<byte> exif)
    {
        bool little = exif.StartsWith("II*\0"u8);
        if (exif.Length < 8 || (!little && !exif.StartsWith("MM\0*"u8)))
        {
            return Upright;
        }
        uint directory = little
            ? BinaryPrimitives.ReadUInt32LittleEndian(exif[4..])
            : BinaryPrimitives.ReadUInt32BigEndian(exif[4..]);
        int Word(ReadOnlySpan<byte> at) =>
            little ? BinaryPrimitives.ReadUInt16LittleEndian(at) : BinaryPrimitives.ReadUInt16BigEndian(at);

        if (directory > exif.Length - 2)
        {
            return Upright;
        }
        int entries = Word(exif[(int)directory..]);
        for (var entry = exif[((int)directory + 2)..]; entries > 0 && entry.Length >= 12; entry = entry[12..], entries--)
        {
            const int orientation = 0x112, shortType = 3;
            if (Word(entry) == orientation && Word(entry[2..]) == shortType)
            {
                return Word(entry[8..]);
            }
        }
        return Upright;
    }

    /// <summary>The picture as it is to be seen, as <c>PIL.ImageOps.exif_transpose</c> gives it. Takes over
    /// <paramref name="stored"/>; values outside 2 to 8 change nothing.</summary>
    public static PixelBuffer Apply(PixelBuffer stored, int orientation)
    {
        if (orientation is < 2 or > 8)
        {
            return stored;
        }
        using (stored)
        {
            bool swapped = orientation >= 5;
            var seen = swapped
                ? new PixelBuffer(stored.Height, stored.Width)
                : new PixelBuffer(stored.Width, stored.Height);
            int w = stored.Width, h = stored.Height;
            // Where stored pixel (0, 0) lands, and the steps for one pixel to the right and one row down.
            var (start, right, down) = orientation switch
            {
                2 => (w - 1, -1, w),
                3 => ((w * h) - 1, -1, -w),
                4 => (w * (h - 1), 1, -w),
                5 => (0, h, 1),
                6 => (h - 1, h, -1),
                7 => ((w * h) - 1, -h, -1),
                _ => (h * (w - 1), -h, 1),
            };
            var from = MemoryMarshal.Cast<byte, uint>(stored.Bytes);
            var to = MemoryMarshal.Cast<byte, uint>(seen.Bytes);
            for (int y = 0, i = 0; y < h; y++)
            {
                for (int x = 0, target = start + (y * down); x < w; x++, target += right)
                {
                    to[target] = from[i++];
                }
            }
            return seen;
        }
    }
}
