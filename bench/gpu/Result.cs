using System.Text.Json.Serialization;

namespace SamEngine.GpuBench;

/// <summary>What was timed.</summary>
/// <param name="Id">For programs: <c>vision-5/f16</c>.</param>
/// <param name="Name">For people.</param>
/// <param name="Seconds">Every timed run.</param>
/// <param name="Operations">Floating-point operations it needs at least; 0 where that says nothing.</param>
/// <param name="Bytes">Bytes of device memory it must read at least; 0 where that says nothing.</param>
internal sealed record Result(string Id, string Name, double[] Seconds, double Operations, double Bytes)
{
    [JsonIgnore]
    public double Median => Quantile(0.5);

    [JsonIgnore]
    public double Spread => Median > 0 ? (Quantile(0.9) - Quantile(0.1)) / Median : 0;

    private double Quantile(double q)
    {
        double[] sorted = [.. Seconds.Order()];
        return sorted[(int)Math.Round(q * (sorted.Length - 1))];
    }
}

/// <summary>What the device can do, measured in the same run.</summary>
/// <param name="CopyBytesPerSecond">Bytes read and written by a copy within the device's memory.</param>
/// <param name="MatrixOperationsPerSecond">bf16 multiply-adds, two operations each, of <c>mma.sync</c> on registers.</param>
internal sealed record Ceilings(double CopyBytesPerSecond, double MatrixOperationsPerSecond);

/// <summary>A run of the bench.</summary>
/// <param name="Device">Its name.</param>
/// <param name="Driver">Version of CUDA that the driver has.</param>
/// <param name="Kernels">Activation type and image.</param>
/// <param name="Model">Shape and weights.</param>
/// <param name="Ceilings">What the device can do.</param>
/// <param name="Results">In the order measured.</param>
internal sealed record Run(string Device, string Driver, string Kernels, string Model, Ceilings Ceilings, IReadOnlyList<Result> Results);

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(List<Run>))]
internal sealed partial class RunJson : JsonSerializerContext;
