using SamEngine.Compute;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Testing.Conformance;

/// <summary>One use of one operation.</summary>
/// <param name="Operation">Method of <see cref="ComputeQueue"/>.</param>
/// <param name="Name">What is particular about it.</param>
/// <param name="Run">Makes the inputs, enqueues the operation, declares the outputs.</param>
/// <param name="Tolerance">Largest |a - b| / max(1, |b|) against the reference, fp32 activations.</param>
internal sealed record ConformanceCase(string Operation, string Name, Action<Probe> Run, double Tolerance = 2e-5)
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
    /// <param name="slack">Factor on the tolerance, for half-precision activations.</param>
    public static void Check(Backend backend, string id, double slack = 1) =>
        Check(backend, All.Single(c => c.Id == id), slack);

    public static void Check(Backend backend, ConformanceCase test, double slack = 1)
    {
        using var oracle = new ReferenceBackend();
        Compare(test.Id, Results(backend, test), Results(oracle, test), test.Tolerance * slack);
    }

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
