namespace SamEngine.Checkpoints;

/// <summary>Safetensors of a model folder: <c>model.safetensors</c>, or the shards that
/// <c>model.safetensors.index.json</c> names.</summary>
internal sealed class SafetensorsFolder : ShardedFolder
{
    public const string SingleName = "model.safetensors";
    public const string IndexName = "model.safetensors.index.json";

    private SafetensorsFolder(string path, bool useMmap)
        : base(path, SingleName, IndexName, file => SafetensorsFile.Open(file, useMmap))
    {
    }

    /// <summary>Whether the folder has weights of this form.</summary>
    public static bool IsIn(string folder) => IsIn(folder, SingleName, IndexName);

    /// <exception cref="CheckpointException">A file is missing, damaged, or points outside the folder.</exception>
    public static SafetensorsFolder Open(string folder, bool useMmap = true) => new(folder, useMmap);
}

/// <summary>torch.save files of a model folder: <c>pytorch_model.bin</c>, or the shards that
/// <c>pytorch_model.bin.index.json</c> names.</summary>
internal sealed class TorchFolder : ShardedFolder
{
    public const string SingleName = "pytorch_model.bin";
    public const string IndexName = "pytorch_model.bin.index.json";

    private TorchFolder(string path, bool useMmap)
        : base(path, SingleName, IndexName, file => TorchZipFile.Open(file, useMmap))
    {
    }

    /// <summary>Whether the folder has weights of this form.</summary>
    public static bool IsIn(string folder) => IsIn(folder, SingleName, IndexName);

    /// <exception cref="CheckpointException">A file is missing, damaged, or points outside the folder.</exception>
    public static TorchFolder Open(string folder, bool useMmap = true) => new(folder, useMmap);
}
