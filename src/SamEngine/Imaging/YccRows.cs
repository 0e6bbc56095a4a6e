using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SamEngine.Imaging;

/// <summary>From rows of Y, Cb, Cr to pixels, with libjpeg-turbo's bits: colour sampled at half is interpolated ("fancy upsampling": 3/4
/// of the nearer sample, 1/4 of the farther one, in each direction), then JFIF's conversion in 16 fraction bits. AVX2. Vectors run past
/// the end of a row: every buffer needs <see cref="Slack"/> elements more.</summary>
internal static class YccRows
{
    /// <summary>Elements that may be read and written behind the end of any row.</summary>
    public const int Slack = 64;

    /// <summary>A row of colour between two rows of samples: three times the nearer plus the farther.</summary>
    /// <param name="near">At least <paramref name="width"/> samples.</param>
    /// <param name="far">As many.</param>
    /// <param name="sums">Receives the sums from position 1 on, with the first and the last one repeated around them.</param>
    /// <param name="width">Samples.</param>
    public static void Blend(ReadOnlySpan<byte> near, ReadOnlySpan<byte> far, Span<short> sums, int width)
    {
        Check(near.Length, width);
        Check(far.Length, width);
        Check(sums.Length, width + 2);
        ref byte a = ref MemoryMarshal.GetReference(near);
        ref byte b = ref MemoryMarshal.GetReference(far);
        ref short to = ref Unsafe.Add(ref MemoryMarshal.GetReference(sums), 1);
        for (int i = 0; i < width; i += 16)
        {
            var wide = Widen(ref a, i);
            (wide + wide + wide + Widen(ref b, i)).StoreUnsafe(ref to, (nuint)i);
        }
        sums[0] = sums[1];
        sums[width + 1] = sums[width];
    }

    /// <summary>As <see cref="Blend"/>, of a row that belongs to this row of pixels alone.</summary>
    public static void Copy(ReadOnlySpan<byte> row, Span<short> sums, int width)
    {
        Check(row.Length, width);
        Check(sums.Length, width + 2);
        ref byte from = ref MemoryMarshal.GetReference(row);
        ref short to = ref Unsafe.Add(ref MemoryMarshal.GetReference(sums), 1);
        for (int i = 0; i < width; i += 16)
        {
            Widen(ref from, i).StoreUnsafe(ref to, (nuint)i);
        }
        sums[0] = sums[1];
        sums[width + 1] = sums[width];
    }

    /// <summary>Makes two of each sample: three times itself plus the neighbour on its left, and on its right.</summary>
    /// <param name="sums">From position 1 on, with a neighbour on either side.</param>
    /// <param name="width">Samples.</param>
    /// <param name="blended">They are sums of four already.</param>
    /// <param name="target">Receives 2 x width values, 0 to 255.</param>
    public static void Double(ReadOnlySpan<short> sums, int width, bool blended, Span<short> target)
    {
        Check(sums.Length, width + 2);
        Check(target.Length, 2 * width);
        // Halves are rounded up and down in turns.
        var leftRounding = Vector256.Create((short)(blended ? 8 : 1));
        var rightRounding = Vector256.Create((short)(blended ? 7 : 2));
        int shift = blended ? 4 : 2;
        ref short from = ref MemoryMarshal.GetReference(sums);
        ref short to = ref MemoryMarshal.GetReference(target);
        for (int i = 0; i < width; i += 16)
        {
            var own = Vector256.LoadUnsafe(ref from, (nuint)i + 1);
            own = own + own + own;
            var left = (own + Vector256.LoadUnsafe(ref from, (nuint)i) + leftRounding) >> shift;
            var right = (own + Vector256.LoadUnsafe(ref from, (nuint)i + 2) + rightRounding) >> shift;
            var low = Avx2.UnpackLow(left, right);
            var high = Avx2.UnpackHigh(left, right);
            Avx2.Permute2x128(low, high, 0x20).StoreUnsafe(ref to, 2 * (nuint)i);
            Avx2.Permute2x128(low, high, 0x31).StoreUnsafe(ref to, (2 * (nuint)i) + 16);
        }
    }

    /// <summary>A row of pixels.</summary>
    /// <param name="y">At least <paramref name="width"/> samples.</param>
    /// <param name="cb">As many, 0 to 255.</param>
    /// <param name="cr">As many, 0 to 255.</param>
    /// <param name="target">Receives R, G, B and 255.</param>
    /// <param name="width">Pixels.</param>
    public static void ToPixels(ReadOnlySpan<byte> y, ReadOnlySpan<short> cb, ReadOnlySpan<short> cr, Span<byte> target, int width)
    {
        // 1.402, 1.772, 0.34414 and 0.71414 as fractions of 65536, less the whole numbers that are added apart.
        const short redFromCr = 26345, blueFromCb = -14942, greenFromCb = -22554, greenFromCr = 18734;
        Check(y.Length, width);
        Check(cb.Length, width);
        Check(cr.Length, width);
        Check(target.Length, 4 * width);
        ref byte luma = ref MemoryMarshal.GetReference(y);
        ref short blueness = ref MemoryMarshal.GetReference(cb);
        ref short redness = ref MemoryMarshal.GetReference(cr);
        ref byte to = ref MemoryMarshal.GetReference(target);
        var middle = Vector256.Create((short)128);
        var greens = Vector256.Create((greenFromCb & 0xffff) | (greenFromCr << 16)).AsInt16();
        var half = Vector256.Create(1 << 15);
        for (int i = 0; i < width; i += 16)
        {
            var own = Widen(ref luma, i);
            var b = Vector256.LoadUnsafe(ref blueness, (nuint)i) - middle;
            var r = Vector256.LoadUnsafe(ref redness, (nuint)i) - middle;
            var red = own + r + Fraction(r + r, redFromCr);
            var blue = own + b + b + Fraction(b + b, blueFromCb);
            var green = own - r + Avx2.PackSignedSaturate(
                (Avx2.MultiplyAddAdjacent(Avx2.UnpackLow(b, r), greens) + half) >> 16,
                (Avx2.MultiplyAddAdjacent(Avx2.UnpackHigh(b, r), greens) + half) >> 16);
            Store(red, green, blue, ref to, i);
        }

        // Half of the product, rounded: of twice the colour, so that 16 bits are enough.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector256<short> Fraction(Vector256<short> twice, short factor) =>
            (Avx2.MultiplyHigh(twice, Vector256.Create(factor)) + Vector256<short>.One) >> 1;
    }

    /// <summary>A row of grey pixels.</summary>
    /// <param name="y">At least <paramref name="width"/> samples.</param>
    /// <param name="target">Receives each three times and 255.</param>
    /// <param name="width">Pixels.</param>
    public static void ToPixels(ReadOnlySpan<byte> y, Span<byte> target, int width)
    {
        Check(y.Length, width);
        Check(target.Length, 4 * width);
        ref byte luma = ref MemoryMarshal.GetReference(y);
        ref byte to = ref MemoryMarshal.GetReference(target);
        for (int i = 0; i < width; i += 16)
        {
            var own = Widen(ref luma, i);
            Store(own, own, own, ref to, i);
        }
    }

    private static void Check(int length, int used) => ArgumentOutOfRangeException.ThrowIfLessThan(length, used + Slack);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<short> Widen(ref byte samples, int at) =>
        Avx2.ConvertToVector256Int16(Vector128.LoadUnsafe(ref samples, (nuint)at));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector256<short> red, Vector256<short> green, Vector256<short> blue, ref byte to, int pixel)
    {
        var redBlue = Avx2.PackUnsignedSaturate(red, blue);
        var greenFull = Avx2.PackUnsignedSaturate(green, Vector256.Create((short)255));
        var redGreen = Avx2.UnpackLow(redBlue, greenFull).AsInt16();
        var blueFull = Avx2.UnpackHigh(redBlue, greenFull).AsInt16();
        var low = Avx2.UnpackLow(redGreen, blueFull).AsByte();
        var high = Avx2.UnpackHigh(redGreen, blueFull).AsByte();
        Avx2.Permute2x128(low, high, 0x20).StoreUnsafe(ref to, 4 * (nuint)pixel);
        Avx2.Permute2x128(low, high, 0x31).StoreUnsafe(ref to, (4 * (nuint)pixel) + 32);
    }
}
