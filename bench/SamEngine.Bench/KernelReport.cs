using System.Globalization;
using System.Text.Json;
using SamEngine.Bench.Compare;

namespace SamEngine.Bench;

/// <summary>Operations beside their floors.</summary>
internal sealed record KernelReport(IReadOnlyList<KernelResult> Results, IReadOnlyList<Ceilings> Probes)
{
    private Ceilings Ceilings { get; } = Ceilings.BestOf(Probes);

    public void Print(TextWriter output)
    {
        output.WriteLine(Line($"ceilings, best of {Probes.Count} probes: read {Ceilings.ReadBytesPerSecond / 1e9:0.0} GB/s; ")
            + string.Join(", ", Ceilings.Fma.Select(f => Line($"fp32 FMA {f.Key} {f.Value / 1e9:0} GFLOP/s")).Concat(
                Ceilings.Int8.Select(i => Line($"int8 {i.Key} {i.Value / 1e9:0} Gop/s")))));
        output.WriteLine("floor: the longer of the time that the products take at the ceiling of their arithmetic and the bytes at the memory's");
        output.WriteLine();
        output.WriteLine("| operation | kernels | p50 | least | Gop/s | GB/s | floor | floor / p50 |");
        output.WriteLine("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
        foreach (var r in Results)
        {
            double p50 = Statistics.Median(r.Seconds);
            double floor = Floor(r);
            output.WriteLine(Line($"| {r.Name} | {r.InstructionSet} | {Time(p50)} | {Time(r.Seconds.Min())} | {r.Cost.Operations / p50 / 1e9:0.0} | {r.Cost.Bytes / p50 / 1e9:0.0} | {Time(floor)} | {100 * floor / p50:0} % |"));
        }
    }

    public void WriteJson(Stream stream) => JsonSerializer.Serialize(stream, new
    {
        Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
        Ceilings,
        Operations = Results.Select(r => new
        {
            r.Name,
            r.Format,
            r.InstructionSet,
            r.Cost.Operations,
            r.Cost.Bytes,
            FloorSeconds = Floor(r),
            r.Seconds,
        }),
    }, ContenderReport.Json);

    private double Floor(KernelResult r) => r.Cost.Bound(Ceilings.ProductsOf(r.InstructionSet, r.BytesPerWeight), Ceilings.ReadBytesPerSecond);

    private static string Time(double seconds) => seconds < 1e-3 ? Line($"{1e6 * seconds:0.0} us") : Comparison.Time(seconds);

    private static string Line(FormattableString text) => FormattableString.Invariant(text);
}
