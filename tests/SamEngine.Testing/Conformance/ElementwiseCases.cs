using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

internal static class ElementwiseCases
{
    public static IEnumerable<ConformanceCase> All =>
    [
        .. Embedding(), .. Add(), .. Copy(), .. Gather(), .. Patches(), .. SwiGlu(),
    ];

    private static IEnumerable<ConformanceCase> Embedding()
    {
        foreach (var (format, group) in new[] { (WeightFormat.F32, 0), (WeightFormat.F16, 0), (WeightFormat.BF16, 0),
            (WeightFormat.Q8, 32), (WeightFormat.Q4, 64) })
        {
            int columns = group == 0 ? 37 : 192;
            yield return new(nameof(ComputeQueue.Embedding), $"{format}, repeated, first and last id", p =>
                p.Queue.Embedding(p.Matrix(format, columns, [20], group), p.Indices(3, 0, 19, 3, 3),
                    p.Output("y", 1, 5, columns, pad: 3)));
        }
        yield return new(nameof(ComputeQueue.Embedding), "stacked parts", p =>
            p.Queue.Embedding(p.Matrix(WeightFormat.BF16, 24, [5, 7]), p.Indices(4, 5, 11), p.Output("y", 1, 3, 24)));
    }

    private static IEnumerable<ConformanceCase> Add()
    {
        foreach (int columns in new[] { 1, 16, 35 })
        {
            yield return new(nameof(ComputeQueue.Add), $"width {columns}, gaps", p =>
                p.Queue.Add(p.Input(2, 3, columns, 3), p.Input(2, 3, columns, 1), p.Output("y", 2, 3, columns, 2)));
        }
        yield return new(nameof(ComputeQueue.Add), "in place, one addend for every batch entry", p =>
        {
            var x = p.InOut("x", 4, 3, 20, 1);
            p.Queue.Add(x, p.Input(1, 3, 20, type: ElementType.F32).RepeatBatch(4), x);
        });
    }

    private static IEnumerable<ConformanceCase> Copy()
    {
        yield return new(nameof(ComputeQueue.Copy), "floats between strides", p =>
            p.Queue.Copy(p.Input(2, 3, 21, 5), p.Output("y", 2, 3, 21, 2)));
        yield return new(nameof(ComputeQueue.Copy), "repeated batch entry", p =>
            p.Queue.Copy(p.Input(1, 3, 21).RepeatBatch(3), p.Output("y", 3, 3, 21, 2)));
        yield return new(nameof(ComputeQueue.Copy), "integers", p =>
            p.Queue.Copy(p.Ints([.. Enumerable.Range(0, 12)], 3, 4, pad: 1),
                p.Output("y", 1, 3, 4, 2, ElementType.I32)));
    }

    private static IEnumerable<ConformanceCase> Gather()
    {
        yield return new(nameof(ComputeQueue.GatherRows), "repeated rows, gaps", p =>
            p.Queue.GatherRows(p.Input(1, 6, 19, 4), p.Indices(5, 0, 0, 3), p.Output("y", 1, 4, 19, 1)));
    }

    private static IEnumerable<ConformanceCase> Patches()
    {
        foreach (var (images, side, patch) in new[] { (1, 2, 2), (2, 6, 2), (3, 28, 14), (1, 15, 5) })
        {
            yield return new(nameof(ComputeQueue.ExtractPatches), $"{images} images of {side}, patches of {patch}", p =>
                p.Queue.ExtractPatches(p.Input(images, 3 * side, side, type: ElementType.F32), 3, patch,
                    p.Output("y", images, side / patch * (side / patch), 3 * patch * patch, pad: 2)));
        }
    }

    private static IEnumerable<ConformanceCase> SwiGlu()
    {
        foreach (int columns in new[] { 1, 15, 16, 50, 11008 })
        {
            yield return new(nameof(ComputeQueue.SwiGlu), $"width {columns}", p =>
                p.Queue.SwiGlu(p.Input(2, 2, 2 * columns, 3, scale: 3), p.Output("y", 2, 2, columns, 1)));
        }
        yield return new(nameof(ComputeQueue.SwiGlu), "gates of 200", p =>
            p.Queue.SwiGlu(p.Input(1, 2, 80, scale: 200), p.Output("y", 1, 2, 40)));
    }
}
