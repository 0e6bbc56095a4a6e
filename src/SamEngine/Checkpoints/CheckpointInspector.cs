using SamEngine.Decoding;
using SamEngine.Text;

namespace SamEngine.Checkpoints;

/// <summary>A part of a model.</summary>
/// <param name="Name">Vision encoder, Q-Former, ...</param>
/// <param name="Tensors">Number of tensors.</param>
/// <param name="Parameters">Number of elements.</param>
/// <param name="Bytes">Bytes as stored.</param>
/// <param name="Formats">Element types and how many tensors have each.</param>
internal sealed record InspectedPart(string Name, int Tensors, long Parameters, long Bytes, string Formats);

/// <summary>What <c>sam model inspect</c> prints.</summary>
/// <param name="Parts">Totals by part.</param>
/// <param name="Tensors">Every tensor.</param>
/// <param name="Notes">What is there, missing or superfluous.</param>
/// <param name="IsComplete">A model folder that answers; true for single files, of which nothing is expected.</param>
internal sealed record InspectionReport(
    IReadOnlyList<InspectedPart> Parts, IReadOnlyList<TensorData> Tensors, IReadOnlyList<string> Notes, bool IsComplete);

/// <summary>Looks into model folders and checkpoint files without computing anything.</summary>
internal static class CheckpointInspector
{
    /// <exception cref="CheckpointException">Not a checkpoint.</exception>
    public static InspectionReport Inspect(string path)
    {
        var notes = new List<string>();
        bool complete = true;
        using var store = Open(path);
        var tensors = store.Names.Select(n => TryGet(store, n, notes)).OfType<TensorData>().ToList();
        var parts = tensors.GroupBy(t => PartOf(PortNames.ToCanonical(t.Name))).OrderBy(g => g.Key, StringComparer.Ordinal).Select(g =>
            new InspectedPart(g.Key, g.Count(), g.Sum(t => t.Count), g.Sum(t => t.ByteLength), string.Join(", ",
                g.GroupBy(t => t.DType).OrderBy(f => f.Key).Select(f => $"{f.Key} ({f.Count()})")))).ToList();
        parts.Add(new InspectedPart("total", tensors.Count, tensors.Sum(t => t.Count), tensors.Sum(t => t.ByteLength), ""));
        if (Directory.Exists(path))
        {
            try
            {
                using var checkpoint = SamCheckpoint.Open(path, new CheckpointOptions { AllowTorchFiles = true });
                CheckpointShapes.Check(checkpoint);
                var defaults = GenerationConfig.Named(GenerationConfig.DefaultsOf(checkpoint,
                    checkpoint.TokenizerModelPath is { } tokenizer ? VicunaTokenizer.Load(tokenizer) : null));
                notes.AddRange(checkpoint.Notes);
                string[] missing = [.. ((IEnumerable<(string? File, string Name)>)[
                    (checkpoint.TokenizerModelPath, SamCheckpoint.TokenizerName), (checkpoint.VocabularyPath, SamCheckpoint.VocabularyName)])
                    .Where(f => f.File is null).Select(f => f.Name)];
                complete = missing.Length == 0;
                notes.Add(complete ? "complete: the model loads" + (checkpoint.HasAdapters ? ", with SAM's adapters" : "")
                    : $"incomplete: has no {string.Join(" and no ", missing)}, which prompts need; copy them there");
                notes.Add(defaults.Count == 0 ? "generation defaults: the reference's" + (checkpoint.GenerationConfigPath is null
                    ? $", as there is no {SamCheckpoint.GenerationConfigName}" : "") : "generation defaults: "
                    + string.Join(", ", defaults.Select(d => $"{d.Key} {d.Value}")) + "; the rest are the reference's");
            }
            catch (CheckpointException e)
            {
                notes.Add("incomplete: " + e.Message);
                complete = false;
            }
        }
        return new InspectionReport(parts, tensors, notes, complete);
    }

    private static TensorStore Open(string path)
    {
        if (Directory.Exists(path))
        {
            return SafetensorsFolder.IsIn(path) ? SafetensorsFolder.Open(path)
                : TorchFolder.IsIn(path) ? TorchFolder.Open(path)
                : throw SamCheckpoint.NoWeights(path);
        }
        return TorchZipFile.IsNamed(path) ? TorchZipFile.Open(path) : SafetensorsFile.Open(path);
    }

    private static TensorData? TryGet(TensorStore store, string name, List<string> notes)
    {
        try
        {
            return store.TryGet(name, out var tensor) ? tensor : null;
        }
        catch (CheckpointException e)
        {
            notes.Add("not a tensor: " + e.Message);
            return null;
        }
    }

    private static string PartOf(string name) =>
        name.StartsWith("visual_encoder.", StringComparison.Ordinal) || name.StartsWith("ln_vision.", StringComparison.Ordinal)
            ? "vision encoder"
        : SamCheckpoint.IsAdapter(name) ? "SAM adapters"
        : name.StartsWith("Qformer.", StringComparison.Ordinal) || name == "query_tokens" ? "Q-Former"
        : name.StartsWith("llm_proj.", StringComparison.Ordinal) ? "projection"
        : name.StartsWith("llm_model.", StringComparison.Ordinal) || name.StartsWith("model.", StringComparison.Ordinal)
            || name.StartsWith("lm_head.", StringComparison.Ordinal) ? "language model"
        : "other";
}
