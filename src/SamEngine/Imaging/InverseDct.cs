using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SamEngine.Imaging;

/// <summary>The inverse cosine transform of 8 x 8 blocks with the bits of libjpeg-turbo's accurate integer method ("islow", after
/// Loeffler, Ligtenberg and Moschytz, 1989) as its vector code computes it: sums of two 16-bit numbers wrap, what a pass hands on
/// saturates. Two blocks at a time, one in each half of an AVX2 vector.</summary>
internal static class InverseDct
{
    private const int ConstantBits = 13;

    /// <summary>Fraction bits that the first pass leaves.</summary>
    private const int PassBits = 2;

    /// <summary>Transforms two blocks.</summary>
    /// <param name="blocks">2 x 64 coefficients, row by row; zeros when this returns.</param>
    /// <param name="firstSteps">What the first block's coefficients are multiplied by, 64.</param>
    /// <param name="secondSteps">The same of the second block.</param>
    /// <param name="plane">Receives the samples, 0 to 255.</param>
    /// <param name="first">Position in the plane of the first block's first sample.</param>
    /// <param name="firstStride">Samples from one row of the first block to the next.</param>
    /// <param name="second">Position of the second block, of the same plane or of another in the same array.</param>
    /// <param name="secondStride">Samples from one row of the second block to the next.</param>
    public static void TransformTwo(
        Span<short> blocks,
        ReadOnlySpan<short> firstSteps,
        ReadOnlySpan<short> secondSteps,
        Span<byte> plane,
        int first,
        int firstStride,
        int second,
        int secondStride)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(blocks.Length, 128);
        ArgumentOutOfRangeException.ThrowIfLessThan(firstSteps.Length, 64);
        ArgumentOutOfRangeException.ThrowIfLessThan(secondSteps.Length, 64);
        ref byte firstOut = ref MemoryMarshal.GetReference(plane.Slice(first, (7 * firstStride) + 8));
        ref byte secondOut = ref MemoryMarshal.GetReference(plane.Slice(second, (7 * secondStride) + 8));
        ref short a = ref MemoryMarshal.GetReference(blocks);
        ref short b = ref Unsafe.Add(ref a, 64);
        ref short aSteps = ref MemoryMarshal.GetReference(firstSteps);
        ref short bSteps = ref MemoryMarshal.GetReference(secondSteps);

        var v0 = Load(ref a, ref b, ref aSteps, ref bSteps, 0);
        var v1 = Load(ref a, ref b, ref aSteps, ref bSteps, 8);
        var v2 = Load(ref a, ref b, ref aSteps, ref bSteps, 16);
        var v3 = Load(ref a, ref b, ref aSteps, ref bSteps, 24);
        var v4 = Load(ref a, ref b, ref aSteps, ref bSteps, 32);
        var v5 = Load(ref a, ref b, ref aSteps, ref bSteps, 40);
        var v6 = Load(ref a, ref b, ref aSteps, ref bSteps, 48);
        var v7 = Load(ref a, ref b, ref aSteps, ref bSteps, 56);
        blocks[..128].Clear();

        Pass(ref v0, ref v1, ref v2, ref v3, ref v4, ref v5, ref v6, ref v7, ConstantBits - PassBits);
        Transpose(ref v0, ref v1, ref v2, ref v3, ref v4, ref v5, ref v6, ref v7);
        Pass(ref v0, ref v1, ref v2, ref v3, ref v4, ref v5, ref v6, ref v7, ConstantBits + PassBits + 3);

        // Each vector is a column now; bytes back into rows, two to a half.
        var p0 = Avx2.PackSignedSaturate(v0, v4);
        var p1 = Avx2.PackSignedSaturate(v1, v5);
        var p2 = Avx2.PackSignedSaturate(v2, v6);
        var p3 = Avx2.PackSignedSaturate(v3, v7);
        var left01 = Avx2.UnpackLow(p0, p1).AsInt16();
        var left23 = Avx2.UnpackLow(p2, p3).AsInt16();
        var right45 = Avx2.UnpackHigh(p0, p1).AsInt16();
        var right67 = Avx2.UnpackHigh(p2, p3).AsInt16();
        var top0123 = Avx2.UnpackLow(left01, left23).AsInt32();
        var bottom0123 = Avx2.UnpackHigh(left01, left23).AsInt32();
        var top4567 = Avx2.UnpackLow(right45, right67).AsInt32();
        var bottom4567 = Avx2.UnpackHigh(right45, right67).AsInt32();
        Store(Avx2.UnpackLow(top0123, top4567), ref firstOut, firstStride, ref secondOut, secondStride, 0);
        Store(Avx2.UnpackHigh(top0123, top4567), ref firstOut, firstStride, ref secondOut, secondStride, 2);
        Store(Avx2.UnpackLow(bottom0123, bottom4567), ref firstOut, firstStride, ref secondOut, secondStride, 4);
        Store(Avx2.UnpackHigh(bottom0123, bottom4567), ref firstOut, firstStride, ref secondOut, secondStride, 6);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<short> Load(ref short a, ref short b, ref short aSteps, ref short bSteps, nuint at) =>
        Vector256.Create(Vector128.LoadUnsafe(ref a, at), Vector128.LoadUnsafe(ref b, at)) *
        Vector256.Create(Vector128.LoadUnsafe(ref aSteps, at), Vector128.LoadUnsafe(ref bSteps, at));

    /// <summary>Two rows of each block.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector256<int> rows, ref byte first, int firstStride, ref byte second, int secondStride, int row)
    {
        var samples = (rows.AsByte() + Vector256.Create((byte)128)).AsInt64();
        Unsafe.WriteUnaligned(ref Unsafe.Add(ref first, (nint)row * firstStride), samples[0]);
        Unsafe.WriteUnaligned(ref Unsafe.Add(ref first, ((nint)row + 1) * firstStride), samples[1]);
        Unsafe.WriteUnaligned(ref Unsafe.Add(ref second, (nint)row * secondStride), samples[2]);
        Unsafe.WriteUnaligned(ref Unsafe.Add(ref second, ((nint)row + 1) * secondStride), samples[3]);
    }

    /// <summary>The one-dimensional transform of eight columns in each half: lane i of the eight vectors is column i.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Pass(
        ref Vector256<short> v0,
        ref Vector256<short> v1,
        ref Vector256<short> v2,
        ref Vector256<short> v3,
        ref Vector256<short> v4,
        ref Vector256<short> v5,
        ref Vector256<short> v6,
        ref Vector256<short> v7,
        int shift)
    {
        // Constants of 13 fraction bits; products of the flow graph are combined so that each is a sum of two.
        const int f0298 = 2446, f0390 = 3196, f0541 = 4433, f0765 = 6270, f0899 = 7373, f1175 = 9633;
        const int f1501 = 12299, f1847 = 15137, f1961 = 16069, f2053 = 16819, f2562 = 20995, f3072 = 25172;

        var (low, high) = Interleave(v2, v6);
        var (c3Low, c3High) = Products(low, high, f0541 + f0765, f0541);
        var (c2Low, c2High) = Products(low, high, f0541, f0541 - f1847);
        var (sumLow, sumHigh) = Scaled(v0 + v4);
        var (differenceLow, differenceHigh) = Scaled(v0 - v4);
        var rounding = Vector256.Create(1 << (shift - 1));
        sumLow += rounding;
        sumHigh += rounding;
        differenceLow += rounding;
        differenceHigh += rounding;

        (low, high) = Interleave(v7 + v3, v5 + v1);
        var (z3Low, z3High) = Products(low, high, f1175 - f1961, f1175);
        var (z4Low, z4High) = Products(low, high, f1175, f1175 - f0390);
        (low, high) = Interleave(v7, v1);
        var (o0Low, o0High) = Products(low, high, f0298 - f0899, -f0899);
        var (o3Low, o3High) = Products(low, high, -f0899, f1501 - f0899);
        (low, high) = Interleave(v5, v3);
        var (o1Low, o1High) = Products(low, high, f2053 - f2562, -f2562);
        var (o2Low, o2High) = Products(low, high, -f2562, f3072 - f2562);

        (v0, v7) = Finish(sumLow + c3Low, sumHigh + c3High, o3Low + z4Low, o3High + z4High, shift);
        (v1, v6) = Finish(differenceLow + c2Low, differenceHigh + c2High, o2Low + z3Low, o2High + z3High, shift);
        (v2, v5) = Finish(differenceLow - c2Low, differenceHigh - c2High, o1Low + z4Low, o1High + z4High, shift);
        (v3, v4) = Finish(sumLow - c3Low, sumHigh - c3High, o0Low + z3Low, o0High + z3High, shift);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<short> Low, Vector256<short> High) Interleave(Vector256<short> a, Vector256<short> b) =>
        (Avx2.UnpackLow(a, b), Avx2.UnpackHigh(a, b));

    /// <summary>First of each pair times <paramref name="a"/> plus second times <paramref name="b"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<int> Low, Vector256<int> High) Products(Vector256<short> low, Vector256<short> high, int a, int b)
    {
        var factors = Vector256.Create((a & 0xffff) | (b << 16)).AsInt16();
        return (Avx2.MultiplyAddAdjacent(low, factors), Avx2.MultiplyAddAdjacent(high, factors));
    }

    /// <summary>Widened, with the constants' fraction bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<int> Low, Vector256<int> High) Scaled(Vector256<short> a) =>
        (Avx2.UnpackLow(Vector256<short>.Zero, a).AsInt32() >> (16 - ConstantBits),
            Avx2.UnpackHigh(Vector256<short>.Zero, a).AsInt32() >> (16 - ConstantBits));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<short> Sum, Vector256<short> Difference) Finish(
        Vector256<int> evenLow, Vector256<int> evenHigh, Vector256<int> oddLow, Vector256<int> oddHigh, int shift) =>
        (Avx2.PackSignedSaturate((evenLow + oddLow) >> shift, (evenHigh + oddHigh) >> shift),
            Avx2.PackSignedSaturate((evenLow - oddLow) >> shift, (evenHigh - oddHigh) >> shift));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Transpose(
        ref Vector256<short> v0,
        ref Vector256<short> v1,
        ref Vector256<short> v2,
        ref Vector256<short> v3,
        ref Vector256<short> v4,
        ref Vector256<short> v5,
        ref Vector256<short> v6,
        ref Vector256<short> v7)
    {
        var (a0, a1) = Pairs(v0, v1);
        var (a2, a3) = Pairs(v2, v3);
        var (a4, a5) = Pairs(v4, v5);
        var (a6, a7) = Pairs(v6, v7);
        var (b0, b1) = Fours(a0, a2);
        var (b2, b3) = Fours(a1, a3);
        var (b4, b5) = Fours(a4, a6);
        var (b6, b7) = Fours(a5, a7);
        (v0, v1) = (Avx2.UnpackLow(b0, b4).AsInt16(), Avx2.UnpackHigh(b0, b4).AsInt16());
        (v2, v3) = (Avx2.UnpackLow(b1, b5).AsInt16(), Avx2.UnpackHigh(b1, b5).AsInt16());
        (v4, v5) = (Avx2.UnpackLow(b2, b6).AsInt16(), Avx2.UnpackHigh(b2, b6).AsInt16());
        (v6, v7) = (Avx2.UnpackLow(b3, b7).AsInt16(), Avx2.UnpackHigh(b3, b7).AsInt16());

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static (Vector256<int> Low, Vector256<int> High) Pairs(Vector256<short> a, Vector256<short> b) =>
            (Avx2.UnpackLow(a, b).AsInt32(), Avx2.UnpackHigh(a, b).AsInt32());

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static (Vector256<long> Low, Vector256<long> High) Fours(Vector256<int> a, Vector256<int> b) =>
            (Avx2.UnpackLow(a, b).AsInt64(), Avx2.UnpackHigh(a, b).AsInt64());
    }
}
