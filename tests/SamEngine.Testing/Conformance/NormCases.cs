using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

internal static class NormCases
{
    private static readonly int[] Widths = [1, 2, 15, 16, 17, 33, 64, 100, 768, 1408, 4096];

    public static IEnumerable<ConformanceCase> All => [.. RmsNorm(), .. LayerNorm()];

    private static IEnumerable<ConformanceCase> RmsNorm()
    {
        const string Name = nameof(ComputeQueue.RmsNorm);
        foreach (int width in Widths)
        {
            yield return new(Name, $"width {width}", p =>
                p.Queue.RmsNorm(p.Input(2, 3, width, pad: 3), p.Vector(width, 0.3, 1), 1e-6f, p.Output("y", 2, 3, width, pad: 1)));
        }
        yield return new(Name, "in place", p =>
        {
            var x = p.InOut("x", 1, 4, 50, pad: 2);
            p.Queue.RmsNorm(x, p.Vector(50), 1e-5f, x);
        });
        yield return new(Name, "values of 1e15", p =>
            p.Queue.RmsNorm(p.Input(1, 2, 64, scale: 1e15), p.Vector(64), 1e-6f, p.Output("y", 1, 2, 64)));
        yield return new(Name, "values below epsilon, and zero", p =>
        {
            p.Queue.RmsNorm(p.Input(1, 2, 64, scale: 1e-12), p.Vector(64), 1e-6f, p.Output("y", 1, 2, 64));
            p.Queue.RmsNorm(p.Input(new float[64], 1, 1, 64), p.Vector(64), 1e-6f, p.Output("zero", 1, 1, 64));
        });
    }

    private static IEnumerable<ConformanceCase> LayerNorm()
    {
        const string Name = nameof(ComputeQueue.LayerNorm);
        foreach (int width in Widths.Where(w => w > 2))
        {
            yield return new(Name, $"width {width}", p =>
                p.Queue.LayerNorm(p.Input(2, 3, width, pad: 3), p.Vector(width, 0.3, 1), p.Vector(width), 1e-6f,
                    p.Output("y", 2, 3, width, pad: 1)));
        }
        yield return new(Name, "in place", p =>
        {
            var x = p.InOut("x", 1, 4, 50, pad: 2);
            p.Queue.LayerNorm(x, p.Vector(50), p.Vector(50), 1e-12f, x);
        });
        // A variance taken as E[x^2] - E[x]^2 would lose it all here.
        yield return new(Name, "mean far from zero", p =>
        {
            float[] values = [.. p.Random(3 * 200).Select(v => v + 1000)];
            p.Queue.LayerNorm(p.Input(values, 1, 3, 200), p.Vector(200), p.Vector(200), 1e-6f, p.Output("y", 1, 3, 200));
        }, Tolerance: 1e-3);
        yield return new(Name, "constant rows", p =>
            p.Queue.LayerNorm(p.Input([.. Enumerable.Repeat(2f, 96)], 1, 2, 48), p.Vector(48), p.Vector(48), 1e-5f,
                p.Output("y", 1, 2, 48)));
    }
}
