using SamEngine.Checkpoints;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary>The model folder to measure with; a temporary one is deleted at the end.</summary>
internal sealed class ModelSource : IDisposable
{
    private readonly bool _temporary;

    private ModelSource(string folder, string description, SamConfig fullConfig, bool temporary)
    {
        Folder = folder;
        Description = description;
        FullConfig = fullConfig;
        _temporary = temporary;
    }

    public string Folder { get; }

    /// <summary>For the report.</summary>
    public string Description { get; }

    /// <summary>What the figures are scaled to.</summary>
    public SamConfig FullConfig { get; }

    public static ModelSource Existing(string folder) => new(folder, "a model folder, every layer of it, mapped",
        SamConfig.Load(Path.Combine(folder, SamCheckpoint.ConfigName)), temporary: false);

    /// <summary>Random weights of the published widths with at most so many layers. They are stored and mapped, as a real
    /// model's are.</summary>
    public static ModelSource Random(int layers, string dtype, CancellationToken cancellation)
    {
        var full = SamConfig.Published;
        var config = full with
        {
            Vision = full.Vision with { Depth = Math.Clamp(layers, 1, full.Vision.Depth) },
            Llm = full.Llm with { Layers = Math.Clamp(layers, 1, full.Llm.Layers) },
        };
        string folder = Directory.CreateTempSubdirectory("sam-bench-").FullName;
        var source = new ModelSource(folder, $"random {dtype} weights of InstructBLIP-Vicuna-7B's widths, mapped", full, temporary: true);
        try
        {
            RandomModelWriter.Write(folder, config, dtype, 1, null, cancellation);
            return source;
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        if (_temporary)
        {
            Directory.Delete(Folder, recursive: true);
        }
    }
}

/// <summary>Bytes of every tensor as it was loaded.</summary>
internal sealed class StoredBytes : IProgress<LoadProgress>
{
    private readonly Dictionary<string, long> _bytes = new(StringComparer.Ordinal);
    private long _done;

    public void Report(LoadProgress value)
    {
        _bytes[value.Tensor] = value.BytesDone - _done;
        _done = value.BytesDone;
    }

    /// <summary>Bytes of an element of a matrix [rows, columns], scales of a quantised one included.</summary>
    public double PerElement(string tensor, int rows, int columns) => _bytes[tensor] / ((double)rows * columns);
}
