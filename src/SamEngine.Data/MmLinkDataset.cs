using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace SamEngine.Data;

/// <summary>One sample of a data set in the MmLINK form.</summary>
/// <param name="Id">Id, as JSON writes it; unique in the data set.</param>
/// <param name="Images">Paths of the pictures, relative to the folder, in order.</param>
/// <param name="Instruction">What is asked.</param>
/// <param name="Output">The expected answer.</param>
public sealed record MmLinkSample(string Id, IReadOnlyList<string> Images, string Instruction, string Output)
{
    /// <summary>Kind of task, where the data set says ("group", "story", "change"); not part of the original form.</summary>
    public string? Family { get; init; }

    /// <summary>Phrases of which a right answer names all, and no other of the data set's; empty where unknown.</summary>
    public IReadOnlyList<string> Required { get; init; } = [];
}

/// <summary>A folder with <c>annotations.json</c> (a list of <c>id</c>, <c>img_list</c>, <c>instruction</c>, <c>output</c>) and
/// the pictures it names: the form of MmLINK and of the SAM paper's test sets.</summary>
public sealed class MmLinkDataset
{
    /// <summary>Name of the list.</summary>
    public const string AnnotationsName = "annotations.json";

    private MmLinkDataset(string folder, IReadOnlyList<MmLinkSample> samples, IReadOnlyList<string> vocabulary)
    {
        Folder = folder;
        Samples = samples;
        Vocabulary = vocabulary;
    }

    /// <summary>The folder.</summary>
    public string Folder { get; }

    /// <summary>All samples in the order of the list.</summary>
    public IReadOnlyList<MmLinkSample> Samples { get; }

    /// <summary>Every phrase that <see cref="MmLinkSample.Required"/> uses in this data set.</summary>
    public IReadOnlyList<string> Vocabulary { get; }

    /// <summary>Reads a folder; the pictures are not opened, but must be there.</summary>
    /// <exception cref="DatasetException">Missing or malformed, an id twice, a picture that is missing or outside the
    /// folder; the message names the sample.</exception>
    public static MmLinkDataset Open(string folder)
    {
        string path = Path.Combine(folder, AnnotationsName);
        if (!File.Exists(path))
        {
            throw new DatasetException(folder, (File.Exists(folder) ? "is a file" : Directory.Exists(folder) ? $"has no {AnnotationsName}"
                : "does not exist") + $", expected a folder with {AnnotationsName} and pictures ('sam data make' writes two: 'train' and 'test')");
        }
        var samples = new List<MmLinkSample>();
        var ids = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            if (json.RootElement.ValueKind != JsonValueKind.Array)
            {
                throw new DatasetException(path, $"is a JSON {json.RootElement.ValueKind}, expected a list of samples");
            }
            foreach (var entry in json.RootElement.EnumerateArray())
            {
                var sample = Read(entry, $"{path}, entry {samples.Count}");
                if (!ids.Add(sample.Id))
                {
                    throw new DatasetException(path, $"id {sample.Id} appears twice");
                }
                foreach (string image in sample.Images)
                {
                    CheckImage(folder, image, $"{path}, sample {sample.Id}");
                }
                samples.Add(sample);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new DatasetException(path, "can't be read: " + e.Message, e);
        }
        if (samples.Count == 0)
        {
            throw new DatasetException(path, "lists no samples");
        }
        return new MmLinkDataset(folder, samples,
            [.. samples.SelectMany(s => s.Required).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)]);
    }

    /// <summary>Full path of a sample's pictures.</summary>
    public IReadOnlyList<string> PathsOf(MmLinkSample sample) =>
        [.. sample.Images.Select(i => Path.GetFullPath(Path.Combine(Folder, i)))];

    /// <summary>Writes <c>annotations.json</c>.</summary>
    public static void WriteAnnotations(string folder, IEnumerable<MmLinkSample> samples)
    {
        var list = new JsonArray();
        foreach (var s in samples)
        {
            var entry = new JsonObject
            {
                ["id"] = long.TryParse(s.Id, out long number) ? JsonValue.Create(number) : JsonValue.Create(s.Id),
                ["img_list"] = new JsonArray([.. s.Images.Select(i => (JsonNode)JsonValue.Create(i))]),
                ["instruction"] = s.Instruction,
                ["output"] = s.Output,
            };
            if (s.Family is not null)
            {
                entry["family"] = s.Family;
                entry["required"] = new JsonArray([.. s.Required.Select(i => (JsonNode)JsonValue.Create(i))]);
            }
            list.Add((JsonNode)entry);
        }
        using var stream = File.Create(Path.Combine(folder, AnnotationsName));
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions
        {
            Indented = true,
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        });
        list.WriteTo(json);
    }

    private static MmLinkSample Read(JsonElement entry, string subject)
    {
        JsonElement Field(string name, params JsonValueKind[] kinds) =>
            entry.ValueKind == JsonValueKind.Object && entry.TryGetProperty(name, out var value) && kinds.Contains(value.ValueKind)
                ? value
                : throw new DatasetException(subject, $"has no '{name}' of the right kind; expected id, img_list, instruction " +
                    "and output");
        string[] Texts(JsonElement list, string name) => [.. list.EnumerateArray().Select(e =>
            e.ValueKind == JsonValueKind.String ? e.GetString()!
            : throw new DatasetException(subject, $"'{name}' holds a {e.ValueKind}, expected texts"))];

        var id = Field("id", JsonValueKind.String, JsonValueKind.Number);
        var images = Texts(Field("img_list", JsonValueKind.Array), "img_list");
        if (images.Length == 0)
        {
            throw new DatasetException(subject, "'img_list' is empty");
        }
        return new MmLinkSample(id.ValueKind == JsonValueKind.String ? id.GetString()! : id.GetRawText(), images,
            Field("instruction", JsonValueKind.String).GetString()!, Field("output", JsonValueKind.String).GetString()!)
        {
            Family = entry.TryGetProperty("family", out var family) && family.ValueKind == JsonValueKind.String
                ? family.GetString() : null,
            Required = entry.TryGetProperty("required", out var required) && required.ValueKind == JsonValueKind.Array
                ? Texts(required, "required") : [],
        };
    }

    private static void CheckImage(string folder, string image, string subject)
    {
        string root = Path.GetFullPath(folder) + Path.DirectorySeparatorChar;
        string full = Path.GetFullPath(Path.Combine(folder, image));
        if (image.Length == 0 || Path.IsPathRooted(image) || !full.StartsWith(root, StringComparison.Ordinal))
        {
            throw new DatasetException(subject, $"picture '{image}' lies outside the data set's folder");
        }
        if (!File.Exists(full))
        {
            throw new DatasetException(subject, $"picture '{image}' is missing");
        }
    }
}
