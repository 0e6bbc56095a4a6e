using System.Buffers.Binary;

namespace SamEngine.Imaging;

/// <summary>The header of a JPEG of the most frequent kind: Huffman-coded in one scan, 8 bits, grey or YCbCr, with colour as fine as
/// brightness or at half of it in one or both directions (4:4:4, 4:2:2, 4:2:0). Every other kind, and everything that is not quite in
/// order, is SkiaSharp's to decode or to refuse.</summary>
internal sealed class BaselineJpeg
{
    private const int MaxTables = 4;

    /// <summary>Pixels in a row.</summary>
    public required int Width { get; init; }

    /// <summary>Number of rows.</summary>
    public required int Height { get; init; }

    /// <summary>One for grey, or Y, Cb, Cr.</summary>
    public required Component[] Components { get; init; }

    /// <summary>How many pixels share one colour sample, to the right and down: 1 or 2.</summary>
    public required (int Right, int Down) Shared { get; init; }

    /// <summary>Units (<see cref="Shared"/> blocks of Y and what belongs to them) from one restart marker to the next; 0: there are
    /// none.</summary>
    public required int RestartInterval { get; init; }

    /// <summary>Where the scan's data begins.</summary>
    public required int DataStart { get; init; }

    /// <summary>Reads the header; null where it is not of this kind.</summary>
    public static BaselineJpeg? Parse(ReadOnlySpan<byte> file)
    {
        var quantisation = new short[MaxTables][];
        var tables = new HuffmanTable?[2 * MaxTables];
        ReadOnlySpan<byte> frame = default;
        int restartInterval = 0, adobe = -1;
        int at = 2;
        while (at + 4 <= file.Length && file[at] == 0xff)
        {
            byte marker = file[at + 1];
            int length = BinaryPrimitives.ReadUInt16BigEndian(file[(at + 2)..]);
            if (length < 2 || length > file.Length - at - 2)
            {
                return null;
            }
            var segment = file.Slice(at + 4, length - 2);
            at += 2 + length;
            switch (marker)
            {
                case 0xc0 or 0xc1 when frame.IsEmpty && segment.Length >= 9:
                    frame = segment;
                    break;
                case 0xc4 when ReadHuffman(segment, tables):
                case 0xdb when ReadQuantisation(segment, quantisation):
                case >= 0xe0 and <= 0xed or 0xef or 0xfe:
                    break;
                case 0xdd when segment.Length == 2:
                    restartInterval = BinaryPrimitives.ReadUInt16BigEndian(segment);
                    break;
                case 0xee:
                    adobe = segment.Length >= 12 && segment.StartsWith("Adobe"u8) ? segment[11] : adobe;
                    break;
                case 0xda when !frame.IsEmpty:
                    return Create(frame, segment, quantisation, tables, restartInterval, adobe, at);
                default:
                    return null;
            }
        }
        return null;
    }

    private static BaselineJpeg? Create(
        ReadOnlySpan<byte> frame,
        ReadOnlySpan<byte> scan,
        short[]?[] quantisation,
        HuffmanTable?[] tables,
        int restartInterval,
        int adobe,
        int dataStart)
    {
        int height = BinaryPrimitives.ReadUInt16BigEndian(frame[1..]), width = BinaryPrimitives.ReadUInt16BigEndian(frame[3..]);
        int count = frame[5];
        if (frame[0] != 8 || width == 0 || height == 0 || count is not (1 or 3) || frame.Length != 6 + (3 * count)
            || scan.Length != 4 + (2 * count) || scan[0] != count || !scan[(1 + (2 * count))..].SequenceEqual((ReadOnlySpan<byte>)[0, 63, 0]))
        {
            return null;
        }
        var components = new Component[count];
        for (int i = 0; i < count; i++)
        {
            var of = frame.Slice(6 + (3 * i), 3);
            int dc = scan[2 + (2 * i)] >> 4, ac = scan[2 + (2 * i)] & 15;
            // Colour is sampled once where brightness is sampled so often.
            if (scan[1 + (2 * i)] != of[0] || dc >= MaxTables || ac >= MaxTables || of[2] >= MaxTables || (i > 0 && of[1] != 0x11)
                || quantisation[of[2]] is not { } steps || tables[dc] is not { } dcTable || tables[MaxTables + ac] is not { } acTable)
            {
                return null;
            }
            components[i] = new Component(steps, dcTable, acTable);
        }
        (int Right, int Down) shared = (frame[7] >> 4, frame[7] & 15);
        if (count == 1 ? shared != (1, 1) : shared is not ((1, 1) or (2, 1) or (2, 2)))
        {
            return null;
        }
        if (count == 3)
        {
            byte first = frame[6], second = frame[9], third = frame[12];
            bool distinct = first != second && second != third && first != third;
            bool calledRgb = (first, second, third) == ((byte)'R', (byte)'G', (byte)'B');
            // Of three pixels and fewer, libjpeg-turbo repeats colours instead of interpolating.
            if (!distinct || calledRgb || adobe is not (-1 or 1) || (shared.Right == 2 && width <= 4))
            {
                return null;
            }
        }
        return new BaselineJpeg
        {
            Width = width,
            Height = height,
            Components = components,
            Shared = shared,
            RestartInterval = restartInterval,
            DataStart = dataStart,
        };
    }

    private static bool ReadQuantisation(ReadOnlySpan<byte> segment, short[]?[] tables)
    {
        for (; !segment.IsEmpty; segment = segment[65..])
        {
            // The upper half says 8 or 16 bits.
            if (segment.Length < 65 || segment[0] >= MaxTables)
            {
                return false;
            }
            var table = new short[64];
            for (int i = 0; i < 64; i++)
            {
                table[EntropyReader.Natural[i]] = segment[1 + i];
            }
            tables[segment[0]] = table;
        }
        return true;
    }

    private static bool ReadHuffman(ReadOnlySpan<byte> segment, HuffmanTable?[] tables)
    {
        const int dcSymbols = 16;
        while (!segment.IsEmpty)
        {
            int kind = segment[0] >> 4, id = segment[0] & 15, total = 0;
            if (segment.Length < 17 || kind > 1 || id >= MaxTables)
            {
                return false;
            }
            foreach (byte count in segment.Slice(1, 16))
            {
                total += count;
            }
            if (total > 256 || total > segment.Length - 17)
            {
                return false;
            }
            var symbols = segment.Slice(17, total);
            if ((kind == 0 && symbols.ContainsAnyExceptInRange((byte)0, (byte)(dcSymbols - 1)))
                || HuffmanTable.Create(segment.Slice(1, 16), symbols) is not { } table)
            {
                return false;
            }
            tables[(kind * MaxTables) + id] = table;
            segment = segment[(17 + total)..];
        }
        return true;
    }

    /// <summary>One of Y, Cb, Cr.</summary>
    /// <param name="Quantisation">Steps of the 64 coefficients, row by row.</param>
    /// <param name="Dc">Codes of the differences of the first coefficient.</param>
    /// <param name="Ac">Codes of the other coefficients.</param>
    public sealed record Component(short[] Quantisation, HuffmanTable Dc, HuffmanTable Ac);
}
