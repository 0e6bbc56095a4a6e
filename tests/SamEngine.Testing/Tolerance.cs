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

    /// <summary>Asserts that the root mean square of a - b is at most <paramref name="tolerance"/> of that of b.</summary>
    public static void AssertRelative(string what, ReadOnlySpan<float> actual, ReadOnlySpan<float> expected, double tolerance)
    {
        var (error, size) = Squares(what, actual, expected);
        AssertRelative(what, error, size, tolerance);
    }

    /// <summary>As above, of sums of squares.</summary>
    public static void AssertRelative(string what, double error, double size, double tolerance)
    {
        double relative = Math.Sqrt(error / size);
        Assert.True(relative <= tolerance, $"{what}: relative error {relative}, expected at most {tolerance}");
    }

    /// <summary>Sums of the squares of a - b and of b.</summary>
    public static (double Error, double Size) Squares(string what, ReadOnlySpan<float> actual, ReadOnlySpan<float> expected)
    {
        Assert.True(actual.Length == expected.Length, $"{what}: {actual.Length} values, expected {expected.Length}");
        double error = 0;
        double size = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            error += Math.Pow((double)actual[i] - expected[i], 2);
            size += Math.Pow(expected[i], 2);
        }
        return (error, size);
    }
}
