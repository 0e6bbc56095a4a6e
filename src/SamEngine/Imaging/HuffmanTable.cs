namespace SamEngine.Imaging;

/// <summary>One Huffman table of a JPEG (ITU T.81, annexes C and F), as a table over the next bits.</summary>
internal sealed class HuffmanTable
{
    /// <summary>Bits that <see cref="Lookup"/> looks at; longer codes take <see cref="LongCode"/>.</summary>
    public const int LookupBits = 10;

    private const int MaxBits = 16;

    private readonly byte[] _symbols;

    /// <summary>By length of a code: one more than the last code, its bits at the top of sixteen.</summary>
    private readonly int[] _end = new int[MaxBits + 1];

    /// <summary>By length of a code: what added to a code gives its position in <see cref="_symbols"/>.</summary>
    private readonly int[] _offset = new int[MaxBits + 1];

    private HuffmanTable(byte[] symbols) => _symbols = symbols;

    /// <summary>By the next bits, see <see cref="Value"/>, <see cref="Symbol"/> and <see cref="Drop"/>; zero where the code is
    /// longer.</summary>
    public int[] Lookup { get; } = new int[1 << LookupBits];

    /// <summary>The signed number behind the code; zero where its bits lie outside the table's, or where it has none.</summary>
    public static int Value(int entry) => entry >> 16;

    /// <summary>The symbol: a run of zeros times 16, plus the number of bits that follow.</summary>
    public static int Symbol(int entry) => (entry >> 8) & 0xff;

    /// <summary>Bits that code and value take; without the value's where <see cref="Value"/> is zero.</summary>
    public static int Drop(int entry) => entry & 0xff;

    /// <summary>Makes the table; null where it is no valid one.</summary>
    /// <param name="counts">Codes of each length from 1 to 16.</param>
    /// <param name="symbols">Their symbols, as many as the counts' sum.</param>
    public static HuffmanTable? Create(ReadOnlySpan<byte> counts, ReadOnlySpan<byte> symbols)
    {
        var table = new HuffmanTable(symbols.ToArray());
        int code = 0, used = 0;
        for (int length = 1; length <= MaxBits; length++)
        {
            table._offset[length] = used - code;
            // No code is all ones.
            if (code + counts[length - 1] >= 1 << length)
            {
                return null;
            }
            for (int i = 0; i < counts[length - 1]; i++, code++, used++)
            {
                if (length <= LookupBits)
                {
                    table.Fill(code, length, symbols[used]);
                }
            }
            table._end[length] = code << (MaxBits - length);
            code <<= 1;
        }
        return table;
    }

    /// <summary>The number whose <paramref name="size"/> bits stand at the top of <paramref name="bits"/>.</summary>
    public static int Extend(ulong bits, int size)
    {
        int value = (int)(bits >> (64 - size));
        // Numbers whose first bit is 0 are negative.
        return value + (((value >> (size - 1)) - 1) & (1 - (1 << size)));
    }

    /// <summary>The entry of a code that is longer than <see cref="LookupBits"/> (its value stays unread); zero where there is no such
    /// code.</summary>
    /// <param name="bits">The code stands at the top.</param>
    public int LongCode(ulong bits)
    {
        int code = (int)(bits >> (64 - MaxBits));
        for (int length = LookupBits + 1; length <= MaxBits; length++)
        {
            if (code < _end[length])
            {
                return (_symbols[(code >> (MaxBits - length)) + _offset[length]] << 8) | length;
            }
        }
        return 0;
    }

    /// <summary>All entries that begin with a code.</summary>
    private void Fill(int code, int length, byte symbol)
    {
        int size = symbol & 15, spare = LookupBits - length;
        for (int rest = 0; rest < 1 << spare; rest++)
        {
            int value = size > 0 && size <= spare ? Extend((ulong)rest << (64 - spare), size) : 0;
            Lookup[(code << spare) | rest] = (value << 16) | (symbol << 8) | (value != 0 ? length + size : length);
        }
    }
}
