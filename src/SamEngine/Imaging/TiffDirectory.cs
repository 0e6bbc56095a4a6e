using System.Buffers.Binary;

namespace SamEngine.Imaging;

/// <summary>The first directory of a TIFF, read before the library sees the file: the library makes arrays of whatever size
/// the tags announce.</summary>
internal static class TiffDirectory
{
    private const int TileSlackPixels = 1 << 22;

    /// <summary>Checks that sizes are within the limits and that every value, count and block lies inside the file.</summary>
    /// <param name="file">A file with a TIFF signature.</param>
    /// <param name="limits">What a picture may at most demand.</param>
    /// <exception cref="ImageFormatException">They are not.</exception>
    public static void Validate(ReadOnlySpan<byte> file, ImageLimits limits)
    {
        var tags = new Reader(file);
        long width = tags.Value(256, 0), height = tags.Value(257, 0);
        if (width < 1 || height < 1)
        {
            throw new ImageFormatException($"the TIFF says {width} x {height} pixels");
        }
        ImageDecoder.CheckSize(width, height, limits);

        bool tiled = tags.Has(322) || tags.Has(324);
        long columns = 1, rows;
        if (tiled)
        {
            long tileWidth = tags.Value(322, 0), tileHeight = tags.Value(323, 0);
            if (tileWidth < 1 || tileHeight < 1 || tileWidth > 1 << 16 || tileHeight > 1 << 16 ||
                tileWidth * tileHeight > Math.Max(width * height, TileSlackPixels))
            {
                throw new ImageFormatException(
                    $"the TIFF says tiles of {tileWidth} x {tileHeight} pixels for a picture of {width} x {height}");
            }
            columns = (width + tileWidth - 1) / tileWidth;
            rows = (height + tileHeight - 1) / tileHeight;
        }
        else
        {
            long rowsPerStrip = Math.Clamp(tags.Value(278, height), 1, height);
            rows = (height + rowsPerStrip - 1) / rowsPerStrip;
        }
        var (offsets, counts) = tiled ? ((ushort)324, (ushort)325) : ((ushort)273, (ushort)279);
        long blocks = columns * rows;
        if (tags.Count(offsets) < blocks || tags.Count(counts) < blocks)
        {
            throw new ImageFormatException($"the TIFF has {tags.Count(offsets)} offsets and {tags.Count(counts)} lengths of " +
                $"data for {blocks} blocks");
        }
        for (long i = 0; i < blocks; i++)
        {
            long start = tags.Value(offsets, 0, i), length = tags.Value(counts, 0, i);
            if (start > file.Length || length > file.Length - start)
            {
                throw new ImageFormatException($"the TIFF says that its data lies at {start} + {length} bytes, in a file of " +
                    $"{file.Length} (truncated file?)");
            }
        }
    }

    /// <summary>Finds entries; every one has been checked to lie inside the file.</summary>
    private readonly ref struct Reader
    {
        private readonly ReadOnlySpan<byte> _file;
        private readonly ReadOnlySpan<byte> _entries;
        private readonly bool _little;

        public Reader(ReadOnlySpan<byte> file)
        {
            _file = file;
            _little = file[0] == 'I';
            uint start = file.Length >= 8 ? Long(file[4..]) : uint.MaxValue;
            if (start > file.Length - 2)
            {
                throw Truncated();
            }
            int count = Short(file[(int)start..]);
            var rest = file[((int)start + 2)..];
            if (rest.Length < count * 12)
            {
                throw Truncated();
            }
            _entries = rest[..(count * 12)];
            for (var entry = _entries; !entry.IsEmpty; entry = entry[12..])
            {
                long bytes = Long(entry[4..]) * (long)SizeOf(Short(entry[2..]));
                if (bytes > 4 && (bytes > file.Length || Long(entry[8..]) > file.Length - bytes))
                {
                    throw Truncated();
                }
            }
        }

        public bool Has(ushort tag) => !Find(tag).IsEmpty;

        /// <summary>Number of values, 0 where the tag is missing or no integer.</summary>
        public long Count(ushort tag) => Find(tag) is { IsEmpty: false } entry && IsInteger(entry) ? Long(entry[4..]) : 0;

        /// <summary>A value of an integer tag.</summary>
        public long Value(ushort tag, long otherwise, long index = 0)
        {
            var entry = Find(tag);
            if (entry.IsEmpty || !IsInteger(entry) || index >= Long(entry[4..]))
            {
                return otherwise;
            }
            int size = SizeOf(Short(entry[2..]));
            var values = Long(entry[4..]) * (long)size <= 4 ? entry[8..12] : _file[(int)Long(entry[8..])..];
            values = values[(int)(index * size)..];
            return size == 2 ? Short(values) : Long(values);
        }

        private static bool IsSingle(int type) => type is 1 or 2 or 6 or 7;

        private static int SizeOf(int type) => IsSingle(type) ? 1 : type is 3 or 8 ? 2 : type is 4 or 9 or 11 or 13 ? 4 : 8;

        private static ImageFormatException Truncated() => new("the TIFF ends inside its directory (truncated file?)");

        private bool IsInteger(ReadOnlySpan<byte> entry) => Short(entry[2..]) is 3 or 4;

        private ReadOnlySpan<byte> Find(ushort tag)
        {
            for (var entry = _entries; !entry.IsEmpty; entry = entry[12..])
            {
                if (Short(entry) == tag)
                {
                    return entry[..12];
                }
            }
            return default;
        }

        private int Short(ReadOnlySpan<byte> at) => _little
            ? BinaryPrimitives.ReadUInt16LittleEndian(at)
            : BinaryPrimitives.ReadUInt16BigEndian(at);

        private uint Long(ReadOnlySpan<byte> at) => _little
            ? BinaryPrimitives.ReadUInt32LittleEndian(at)
            : BinaryPrimitives.ReadUInt32BigEndian(at);
    }
}
