using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using SamEngine.Compute;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary>Everything a reader needs to judge the figures, as a table and as JSON.</summary>
internal sealed record StageReport(BackendInfo Backend, string Model, SamConfig Config, SamConfig FullConfig, IReadOnlyList<Ceilings> Probes,
    IReadOnlyList<StageResult> Stages)
{
    private bool Reduced => Config != FullConfig;

    private Ceilings Ceilings { get; } = Ceilings.BestOf(Probes);

    private double Products(StageResult stage) => Ceilings.ProductsOf(Backend.InstructionSet, stage.BytesPerWeight);

    public void Print(TextWriter output)
    {
        output.WriteLine($"machine: {Backend.Device}, {Ceilings.Threads} threads, {Backend.InstructionSet} kernels, " +
            $"{RuntimeInformation.OSDescription}, .NET {Environment.Version}, {DateTime.UtcNow:yyyy-MM-dd}");
        output.WriteLine($"model: {Model}");
        output.WriteLine($"ceilings, best of {Probes.Count} probes between the stages (worst): read {Range(p => p.ReadBytesPerSecond)} GB/s; " +
            "fp32 FMA " + string.Join(", ", Ceilings.Fma.Keys.Select(k => $"{k} {Range(p => p.Fma[k])} GFLOP/s"))
            + string.Concat(Ceilings.Int8.Keys.Select(k => $"; int8 {k} {Range(p => p.Int8[k])} Gop/s")));
        output.WriteLine("at least: multiply-adds and bytes the stage needs; bound: the time they take at the ceilings; " +
            "p99 of fewer than 100 runs is the slowest");
        if (Reduced)
        {
            output.WriteLine($"ONLY {Config.Vision.Depth} OF {FullConfig.Vision.Depth} VISION BLOCKS AND {Config.Llm.Layers} OF " +
                $"{FullConfig.Llm.Layers} LANGUAGE LAYERS RAN (full width). 'full depth' multiplies their time and keeps the rest: an " +
                "estimate, not a measurement.");
        }
        output.WriteLine();
        output.WriteLine("| stage | p50 | p99 | runs | GFLOP | GFLOP/s | of peak | GB | GB/s | of peak | bound / p50 |"
            + (Reduced ? " full depth p50 |" : ""));
        output.WriteLine("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |" + (Reduced ? " ---: |" : ""));
        foreach (var stage in Stages)
        {
            double p50 = stage.Percentile(0.5);
            string[] cells = [stage.Name, Time(p50), Time(stage.Percentile(0.99)), $"{stage.Times.Count}", .. Rates(stage, p50)];
            output.WriteLine("| " + string.Join(" | ", cells) + " |" + (Reduced ? $" {Time(stage.ScaledPercentile(0.5))} |" : ""));
        }
    }

    public void WriteJson(Stream stream)
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("date", DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture));
        json.WriteString("device", Backend.Device);
        json.WriteString("instruction_set", Backend.InstructionSet);
        json.WriteNumber("threads", Ceilings.Threads);
        json.WriteString("model", Model);
        json.WriteNumber("vision_blocks", Config.Vision.Depth);
        json.WriteNumber("vision_blocks_full", FullConfig.Vision.Depth);
        json.WriteNumber("language_layers", Config.Llm.Layers);
        json.WriteNumber("language_layers_full", FullConfig.Llm.Layers);
        json.WriteStartObject("ceilings");
        json.WriteNumber("probes", Probes.Count);
        json.WriteNumber("worst_read_bytes_per_second", Math.Round(Probes.Min(p => p.ReadBytesPerSecond)));
        json.WriteNumber("worst_fma_flops_per_second", Math.Round(Probes.Min(p => p.FmaOf(Backend.InstructionSet))));
        json.WriteNumber("read_bytes_per_second", Math.Round(Ceilings.ReadBytesPerSecond));
        foreach (var (width, value) in Ceilings.Fma)
        {
            json.WriteNumber($"fma_{width.Replace(' ', '_')}_flops_per_second", Math.Round(value));
        }
        foreach (var (instruction, value) in Ceilings.Int8)
        {
            json.WriteNumber($"int8_{instruction.ToLowerInvariant().Replace(' ', '_')}_ops_per_second", Math.Round(value));
        }
        json.WriteEndObject();
        json.WriteStartArray("stages");
        foreach (var stage in Stages)
        {
            json.WriteStartObject();
            json.WriteString("id", stage.Id);
            json.WriteString("name", stage.Name);
            json.WriteNumber("p50_seconds", stage.Percentile(0.5));
            json.WriteNumber("p99_seconds", stage.Percentile(0.99));
            json.WriteNumber("runs", stage.Times.Count);
            if (stage.Cost is { } cost)
            {
                json.WriteNumber("operations", cost.Operations);
                json.WriteNumber("bytes", cost.Bytes);
                json.WriteNumber("bound_seconds", cost.Bound(Products(stage), Ceilings.ReadBytesPerSecond));
            }
            if (Reduced)
            {
                json.WriteNumber("estimated_full_depth_p50_seconds", stage.ScaledPercentile(0.5));
                if (stage.FullCost is { } full)
                {
                    json.WriteNumber("full_depth_bound_seconds", full.Bound(Products(stage), Ceilings.ReadBytesPerSecond));
                }
            }
            json.WriteStartArray("seconds");
            foreach (var time in stage.Times)
            {
                json.WriteNumberValue(time.Total);
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private string Range(Func<Ceilings, double> value) => $"{Number(Probes.Max(value) / 1e9)} ({Number(Probes.Min(value) / 1e9)})";

    private IEnumerable<string> Rates(StageResult stage, double p50)
    {
        if (stage.Cost is not { } cost)
        {
            return Enumerable.Repeat("", 7);
        }
        double flops = cost.Operations / p50;
        double bytes = cost.Bytes / p50;
        return [Number(cost.Operations / 1e9), Number(flops / 1e9), Share(flops / Products(stage)), Number(cost.Bytes / 1e9), Number(bytes / 1e9),
            Share(bytes / Ceilings.ReadBytesPerSecond), Share(cost.Bound(Products(stage), Ceilings.ReadBytesPerSecond) / p50)];
    }

    private static string Number(double value) =>
        value.ToString(value >= 100 ? "0" : value >= 1 ? "0.0" : "0.000", CultureInfo.InvariantCulture);

    private static string Share(double value) => (100 * value).ToString("0", CultureInfo.InvariantCulture) + " %";

    private static string Time(double seconds) => seconds >= 1 ? Number(seconds) + " s" : Number(1e3 * seconds) + " ms";
}
