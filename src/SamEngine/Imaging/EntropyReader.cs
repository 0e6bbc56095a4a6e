using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace SamEngine.Imaging;

/// <summary>Reads the Huffman-coded blocks of a scan. Says so as soon as something is not in order, and never what it might have
/// meant.</summary>
/// <param name="position">Where the scan's data begins in the file.</param>
internal struct EntropyReader(int position)
{
    /// <summary>A symbol takes at most so many bits: a code of 16 and a value of 15.</summary>
    private const int MaxSymbolBits = 31;

    private int _position = position;

    /// <summary>The next bits, from the top. Behind the first <see cref="_count"/> there may be more, already right.</summary>
    private ulong _bits;

    private int _count;

    /// <summary>Of the bits, so many zeros stand for what lies behind the data.</summary>
    private int _padding;

    /// <summary>Position in a block, row by row, of each coefficient of a file.</summary>
    public static ReadOnlySpan<byte> Natural =>
    [
        0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
        35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    ];

    /// <summary>No bit has been read that the file does not have.</summary>
    public readonly bool IsInsideData => _count >= _padding;

    /// <summary>Reads one block.</summary>
    /// <param name="file">The whole file.</param>
    /// <param name="component">Its codes.</param>
    /// <param name="last">The first coefficient of the component's block before; becomes this one's.</param>
    /// <param name="block">64 coefficients, row by row, not multiplied by their steps; zeros when it comes in.</param>
    /// <returns>False where the data is damaged. Data that ends early is to be told by <see cref="IsInsideData"/>.</returns>
    public bool ReadBlock(ReadOnlySpan<byte> file, BaselineJpeg.Component component, ref int last, Span<short> block)
    {
        // In locals the state stays in registers.
        ulong bits = _bits;
        int count = _count, position = _position, padding = _padding;
        Fill(file, ref bits, ref count, ref position, ref padding);
        int entry = component.Dc.Lookup[(int)(bits >> (64 - HuffmanTable.LookupBits))];
        if (entry == 0 && (entry = component.Dc.LongCode(bits)) == 0)
        {
            return false;
        }
        int drop = HuffmanTable.Drop(entry), value = HuffmanTable.Value(entry), size = HuffmanTable.Symbol(entry) & 15;
        if (value == 0 && size > 0)
        {
            value = HuffmanTable.Extend(bits << drop, size);
            drop += size;
        }
        bits <<= drop;
        count -= drop;
        last += value;
        block[0] = (short)last;
        if (block[0] != last)
        {
            return false;
        }
        int[] lookup = component.Ac.Lookup;
        var natural = Natural;
        for (int k = 1; k < 64; k++)
        {
            Fill(file, ref bits, ref count, ref position, ref padding);
            entry = lookup[(int)(bits >> (64 - HuffmanTable.LookupBits))];
            value = HuffmanTable.Value(entry);
            drop = HuffmanTable.Drop(entry);
            if (value == 0)
            {
                if (entry == 0 && (entry = component.Ac.LongCode(bits)) == 0)
                {
                    return false;
                }
                drop = HuffmanTable.Drop(entry);
                int symbol = HuffmanTable.Symbol(entry);
                size = symbol & 15;
                if (size == 0)
                {
                    bits <<= drop;
                    count -= drop;
                    const int sixteenZeros = 0xf0;
                    if (symbol != sixteenZeros)
                    {
                        break;
                    }
                    k += 15;
                    if (k > 63)
                    {
                        return false;
                    }
                    continue;
                }
                value = HuffmanTable.Extend(bits << drop, size);
                drop += size;
            }
            bits <<= drop;
            count -= drop;
            k += HuffmanTable.Symbol(entry) >> 4;
            if (k > 63)
            {
                return false;
            }
            block[natural[k]] = (short)value;
        }
        (_bits, _count, _position, _padding) = (bits, count, position, padding);
        return true;
    }

    /// <summary>Goes on behind a marker, which must be the next thing in the file but for the rest of a byte.</summary>
    public bool TryPass(ReadOnlySpan<byte> file, byte marker)
    {
        int left = _count - _padding;
        if (left is < 0 or > 7 || file.Length - _position < 2 || file[_position] != 0xff || file[_position + 1] != marker)
        {
            return false;
        }
        this = new EntropyReader(_position + 2);
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fill(ReadOnlySpan<byte> file, ref ulong bits, ref int count, ref int position, ref int padding)
    {
        const ulong ones = 0x0101010101010101, tops = 0x8080808080808080;
        if (count > MaxSymbolBits)
        {
            return;
        }
        if (file.Length - position >= 8)
        {
            ulong next = BinaryPrimitives.ReadUInt64BigEndian(file[position..]);
            // No byte is ff (or, before one that is, fe).
            if ((next & ~(next + ones) & tops) == 0)
            {
                bits |= next >> count;
                int bytes = (63 - count) >> 3;
                position += bytes;
                count += 8 * bytes;
                return;
            }
        }
        (bits, count, position, padding) = FillByByte(file, bits, count, position, padding);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static (ulong Bits, int Count, int Position, int Padding) FillByByte(
        ReadOnlySpan<byte> file, ulong bits, int count, int position, int padding)
    {
        for (; count <= 56; count += 8)
        {
            ulong next = 0;
            if (position < file.Length && file[position] != 0xff)
            {
                next = file[position++];
            }
            else if (file.Length - position >= 2 && file[position + 1] == 0)
            {
                next = 0xff;
                position += 2;
            }
            else
            {
                padding += 8;
            }
            bits |= next << (56 - count);
        }
        return (bits, count, position, padding);
    }
}
