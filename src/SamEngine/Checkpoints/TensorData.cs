using System.Buffers.Binary;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace SamEngine.Checkpoints;

/// <summary>Element types that checkpoints hold.</summary>
internal enum TensorDType
{
    Bool,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,

    /// <summary>A quantised matrix (docs/quantisation.md); in files a run of U8 that the metadata describes.</summary>
    Q8,

    /// <inheritdoc cref="Q8"/>
    Q4,
}

internal static class TensorDTypes
{
    public static int ByteSize(this TensorDType type) => type switch
    {
        TensorDType.Bool or TensorDType.U8 or TensorDType.I8 => 1,
        TensorDType.I16 or TensorDType.F16 or TensorDType.BF16 => 2,
        TensorDType.I32 or TensorDType.F32 => 4,
        TensorDType.I64 or TensorDType.F64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "its elements have no bytes of their own"),
    };

    public static bool IsFloat(this TensorDType type) => type is >= TensorDType.F16 and <= TensorDType.F64;

    public static bool IsQuantized(this TensorDType type) => type >= TensorDType.Q8;
}

/// <summary>A tensor's bytes, row-major and little-endian, in memory that <paramref name="owner"/> keeps valid while the
/// store it came from is not disposed.</summary>
internal sealed class TensorData(
    string name, TensorDType dtype, long[] shape, nint address, long byteLength, object owner, int groupSize = 0)
{
    public string Name { get; } = name;

    public TensorDType DType { get; } = dtype;

    public IReadOnlyList<long> Shape { get; } = shape;

    /// <summary>First byte.</summary>
    public nint Address { get; } = address;

    public long ByteLength { get; } = byteLength;

    /// <summary>What the memory belongs to.</summary>
    public object Owner { get; } = owner;

    /// <summary>Columns that share a scale, of a quantised matrix; else 0.</summary>
    public int GroupSize { get; } = groupSize;

    /// <summary>Number of elements.</summary>
    public long Count => DType.IsQuantized() ? Shape.Aggregate(1L, (a, b) => checked(a * b)) : ByteLength / DType.ByteSize();

    /// <summary>Rows of a matrix.</summary>
    public int Rows => checked((int)Shape[0]);

    /// <summary>Columns of a matrix; further extents count as columns.</summary>
    public int Columns => checked((int)Shape.Skip(1).Aggregate(1L, (a, b) => checked(a * b)));

    /// <summary>All bytes; tensors of 2 GiB and more are read in pieces with <see cref="Slice"/>.</summary>
    public ReadOnlySpan<byte> Bytes => Slice(0, checked((int)ByteLength));

    /// <summary><paramref name="length"/> bytes from <paramref name="start"/>.</summary>
    public unsafe ReadOnlySpan<byte> Slice(long start, int length)
    {
        if (start < 0 || length < 0 || start > ByteLength - length)
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"'{Name}': {start}+{length} of {ByteLength} bytes");
        }
        return new ReadOnlySpan<byte>((byte*)Address + start, length);
    }

    /// <summary>Elements <paramref name="start"/>..+<paramref name="count"/> as a one-dimensional tensor.</summary>
    public TensorData Part(long start, int count)
    {
        int size = DType.ByteSize();
        _ = Slice(checked(start * size), checked(count * size));
        return new TensorData(Name, DType, [count], Address + (nint)(start * size), (long)count * size, Owner);
    }

    /// <summary>The first rows of a matrix.</summary>
    public TensorData FirstRows(long rows)
    {
        if (rows < 0 || Shape.Count == 0 || rows > Shape[0])
        {
            throw new ArgumentOutOfRangeException(nameof(rows), rows, ToString());
        }
        return new TensorData(Name, DType, [rows, .. Shape.Skip(1)], Address, Shape[0] == 0 ? 0 : ByteLength / Shape[0] * rows, Owner);
    }

    /// <summary>No element is NaN or infinite.</summary>
    public bool IsFinite() => DType switch
    {
        TensorDType.F32 => NoneHasAll(MemoryMarshal.Cast<byte, uint>(Bytes), 0x7F800000u),
        TensorDType.F16 => NoneHasAll(MemoryMarshal.Cast<byte, ushort>(Bytes), (ushort)0x7C00),
        TensorDType.BF16 => NoneHasAll(MemoryMarshal.Cast<byte, ushort>(Bytes), (ushort)0x7F80),
        TensorDType.F64 => NoneHasAll(MemoryMarshal.Cast<byte, ulong>(Bytes), 0x7FF0000000000000u),
        _ => true,
    };

    /// <summary>All elements as fp32, whatever numeric type they are stored in.</summary>
    public float[] ToFloats()
    {
        float[] values = new float[checked((int)Count)];
        CopyAs(TensorDType.F32, MemoryMarshal.AsBytes(values.AsSpan()));
        return values;
    }

    /// <summary>Converts all elements to F32, F16 or BF16, rounding to nearest even.</summary>
    public void CopyAs(TensorDType type, Span<byte> destination)
    {
        int size = type.ByteSize();
        if (destination.Length != checked(Count * size))
        {
            throw new ArgumentException($"'{Name}': {destination.Length} bytes for {Count} elements of {type}");
        }
        const int Piece = 16384;
        Span<float> values = new float[Piece];
        for (long done = 0; done < Count; done += Piece)
        {
            int count = (int)Math.Min(Piece, Count - done);
            var source = Slice(done * DType.ByteSize(), count * DType.ByteSize());
            var target = destination.Slice((int)(done * size), count * size);
            if (DType == type)
            {
                source.CopyTo(target);
                continue;
            }
            Widen(source, values[..count]);
            Narrow(values[..count], type, target);
        }
    }

    public override string ToString() => $"'{Name}' {DType} [{string.Join(", ", Shape)}]";

    /// <summary>Rounds fp32 to bfloat16, to nearest even; NaN stays NaN.</summary>
    public static ushort ToBFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value)
            ? (ushort)((bits >> 16) | 0x40)
            : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>Whether no element has all bits of the exponent set.</summary>
    private static bool NoneHasAll<T>(ReadOnlySpan<T> bits, T exponent)
        where T : unmanaged, IBinaryInteger<T>
    {
        int at = 0;
        var mask = new Vector<T>(exponent);
        for (; at <= bits.Length - Vector<T>.Count; at += Vector<T>.Count)
        {
            if (Vector.EqualsAny(new Vector<T>(bits[at..]) & mask, mask))
            {
                return false;
            }
        }
        for (; at < bits.Length; at++)
        {
            if ((bits[at] & exponent) == exponent)
            {
                return false;
            }
        }
        return true;
    }

    private void Widen(ReadOnlySpan<byte> source, Span<float> values)
    {
        switch (DType)
        {
            case TensorDType.F32:
                MemoryMarshal.Cast<byte, float>(source).CopyTo(values);
                break;
            case TensorDType.F16:
                TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(source), values);
                break;
            case TensorDType.BF16:
                var halves = MemoryMarshal.Cast<byte, ushort>(source);
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = BitConverter.UInt32BitsToSingle((uint)halves[i] << 16);
                }
                break;
            default:
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = Element(source, i);
                }
                break;
        }
    }

    private float Element(ReadOnlySpan<byte> source, int i) => DType switch
    {
        TensorDType.F64 => (float)BinaryPrimitives.ReadDoubleLittleEndian(source[(i * 8)..]),
        TensorDType.I64 => BinaryPrimitives.ReadInt64LittleEndian(source[(i * 8)..]),
        TensorDType.I32 => BinaryPrimitives.ReadInt32LittleEndian(source[(i * 4)..]),
        TensorDType.I16 => BinaryPrimitives.ReadInt16LittleEndian(source[(i * 2)..]),
        TensorDType.I8 => (sbyte)source[i],
        _ => source[i],
    };

    private static void Narrow(ReadOnlySpan<float> values, TensorDType type, Span<byte> target)
    {
        switch (type)
        {
            case TensorDType.F32:
                values.CopyTo(MemoryMarshal.Cast<byte, float>(target));
                break;
            case TensorDType.F16:
                TensorPrimitives.ConvertToHalf(values, MemoryMarshal.Cast<byte, Half>(target));
                break;
            case TensorDType.BF16:
                var halves = MemoryMarshal.Cast<byte, ushort>(target);
                for (int i = 0; i < values.Length; i++)
                {
                    halves[i] = ToBFloat16(values[i]);
                }
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(type), type, "only floating-point targets");
        }
    }
}
