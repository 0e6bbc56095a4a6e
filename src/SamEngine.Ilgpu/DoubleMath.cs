using System.Runtime.CompilerServices;
using ILGPU;

namespace SamEngine.Ilgpu;

/// <summary>exp and log in double by arithmetic alone, within a few units of the last place: ILGPU has none for OpenCL and only
/// rough ones for CUDA, and a token's noise must be the same on every device.</summary>
internal static class DoubleMath
{
    private const double Ln2High = 6.93147180369123816490e-01;
    private const double Ln2Low = 1.90821492927058770002e-10;

    /// <summary>e^x; 0 below the smallest normal number. Not for x above 700.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Exp(double x)
    {
        if (!(x > -708))
        {
            return 0;
        }
        double turns = x * 1.4426950408889634;
        int k = (int)(turns + (turns < 0 ? -0.5 : 0.5));
        double r = x - k * Ln2High - k * Ln2Low;
        // Taylor up to r^13 / 13!: |r| is at most 0.35.
        double sum = 1.0 / 6227020800;
        sum = sum * r + 1.0 / 479001600;
        sum = sum * r + 1.0 / 39916800;
        sum = sum * r + 1.0 / 3628800;
        sum = sum * r + 1.0 / 362880;
        sum = sum * r + 1.0 / 40320;
        sum = sum * r + 1.0 / 5040;
        sum = sum * r + 1.0 / 720;
        sum = sum * r + 1.0 / 120;
        sum = sum * r + 1.0 / 24;
        sum = sum * r + 1.0 / 6;
        sum = sum * r + 0.5;
        sum = sum * r + 1;
        sum = sum * r + 1;
        return sum * Interop.IntAsFloat((ulong)(k + 1023) << 52);
    }

    /// <summary>Natural logarithm of a positive normal number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Log(double x)
    {
        ulong bits = Interop.FloatAsInt(x);
        int exponent = (int)(bits >> 52) - 1023;
        double m = Interop.IntAsFloat((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000);
        if (m > 1.4142135623730951)
        {
            m *= 0.5;
            exponent++;
        }
        // 2 atanh(s), |s| at most 0.172.
        double s = (m - 1) / (m + 1);
        double z = s * s;
        double sum = 1.0 / 21;
        sum = sum * z + 1.0 / 19;
        sum = sum * z + 1.0 / 17;
        sum = sum * z + 1.0 / 15;
        sum = sum * z + 1.0 / 13;
        sum = sum * z + 1.0 / 11;
        sum = sum * z + 1.0 / 9;
        sum = sum * z + 1.0 / 7;
        sum = sum * z + 1.0 / 5;
        sum = sum * z + 1.0 / 3;
        return exponent * Ln2High + (2 * s + (2 * s * z * sum + exponent * Ln2Low));
    }
}
