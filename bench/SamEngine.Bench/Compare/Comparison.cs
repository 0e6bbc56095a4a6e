using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace SamEngine.Bench.Compare;

/// <summary>A number over the rounds: the middle, and how far the rounds lie apart.</summary>
internal readonly record struct Spread(double Median, double Least, double Most)
{
    public static Spread Of(IReadOnlyCollection<double> values) => new(Statistics.Median(values), values.Min(), values.Max());
}

/// <summary>One contender's times of one item: the median of each round's child.</summary>
/// <param name="Contender">Who.</param>
/// <param name="Item">What.</param>
/// <param name="Format">Weights it computed with.</param>
/// <param name="Rounds">Seconds by round; NaN where the round's child failed.</param>
/// <param name="Note">What a reader must know.</param>
internal sealed record Series(string Contender, string Item, string Format, IReadOnlyList<double> Rounds, string? Note)
{
    public Spread Seconds => Spread.Of([.. Rounds.Where(double.IsFinite)]);

    /// <summary>How many times longer this took, round by round; null without a common round.</summary>
    public Spread? RatioTo(Series other)
    {
        double[] ratios = [.. Rounds.Zip(other.Rounds, (a, b) => a / b).Where(double.IsFinite)];
        return ratios.Length == 0 ? null : Spread.Of(ratios);
    }
}

/// <summary>What was measured beside each other, in rounds of child processes one after the other.</summary>
/// <param name="own">Names of this engine's contenders, the first of which others' missing parts are taken from.</param>
/// <param name="rounds">One list of reports per round; a contender that failed in it is not there.</param>
/// <param name="absent">Peers that were not measured, and why.</param>
/// <param name="failures">Children that failed, and why.</param>
/// <param name="rows">Rows of the prefill.</param>
/// <param name="threads">Threads that each child computed with.</param>
/// <param name="probes">The machine's ceilings, before every round and at the end.</param>
internal sealed class Comparison(IReadOnlyList<string> own, IReadOnlyList<IReadOnlyList<(string Contender, ContenderReport Report)>> rounds,
    IReadOnlyList<(string Peer, string Reason)> absent, IReadOnlyList<string> failures, int rows, int threads, IReadOnlyList<Ceilings> probes)
{
    /// <summary>The stand-in for a whole request of other engines.</summary>
    public const string Sum = "best peers, summed";

    public IReadOnlyList<string> Failures => failures;

    /// <summary>All series, items in the order of <see cref="WorkItems"/>.</summary>
    public IReadOnlyList<Series> Series { get; } = Collect(own, rounds);

    public void Print(TextWriter output)
    {
        var best = Ceilings.BestOf(probes);
        output.WriteLine(Line($"{DateTime.UtcNow:yyyy-MM-dd}, {RuntimeInformation.OSDescription}, .NET {Environment.Version}, {threads} threads, {rounds.Count} rounds of child processes, one at a time"));
        output.WriteLine(Line($"ceilings, best (worst) of {probes.Count} probes: read {best.ReadBytesPerSecond / 1e9:0.0} ({probes.Min(p => p.ReadBytesPerSecond) / 1e9:0.0}) GB/s"));
        foreach (var (peer, reason) in absent)
        {
            output.WriteLine($"ABSENT: {peer}: {reason}");
        }
        foreach (string failure in failures)
        {
            output.WriteLine("FAILED: " + failure);
        }
        output.WriteLine("times: median of the rounds' medians (least to most); ratios: time over ours in the same round, above 1 the peer is slower");
        foreach (string item in WorkItems.Names)
        {
            var series = Series.Where(s => s.Item == item).ToList();
            if (series.Count > 0)
            {
                PrintItem(output, WorkItems.Of(item), series);
            }
        }
        PrintMemory(output);
    }

    public void WriteJson(Stream stream)
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("date", DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture));
        json.WriteNumber("threads", threads);
        json.WriteNumber("prefill_rows", rows);
        json.WriteNumber("rounds", rounds.Count);
        json.WriteStartArray("read_bytes_per_second");
        foreach (var probe in probes)
        {
            json.WriteNumberValue(Math.Round(probe.ReadBytesPerSecond));
        }
        json.WriteEndArray();
        json.WriteStartArray("absent");
        foreach (var (peer, reason) in absent)
        {
            json.WriteStringValue($"{peer}: {reason}");
        }
        json.WriteEndArray();
        json.WriteStartArray("failures");
        foreach (string failure in failures)
        {
            json.WriteStringValue(failure);
        }
        json.WriteEndArray();
        json.WriteStartArray("series");
        foreach (var series in Series)
        {
            json.WriteStartObject();
            json.WriteString("item", series.Item);
            json.WriteString("contender", series.Contender);
            json.WriteString("format", series.Format);
            json.WriteNumber("median_seconds", series.Seconds.Median);
            json.WriteStartArray("seconds_by_round");
            foreach (double value in series.Rounds)
            {
                if (double.IsFinite(value))
                {
                    json.WriteNumberValue(value);
                }
                else
                {
                    json.WriteNullValue();
                }
            }
            json.WriteEndArray();
            if (series.Note is { } note)
            {
                json.WriteString("note", note);
            }
            json.WriteStartObject("ratio_to");
            foreach (var ours in OwnSeries(series.Item))
            {
                if (!own.Contains(series.Contender) && series.RatioTo(ours) is { } ratio)
                {
                    json.WriteStartArray(ours.Contender);
                    foreach (double value in (double[])[ratio.Median, ratio.Least, ratio.Most])
                    {
                        json.WriteNumberValue(Math.Round(value, 4));
                    }
                    json.WriteEndArray();
                }
            }
            json.WriteEndObject();
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WritePropertyName("children");
        JsonSerializer.Serialize(json, rounds.Select(r => r.Select(c => new { contender = c.Contender, report = c.Report })), ContenderReport.Json);
        json.WriteEndObject();
    }

    private void PrintItem(TextWriter output, WorkItem item, List<Series> series)
    {
        var ours = OwnSeries(item.Name).ToList();
        bool rate = item.CountsSteps || item.Name == WorkItems.Prefill;
        output.WriteLine();
        output.WriteLine("### " + item.Title + (item.Name == WorkItems.Prefill ? Line($", {rows} rows") : ""));
        output.WriteLine();
        output.WriteLine("| engine | weights | time |" + (rate ? item.CountsSteps ? " steps/s |" : " tokens/s |" : "")
            + string.Concat(ours.Select(o => $" / {o.Contender} |")));
        output.WriteLine("| --- | --- | ---: |" + (rate ? " ---: |" : "") + string.Concat(ours.Select(_ => " ---: |")));
        var notes = new List<string>();
        foreach (var one in series.OrderBy(s => s.Seconds.Median))
        {
            var s = one.Seconds;
            string cells = Line($"| {(own.Contains(one.Contender) ? $"**{one.Contender}**" : one.Contender)} | {one.Format} | {Time(s.Median)} ({Time(s.Least)} to {Time(s.Most)}) |");
            if (rate)
            {
                cells += Line($" {(item.CountsSteps ? 1 : rows) / s.Median:0.00} |");
            }
            foreach (var o in ours)
            {
                cells += one.Contender == o.Contender || one.RatioTo(o) is not { } ratio ? " |"
                    : Line($" {ratio.Median:0.00} ({ratio.Least:0.00} to {ratio.Most:0.00}) |");
            }
            output.WriteLine(cells);
            if (one.Note is { } note)
            {
                notes.Add($"{one.Contender}: {note}");
            }
        }
        if (notes.Count > 0)
        {
            output.WriteLine();
            output.WriteLine(string.Join("; ", notes) + ".");
        }
    }

    private void PrintMemory(TextWriter output)
    {
        output.WriteLine();
        output.WriteLine("### Memory of the child at its peak");
        output.WriteLine();
        output.WriteLine("| engine | resident, mapped files included | anonymous |");
        output.WriteLine("| --- | ---: | ---: |");
        foreach (var group in rounds.SelectMany(r => r).GroupBy(r => r.Contender))
        {
            output.WriteLine(Line($"| {group.Key} | {group.Max(g => g.Report.PeakResidentBytes ?? 0) / 1e9:0.00} GB | {group.Max(g => g.Report.PeakAnonymousBytes ?? 0) / 1e9:0.00} GB |"));
        }
    }

    private IEnumerable<Series> OwnSeries(string item) => Series.Where(s => s.Item == item && own.Contains(s.Contender));

    private static List<Series> Collect(IReadOnlyList<string> own, IReadOnlyList<IReadOnlyList<(string Contender, ContenderReport Report)>> rounds)
    {
        var names = rounds.SelectMany(r => r.Select(c => c.Contender)).Distinct().ToList();
        var all = new List<Series>();
        foreach (string item in WorkItems.Names)
        {
            foreach (string name in names)
            {
                var times = rounds.Select(r => r.Where(c => c.Contender == name).SelectMany(c => c.Report.Items)
                    .FirstOrDefault(m => m.Item == item)).ToList();
                if (times.FirstOrDefault(t => t is not null) is { } first)
                {
                    all.Add(new Series(name, item, first.Format, [.. times.Select(t => t?.Median ?? double.NaN)], first.Note));
                }
            }
        }
        foreach (string request in (string[])[WorkItems.Request1, WorkItems.Request5])
        {
            if (all.Any(s => s.Item == request) && SumOfParts(all, own, request) is { } sum)
            {
                all.Insert(all.FindLastIndex(s => s.Item == request) + 1, sum);
            }
        }
        return all;
    }

    /// <summary>In every round the fastest peer of each part; a part that no peer does counts with this engine's own time, and
    /// the note says so. Null when a part was not measured at all, or no peer did any.</summary>
    private static Series? SumOfParts(List<Series> all, IReadOnlyList<string> own, string request)
    {
        var total = new double[all[0].Rounds.Count];
        var borrowed = new List<string>();
        var chosen = new List<string>();
        foreach (var (item, times) in WorkItems.PartsOf(request))
        {
            var peers = all.Where(s => s.Item == item && !own.Contains(s.Contender)).ToList();
            bool ours = peers.Count == 0;
            var able = ours ? all.Where(s => s.Item == item).ToList() : peers;
            if (able.Count == 0)
            {
                return null;
            }
            (ours ? borrowed : chosen).Add(ours ? item : $"{item} {able.MinBy(s => s.Seconds.Median)!.Contender}");
            for (int r = 0; r < total.Length; r++)
            {
                total[r] += times * able.Select(s => s.Rounds[r]).Where(double.IsFinite).DefaultIfEmpty(double.NaN).Min();
            }
        }
        return chosen.Count == 0 || !total.Any(double.IsFinite) ? null
            : new Series(Sum, request, "", total, string.Join(", ", chosen)
                + (borrowed.Count == 0 ? "" : $"; no peer does {string.Join(", ", borrowed)}, counted with our own time"));
    }

    private static string Line(FormattableString text) => FormattableString.Invariant(text);

    public static string Time(double seconds) => seconds >= 1 ? Line($"{seconds:0.00} s") : seconds >= 0.1 ? Line($"{1e3 * seconds:0} ms")
        : Line($"{1e3 * seconds:0.0} ms");
}
