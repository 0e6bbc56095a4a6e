using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Tests.Compute;

/// <summary>Rounding errors against the yardstick, plain rounding in blocks of 32 (ggml's Q8_0 and Q4_0); docs/quantisation.md
/// has the table that this prints.</summary>
public sealed class QuantizationErrorTests(ITestOutputHelper output)
{
    private const int Rows = 64, Columns = 4096;

    public static TheoryData<string> Distributions => ["normal", "student-5", "laplace"];

    [Theory]
    [MemberData(nameof(Distributions))]
    public void Weights_are_rounded_no_worse_than_by_the_yardstick(string distribution)
    {
        float[] weights = Weights(distribution);
        foreach (var format in new[] { WeightFormat.Q8, WeightFormat.Q4 })
        {
            double plain = Error(weights, Plain(weights, format));
            output.WriteLine($"{distribution} {format}: plain {plain:P3}");
            foreach (int group in new[] { 32, 64, 128 })
            {
                double error = Error(weights, Rounded(weights, format, group));
                output.WriteLine($"{distribution} {format} groups of {group}: {error:P3}");
                if (format == WeightFormat.Q4 && group <= QuantizedLayout.DefaultGroupSize)
                {
                    Assert.True(error <= plain, $"{group}: {error} > {plain}");
                }
                // 8 bits: the longer group costs little; far below what rounding the input costs.
                Assert.True(error <= 1.6 * plain, $"{group}: {error} > 1.6 * {plain}");
            }
        }
    }

    /// <summary>One in a thousand channels of the input sixty times as large, one row a thousand times: as in trained
    /// models. The yardstick rounds its input in blocks of 32 too.</summary>
    [Theory]
    [InlineData(WeightFormat.Q8)]
    [InlineData(WeightFormat.Q4)]
    public void Outliers_cost_at_most_twice_what_they_cost_the_yardstick(WeightFormat format)
    {
        const int Inputs = 32;
        float[] weights = Weights("normal");
        var random = new Random(7);
        float[] x = [.. Enumerable.Range(0, Inputs * Columns).Select(_ => (float)Normal(random))];
        for (int channel = 500; channel < Columns; channel += 1000)
        {
            for (int row = 0; row < Inputs; row++)
            {
                x[row * Columns + channel] *= 60;
            }
        }
        for (int i = 0; i < Columns; i++)
        {
            x[9 * Columns + i] *= 1000;
        }
        float[] plainX = [.. x];
        for (int row = 0; row < Inputs; row++)
        {
            QuantizationError.RoundPlainly(plainX.AsSpan(row * Columns, Columns), WeightFormat.Q8);
        }
        double[][] exact = Product(x, weights, Inputs);
        double[][] plain = Product(plainX, Plain(weights, format), Inputs);
        foreach (int group in new[] { 32, 64, 128 })
        {
            using var backend = new CpuBackend(threads: 2);
            using var probe = new Probe(backend, 1);
            var y = probe.Output("y", 1, Inputs, Rows);
            probe.Queue.Linear(probe.Input(x, 1, Inputs, Columns), probe.Matrix(format, weights, Rows, group), y);
            float[] actual = new float[y.Count];
            probe.Queue.ReadBack<float>(y, actual);
            double worst = 0;
            double all = 0;
            double allPlain = 0;
            for (int row = 0; row < Inputs; row++)
            {
                double ours = Distance(exact[row], [.. actual.AsSpan(row * Rows, Rows).ToArray().Select(v => (double)v)]);
                double theirs = Distance(exact[row], plain[row]);
                (all, allPlain) = (all + ours / Inputs, allPlain + theirs / Inputs);
                worst = Math.Max(worst, ours / theirs);
            }
            output.WriteLine($"{format} groups of {group}: {all:P2}, plain {allPlain:P2}, worst row {worst:0.00} x");
            if (group <= QuantizedLayout.DefaultGroupSize)
            {
                Assert.True(all <= 2 * allPlain && worst <= 2.2, $"{group}: {all} against {allPlain}, worst {worst}");
            }
        }
    }

    private static double Normal(Random random) =>
        Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    private static float[] Weights(string distribution)
    {
        var random = new Random(5);
        double Draw() => distribution switch
        {
            "normal" => Normal(random),
            "laplace" => (random.Next(2) * 2 - 1) * -Math.Log(1 - random.NextDouble()),
            _ => Normal(random) / Math.Sqrt(Enumerable.Range(0, 5).Sum(_ => Math.Pow(Normal(random), 2)) / 5),
        };
        return [.. Enumerable.Range(0, Rows * Columns).Select(_ => (float)(Draw() * 0.02))];
    }

    private static float[] Rounded(float[] weights, WeightFormat format, int group)
    {
        byte[] packed = Quantizer.Quantize(weights, format, Rows, Columns, group);
        return [.. Enumerable.Range(0, weights.Length).Select(i =>
            QuantizedLayout.Value(packed, format, Rows, Columns, group, i / Columns, i % Columns))];
    }

    private static float[] Plain(float[] weights, WeightFormat format)
    {
        float[] rounded = [.. weights];
        QuantizationError.RoundPlainly(rounded, format);
        return rounded;
    }

    private static double Error(float[] exact, float[] rounded) =>
        Distance([.. exact.Select(v => (double)v)], [.. rounded.Select(v => (double)v)]);

    private static double Distance(double[] exact, double[] actual) =>
        Math.Sqrt(exact.Zip(actual, (e, a) => (e - a) * (e - a)).Sum() / exact.Sum(e => e * e));

    private static double[][] Product(float[] x, float[] weights, int inputs) => [.. Enumerable.Range(0, inputs).Select(row =>
        Enumerable.Range(0, Rows).Select(n =>
        {
            double sum = 0;
            for (int k = 0; k < Columns; k++)
            {
                sum += (double)x[row * Columns + k] * weights[n * Columns + k];
            }
            return sum;
        }).ToArray())];
}
