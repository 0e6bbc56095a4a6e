using System.Diagnostics;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SamEngine.Bench;

/// <summary>What this machine can do at the moment: the bounds that a stage's figures are set beside.</summary>
/// <param name="Threads">Threads that ran together.</param>
/// <param name="ReadBytesPerSecond">Reading memory linearly, all threads.</param>
/// <param name="Fma">fp32 fused multiply-adds in registers, two operations each, all threads, per register width.</param>
/// <param name="Int8">Multiply-adds of bytes to 32-bit sums in registers, two operations each, all threads, per instruction; empty
/// where the runtime has none of them.</param>
internal sealed record Ceilings(int Threads, double ReadBytesPerSecond, IReadOnlyDictionary<string, double> Fma,
    IReadOnlyDictionary<string, double> Int8)
{
    private const long ReadBytes = 1L << 30;
    private const int Repeats = 5;

    /// <summary>The bound for kernels of an instruction set: its widest registers. The scalar kernels are compiled for
    /// 128-bit SSE without fused multiply-adds; they are set beside 128-bit ones.</summary>
    public double FmaOf(string instructionSet) => instructionSet switch
    {
        _ when instructionSet.StartsWith("avx512", StringComparison.Ordinal) => Fma["512 bit"],
        "avx2" => Fma["256 bit"],
        _ => Fma["128 bit"],
    };

    /// <summary>The bound for matrix products with weights of so many bytes each: products of bytes for quantised weights, twice
    /// the fp32 rate (what the instruction is rated at; the runtime can't issue it) for bf16 where there is bf16 arithmetic.</summary>
    public double ProductsOf(string instructionSet, double bytesPerWeight) =>
        bytesPerWeight is > 0 and < 2 && Int8.Count > 0 ? Int8.Values.Max()
        : bytesPerWeight == 2 && instructionSet == "avx512-bf16" ? 2 * FmaOf(instructionSet)
        : FmaOf(instructionSet);

    /// <summary>Measures: the best of five, as a ceiling is what the machine can do, not what its other users left.</summary>
    public static Ceilings Measure(int threads)
    {
        var fma = new Dictionary<string, double>();
        if (System.Runtime.Intrinsics.X86.Fma.IsSupported)
        {
            fma.Add("128 bit", Best(threads, Fma128));
            fma.Add("256 bit", Best(threads, Fma256));
        }
        if (Avx512F.IsSupported)
        {
            fma.Add("512 bit", Best(threads, Fma512));
        }
        var int8 = new Dictionary<string, double>();
        if (AvxVnni.IsSupported)
        {
            int8.Add("VNNI 256 bit", Best(threads, Vnni256));
            // The runtime can't issue the wide form; it runs where wide multiply-adds do.
            if (Avx512F.IsSupported)
            {
                int8.Add("VNNI 512 bit by the ratio of fp32", int8["VNNI 256 bit"] * fma["512 bit"] / fma["256 bit"]);
            }
        }
        if (Avx512BW.IsSupported)
        {
            int8.Add("512 bit without VNNI", Best(threads, MultiplyAdd512));
        }
        return new Ceilings(threads, ReadBandwidth(threads), fma, int8);
    }

    /// <summary>The largest of several measurements of each: other users of the machine only ever take away.</summary>
    public static Ceilings BestOf(IReadOnlyList<Ceilings> probes) => new(probes[0].Threads,
        probes.Max(p => p.ReadBytesPerSecond), probes[0].Fma.Keys.ToDictionary(k => k, k => probes.Max(p => p.Fma[k])),
        probes[0].Int8.Keys.ToDictionary(k => k, k => probes.Max(p => p.Int8[k])));

    private static unsafe double ReadBandwidth(int threads)
    {
        byte* memory = (byte*)NativeMemory.AlignedAlloc((nuint)ReadBytes, 64);
        try
        {
            // Written, not only allocated: untouched pages would all be one page of zeros.
            long part = ReadBytes / threads / 512 * 512;
            InParallel(threads, i => Fill(memory + i * part, part));
            return Best(threads, i =>
            {
                Sum(memory + i * part, part);
                return part;
            });
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    private static unsafe void Fill(byte* memory, long length)
    {
        for (long at = 0; at < length; at += 1 << 20)
        {
            new Span<byte>(memory + at, (int)Math.Min(1 << 20, length - at)).Fill(1);
        }
    }

    /// <summary>Adds up everything in eight chains, so that loads never wait for additions.</summary>
    private static unsafe void Sum(byte* memory, long length)
    {
        int width = Vector<int>.Count;
        int* p = (int*)memory;
        int* end = p + length / sizeof(int);
        Vector<int> a = default, b = default, c = default, d = default, e = default, f = default, g = default, h = default;
        for (; p < end; p += 8 * width)
        {
            a += Vector.Load(p);
            b += Vector.Load(p + width);
            c += Vector.Load(p + 2 * width);
            d += Vector.Load(p + 3 * width);
            e += Vector.Load(p + 4 * width);
            f += Vector.Load(p + 5 * width);
            g += Vector.Load(p + 6 * width);
            h += Vector.Load(p + 7 * width);
        }
        Keep(Vector.Sum(a + b + c + d + e + f + g + h));
    }

    // Twelve chains cover the latency of two units of four cycles; all stay in registers.
    private const int Chains = 12;
    private const int Rounds = 4_000_000;

    private static long Fma128(int thread)
    {
        var m = Vector128.Create(0.5f);
        var (a, b, c, d, e, f) = (m, m, m, m, m, m);
        var (g, h, i, j, k, l) = (m, m, m, m, m, m);
        for (int n = 0; n < Rounds; n++)
        {
            (a, b, c) = (Vector128.FusedMultiplyAdd(a, m, m), Vector128.FusedMultiplyAdd(b, m, m), Vector128.FusedMultiplyAdd(c, m, m));
            (d, e, f) = (Vector128.FusedMultiplyAdd(d, m, m), Vector128.FusedMultiplyAdd(e, m, m), Vector128.FusedMultiplyAdd(f, m, m));
            (g, h, i) = (Vector128.FusedMultiplyAdd(g, m, m), Vector128.FusedMultiplyAdd(h, m, m), Vector128.FusedMultiplyAdd(i, m, m));
            (j, k, l) = (Vector128.FusedMultiplyAdd(j, m, m), Vector128.FusedMultiplyAdd(k, m, m), Vector128.FusedMultiplyAdd(l, m, m));
        }
        Keep(Vector128.Sum(a + b + c + d + e + f + g + h + i + j + k + l));
        return 2L * Vector128<float>.Count * Chains * Rounds;
    }

    private static long Fma256(int thread)
    {
        var m = Vector256.Create(0.5f);
        var (a, b, c, d, e, f) = (m, m, m, m, m, m);
        var (g, h, i, j, k, l) = (m, m, m, m, m, m);
        for (int n = 0; n < Rounds; n++)
        {
            (a, b, c) = (Vector256.FusedMultiplyAdd(a, m, m), Vector256.FusedMultiplyAdd(b, m, m), Vector256.FusedMultiplyAdd(c, m, m));
            (d, e, f) = (Vector256.FusedMultiplyAdd(d, m, m), Vector256.FusedMultiplyAdd(e, m, m), Vector256.FusedMultiplyAdd(f, m, m));
            (g, h, i) = (Vector256.FusedMultiplyAdd(g, m, m), Vector256.FusedMultiplyAdd(h, m, m), Vector256.FusedMultiplyAdd(i, m, m));
            (j, k, l) = (Vector256.FusedMultiplyAdd(j, m, m), Vector256.FusedMultiplyAdd(k, m, m), Vector256.FusedMultiplyAdd(l, m, m));
        }
        Keep(Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l));
        return 2L * Vector256<float>.Count * Chains * Rounds;
    }

    private static long Fma512(int thread)
    {
        var m = Vector512.Create(0.5f);
        var (a, b, c, d, e, f) = (m, m, m, m, m, m);
        var (g, h, i, j, k, l) = (m, m, m, m, m, m);
        for (int n = 0; n < Rounds; n++)
        {
            (a, b, c) = (Vector512.FusedMultiplyAdd(a, m, m), Vector512.FusedMultiplyAdd(b, m, m), Vector512.FusedMultiplyAdd(c, m, m));
            (d, e, f) = (Vector512.FusedMultiplyAdd(d, m, m), Vector512.FusedMultiplyAdd(e, m, m), Vector512.FusedMultiplyAdd(f, m, m));
            (g, h, i) = (Vector512.FusedMultiplyAdd(g, m, m), Vector512.FusedMultiplyAdd(h, m, m), Vector512.FusedMultiplyAdd(i, m, m));
            (j, k, l) = (Vector512.FusedMultiplyAdd(j, m, m), Vector512.FusedMultiplyAdd(k, m, m), Vector512.FusedMultiplyAdd(l, m, m));
        }
        Keep(Vector512.Sum(a + b + c + d + e + f + g + h + i + j + k + l));
        return 2L * Vector512<float>.Count * Chains * Rounds;
    }

    private static long Vnni256(int thread)
    {
        var x = Vector256.Create((byte)3);
        var w = Vector256.Create((sbyte)-2);
        var (a, b, c, d, e, f) = (Vector256<int>.Zero, Vector256<int>.Zero, Vector256<int>.Zero, Vector256<int>.Zero, Vector256<int>.Zero, Vector256<int>.Zero);
        var (g, h, i, j, k, l) = (a, a, a, a, a, a);
        for (int n = 0; n < Rounds; n++)
        {
            (a, b, c) = (AvxVnni.MultiplyWideningAndAdd(a, x, w), AvxVnni.MultiplyWideningAndAdd(b, x, w), AvxVnni.MultiplyWideningAndAdd(c, x, w));
            (d, e, f) = (AvxVnni.MultiplyWideningAndAdd(d, x, w), AvxVnni.MultiplyWideningAndAdd(e, x, w), AvxVnni.MultiplyWideningAndAdd(f, x, w));
            (g, h, i) = (AvxVnni.MultiplyWideningAndAdd(g, x, w), AvxVnni.MultiplyWideningAndAdd(h, x, w), AvxVnni.MultiplyWideningAndAdd(i, x, w));
            (j, k, l) = (AvxVnni.MultiplyWideningAndAdd(j, x, w), AvxVnni.MultiplyWideningAndAdd(k, x, w), AvxVnni.MultiplyWideningAndAdd(l, x, w));
        }
        Keep(Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l));
        return 2L * Vector256<byte>.Count * Chains * Rounds;
    }

    // Without VNNI a byte product takes three instructions: pairs to 16 bits, pairs to 32 bits, the sum. The factors change
    // with each sum, so that no compiler can lift a product out of the loop.
    private static long MultiplyAdd512(int thread)
    {
        var x = Vector512.Create((byte)3);
        var ones = Vector512.Create((short)1);
        var sums = (A: Vector512<int>.Zero, B: Vector512<int>.Zero, C: Vector512<int>.Zero, D: Vector512<int>.Zero, E: Vector512<int>.Zero,
            F: Vector512<int>.Zero);
        for (int n = 0; n < Rounds; n++)
        {
            sums.A += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(x, sums.A.AsSByte()), ones);
            sums.B += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(x, sums.B.AsSByte()), ones);
            sums.C += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(x, sums.C.AsSByte()), ones);
            sums.D += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(x, sums.D.AsSByte()), ones);
            sums.E += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(x, sums.E.AsSByte()), ones);
            sums.F += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(x, sums.F.AsSByte()), ones);
        }
        Keep(Vector512.Sum(sums.A + sums.B + sums.C + sums.D + sums.E + sums.F));
        return 2L * Vector512<byte>.Count * 6 * Rounds;
    }

    /// <summary>Units per second of the best of several runs, the first of which only compiles.</summary>
    private static double Best(int threads, Func<int, long> work)
    {
        double best = 0;
        for (int i = 0; i <= Repeats; i++)
        {
            long units = 0;
            long start = Stopwatch.GetTimestamp();
            InParallel(threads, t => Interlocked.Add(ref units, work(t)));
            if (i > 0)
            {
                best = Math.Max(best, units / Stopwatch.GetElapsedTime(start).TotalSeconds);
            }
        }
        return best;
    }

    private static void InParallel(int threads, Action<int> work)
    {
        var others = Enumerable.Range(1, threads - 1).Select(i => new Thread(() => work(i))).ToList();
        others.ForEach(t => t.Start());
        work(0);
        others.ForEach(t => t.Join());
    }

    private static float s_sink;

    private static void Keep(float value) => Volatile.Write(ref s_sink, value);
}
