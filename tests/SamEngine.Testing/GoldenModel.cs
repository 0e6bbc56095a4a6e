using System.Text.Json;
using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Testing;

/// <summary>A golden folder of the official implementation: its recorded tensors, and the inputs of each case.</summary>
internal sealed class GoldenModel : IDisposable
{
    private readonly SafetensorsFile _io;

    public GoldenModel(string folder)
    {
        Folder = folder;
        Config = SamConfig.Load(Path.Combine(folder, SamCheckpoint.ConfigName));
        _io = SafetensorsFile.Open(Path.Combine(folder, "io.safetensors"));
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "generation.json")));
        Generation = json.RootElement.Clone();
    }

    public string Folder { get; }

    public SamConfig Config { get; }

    /// <summary>generation.json.</summary>
    public JsonElement Generation { get; }

    /// <summary>Cases that record pictures.</summary>
    public IEnumerable<string> Cases => _io.Names.Select(n => n[..n.IndexOf('.', StringComparison.Ordinal)])
        .Distinct().Where(c => Has(c + ".image.0.pixel_values"));

    /// <summary>A plain 4-D input takes the path without guidance.</summary>
    public static bool IsGuided(string name) => !name.Contains("plain", StringComparison.Ordinal);

    /// <summary>All recorded tensors.</summary>
    public IReadOnlyCollection<string> Names => _io.Names;

    public bool Has(string tensor) => _io.Names.Contains(tensor);

    public TensorData Tensor(string name) => _io.TryGet(name, out var tensor) ? tensor
        : throw new InvalidOperationException($"{_io.Path} has no '{name}'");

    public int Batch(string name) => (int)Tensor(name + ".image.0.pixel_values").Shape[0];

    public int Images(string name) => _io.Names.Count(n =>
        n.StartsWith(name + ".image.", StringComparison.Ordinal) && n.EndsWith(".pixel_values", StringComparison.Ordinal));

    /// <summary>Pictures of one sample, [images, 3, side, side].</summary>
    public float[] Pixels(string name, int sample = 0, int? images = null) =>
        [.. Enumerable.Range(0, images ?? Images(name)).SelectMany(j =>
            Sample(name + $".image.{j}.pixel_values", sample).ToArray())];

    /// <summary>One batch entry of a recorded tensor.</summary>
    public ReadOnlySpan<float> Sample(string name, int sample)
    {
        var tensor = Tensor(name);
        int count = (int)(tensor.Count / tensor.Shape[0]);
        return tensor.ToFloats().AsSpan(sample * count, count);
    }

    /// <summary>Instruction ids of one sample, without padding.</summary>
    public int[] QFormerIds(string name, int sample = 0) => Masked(name, "qformer_input_ids", "qformer_text_mask", sample);

    /// <summary>Prompt ids of one sample, without padding.</summary>
    public int[] PromptIds(string name, int sample = 0) => Masked(name, "llm_prompt_ids", "llm_prompt_mask", sample);

    public EngineInput Input(string name, int sample = 0) => new(Images(name), Pixels(name, sample),
        QFormerIds(name, sample), PromptIds(name, sample), IsGuided(name));

    public void Dispose() => _io.Dispose();

    private int[] Masked(string name, string ids, string mask, int sample)
    {
        int[] values = [.. Sample($"{name}.{ids}", sample).ToArray().Select(v => (int)v)];
        if (!Has($"{name}.{mask}"))
        {
            return values;
        }
        float[] keep = Sample($"{name}.{mask}", sample).ToArray();
        return [.. values.Where((_, i) => keep[i] != 0)];
    }
}
