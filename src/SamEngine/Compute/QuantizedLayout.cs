using System.Buffers.Binary;

namespace SamEngine.Compute;

/// <summary>
/// Layout of quantised matrices, version 1 (docs/quantisation.md), read in place by every instruction set. Sixteen rows
/// lie interleaved in a block; rows are filled up to whole blocks and columns to whole groups. First the scales, fp16
/// [blocks, groups, 16], zeros up to a multiple of 64 bytes; then the codes. Q8: [blocks, columns / 4, 16, 4] bytes, the
/// level (-127..127) + 128. Q4: [blocks, columns / 8, 16, 4] bytes, the low nibble numbers the level of column 8 s + j,
/// the high nibble that of column 8 s + 4 + j. A weight is level * scale / 128.
/// </summary>
internal static class QuantizedLayout
{
    public const int Version = 1;
    public const int BlockRows = 16;
    public const float ScaleUnit = 1f / 128;

    /// <summary>Groups where nothing else was asked for; the docs have the measurements behind it.</summary>
    public const int DefaultGroupSize = 64;

    /// <summary>Levels of Q4, fitted to normally distributed weights in groups of 64 whose scale is searched; mirrored by
    /// native/kernels/weights.h.</summary>
    public static ReadOnlySpan<sbyte> Levels => [-100, -77, -59, -45, -32, -20, -10, 0, 10, 20, 30, 42, 56, 73, 95, 127];

    /// <summary>Number of the level 0.</summary>
    public const int ZeroLevel = 7;

    public static bool IsGroupSize(int groupSize) => groupSize is 32 or 64 or 128;

    public static int Blocks(int rows) => (int)(((long)rows + BlockRows - 1) / BlockRows);

    public static int Groups(int columns, int groupSize) => (int)(((long)columns + groupSize - 1) / groupSize);

    public static long ByteLength(WeightFormat format, int rows, int columns, int groupSize) =>
        checked(ScaleBytes(rows, columns, groupSize) + Blocks(rows) * CodeBytes(format, columns, groupSize));

    /// <summary>Bytes of the scales, which come first.</summary>
    public static long ScaleBytes(int rows, int columns, int groupSize) =>
        checked(((long)Blocks(rows) * Groups(columns, groupSize) * BlockRows * 2 + 63) / 64 * 64);

    /// <summary>Bytes of the codes of one block.</summary>
    public static long CodeBytes(WeightFormat format, int columns, int groupSize) =>
        checked((long)Groups(columns, groupSize) * groupSize * BlockRows / (format == WeightFormat.Q8 ? 1 : 2));

    /// <summary>One element; for tests and backends that lay weights out anew.</summary>
    public static float Value(ReadOnlySpan<byte> packed, WeightFormat format, int rows, int columns, int groupSize,
        int row, int column)
    {
        int block = row / BlockRows;
        int lane = row % BlockRows;
        int scaleAt = ((block * Groups(columns, groupSize) + column / groupSize) * BlockRows + lane) * 2;
        float scale = (float)BinaryPrimitives.ReadHalfLittleEndian(packed[scaleAt..]) * ScaleUnit;
        long codes = ScaleBytes(rows, columns, groupSize) + block * CodeBytes(format, columns, groupSize);
        if (format == WeightFormat.Q8)
        {
            return (packed[(int)(codes + column / 4 * 64 + lane * 4 + column % 4)] - 128) * scale;
        }
        int pair = packed[(int)(codes + column / 8 * 64 + lane * 4 + column % 4)];
        return Levels[column % 8 < 4 ? pair & 15 : pair >> 4] * scale;
    }

    /// <summary>A row's levels, up to whole groups, and its scales as fp16 bits; for backends with a layout of their own.</summary>
    public static unsafe void ReadRow(void* packed, WeightFormat format, int rows, int columns, int groupSize, int row,
        Span<sbyte> levels, Span<ushort> scales)
    {
        int groups = Groups(columns, groupSize);
        int lane = row % BlockRows;
        ushort* from = (ushort*)packed + (long)(row / BlockRows) * groups * BlockRows + lane;
        for (int g = 0; g < groups; g++)
        {
            scales[g] = from[g * BlockRows];
        }
        byte* codes = (byte*)packed + ScaleBytes(rows, columns, groupSize)
            + row / BlockRows * CodeBytes(format, columns, groupSize) + lane * 4;
        for (int i = 0; i < levels.Length; i++)
        {
            int code = codes[format == WeightFormat.Q8 ? i / 4 * 64 + i % 4 : i / 8 * 64 + i % 4];
            levels[i] = format == WeightFormat.Q8 ? (sbyte)(code - 128) : Levels[i % 8 < 4 ? code & 15 : code >> 4];
        }
    }

    /// <summary>Number of scales that are NaN or infinite: such a matrix must not be computed with.</summary>
    public static long CountBadScales(ReadOnlySpan<byte> scales)
    {
        long bad = 0;
        foreach (ushort bits in System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ushort>(scales))
        {
            bad += (bits & 0x7C00) == 0x7C00 ? 1 : 0;
        }
        return bad;
    }
}
