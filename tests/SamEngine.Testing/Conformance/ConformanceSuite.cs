using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Testing.Conformance;

/// <summary>One use of one operation.</summary>
/// <param name="Operation">Method of <see cref="ComputeQueue"/>.</param>
/// <param name="Name">What is particular about it.</param>
/// <param name="Run">Makes the inputs, enqueues the operation, declares the outputs.</param>
/// <param name="Tolerance">Largest |a - b| / max(1, |b|) against the reference, fp32 activations.</param>
/// <param name="Weights">Format of the weights of a linear layer, for backends that round its input to go with them.</param>
internal sealed record ConformanceCase(string Operation, string Name, Action<Probe> Run, double Tolerance = 2e-5,
    WeightFormat? Weights = null)
{
    public string Id => $"{Operation}: {Name}";
}

/// <summary>What every backend must do alike: each case is run on the backend and on the reference and compared.</summary>
internal static class ConformanceSuite
{
    public static IReadOnlyList<ConformanceCase> All { get; } = [.. LinearCases.All, .. NormCases.All,
        .. ElementwiseCases.All, .. AttentionCases.All, .. GroupPoolCases.All, .. KvCacheCases.All, .. SelectionCases.All];

    /// <summary>Ids of the cases of these operations; of all when none is named.</summary>
    public static IEnumerable<string> Ids(params string[] operations) =>
        All.Where(c => operations.Length == 0 || operations.Contains(c.Operation)).Select(c => c.Id);

    /// <summary>Runs one case on the backend and on the reference.</summary>
    /// <param name="backend">The backend under test.</param>
    /// <param name="id">A case of <see cref="All"/>.</param>
    /// <param name="slack">Factor on the tolerance.</param>
    public static void Check(Backend backend, string id, double slack = 1) =>
        Check(backend, All.Single(c => c.Id == id), slack);

    public static void Check(Backend backend, ConformanceCase test, double slack = 1)
    {
        using var oracle = new ReferenceBackend(backend.ActivationType);
        double tolerance = Math.Max(test.Tolerance * slack, InputRounding(backend, test.Weights))
            + OutputRounding(backend.ActivationType, test.Operation) + WeightRounding(backend.ActivationType, test.Weights);
        Compare(test.Id, Results(backend, test), Results(oracle, test), tolerance);
    }

    /// <summary>
    /// What rounding a linear layer's input costs. The cases' inputs are uniform within sqrt 3 and their outputs of
    /// deviation 1. 8 bits: steps of sqrt 3 / 127 give errors of deviation step / sqrt 12 = 0.004. bf16: half a unit of
    /// eight significant bits, at most 2^-9 of each input, of deviation 0.0012. Six of these deviations cover every output
    /// of every case; a kernel that mixes up one product of a hundred is far outside. That the sums themselves are right
    /// to the last bit is tested apart, against inputs that need no rounding.
    /// </summary>
    private static double InputRounding(Backend backend, WeightFormat? weights) => (backend, weights) switch
    {
        (CpuBackend, WeightFormat.Q8 or WeightFormat.Q4) => 0.025,
        (CpuBackend { Info.InstructionSet: "avx512-bf16" }, WeightFormat.BF16) => 0.0075,
        _ => 0,
    };

    /// <summary>
    /// What activations of a 16-bit type cost where inputs are rounded alike and sums are fp32: half a unit in the last
    /// place of each output (relative 2^-11 of fp16, 2^-8 of bf16); with some room, as a sum near the middle of two values
    /// may go either way. Rotated keys, stored values and probabilities are rounded too before attention uses them.
    /// </summary>
    private static double OutputRounding(ElementType activations, string operation)
    {
        double half = activations switch
        {
            ElementType.F16 => 1.0 / 2048,
            ElementType.BF16 => 1.0 / 256,
            _ => 0,
        };
        return half * (operation is nameof(ComputeQueue.RotaryStoreKv) or nameof(ComputeQueue.PagedAttention)
            or nameof(ComputeQueue.CopyKvBlocks) ? 6 : 1.5);
    }

    /// <summary>
    /// What it costs to round the weights of a linear layer to the type of 16-bit activations, which tensor cores want: half
    /// a unit in the last place of each, of deviation 2^-13 (fp16) and 2^-10 (bf16) of outputs of deviation 1. Six of these.
    /// </summary>
    private static double WeightRounding(ElementType activations, WeightFormat? weights) => (activations, weights) switch
    {
        (ElementType.F16 or ElementType.BF16, null) or (ElementType.F32, _) => 0,
        (ElementType.F16, WeightFormat.F16) or (ElementType.BF16, WeightFormat.BF16) => 0,
        (ElementType.F16, _) => 6.0 / 8192,
        _ => 6.0 / 1024,
    };

    /// <summary>The outputs must be equal to the last bit.</summary>
    public static void CheckIdentical(Backend a, Backend b, string id)
    {
        var test = All.Single(c => c.Id == id);
        var left = Results(a, test);
        var right = Results(b, test);
        for (int i = 0; i < left.Count; i++)
        {
            Assert.True(left[i].Ints.AsSpan().SequenceEqual(right[i].Ints), $"{id}: {left[i].Name}");
            Assert.Equal(left[i].Floats.Select(BitConverter.SingleToInt32Bits),
                right[i].Floats.Select(BitConverter.SingleToInt32Bits));
        }
    }

    private static IReadOnlyList<(string Name, float[] Floats, int[] Ints)> Results(Backend backend, ConformanceCase test)
    {
        using var probe = new Probe(backend, Seed(test.Id));
        test.Run(probe);
        var results = probe.Results();
        Assert.True(results.Count > 0, $"{test.Id} declares no output");
        return results;
    }

    private static void Compare(string id, IReadOnlyList<(string Name, float[] Floats, int[] Ints)> actual,
        IReadOnlyList<(string Name, float[] Floats, int[] Ints)> expected, double tolerance)
    {
        Assert.Equal(expected.Count, actual.Count);
        for (int i = 0; i < expected.Count; i++)
        {
            Assert.Equal(expected[i].Ints, actual[i].Ints);
            // Equal infinities and NaNs at the same place are agreement; the tolerance would not see it.
            float[] a = actual[i].Floats;
            float[] e = expected[i].Floats;
            for (int k = 0; k < e.Length; k++)
            {
                if (!float.IsFinite(e[k]) && (a[k].Equals(e[k])))
                {
                    a[k] = e[k] = 0;
                }
            }
            Tolerance.AssertClose($"{id}, {expected[i].Name}", a, e, tolerance, tolerance);
        }
    }

    private static int Seed(string id)
    {
        // string.GetHashCode differs from run to run.
        uint hash = 2166136261;
        foreach (char c in id)
        {
            hash = (hash ^ c) * 16777619;
        }
        return (int)hash;
    }
}
