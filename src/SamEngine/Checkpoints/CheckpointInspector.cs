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
/// <param name="IsComplete">A model folder that loads; true for single files, of which nothing is expected.</param>
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
        var parts = tensors.GroupBy(t => PartOf(t.Name)).OrderBy(g => g.Key, StringComparer.Ordinal).Select(g =>
            new InspectedPart(g.Key, g.Count(), g.Sum(t => t.Count), g.Sum(t => t.ByteLength), string.Join(", ",
                g.GroupBy(t => t.DType).OrderBy(f => f.Key).Select(f => $"{f.Key} ({f.Count()})")))).ToList();
        parts.Add(new InspectedPart("total", tensors.Count, tensors.Sum(t => t.Count), tensors.Sum(t => t.ByteLength), ""));
        if (Directory.Exists(path))
        {
            try
            {
                using var checkpoint = SamCheckpoint.Open(path);
                CheckpointShapes.Check(checkpoint);
                notes.AddRange(checkpoint.Notes);
                notes.Add("complete: the model loads" + (checkpoint.HasAdapters ? ", with SAM's adapters" : ""));
                foreach (var (file, name) in (IEnumerable<(string?, string)>)[
                    (checkpoint.TokenizerModelPath, SamCheckpoint.TokenizerName),
                    (checkpoint.VocabularyPath, SamCheckpoint.VocabularyName),
                    (checkpoint.GenerationConfigPath, SamCheckpoint.GenerationConfigName)])
                {
                    if (file is null)
                    {
                        notes.Add($"missing: {name}");
                    }
                }
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
                : throw new CheckpointException(path, $"has neither {SafetensorsFolder.SingleName} nor {SafetensorsFolder.IndexName}");
        }
        return Path.GetExtension(path) is ".pth" or ".pt" or ".bin" ? TorchZipFile.Open(path) : SafetensorsFile.Open(path);
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

    private static string PartOf(string name)
    {
        bool In(params ReadOnlySpan<string> prefixes)
        {
            foreach (string prefix in prefixes)
            {
                if (name.StartsWith(prefix, StringComparison.Ordinal))
                {
                    return true;
                }
            }
            return false;
        }
        return In("visual_encoder.", "ln_vision.", "vision_model.") ? "vision encoder"
            : In("attn.") || name.Contains("one_2_muliple", StringComparison.Ordinal)
                || name.Contains("multiple_2_one", StringComparison.Ordinal) ? "SAM adapters"
            : In("Qformer.", "qformer.", "query_tokens") ? "Q-Former"
            : In("llm_proj.", "language_projection.") ? "projection"
            : In("llm_model.", "language_model.", "model.", "lm_head.") ? "language model"
            : "other";
    }
}
