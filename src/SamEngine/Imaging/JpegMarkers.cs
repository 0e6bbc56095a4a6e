using System.Buffers.Binary;

namespace SamEngine.Imaging;

/// <summary>What the markers of a JPEG say before anything is decoded. Lenient: what makes no sense is the codec's to
/// refuse.</summary>
internal static class JpegMarkers
{
    /// <summary>The size of the first frame header (0 x 0 without one) and the number of scans up to the end marker. What
    /// lies inside other segments or behind the end (thumbnails, films) does not count.</summary>
    public static (int Width, int Height, int Scans) Read(ReadOnlySpan<byte> file)
    {
        int width = 0, height = 0, scans = 0;
        // Between segments, and inside a scan's data, the next marker is ff and what is neither stuffing (00), filling (ff)
        // nor without a length (01, restarts d0 to d7, start d8).
        while (file.IndexOf((byte)0xff) is var at and >= 0 && at + 1 < file.Length)
        {
            byte marker = file[at + 1];
            if (marker is 0x00 or 0x01 or (>= 0xd0 and <= 0xd8))
            {
                file = file[(at + 2)..];
                continue;
            }
            if (marker == 0xff)
            {
                file = file[(at + 1)..];
                continue;
            }
            var segment = file[(at + 2)..];
            if (marker == 0xd9 || segment.Length < 2)
            {
                break;
            }
            int length = BinaryPrimitives.ReadUInt16BigEndian(segment);
            if (marker == 0xda)
            {
                scans++;
            }
            // SOF0 to SOF15, among which are a table (c4), a reserved one (c8) and arithmetic conditioning (cc).
            else if (marker is >= 0xc0 and <= 0xcf and not (0xc4 or 0xc8 or 0xcc) && width == 0 && segment.Length >= 7)
            {
                height = BinaryPrimitives.ReadUInt16BigEndian(segment[3..]);
                width = BinaryPrimitives.ReadUInt16BigEndian(segment[5..]);
            }
            file = segment[Math.Min(segment.Length, Math.Max(length, 2))..];
        }
        return (width, height, scans);
    }
}
