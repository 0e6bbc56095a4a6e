using System.Buffers.Binary;

namespace SamEngine.Imaging;

/// <summary>The first frame of a GIF as a GIF of its own: without transparency (the colour of that index stays), without the
/// other frames, and with a full palette, so that an index beyond the stored colours is what Pillow makes of it.</summary>
internal sealed class GifFile
{
    private GifFile(byte[] bytes)
    {
        Bytes = bytes;
    }

    /// <summary>A GIF whose canvas is the first frame.</summary>
    public byte[] Bytes { get; }

    /// <summary>Width of the picture: the canvas, extended where the frame sticks out.</summary>
    public required int Width { get; init; }

    /// <summary>Height of the picture.</summary>
    public required int Height { get; init; }

    /// <summary>The frame's place in the picture.</summary>
    public required (int X, int Y, int Width, int Height) Frame { get; init; }

    /// <summary>Red, green, blue of what the frame does not cover: the transparent colour, or the first one.</summary>
    public required (byte R, byte G, byte B) Background { get; init; }

    /// <summary>The file ends inside the frame's data. Its pixels may still be complete.</summary>
    public required bool IsCut { get; init; }

    /// <summary>Walks the blocks up to the end of the first frame.</summary>
    /// <exception cref="ImageFormatException">No frame, or the file ends before its data starts.</exception>
    public static GifFile Parse(ReadOnlySpan<byte> file)
    {
        if (file.Length < 13)
        {
            throw Truncated();
        }
        int width = BinaryPrimitives.ReadUInt16LittleEndian(file[6..]);
        int height = BinaryPrimitives.ReadUInt16LittleEndian(file[8..]);
        int at = 13;
        Span<byte> palette = stackalloc byte[256 * 3];
        FillPalette(palette, ReadPalette(file, ref at, file[10]));
        int transparent = 0;
        while (true)
        {
            byte block = Byte(file, at++);
            if (block == 0x3b)
            {
                throw new ImageFormatException("the GIF has no frame");
            }
            if (block == 0x21)
            {
                byte label = Byte(file, at++);
                if (label == 0xf9 && Byte(file, at) >= 4 && (Byte(file, at + 1) & 1) != 0)
                {
                    transparent = Byte(file, at + 4);
                }
                SkipSubBlocks(file, ref at);
            }
            else if (block == 0x2c)
            {
                break;
            }
            // Anything else is stepped over, as in Pillow.
        }
        if (file.Length - at < 9)
        {
            throw Truncated();
        }
        var descriptor = file.Slice(at, 9);
        at += 9;
        int x = BinaryPrimitives.ReadUInt16LittleEndian(descriptor);
        int y = BinaryPrimitives.ReadUInt16LittleEndian(descriptor[2..]);
        int frameWidth = BinaryPrimitives.ReadUInt16LittleEndian(descriptor[4..]);
        int frameHeight = BinaryPrimitives.ReadUInt16LittleEndian(descriptor[6..]);
        byte flags = descriptor[8];
        if (frameWidth == 0 || frameHeight == 0)
        {
            throw new ImageFormatException($"the first frame of the GIF has {frameWidth} x {frameHeight} pixels");
        }
        var local = ReadPalette(file, ref at, flags);
        if (!local.IsEmpty)
        {
            FillPalette(palette, local);
        }
        int dataStart = at++;
        if (Byte(file, dataStart) is < 1 or > 11)
        {
            throw new ImageFormatException($"the GIF's code size is {file[dataStart]} bits, expected 1 to 11");
        }
        // A file cut inside the frame's data goes to the codec as far as it goes: it tells whether the picture is whole.
        while (at < file.Length && file[at] != 0)
        {
            at = Math.Min(file.Length, at + 1 + file[at]);
        }

        var frame = new MemoryStream();
        frame.Write("GIF89a"u8);
        frame.Write(descriptor.Slice(4, 4));
        frame.Write([0, 0, 0]);
        frame.Write([0x2c, 0, 0, 0, 0]);
        frame.Write(descriptor.Slice(4, 4));
        frame.WriteByte((byte)(0x87 | (flags & 0x40)));
        frame.Write(palette);
        frame.Write(file[dataStart..at]);
        frame.Write([0, 0x3b]);
        return new GifFile(frame.ToArray())
        {
            Width = Math.Max(width, x + frameWidth),
            Height = Math.Max(height, y + frameHeight),
            Frame = (x, y, frameWidth, frameHeight),
            IsCut = at >= file.Length,
            Background = (palette[3 * transparent], palette[(3 * transparent) + 1], palette[(3 * transparent) + 2]),
        };
    }

    private static ReadOnlySpan<byte> ReadPalette(ReadOnlySpan<byte> file, ref int at, byte flags)
    {
        if ((flags & 0x80) == 0)
        {
            return default;
        }
        int length = 3 << ((flags & 7) + 1);
        if (file.Length - at < length)
        {
            throw Truncated();
        }
        at += length;
        return file.Slice(at - length, length);
    }

    /// <summary>Colours that are not stored are grey levels.</summary>
    private static void FillPalette(Span<byte> palette, ReadOnlySpan<byte> stored)
    {
        for (int i = 0; i < palette.Length; i++)
        {
            palette[i] = i < stored.Length ? stored[i] : (byte)(i / 3);
        }
    }

    private static void SkipSubBlocks(ReadOnlySpan<byte> file, ref int at)
    {
        for (byte length; (length = Byte(file, at)) != 0;)
        {
            at += 1 + length;
        }
        at++;
    }

    private static byte Byte(ReadOnlySpan<byte> file, int at) => (uint)at < (uint)file.Length ? file[at] : throw Truncated();

    private static ImageFormatException Truncated() => new("the GIF ends before its first frame (truncated file?)");
}
