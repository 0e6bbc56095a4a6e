using System.Text.Json;
using SamEngine.Checkpoints;

namespace SamEngine.Decoding;

/// <summary>A model folder's generation defaults: <c>generation_config.json</c> with transformers' names. Keys that do not
/// concern generation here are passed over.</summary>
internal static class GenerationConfig
{
    /// <exception cref="CheckpointException">Not readable, or a value of the wrong kind.</exception>
    public static GenerationOptions Load(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(SmallFile.Read(path, Model.SamConfig.MostBytes), new JsonDocumentOptions { MaxDepth = 16 });
            var root = json.RootElement;
            if (root.ValueKind != JsonValueKind.Object)
            {
                throw new CheckpointException(path, $"is {root.ValueKind}, expected a JSON object");
            }
            int? Int(string key) => Find(root, key) is { } v
                ? v.TryGetInt32(out int i) ? i : throw Wrong(path, key, v, "a whole number") : null;
            float? Float(string key) => Find(root, key) is { } v
                ? v.TryGetSingle(out float f) ? f : throw Wrong(path, key, v, "a number") : null;
            return new GenerationOptions
            {
                NumBeams = Int("num_beams"),
                MaxLength = Int("max_length"),
                MinLength = Int("min_length"),
                RepetitionPenalty = Float("repetition_penalty"),
                LengthPenalty = Float("length_penalty"),
                DoSample = Find(root, "do_sample") is { } sample
                    ? sample.ValueKind is JsonValueKind.True or JsonValueKind.False ? sample.GetBoolean()
                        : throw Wrong(path, "do_sample", sample, "true or false")
                    : null,
                Temperature = Float("temperature"),
                TopK = Int("top_k"),
                TopP = Float("top_p"),
                NumReturnSequences = Int("num_return_sequences"),
                SuppressTokens = Find(root, "suppress_tokens") is { } ids
                    ? ids.ValueKind == JsonValueKind.Array
                        ? [.. ids.EnumerateArray().Select(v => v.TryGetInt32(out int id) ? id
                            : throw Wrong(path, "suppress_tokens", v, "whole numbers"))]
                        : throw Wrong(path, "suppress_tokens", ids, "a list of ids")
                    : null,
            };
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException(path, "can't be read: " + e.Message, e);
        }
    }

    private static JsonElement? Find(JsonElement root, string key) =>
        root.TryGetProperty(key, out var found) && found.ValueKind != JsonValueKind.Null ? found : null;

    private static CheckpointException Wrong(string path, string key, JsonElement found, string expected) =>
        new(path, $"'{key}' is {found.ValueKind}, expected {expected}");
}
