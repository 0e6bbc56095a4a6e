using System.Text.Json;
using System.Text.Json.Serialization;

namespace SamEngine.Bench.Compare;

/// <summary>What one contender did in one child process, as the child prints it.</summary>
/// <param name="Engine">Name and version of what computed.</param>
/// <param name="Items">What was timed.</param>
internal sealed record ContenderReport(string Engine, IReadOnlyList<Measurement> Items)
{
    /// <summary>Most resident memory of the child, mapped files included; the parent fills it in.</summary>
    public long? PeakResidentBytes { get; init; }

    /// <summary>Most anonymous memory of the child.</summary>
    public long? PeakAnonymousBytes { get; init; }

    public static JsonSerializerOptions Json { get; } = new(JsonSerializerDefaults.General)
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        WriteIndented = true,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <exception cref="ContenderException">Not what a child prints.</exception>
    public static ContenderReport Parse(string contender, string json)
    {
        try
        {
            return JsonSerializer.Deserialize<ContenderReport>(json, Json)
                ?? throw new ContenderException(contender, "printed null, expected a report");
        }
        catch (JsonException e)
        {
            throw new ContenderException(contender, "printed no report: " + e.Message, e);
        }
    }
}

/// <summary>The times of one work item in one child process.</summary>
/// <param name="Item">One of <see cref="WorkItems"/>.</param>
/// <param name="Format">Weights it computed with: "q4", "q8_0", "bf16", ...; "" where there are none.</param>
/// <param name="Seconds">Every timed run, at full depth.</param>
/// <param name="Note">What a reader must know: layers that were extrapolated, say.</param>
internal sealed record Measurement(string Item, string Format, IReadOnlyList<double> Seconds, string? Note = null)
{
    [JsonIgnore]
    public double Median => Statistics.Median(Seconds);
}

/// <summary>A contender could not do what it was asked.</summary>
internal sealed class ContenderException(string contender, string message, Exception? inner = null)
    : Exception($"{contender}: {message}", inner);

internal static class Statistics
{
    public static double Median(IReadOnlyCollection<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted.Length == 0 ? throw new ArgumentException("no values", nameof(values))
            : sorted.Length % 2 == 1 ? sorted[sorted.Length / 2]
            : (sorted[sorted.Length / 2 - 1] + sorted[sorted.Length / 2]) / 2;
    }
}
