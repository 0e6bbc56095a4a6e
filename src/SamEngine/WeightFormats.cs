using SamEngine.Compute;

namespace SamEngine;

/// <summary>Formats of the weight matrices, part by part; a part without one keeps its weights as they are stored. Vectors
/// and small tables are always fp32.</summary>
public sealed record WeightFormats
{
    private const string Expected = "one of f32, f16, bf16, q8, q4, or parts such as vision=q8,qformer=bf16,llm=q4";

    /// <summary>The vision encoder.</summary>
    public WeightFormat? Vision { get; init; }

    /// <summary>The Q-Former, SAM's adapters and the projection.</summary>
    public WeightFormat? QFormer { get; init; }

    /// <summary>The language model, its embeddings and head included.</summary>
    public WeightFormat? Llm { get; init; }

    /// <summary>Columns that share a scale where weights are quantised: 32, 64 or 128.</summary>
    public int GroupSize { get; init; } = QuantizedLayout.DefaultGroupSize;

    /// <summary>The same format for every part.</summary>
    /// <param name="format">The format.</param>
    /// <returns>Formats with the default group size.</returns>
    public static WeightFormats All(WeightFormat format) => new() { Vision = format, QFormer = format, Llm = format };

    /// <inheritdoc cref="All"/>
    public static implicit operator WeightFormats(WeightFormat format) => All(format);

    /// <summary>Reads <c>q4</c> or <c>vision=q8,qformer=bf16,llm=q4</c>; parts that are not named stay as stored.</summary>
    /// <param name="text">What to read.</param>
    /// <returns>The formats, with the default group size.</returns>
    /// <exception cref="RequestException">Neither of these.</exception>
    public static WeightFormats Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (TryFormat(text, out var all))
        {
            return All(all);
        }
        var formats = new WeightFormats();
        foreach (string entry in text.Split(','))
        {
            string[] sides = entry.Split('=');
            if (sides.Length != 2 || !TryFormat(sides[1], out var format))
            {
                throw new RequestException(nameof(SamModelOptions.Weights), $"is '{text}', expected {Expected}");
            }
            bool twice;
            (formats, twice) = sides[0].Trim() switch
            {
                "vision" => (formats with { Vision = format }, formats.Vision is not null),
                "qformer" => (formats with { QFormer = format }, formats.QFormer is not null),
                "llm" => (formats with { Llm = format }, formats.Llm is not null),
                _ => throw new RequestException(nameof(SamModelOptions.Weights),
                    $"names the part '{sides[0]}', expected vision, qformer or llm"),
            };
            if (twice)
            {
                throw new RequestException(nameof(SamModelOptions.Weights), $"names '{sides[0]}' twice");
            }
        }
        return formats;
    }

    /// <inheritdoc/>
    public override string ToString() => string.Join(',', Parts().Where(p => p.Format is not null)
        .Select(p => $"{p.Name}={p.Format.ToString()!.ToLowerInvariant()}"));

    /// <summary>The format asked for a tensor; null: as stored.</summary>
    /// <param name="name">Its canonical name.</param>
    internal WeightFormat? Of(string name) =>
        name.StartsWith("visual_encoder.", StringComparison.Ordinal) || name.StartsWith("ln_vision.", StringComparison.Ordinal)
            ? Vision
        : name.StartsWith("llm_model.", StringComparison.Ordinal) ? Llm : QFormer;

    internal void CheckGroupSize()
    {
        if (!QuantizedLayout.IsGroupSize(GroupSize))
        {
            throw new RequestException(nameof(GroupSize), $"is {GroupSize}, expected 32, 64 or 128");
        }
    }

    private IEnumerable<(string Name, WeightFormat? Format)> Parts() =>
        [("vision", Vision), ("qformer", QFormer), ("llm", Llm)];

    private static bool TryFormat(string text, out WeightFormat format)
    {
        WeightFormat? found = text.Trim().ToLowerInvariant() switch
        {
            "f32" => WeightFormat.F32,
            "f16" => WeightFormat.F16,
            "bf16" => WeightFormat.BF16,
            "q8" => WeightFormat.Q8,
            "q4" => WeightFormat.Q4,
            _ => null,
        };
        format = found ?? default;
        return found is not null;
    }
}
