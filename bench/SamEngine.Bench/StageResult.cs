namespace SamEngine.Bench;

/// <summary>The times of a stage beside what it must do.</summary>
/// <param name="Id">Short name, as options give it.</param>
/// <param name="Name">What was timed.</param>
/// <param name="Times">One entry per run.</param>
/// <param name="Cost">Least operations and bytes at the depth that ran; null where they mean nothing.</param>
/// <param name="FullCost">The same at the published depth.</param>
/// <param name="DepthFactor">Published layers over layers that ran.</param>
/// <param name="BytesPerWeight">Bytes of a stored matrix element; 0 where there is none.</param>
internal sealed record StageResult(string Id, string Name, IReadOnlyList<StageTime> Times, Cost? Cost, Cost? FullCost, double DepthFactor,
    double BytesPerWeight)
{
    public double Percentile(double part) => Percentile(Times.Select(t => t.Total), part);

    /// <summary>Percentile of the times with the layers scaled to the published depth.</summary>
    public double ScaledPercentile(double part) => Percentile(Times.Select(t => t.WithLayers(DepthFactor)), part);

    /// <summary>Nearest rank: of fewer than 100 values the 99th percentile is the largest.</summary>
    private static double Percentile(IEnumerable<double> values, double part)
    {
        double[] sorted = [.. values.Order()];
        return sorted[Math.Max(0, (int)Math.Ceiling(part * sorted.Length) - 1)];
    }
}
