using Xunit;

namespace SamEngine.Testing;

/// <summary>Comparison of number arrays with a message that says where they differ most.</summary>
public static class Tolerance
{
    /// <summary>Asserts |a - b| &lt;= absolute + relative * |b| for all elements.</summary>
    public static void AssertClose(string what, ReadOnlySpan<float> actual, ReadOnlySpan<float> expected,
        double absolute, double relative)
    {
        Assert.True(actual.Length == expected.Length, $"{what}: {actual.Length} values, expected {expected.Length}");
        int worst = -1;
        double worstExcess = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            double excess = Math.Abs((double)actual[i] - expected[i]) - absolute - relative * Math.Abs(expected[i]);
            if (!(excess <= 0) && (worst < 0 || !(excess <= worstExcess)))
            {
                worst = i;
                worstExcess = excess;
            }
        }
        if (worst >= 0)
        {
            Assert.Fail($"{what}: element {worst} of {actual.Length} is {actual[worst]:R}, expected {expected[worst]:R}");
        }
    }
}
