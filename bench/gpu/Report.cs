using System.Globalization;
using System.Text.Json;

namespace SamEngine.GpuBench;

/// <summary>Prints runs as Markdown, beside PyTorch's times where there are some.</summary>
internal static class Report
{
    public static void Print(TextWriter output, IReadOnlyList<Run> runs, JsonElement? torch)
    {
        foreach (var run in runs)
        {
            output.WriteLine($"## {run.Device}, CUDA {run.Driver}, {run.Kernels}");
            output.WriteLine();
            output.WriteLine(run.Model);
            output.WriteLine();
            double matrix = run.Ceilings.MatrixOperationsPerSecond;
            output.WriteLine(FormattableString.Invariant($"Ceilings of this run: copy {run.Ceilings.CopyBytesPerSecond / 1e9:0} GB/s, mma.sync bf16 {matrix / 1e12:0} TFLOP/s") +
                (Torch(torch, "matmul_bf16_flops") is { } product
                    ? FormattableString.Invariant($"; PyTorch's bf16 product {product / 1e12:0} TFLOP/s, which shares are of") : ""));
            matrix = Torch(torch, "matmul_bf16_flops") ?? matrix;
            output.WriteLine();
            output.WriteLine("| stage | median | spread | TFLOP/s | of the matrix rate | GB/s | of the copy | PyTorch | compiled | ratio |");
            output.WriteLine("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
            foreach (var result in run.Results)
            {
                double flops = result.Operations / result.Median;
                double bytes = result.Bytes / result.Median;
                string stage = result.Id[..result.Id.IndexOf('/')];
                double? plain = Torch(torch, stage);
                double? compiled = Torch(torch, stage + "-compiled");
                double? best = plain is { } p && compiled is { } c ? Math.Min(p, c) : plain ?? compiled;
                output.WriteLine("| " + string.Join(" | ",
                    result.Name,
                    Seconds(result.Median),
                    result.Spread.ToString("P0", CultureInfo.InvariantCulture),
                    result.Operations > 0 ? (flops / 1e12).ToString("0.0", CultureInfo.InvariantCulture) : "",
                    result.Operations > 0 ? (flops / matrix).ToString("P0", CultureInfo.InvariantCulture) : "",
                    result.Bytes > 0 ? (bytes / 1e9).ToString("0", CultureInfo.InvariantCulture) : "",
                    result.Bytes > 0 ? (bytes / run.Ceilings.CopyBytesPerSecond).ToString("P0", CultureInfo.InvariantCulture) : "",
                    plain is { } a ? Seconds(a) : "",
                    compiled is { } b ? Seconds(b) : "",
                    best is { } peer ? (peer / result.Median).ToString("0.00", CultureInfo.InvariantCulture) : "") + " |");
            }
            output.WriteLine();
        }
        Derived(output, runs);
    }

    /// <summary>What the targets are stated in.</summary>
    private static void Derived(TextWriter output, IReadOnlyList<Run> runs)
    {
        var all = runs.SelectMany(r => r.Results).ToDictionary(r => r.Id, r => r.Median);
        foreach (string format in all.Keys.Select(k => k[(k.IndexOf('/') + 1)..]).Distinct())
        {
            if (all.TryGetValue($"decode-1/{format}", out double one) && all.TryGetValue($"decode-{DeviceStages.Beams}/{format}", out double beams))
            {
                output.WriteLine(FormattableString.Invariant($"- {format}: {1 / one:0} tokens/s of one sequence; a step of {DeviceStages.Beams} beams is {beams / one:0.00} of one sequence's"));
            }
            if (all.TryGetValue($"cross-image/{format}", out double cross) && all.TryGetValue($"vision-{DeviceStages.Images}/{format}", out double vision)
                && all.TryGetValue($"qformer-5/{format}", out double qformer))
            {
                output.WriteLine(FormattableString.Invariant($"- {format}: pooling and exchange are {cross / (vision + qformer):P1} of vision and Q-Former"));
            }
        }
    }

    private static double? Torch(JsonElement? torch, string key) => torch is { } json && json.TryGetProperty(key, out var value)
        && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;

    private static string Seconds(double seconds) => seconds < 1e-3
        ? (seconds * 1e6).ToString("0.0", CultureInfo.InvariantCulture) + " µs"
        : (seconds * 1e3).ToString("0.000", CultureInfo.InvariantCulture) + " ms";
}
