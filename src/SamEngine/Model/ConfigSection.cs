using System.Text.Json;

namespace SamEngine.Model;

/// <summary>One JSON object of a configuration file, read with errors that name the file and the field.</summary>
internal readonly struct ConfigSection(JsonElement? element, string path, string name)
{
    private const int MostOfAnything = 1 << 24;

    public ConfigSection Section(string key) => Find(key) switch
    {
        null => new ConfigSection(null, path, key),
        { ValueKind: JsonValueKind.Object } found => new ConfigSection(found, path, key),
        { } other => throw Wrong(key, other, "an object"),
    };

    public int Int(string key, int missing, int least = 1) => Find(key) switch
    {
        null => missing,
        { ValueKind: JsonValueKind.Number } found
            when found.TryGetInt32(out int value) && value >= least && value <= MostOfAnything => value,
        { } other => throw Wrong(key, other, $"a whole number of {least} to {MostOfAnything}"),
    };

    public double Double(string key, double missing) => Find(key) switch
    {
        null => missing,
        { ValueKind: JsonValueKind.Number } found
            when found.TryGetDouble(out double value) && double.IsFinite(value) && value > 0 => value,
        { } other => throw Wrong(key, other, "a positive number"),
    };

    public float Float(string key, float missing) => (float)Double(key, missing);

    /// <summary>Refuses a stated variant that the engine does not compute.</summary>
    public void RequireOneOf(string key, params ReadOnlySpan<string> known)
    {
        if (Find(key) is { } found
            && (found.ValueKind != JsonValueKind.String || !known.Contains(found.GetString()!)))
        {
            throw Wrong(key, found, "one of: " + string.Join(", ", known!));
        }
    }

    /// <summary>Refuses a stated value that contradicts what the other fields give.</summary>
    public void RequireValue(string key, int expected)
    {
        if (Find(key) is { } found && Int(key, expected) != expected)
        {
            throw Wrong(key, found, $"{expected}, which the other fields give");
        }
    }

    private CheckpointException Wrong(string key, JsonElement found, string expected)
    {
        string text = found.GetRawText();
        return new CheckpointException(path,
            $"'{(name.Length == 0 ? key : name + "." + key)}' is {(text.Length > 80 ? text[..80] + "…" : text)}, " +
            $"expected {expected}");
    }

    private JsonElement? Find(string key)
    {
        if (element is not { } here)
        {
            return null;
        }
        if (here.ValueKind != JsonValueKind.Object)
        {
            throw new CheckpointException(path, $"is {here.ValueKind}, expected a JSON object");
        }
        return here.TryGetProperty(key, out var found) && found.ValueKind != JsonValueKind.Null ? found : null;
    }
}
