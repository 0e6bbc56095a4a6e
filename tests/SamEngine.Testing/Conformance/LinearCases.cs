using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

internal static class LinearCases
{
    private static readonly (WeightFormat Format, int Group)[] Formats =
    [
        (WeightFormat.F32, 0), (WeightFormat.F16, 0), (WeightFormat.BF16, 0),
        (WeightFormat.Q8, 32), (WeightFormat.Q8, 128), (WeightFormat.Q4, 32), (WeightFormat.Q4, 64), (WeightFormat.Q4, 128),
    ];

    public static IEnumerable<ConformanceCase> All => Formats.SelectMany(f => Of(f.Format, f.Group));

    /// <summary>A case with sizes, strides and epilogue drawn from a seed.</summary>
    public static ConformanceCase Drawn(int seed)
    {
        var random = new Random(seed);
        var (format, group) = Formats[random.Next(Formats.Length)];
        int columns = random.Next(1, 300);
        int[] parts = [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => random.Next(1, 60))];
        int batch = random.Next(1, 4);
        int rows = random.Next(1, 40);
        int pad = random.Next(0, 9);
        bool bias = random.Next(2) == 0;
        var activation = random.Next(2) == 0 ? Activation.Gelu : Activation.None;
        int residual = random.Next(3);
        return new(nameof(ComputeQueue.Linear), $"drawn {seed}: {format} {batch}x{rows}x{columns} to {string.Join('+', parts)}",
            p => Run(p, format, group, batch, rows, columns, parts, pad, bias, activation, residual), Weights: format);
    }

    private static IEnumerable<ConformanceCase> Of(WeightFormat format, int group)
    {
        string name = group == 0 ? $"{format}" : $"{format} groups of {group}";
        ConformanceCase Case(string what, int batch, int rows, int columns, int[] parts, int pad = 0, bool bias = false,
            Activation activation = Activation.None, int residual = 0) =>
            new(nameof(ComputeQueue.Linear), $"{name}, {what}",
                p => Run(p, format, group, batch, rows, columns, parts, pad, bias, activation, residual), Weights: format);

        yield return Case("one element", 1, 1, 1, [1]);
        yield return Case("row shorter than a vector", 1, 1, 7, [5], pad: 1);
        yield return Case("tails on every side", 1, 5, 131, [19], pad: 3, bias: true);
        yield return Case("one row", 1, 1, 65, [33], bias: true);
        yield return Case("few rows", 1, 5, 33, [21], pad: 5, bias: true, residual: 2);
        yield return Case("more rows than a tile", 1, 8, 192, [100], bias: true);
        yield return Case("many rows", 1, 37, 128, [70], pad: 1);
        yield return Case("several blocks of rows and stretches of columns", 2, 197, 896, [50], bias: true, residual: 2);
        yield return Case("stacked parts", 1, 3, 128, [17, 4, 31], bias: true);
        yield return Case("batched, GELU, residual of its own", 3, 4, 128, [24], pad: 7, bias: true,
            activation: Activation.Gelu, residual: 1);
        yield return Case("result added to its own memory", 2, 6, 128, [40], pad: 2, residual: 2);
        // Rows of whole vectors and tiles, as in the real model: what fast kernels take.
        yield return Case("aligned, a few rows, everything", 1, 5, 256, [96, 40], bias: true, activation: Activation.Gelu, residual: 2);
        yield return Case("aligned, sixteen rows of two batch entries", 2, 8, 512, [72], bias: true, residual: 1);
        yield return Case("aligned, one row more", 1, 17, 256, [64], bias: true, residual: 2);
        yield return Case("aligned, many rows", 1, 130, 320, [136], bias: true, activation: Activation.Gelu, residual: 2);
        yield return Case("aligned, tiles in full", 2, 128, 256, [256], residual: 1);
        yield return Case("aligned, rows of three batch entries, ends inside tiles", 3, 7, 200, [90, 53], pad: 8, bias: true, residual: 1);
        yield return Case("aligned, 19 rows of many columns", 1, 19, 5000, [40], bias: true);
        yield return Case("aligned, 33 rows, ends inside tiles, parts of K", 1, 33, 584, [130], pad: 8, bias: true, residual: 1);
        yield return Case("aligned, 61 rows, ends inside large tiles", 1, 61, 328, [520], bias: true, activation: Activation.Gelu, residual: 1);
        yield return Case("aligned, 64 rows, parts of K across tiles", 2, 32, 712, [300], pad: 8, bias: true, residual: 2);
        yield return Case("aligned, 70 rows, ends inside tiles, parts of K", 1, 70, 584, [130], pad: 8, bias: true, residual: 1);
        yield return Case("aligned to 8 bytes, two batch entries", 2, 40, 588, [64, 7], pad: 4, bias: true, residual: 2);
        yield return Case("aligned to 4 bytes", 1, 20, 70, [65], pad: 2, activation: Activation.Gelu);
        yield return Case("aligned, parts of K in large tiles", 1, 130, 640, [200], pad: 8, bias: true, residual: 2);
        yield return new(nameof(ComputeQueue.Linear), $"{name}, aligned, parts of K three times", p =>
        {
            var weight = p.Matrix(format, 512, [64], group);
            foreach (int rows in (int[])[40, 72])
            {
                var x = p.Input(1, rows, 512);
                foreach (int i in Enumerable.Range(0, 3))
                {
                    p.Queue.Linear(x, weight, p.Output($"y {i} of {rows}", 1, rows, 64), p.Vector(64));
                }
            }
        }, Weights: format);
        yield return Case("vision width", 1, 2, 1408, [50], bias: true, activation: Activation.Gelu);
        yield return Case("language width", 1, 1, 11008, [24]);
        yield return new(nameof(ComputeQueue.Linear), $"{name}, one input for every batch entry", p =>
        {
            var x = p.Input(1, 3, 128).RepeatBatch(4);
            p.Queue.Linear(x, p.Matrix(format, 128, [9], group), p.Output("y", 4, 3, 9, pad: 1));
        }, Weights: format);
        yield return new(nameof(ComputeQueue.Linear), $"{name}, fp32 result", p =>
            p.Queue.Linear(p.Input(1, 2, 128), p.Matrix(format, 128, [45], group),
                p.Output("y", 1, 2, 45, type: ElementType.F32)), Weights: format);
    }

    private static void Run(Probe p, WeightFormat format, int group, int batch, int rows, int columns, int[] parts, int pad,
        bool bias, Activation activation, int residual)
    {
        int outputs = parts.Sum();
        var x = p.Input(batch, rows, columns, pad);
        var weight = p.Matrix(format, columns, parts, group);
        var y = residual == 2 ? p.InOut("y", batch, rows, outputs, pad) : p.Output("y", batch, rows, outputs, pad);
        p.Queue.Linear(x, weight, y, bias ? p.Vector(outputs) : default, activation,
            residual == 2 ? y : residual == 1 ? p.Input(batch, rows, outputs, pad + 1) : default);
    }
}
