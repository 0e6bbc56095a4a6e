using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

internal static class GroupPoolCases
{
    public static IEnumerable<ConformanceCase> All
    {
        get
        {
            foreach (var (images, positions, width) in new[]
                { (1, 3, 8), (2, 1, 1), (2, 5, 33), (3, 7, 17), (5, 4, 1408), (12, 2, 64) })
            {
                yield return new(nameof(ComputeQueue.GroupPool), $"{images} images, {positions} positions, width {width}",
                    p => p.Queue.GroupPool(p.Input(images, positions, width, 3), p.Vector(width, 0.3), p.Vector(1),
                        p.Output("context", 1, positions, width, 1),
                        p.Output("weights", 1, images, positions, 2, ElementType.F32)));
            }
            yield return new(nameof(ComputeQueue.GroupPool), "without weights", p =>
                p.Queue.GroupPool(p.Input(3, 4, 20), p.Vector(20), p.Vector(1), p.Output("context", 1, 4, 20)));
            yield return new(nameof(ComputeQueue.GroupPool), "one image far ahead", p =>
                p.Queue.GroupPool(p.Input(4, 3, 64, scale: 40), p.Vector(64, 5), p.Vector(1),
                    p.Output("context", 1, 3, 64), p.Output("weights", 1, 4, 3, 0, ElementType.F32)), Tolerance: 2e-3);
        }
    }
}
