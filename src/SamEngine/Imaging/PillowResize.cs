using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SamEngine.Imaging;

/// <summary>
/// Pillow's <c>Image.resize(size, BICUBIC)</c> on 8-bit pixels of four bytes, bit for bit: a horizontal pass into 8-bit
/// rows, then a vertical pass, each left out where that side keeps its length.
/// <para>Weights have 22 fraction bits and sums are exact in 32-bit integers, so any order of summation gives the same
/// bits. The AVX2 path multiplies 16-bit halves: with <c>w = 2^15 h + l</c>, <c>sum(w p) = 2^15 sum(h p) + sum(l p)</c>
/// modulo 2^32, and a sum that fits 32 bits comes out whole even where a part of it has wrapped.</para>
/// </summary>
internal sealed class PillowResize
{
    private const int HalfBits = 15;
    private const int LowMask = (1 << HalfBits) - 1;
    private const int Rounding = 1 << (ResizeWeights.Precision - 1);

    private readonly int _inWidth;
    private readonly int _inHeight;
    private readonly int _outWidth;
    private readonly int _outHeight;
    private readonly bool _vectorised;
    private readonly ResizeWeights? _horizontal;
    private readonly ResizeWeights? _vertical;

    /// <summary>Weights of the horizontal AVX2 pass: for four inputs at a time, the high and the low halves, each as pairs
    /// repeated for the four channels; null where that pass is not used.</summary>
    private readonly short[]? _pairs;

    /// <summary>First input of each output in <see cref="_pairs"/>: moved left where four more would cross the row's end.
    /// </summary>
    private readonly int[]? _pairsFirst;

    /// <summary>Prepares the weights.</summary>
    /// <param name="inWidth">Pixels in a row of the input.</param>
    /// <param name="inHeight">Rows of the input.</param>
    /// <param name="outWidth">Pixels in a row of the output.</param>
    /// <param name="outHeight">Rows of the output.</param>
    /// <param name="vectorised">Use AVX2 where the processor has it; false is for tests.</param>
    public PillowResize(int inWidth, int inHeight, int outWidth, int outHeight, bool vectorised = true)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(inWidth);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(inHeight);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(outWidth);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(outHeight);
        (_inWidth, _inHeight, _outWidth, _outHeight) = (inWidth, inHeight, outWidth, outHeight);
        _vectorised = vectorised && Avx2.IsSupported;
        _horizontal = inWidth == outWidth ? null : ResizeWeights.Create(inWidth, outWidth);
        _vertical = inHeight == outHeight ? null : ResizeWeights.Create(inHeight, outHeight);
        if (_vectorised && _horizontal is not null && _horizontal.Stride <= inWidth)
        {
            (_pairs, _pairsFirst) = InterleavePairs(_horizontal, inWidth);
        }
    }

    /// <summary>Resizes a whole picture.</summary>
    /// <param name="pixels">Four bytes a pixel, inHeight x inWidth.</param>
    /// <param name="destination">Four bytes a pixel, outHeight x outWidth; the fourth channel is resized like the others.
    /// </param>
    public void Resize(ReadOnlySpan<byte> pixels, Span<byte> destination)
    {
        if (pixels.Length != (long)_inWidth * _inHeight * 4)
        {
            throw new ArgumentException($"{pixels.Length} bytes for {_inWidth} x {_inHeight} pixels", nameof(pixels));
        }
        using var whole = new PixelBuffer(_inWidth, _inHeight);
        pixels.CopyTo(whole.Bytes);
        Resize(whole, destination);
    }

    /// <summary>Resizes a picture while its rows arrive.</summary>
    /// <param name="source">The picture; all its rows are taken.</param>
    /// <param name="destination">Four bytes a pixel, outHeight x outWidth.</param>
    /// <param name="cancel">Looked at whenever rows arrive.</param>
    public void Resize(PixelSource source, Span<byte> destination, CancellationToken cancel = default)
    {
        int outBytes = checked(_outWidth * 4);
        if (source.Width != _inWidth || source.Height != _inHeight || destination.Length != (long)outBytes * _outHeight)
        {
            throw new ArgumentException($"a source of {source.Width} x {source.Height} pixels and {destination.Length} bytes " +
                $"for {_inWidth} x {_inHeight} to {_outWidth} x {_outHeight}");
        }
        if (_vertical is null)
        {
            for (int y = 0; y < _inHeight;)
            {
                cancel.ThrowIfCancellationRequested();
                var rows = source.NextRows();
                int count = rows.Length / (_inWidth * 4);
                Narrow(rows, destination.Slice(y * outBytes, count * outBytes), count);
                y += count;
            }
            return;
        }
        // Rows that an output row needs, and room for as many as sources mostly hand out at a time.
        const int room = 32;
        int capacity = Math.Min(_inHeight, _vertical.Stride + room);
        byte[] rented = ArrayPool<byte>.Shared.Rent(checked(outBytes * capacity));
        try
        {
            var window = rented.AsSpan(0, outBytes * capacity);
            ReadOnlySpan<byte> arrived = default;
            int top = 0, filled = 0;
            for (int y = 0; y < _outHeight; y++)
            {
                int first = _vertical.First[y];
                while (top + filled < first + _vertical.Count[y])
                {
                    if (arrived.IsEmpty)
                    {
                        cancel.ThrowIfCancellationRequested();
                        arrived = source.NextRows();
                    }
                    int rows = arrived.Length / (_inWidth * 4);
                    if (filled + rows > capacity)
                    {
                        // No later row needs what lies above this one's first.
                        int gone = Math.Min(first - top, filled);
                        window[(gone * outBytes)..(filled * outBytes)].CopyTo(window);
                        top += gone;
                        filled -= gone;
                        rows = Math.Min(rows, capacity - filled);
                    }
                    Narrow(arrived[..(rows * _inWidth * 4)], window.Slice(filled * outBytes, rows * outBytes), rows);
                    arrived = arrived[(rows * _inWidth * 4)..];
                    filled += rows;
                }
                SumRows(_vertical, y, window[((first - top) * outBytes)..], destination.Slice(y * outBytes, outBytes));
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    /// <summary>The horizontal pass over some rows.</summary>
    private void Narrow(ReadOnlySpan<byte> rows, Span<byte> target, int count)
    {
        int inBytes = _inWidth * 4, outBytes = _outWidth * 4;
        if (_horizontal is null)
        {
            rows.CopyTo(target);
        }
        else if (_pairs is not null)
        {
            NarrowAvx2(rows, target, count);
        }
        else
        {
            for (int row = 0; row < count; row++)
            {
                NarrowRow(_horizontal, rows.Slice(row * inBytes, inBytes), target.Slice(row * outBytes, outBytes));
            }
        }
    }

    private static void NarrowRow(ResizeWeights horizontal, ReadOnlySpan<byte> row, Span<byte> target)
    {
        for (int x = 0; x < horizontal.Length; x++)
        {
            int count = horizontal.Count[x];
            var weights = horizontal.Weights.AsSpan(x * horizontal.Stride, count);
            var pixels = row.Slice(horizontal.First[x] * 4, count * 4);
            var sum = Vector128.Create(Rounding);
            for (int j = 0; j < weights.Length; j++)
            {
                sum += weights[j] * Widen(pixels.Slice(4 * j, 4));
            }
            BinaryPrimitives.WriteUInt32LittleEndian(target[(4 * x)..], Pack(sum));
        }
    }

    private void NarrowAvx2(ReadOnlySpan<byte> rows, Span<byte> target, int count)
    {
        int row = 0;
        for (; row + 4 <= count; row += 4)
        {
            NarrowAvx2<FourRows>(rows[(row * _inWidth * 4)..], target[(row * _outWidth * 4)..]);
        }
        for (; row < count; row++)
        {
            NarrowAvx2<OneRow>(rows[(row * _inWidth * 4)..], target[(row * _outWidth * 4)..]);
        }
    }

    /// <summary>The horizontal pass over one row, or over four that share the loads of the weights.</summary>
    private void NarrowAvx2<TRows>(ReadOnlySpan<byte> rows, Span<byte> target)
        where TRows : struct
    {
        int count = typeof(TRows) == typeof(FourRows) ? 4 : 1;
        int inBytes = _inWidth * 4, outBytes = _outWidth * 4;
        int stride = _horizontal!.Stride;
        // Every read below is of stride pixels from First on, which InterleavePairs keeps inside the row.
        ArgumentOutOfRangeException.ThrowIfLessThan(rows.Length, count * inBytes);
        ArgumentOutOfRangeException.ThrowIfLessThan(target.Length, count * outBytes);
        ref byte input = ref MemoryMarshal.GetReference(rows);
        ref byte output = ref MemoryMarshal.GetReference(target);
        ref short pairs = ref MemoryMarshal.GetArrayDataReference(_pairs!);
        int[] first = _pairsFirst!;
        // Two pixels side by side in each half, channel by channel, as 16-bit numbers.
        var spread = Vector256.Create(
            0, 128, 4, 128, 1, 128, 5, 128, 2, 128, 6, 128, 3, 128, 7, 128,
            8, 128, 12, 128, 9, 128, 13, 128, 10, 128, 14, 128, 11, 128, 15, (byte)128);
        for (int x = 0; x < first.Length; x++)
        {
            ref byte pixels = ref Unsafe.Add(ref input, (nint)first[x] * 4);
            Vector256<int> h0 = default, h1 = default, h2 = default, h3 = default;
            Vector256<int> l0 = default, l1 = default, l2 = default, l3 = default;
            for (int j = 0; j < stride; j += 4)
            {
                var high = Vector256.LoadUnsafe(ref pairs);
                var low = Vector256.LoadUnsafe(ref pairs, 16);
                pairs = ref Unsafe.Add(ref pairs, 32);
                Add(ref pixels, 0, ref h0, ref l0, high, low, spread);
                if (count == 4)
                {
                    Add(ref pixels, inBytes, ref h1, ref l1, high, low, spread);
                    Add(ref pixels, 2 * (nint)inBytes, ref h2, ref l2, high, low, spread);
                    Add(ref pixels, 3 * (nint)inBytes, ref h3, ref l3, high, low, spread);
                }
                pixels = ref Unsafe.Add(ref pixels, 16);
            }
            ref byte to = ref Unsafe.Add(ref output, (nint)x * 4);
            Store(ref to, 0, h0, l0);
            if (count == 4)
            {
                Store(ref to, outBytes, h1, l1);
                Store(ref to, 2 * (nint)outBytes, h2, l2);
                Store(ref to, 3 * (nint)outBytes, h3, l3);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Add(
            ref byte pixels,
            nint offset,
            ref Vector256<int> h,
            ref Vector256<int> l,
            Vector256<short> high,
            Vector256<short> low,
            Vector256<byte> spread)
        {
            var four = Vector128.LoadUnsafe(ref Unsafe.Add(ref pixels, offset));
            var wide = Avx2.Shuffle(Vector256.Create(four, four), spread).AsInt16();
            h += Avx2.MultiplyAddAdjacent(wide, high);
            l += Avx2.MultiplyAddAdjacent(wide, low);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Store(ref byte to, nint offset, Vector256<int> h, Vector256<int> l)
        {
            var sum = (h << HalfBits) + l;
            Unsafe.WriteUnaligned(
                ref Unsafe.Add(ref to, offset), Pack(sum.GetLower() + sum.GetUpper() + Vector128.Create(Rounding)));
        }
    }

    /// <summary>One row of the vertical pass; <paramref name="rows"/> begins with the first that it needs.</summary>
    private void SumRows(ResizeWeights vertical, int y, ReadOnlySpan<byte> rows, Span<byte> target)
    {
        int count = vertical.Count[y], rowBytes = target.Length;
        var weights = vertical.Weights.AsSpan(y * vertical.Stride, count);
        rows = rows[..(count * rowBytes)];
        int x = 0;
        if (_vectorised && rowBytes >= 32)
        {
            for (; x < rowBytes; x += 32)
            {
                // The last block overlaps the one before.
                x = Math.Min(x, rowBytes - 32);
                SumRowsAvx2(weights, rows, x, target);
            }
            return;
        }
        for (; x < rowBytes; x += 4)
        {
            var sum = Vector128.Create(Rounding);
            for (int j = 0; j < weights.Length; j++)
            {
                sum += weights[j] * Widen(rows.Slice((j * rowBytes) + x, 4));
            }
            BinaryPrimitives.WriteUInt32LittleEndian(target[x..], Pack(sum));
        }
    }

    /// <summary>32 bytes of a row, two input rows at a time.</summary>
    private static void SumRowsAvx2(ReadOnlySpan<int> weights, ReadOnlySpan<byte> rows, int x, Span<byte> target)
    {
        int rowBytes = target.Length;
        Vector256<int> h0 = default, h1 = default, h2 = default, h3 = default;
        Vector256<int> l0 = default, l1 = default, l2 = default, l3 = default;
        for (int j = 0; j < weights.Length; j += 2)
        {
            // Behind an odd count: the last row again, with weight zero.
            int next = Math.Min(j + 1, weights.Length - 1);
            int second = j + 1 < weights.Length ? weights[j + 1] : 0;
            var high = Vector256.Create(Pair(weights[j] >> HalfBits, second >> HalfBits)).AsInt16();
            var low = Vector256.Create(Pair(weights[j] & LowMask, second & LowMask)).AsInt16();
            var a = Vector256.Create(rows.Slice((j * rowBytes) + x, 32));
            var b = Vector256.Create(rows.Slice((next * rowBytes) + x, 32));
            var ab = Avx2.UnpackLow(a, b);
            var cd = Avx2.UnpackHigh(a, b);
            Add(Avx2.UnpackLow(ab, default), high, low, ref h0, ref l0);
            Add(Avx2.UnpackHigh(ab, default), high, low, ref h1, ref l1);
            Add(Avx2.UnpackLow(cd, default), high, low, ref h2, ref l2);
            Add(Avx2.UnpackHigh(cd, default), high, low, ref h3, ref l3);
        }
        // Unpacking and packing both work within the halves of a vector: the bytes come back in order.
        var packed = Avx2.PackUnsignedSaturate(
            Avx2.PackSignedSaturate(Shift(h0, l0), Shift(h1, l1)),
            Avx2.PackSignedSaturate(Shift(h2, l2), Shift(h3, l3)));
        packed.CopyTo(target[x..]);

        static int Pair(int first, int second) => (first & 0xffff) | (second << 16);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Add(
            Vector256<byte> wide,
            Vector256<short> high,
            Vector256<short> low,
            ref Vector256<int> h,
            ref Vector256<int> l)
        {
            h += Avx2.MultiplyAddAdjacent(wide.AsInt16(), high);
            l += Avx2.MultiplyAddAdjacent(wide.AsInt16(), low);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector256<int> Shift(Vector256<int> h, Vector256<int> l) =>
            ((h << HalfBits) + l + Vector256.Create(Rounding)) >> ResizeWeights.Precision;
    }

    private static (short[] Pairs, int[] First) InterleavePairs(ResizeWeights weights, int inSize)
    {
        int stride = weights.Stride;
        var pairs = new short[checked(weights.Length * stride * 8)];
        var first = new int[weights.Length];
        var moved = new int[stride];
        for (int x = 0; x < first.Length; x++)
        {
            first[x] = Math.Min(weights.First[x], inSize - stride);
            Array.Clear(moved);
            weights.Weights.AsSpan(x * stride, weights.Count[x]).CopyTo(moved.AsSpan(weights.First[x] - first[x]));
            var to = pairs.AsSpan(x * stride * 8, stride * 8);
            for (int j = 0; j < stride; j += 4, to = to[32..])
            {
                for (int k = 0; k < 16; k++)
                {
                    int weight = moved[j + (k / 8 * 2) + (k & 1)];
                    to[k] = (short)(weight >> HalfBits);
                    to[16 + k] = (short)(weight & LowMask);
                }
            }
        }
        return (pairs, first);
    }

    private static Vector128<int> Widen(ReadOnlySpan<byte> pixel)
    {
        var bytes = Vector128.CreateScalar(BinaryPrimitives.ReadUInt32LittleEndian(pixel)).AsByte();
        return Vector128.WidenLower(Vector128.WidenLower(bytes)).AsInt32();
    }

    /// <summary>Four sums with 22 fraction bits, clamped to bytes.</summary>
    private static uint Pack(Vector128<int> sum)
    {
        var clamped = Vector128.Min(
            Vector128.Max(sum >> ResizeWeights.Precision, Vector128<int>.Zero), Vector128.Create(255));
        var halves = Vector128.Narrow(clamped, clamped);
        return Vector128.Narrow(halves, halves).AsUInt32().ToScalar();
    }

    private readonly struct OneRow;

    private readonly struct FourRows;
}
