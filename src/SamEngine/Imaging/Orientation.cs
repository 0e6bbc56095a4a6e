using System.Runtime.InteropServices;

namespace SamEngine.Imaging;

/// <summary>The eight EXIF orientations.</summary>
internal static class Orientation
{
    /// <summary>The orientation of a picture that is stored as it is to be seen.</summary>
    public const int Upright = 1;

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
