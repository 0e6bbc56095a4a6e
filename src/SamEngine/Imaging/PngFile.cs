using System.Buffers.Binary;
using System.IO.Compression;

namespace SamEngine.Imaging;

/// <summary>A PNG reduced to what its pixels need: header, palette and image data. Left out are texts and
/// colour profiles (which may unpack to any size), animation frames, and tRNS, so that the colour under transparent
/// pixels stays as it is. A palette is filled up, so that an index beyond the stored colours is what Pillow makes of
/// it.</summary>
internal sealed class PngFile
{
    private const uint Ihdr = 0x49484452;
    private const uint Plte = 0x504c5445;
    private const uint Idat = 0x49444154;
    private const uint Iend = 0x49454e44;
    private const uint Exif = 0x65584966;

    private const int MaxPaletteChunk = 12 + (256 * 3);

    private readonly byte[] _bytes;
    private readonly int _length;

    private PngFile(byte[] bytes, int length)
    {
        _bytes = bytes;
        _length = length;
    }

    /// <summary>The eight bytes every PNG starts with.</summary>
    public static ReadOnlySpan<byte> Signature => [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0d, 0x0a, 0x1a, 0x0a];

    /// <summary>The reduced file.</summary>
    public ReadOnlyMemory<byte> Bytes => _bytes.AsMemory(0, _length);

    /// <summary>Pixels in a row.</summary>
    public required int Width { get; init; }

    /// <summary>Number of rows.</summary>
    public required int Height { get; init; }

    /// <summary>The EXIF orientation, 1 to 8.</summary>
    public required int Orientation { get; init; }

    /// <summary>Bytes of an unpacked row; 0 where they are stored in seven passes (Adam7).</summary>
    private long RawRowBytes { get; init; }

    /// <summary>The picture is 16-bit grey, and <see cref="Bytes"/> calls it 8-bit grey with alpha: the same bytes in the same
    /// order, so that a codec gives the high byte as grey and the low byte as alpha.</summary>
    public required bool IsGray16 { get; init; }

    /// <summary>Walks the chunks of a file that starts with <see cref="Signature"/>.</summary>
    /// <exception cref="ImageFormatException">A bad header, or a file that ends inside a chunk that is needed.</exception>
    public static PngFile Parse(ReadOnlySpan<byte> file)
    {
        int at = Signature.Length;
        var header = ReadChunk(file, ref at, out uint type);
        if (type != Ihdr || header.Length != 13 + 4)
        {
            throw new ImageFormatException("the PNG does not start with a complete IHDR chunk (truncated or damaged?)");
        }
        uint width = BinaryPrimitives.ReadUInt32BigEndian(header);
        uint height = BinaryPrimitives.ReadUInt32BigEndian(header[4..]);
        if (BinaryPrimitives.ReadUInt32BigEndian(header[13..]) != Crc(file.Slice(Signature.Length + 4, 17)))
        {
            throw new ImageFormatException("the PNG header (IHDR) has a wrong checksum");
        }
        if (width is 0 or > int.MaxValue || height is 0 or > int.MaxValue)
        {
            throw new ImageFormatException($"the PNG header says {width} x {height} pixels");
        }
        byte depth = header[8], colorType = header[9];
        if (!IsLegal(depth, colorType) || header[10] != 0 || header[11] != 0 || header[12] > 1)
        {
            throw new ImageFormatException($"the PNG header says colour type {colorType} with {depth} bits, compression " +
                $"{header[10]}, filter {header[11]}, interlace {header[12]}: there is no such PNG");
        }
        bool gray16 = depth == 16 && colorType == 0;

        // IEND may be missing and a palette short: they are written whole in any case.
        byte[] bytes = GC.AllocateUninitializedArray<byte>(checked(file.Length + 12 + MaxPaletteChunk));
        int length = 0;
        Append(bytes, ref length, file[..at]);
        if (gray16)
        {
            byte[] grayAlpha = [.. header[..8], 8, 4, .. header[10..13]];
            length = Signature.Length;
            AppendChunk(bytes, ref length, Ihdr, grayAlpha);
        }
        bool inData = false, hasPalette = false;
        int orientation = Imaging.Orientation.Upright;
        while (at < file.Length)
        {
            int start = at;
            // After the image data nothing is needed, so that trailing garbage and a missing IEND do no harm.
            if (inData && !StartsIdat(file[at..]))
            {
                break;
            }
            var chunk = ReadChunk(file, ref at, out type);
            if (type == Iend)
            {
                break;
            }
            inData |= type == Idat;
            if (type == Idat)
            {
                Append(bytes, ref length, file[start..at]);
            }
            else if (type == Exif)
            {
                orientation = Imaging.Orientation.FromExif(chunk[..^4]);
            }
            else if (type == Plte && colorType == 3 && !hasPalette)
            {
                hasPalette = true;
                AppendPalette(bytes, ref length, chunk[..^4], colors: 1 << depth);
            }
        }
        if (!inData)
        {
            throw new ImageFormatException("the PNG has no image data (no IDAT chunk; truncated file?)");
        }
        if (colorType == 3 && !hasPalette)
        {
            throw new ImageFormatException("the PNG needs a palette and has none (no PLTE chunk)");
        }
        AppendChunk(bytes, ref length, Iend, default);
        return new PngFile(bytes, length)
        {
            Width = (int)width,
            Height = (int)height,
            Orientation = orientation,
            RawRowBytes = header[12] == 1 ? 0 : 1 + (((width * (long)Channels(colorType) * depth) + 7) / 8),
            IsGray16 = gray16,
        };
    }

    /// <summary>Whether the compressed data is whole and merely describes fewer rows than the header says; such a picture is
    /// accepted as Pillow does, one that was cut off is not, nor an interlaced one. Only for pictures whose rows ran
    /// out.</summary>
    public bool DataIsComplete()
    {
        if (RawRowBytes == 0)
        {
            return false;
        }
        long left = RawRowBytes * Height;
        using var compressed = new MemoryStream();
        int at = Signature.Length;
        while (at < _length)
        {
            var chunk = ReadChunk(_bytes.AsSpan(0, _length), ref at, out uint type);
            if (type == Idat)
            {
                compressed.Write(chunk[..^4]);
            }
        }
        if (compressed.Length < 6)
        {
            return false;
        }
        // The stream ends with the Adler-32 of what it unpacks to. ZLibStream stops without a word where data ends early.
        uint expected = BinaryPrimitives.ReadUInt32BigEndian(compressed.GetBuffer().AsSpan((int)compressed.Length - 4, 4));
        compressed.Position = 0;
        using var inflate = new ZLibStream(compressed, CompressionMode.Decompress);
        byte[] buffer = new byte[1 << 15];
        uint a = 1, b = 0;
        try
        {
            for (int got; (got = inflate.Read(buffer)) > 0;)
            {
                // The rows did not run out: something else is wrong with the file.
                if ((left -= got) < 0)
                {
                    return false;
                }
                foreach (byte value in buffer.AsSpan(0, got))
                {
                    a = (a + value) % 65521;
                    b = (b + a) % 65521;
                }
            }
        }
        catch (InvalidDataException)
        {
            return false;
        }
        return ((b << 16) | a) == expected;
    }

    private static bool IsLegal(byte depth, byte colorType) => colorType switch
    {
        0 => depth is 1 or 2 or 4 or 8 or 16,
        3 => depth is 1 or 2 or 4 or 8,
        2 or 4 or 6 => depth is 8 or 16,
        _ => false,
    };

    private static int Channels(byte colorType) => colorType switch
    {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    };

    private static bool StartsIdat(ReadOnlySpan<byte> rest) =>
        rest.Length >= 8 && BinaryPrimitives.ReadUInt32BigEndian(rest[4..]) == Idat;

    /// <summary>The chunk's data and its checksum; <paramref name="at"/> moves behind them.</summary>
    private static ReadOnlySpan<byte> ReadChunk(ReadOnlySpan<byte> file, ref int at, out uint type)
    {
        var rest = file[at..];
        if (rest.Length < 8)
        {
            throw new ImageFormatException("the PNG ends inside a chunk (truncated file?)");
        }
        long length = BinaryPrimitives.ReadUInt32BigEndian(rest) + 4L;
        type = BinaryPrimitives.ReadUInt32BigEndian(rest[4..]);
        if (length > rest.Length - 8)
        {
            throw new ImageFormatException("the PNG ends inside a chunk (truncated file?)");
        }
        at += 8 + (int)length;
        return rest.Slice(8, (int)length);
    }

    private static void Append(byte[] bytes, ref int length, ReadOnlySpan<byte> part)
    {
        part.CopyTo(bytes.AsSpan(length));
        length += part.Length;
    }

    private static void AppendChunk(byte[] bytes, ref int length, uint type, ReadOnlySpan<byte> data)
    {
        var chunk = bytes.AsSpan(length, 12 + data.Length);
        BinaryPrimitives.WriteInt32BigEndian(chunk, data.Length);
        BinaryPrimitives.WriteUInt32BigEndian(chunk[4..], type);
        data.CopyTo(chunk[8..]);
        BinaryPrimitives.WriteUInt32BigEndian(chunk[^4..], Crc(chunk[4..^4]));
        length += chunk.Length;
    }

    /// <summary>Colours that are not stored are grey levels.</summary>
    private static void AppendPalette(byte[] bytes, ref int length, ReadOnlySpan<byte> stored, int colors)
    {
        Span<byte> palette = stackalloc byte[256 * 3];
        palette = palette[..(3 * colors)];
        for (int i = 0; i < palette.Length; i++)
        {
            palette[i] = i < stored.Length ? stored[i] : (byte)(i / 3);
        }
        AppendChunk(bytes, ref length, Plte, palette);
    }

    /// <summary>The CRC-32 of ISO 3309, of a few bytes.</summary>
    private static uint Crc(ReadOnlySpan<byte> bytes)
    {
        uint crc = ~0u;
        foreach (byte value in bytes)
        {
            crc ^= value;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320 : 0);
            }
        }
        return ~crc;
    }
}
