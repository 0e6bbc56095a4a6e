using SamEngine.Model;

namespace SamEngine.Checkpoints;

/// <summary>How a checkpoint is opened.</summary>
internal sealed record CheckpointOptions
{
    /// <summary>Map weight files instead of reading them.</summary>
    public bool UseMmap { get; init; } = true;

    /// <summary>A file with SAM's trained tensors (or any others) that go over the folder's: safetensors, or a torch file
    /// where <see cref="AllowTorchFiles"/> says so.</summary>
    public string? Adapters { get; init; }

    /// <summary>Whether <see cref="Adapters"/> may be a torch zip file (<c>.pth</c>); nothing in it is executed.</summary>
    public bool AllowTorchFiles { get; init; }
}

/// <summary>
/// A model folder under the canonical names (LAVIS/SAM spelling, <c>llm_model.</c> before the language model), whatever it
/// is stored as. It keeps account: what the model takes is checked against the shape it must have, and
/// <see cref="Finish"/> names what nobody took.
/// </summary>
internal sealed class SamCheckpoint : IDisposable
{
    public const string ConfigName = "config.json";
    public const string TokenizerName = "tokenizer.model";
    public const string VocabularyName = "vocab.txt";
    public const string GenerationConfigName = "generation_config.json";

    /// <summary>Where the Hugging Face port keeps the Q-Former's vocabulary.</summary>
    public const string PortVocabularyFolder = "qformer_tokenizer";

    private readonly List<TensorStore> _stores = [];
    private readonly SortedDictionary<string, TensorHome> _homes = new(StringComparer.Ordinal);
    private readonly HashSet<string> _taken = new(StringComparer.Ordinal);
    private readonly List<string> _notes = [];

    private SamCheckpoint(string folder)
    {
        Folder = folder;
    }

    public string Folder { get; }

    public SamConfig Config { get; private set; } = SamConfig.Published;

    /// <summary>What a user should know: no adapters, tensors skipped knowingly.</summary>
    public IReadOnlyList<string> Notes => _notes;

    /// <summary>Whether SAM's adapters are there; without them the model is plain InstructBLIP.</summary>
    public bool HasAdapters => Has("attn.weight");

    public string? TokenizerModelPath => Existing(TokenizerName);

    public string? VocabularyPath =>
        Existing(VocabularyName) ?? Existing(System.IO.Path.Combine(PortVocabularyFolder, VocabularyName));

    public string? GenerationConfigPath => Existing(GenerationConfigName);

    /// <summary>All canonical names.</summary>
    public IReadOnlyCollection<string> Names => _homes.Keys;

    /// <summary>Opens a model folder.</summary>
    /// <exception cref="CheckpointException">Something is missing or not what it should be.</exception>
    public static SamCheckpoint Open(string folder, CheckpointOptions? options = null)
    {
        options ??= new CheckpointOptions();
        if (!Directory.Exists(folder))
        {
            throw new CheckpointException(folder, File.Exists(folder)
                ? "is a file; expected a model folder with config.json and model.safetensors"
                : "does not exist; expected a model folder with config.json and model.safetensors");
        }
        string configPath = System.IO.Path.Combine(folder, ConfigName);
        if (!File.Exists(configPath))
        {
            throw new CheckpointException(folder, $"has no {ConfigName}: not a model folder " +
                "(make one from the published checkpoints with 'sam model convert')");
        }
        if (!SafetensorsFolder.IsIn(folder))
        {
            throw new CheckpointException(folder, $"has neither {SafetensorsFolder.SingleName} nor " +
                $"{SafetensorsFolder.IndexName} (make them from .pth or .bin files with 'sam model convert')");
        }
        var checkpoint = new SamCheckpoint(folder);
        try
        {
            checkpoint.Add(SafetensorsFolder.Open(folder, options.UseMmap));
            if (options.Adapters is { } adapters)
            {
                checkpoint.AddAdapters(OpenAdapters(adapters, options));
            }
            checkpoint.Config = HuggingFacePort.IsConfig(configPath)
                ? HuggingFacePort.LoadConfig(configPath, checkpoint.HasAdapters) : SamConfig.Load(configPath);
            if (!checkpoint.HasAdapters)
            {
                checkpoint._notes.Add("no SAM adapters (attn, one_2_muliple, multiple_2_one): this is plain InstructBLIP, " +
                    "images do not guide each other");
            }
            return checkpoint;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    public bool Has(string name) => _homes.ContainsKey(name);

    /// <summary>Takes a tensor that must have this shape.</summary>
    /// <exception cref="CheckpointException">Missing or of another shape.</exception>
    public TensorData Get(string name, params ReadOnlySpan<long> shape)
    {
        if (!_homes.TryGetValue(name, out var home) || home.Open() is not { } tensor)
        {
            throw new CheckpointException(Folder, $"tensor '{name}' is missing, expected [{Text(shape)}]");
        }
        if (!shape.SequenceEqual(tensor.Shape.ToArray()))
        {
            throw new CheckpointException(home.Store.FileOf(home.Name),
                $"tensor '{home.Name}' is [{string.Join(", ", tensor.Shape)}], expected [{Text(shape)}] from {ConfigName}");
        }
        _taken.Add(name);
        return tensor;
    }

    /// <summary>Call when the model has taken all it needs.</summary>
    /// <exception cref="CheckpointException">Tensors are left that are not known to be superfluous.</exception>
    public void Finish()
    {
        var left = _homes.Keys.Where(n => !_taken.Contains(n)).ToList();
        var skipped = left.Where(IsSuperfluous).ToList();
        if (skipped.Count > 0)
        {
            _notes.Add($"skipped {skipped.Count} tensors the model does not need: {Some(skipped)}");
        }
        var unknown = left.Except(skipped).ToList();
        if (unknown.Count > 0)
        {
            throw new CheckpointException(Folder, $"{unknown.Count} tensors are not part of the model that {ConfigName} " +
                $"describes: {Some(unknown)}; is this the right configuration?");
        }
    }

    public void Dispose()
    {
        foreach (var store in _stores)
        {
            store.Dispose();
        }
    }

    /// <summary>Buffers and heads that checkpoints carry but inference does not read.</summary>
    public static bool IsSuperfluous(string name) =>
        name.EndsWith("position_ids", StringComparison.Ordinal)
        || name.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal)
        || name.Contains("relative_position_", StringComparison.Ordinal)
        || name.StartsWith("Qformer.cls.", StringComparison.Ordinal);

    private void Add(TensorStore store)
    {
        _stores.Add(store);
        var homes = HuggingFacePort.IsPort(store) ? HuggingFacePort.Homes(store)
            : store.Names.Select(n => (n, new TensorHome(store, n)));
        foreach (var (name, home) in homes)
        {
            if (!_homes.TryAdd(name, home))
            {
                throw new CheckpointException(store.Path, $"tensor '{home.Name}' and '{_homes[name].Name}' both stand for '{name}'");
            }
        }
    }

    private void AddAdapters(TensorStore store)
    {
        _stores.Add(store);
        foreach (string name in store.Names)
        {
            bool replaced = _homes.ContainsKey(name);
            _homes[name] = new TensorHome(store, name);
            if (replaced)
            {
                _notes.Add($"tensor '{name}' comes from {store.Path}");
            }
        }
    }

    private static TensorStore OpenAdapters(string path, CheckpointOptions options)
    {
        if (System.IO.Path.GetExtension(path) is not (".pth" or ".pt" or ".bin"))
        {
            return SafetensorsFile.Open(path, options.UseMmap);
        }
        return options.AllowTorchFiles ? TorchZipFile.Open(path, options.UseMmap)
            : throw new CheckpointException(path, "is a torch file, which is opened only when asked for: set " +
                $"{nameof(SamModelOptions.AllowTorchFiles)} (--allow-torch), or make a model folder with 'sam model convert'");
    }

    private string? Existing(string name)
    {
        string path = System.IO.Path.Combine(Folder, name);
        return File.Exists(path) ? path : null;
    }

    private static string Some(List<string> names) =>
        string.Join(", ", names.Take(5)) + (names.Count > 5 ? $" and {names.Count - 5} more" : "");

    private static string Text(ReadOnlySpan<long> shape) => string.Join(", ", shape.ToArray());
}
