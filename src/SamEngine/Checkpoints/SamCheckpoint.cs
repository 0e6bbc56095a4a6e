using SamEngine.Model;
using SamEngine.Text;

namespace SamEngine.Checkpoints;

/// <summary>How a checkpoint is opened.</summary>
internal sealed record CheckpointOptions
{
    /// <summary>Map weight files instead of reading them.</summary>
    public bool UseMmap { get; init; } = true;

    /// <summary>A file with SAM's trained tensors (or any others) that go over the folder's: safetensors, or a torch file
    /// where <see cref="AllowTorchFiles"/> says so.</summary>
    public string? Adapters { get; init; }

    /// <summary>Open torch files (<c>.bin</c>, <c>.pth</c>) too. Nothing in them is executed, but safetensors are the form
    /// made for files of others.</summary>
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
    public const string EmbeddingName = "llm_model.model.embed_tokens.weight";
    public const string HeadName = "llm_model.lm_head.weight";

    /// <summary>Where the Hugging Face port keeps the Q-Former's vocabulary.</summary>
    public const string PortVocabularyFolder = "qformer_tokenizer";

    /// <summary>Names that tell a user what SAM's adapters are.</summary>
    public const string AdapterNames = "attn, one_2_muliple, multiple_2_one";

    private readonly List<TensorStore> _stores = [];
    private readonly SortedDictionary<string, (TensorStore Store, string StoredName)> _homes = new(StringComparer.Ordinal);
    private readonly HashSet<string> _taken = new(StringComparer.Ordinal);
    private readonly List<string> _notes = [];

    private SamCheckpoint(string folder, SamConfig config)
    {
        Folder = folder;
        Config = config;
    }

    /// <summary>The Hugging Face port of InstructBLIP, read under canonical names.</summary>
    public bool IsPort { get; private set; }

    public string Folder { get; }

    public SamConfig Config { get; private set; }

    /// <summary>What a user should know: no adapters, tensors skipped knowingly.</summary>
    public IReadOnlyList<string> Notes => _notes;

    /// <summary>Whether SAM's adapters are there; without them the model is plain InstructBLIP.</summary>
    public bool HasAdapters => Has("attn.weight");

    public string? TokenizerModelPath => Existing(TokenizerName);

    public string? VocabularyPath => VocabularyIn(Folder);

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
        var config = PortConfig.LoadEither(configPath);
        var checkpoint = new SamCheckpoint(folder, config);
        try
        {
            checkpoint.AddFolder(options);
            if (options.Adapters is { } adapters)
            {
                checkpoint.AddAdapters(OpenFile(adapters, options));
            }
            if (!checkpoint.HasAdapters)
            {
                checkpoint._notes.Add($"no SAM adapters ({AdapterNames}): this is plain InstructBLIP, " +
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

    /// <summary>A tensor that is there, without checking or counting it as taken.</summary>
    public TensorData Peek(string name) => _homes.TryGetValue(name, out var home)
        && home.Store.TryGet(home.StoredName, out var tensor) ? tensor
        : throw new CheckpointException(Folder, $"has no tensor '{name}'");

    /// <summary>The file that holds this tensor, for errors.</summary>
    public string FileOf(string name) => _homes.TryGetValue(name, out var home) ? home.Store.FileOf(home.StoredName) : Folder;

    /// <summary>Gives back what a tensor needed beyond the file's own memory; it is not valid any more.</summary>
    public void Release(string name)
    {
        if (_homes.TryGetValue(name, out var home))
        {
            home.Store.Release(home.StoredName);
        }
    }

    /// <summary>Takes a tensor that must have this shape.</summary>
    /// <exception cref="CheckpointException">Missing, of another shape, or neither floating-point numbers nor a sound quantised
    /// matrix.</exception>
    public TensorData Get(string name, params ReadOnlySpan<long> shape)
    {
        if (!_homes.TryGetValue(name, out var home) || !home.Store.TryGet(home.StoredName, out var tensor))
        {
            string stored = IsPort ? PortNames.FromCanonical(name) : name;
            throw new CheckpointException(Folder, $"tensor {Both(stored, name)} is missing, expected [{Text(shape)}]");
        }
        if (!shape.SequenceEqual(tensor.Shape.ToArray()))
        {
            throw new CheckpointException(home.Store.FileOf(home.StoredName), $"tensor {Both(tensor.Name, name)} is " +
                $"[{string.Join(", ", tensor.Shape)}], expected [{Text(shape)}] from {ConfigName}");
        }
        if (!tensor.DType.IsFloat() && !tensor.DType.IsQuantized())
        {
            throw new CheckpointException(home.Store.FileOf(home.StoredName),
                $"tensor {Both(tensor.Name, name)} is {tensor.DType}, expected floating point or a quantised matrix");
        }
        home.Store.Verify(home.StoredName);
        _taken.Add(name);
        return tensor;
    }

    /// <summary>A tensor's name as stored, and the canonical one where that differs.</summary>
    public static string Both(string stored, string name) => stored == name ? $"'{name}'" : $"'{stored}' ({name})";

    /// <summary>The Q-Former's vocabulary in a folder of either kind.</summary>
    public static string? VocabularyIn(string folder)
    {
        string own = System.IO.Path.Combine(folder, VocabularyName);
        string port = System.IO.Path.Combine(folder, PortVocabularyFolder, VocabularyName);
        return File.Exists(own) ? own : File.Exists(port) ? port : null;
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

    /// <summary>One of the tensors that SAM trained.</summary>
    public static bool IsAdapter(string name) => name.StartsWith("attn.", StringComparison.Ordinal)
        || name.Contains("one_2_muliple", StringComparison.Ordinal) || name.Contains("multiple_2_one", StringComparison.Ordinal);

    /// <summary>Buffers and heads that checkpoints carry but inference does not read.</summary>
    public static bool IsSuperfluous(string name) =>
        name.EndsWith("position_ids", StringComparison.Ordinal)
        || name.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal)
        || name.Contains("relative_position_", StringComparison.Ordinal)
        || name.StartsWith("Qformer.cls.", StringComparison.Ordinal);

    private static TensorStore OpenFile(string path, CheckpointOptions options)
    {
        if (!TorchZipFile.IsNamed(path))
        {
            return SafetensorsFile.Open(path, options.UseMmap);
        }
        return options.AllowTorchFiles ? TorchZipFile.Open(path, options.UseMmap)
            : throw new CheckpointException(path, "is a torch file, which is opened only where that is allowed " +
                $"({nameof(SamModelOptions.AllowTorchFiles)}, --allow-torch); or convert it with 'sam model convert'");
    }

    /// <summary>The error of a folder without weights.</summary>
    public static CheckpointException NoWeights(string folder) => new(folder, $"has neither {SafetensorsFolder.SingleName} nor " +
        $"{SafetensorsFolder.IndexName}: not a model folder (make one from .pth or .bin files with 'sam model convert')");

    private void AddFolder(CheckpointOptions options)
    {
        TensorStore store;
        if (SafetensorsFolder.IsIn(Folder))
        {
            store = SafetensorsFolder.Open(Folder, options.UseMmap);
        }
        else if (!TorchFolder.IsIn(Folder))
        {
            throw NoWeights(Folder);
        }
        else if (options.AllowTorchFiles)
        {
            store = TorchFolder.Open(Folder, options.UseMmap);
        }
        else
        {
            throw new CheckpointException(Folder, "has its weights in torch files, which are opened only where that is " +
                $"allowed ({nameof(SamModelOptions.AllowTorchFiles)}, --allow-torch); or convert it with 'sam model convert'");
        }
        IsPort = PortNames.ArePort(store.Names);
        if (IsPort && TokenizerModelPath is { } tokenizer)
        {
            // Rows behind [PAD] stand for nothing that a text has.
            int most = VicunaTokenizer.Load(tokenizer).VocabularySize;
            store = PortStore.Wrap(store, most);
            if (Config.Llm.VocabularySize > most)
            {
                Config = Config with { Llm = Config.Llm with { VocabularySize = most, PadTokenId = most - 1 } };
            }
        }
        else
        {
            store = PortStore.Wrap(store);
        }
        _stores.Add(store);
        foreach (string name in store.Names)
        {
            _homes[name] = (store, name);
        }
        if (IsPort)
        {
            _notes.Add("the Hugging Face port of InstructBLIP");
            if (HasAdapters)
            {
                UseSamsEps();
            }
        }
    }

    private void UseSamsEps()
    {
        float eps = SamConfig.Published.LnVisionEps;
        if (Config.LnVisionEps != eps)
        {
            _notes.Add($"ln_vision.eps is {eps:R} as SAM was trained with, not {Config.LnVisionEps:R} as {ConfigName} says");
            Config = Config with { LnVisionEps = eps };
        }
    }

    private void AddAdapters(TensorStore store)
    {
        bool had = HasAdapters;
        _stores.Add(store);
        foreach (string name in store.Names)
        {
            bool replaced = _homes.ContainsKey(name);
            _homes[name] = (store, name);
            if (replaced)
            {
                _notes.Add($"tensor '{name}' comes from {store.Path}");
            }
        }
        if (!HasAdapters)
        {
            throw new CheckpointException(store.Path, $"holds none of SAM's adapters ({AdapterNames}), nor does the folder");
        }
        // The port's value is another one than that of the model the adapters were trained on.
        if (!had)
        {
            UseSamsEps();
        }
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
