using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace SamEngine.Checkpoints;

/// <summary>Safetensors of a model folder: <c>model.safetensors</c>, or the shards that
/// <c>model.safetensors.index.json</c> names.</summary>
internal sealed class SafetensorsFolder : TensorStore
{
    public const string SingleName = "model.safetensors";
    public const string IndexName = "model.safetensors.index.json";

    private readonly List<SafetensorsFile> _files = [];
    private readonly SortedDictionary<string, SafetensorsFile> _homes = new(StringComparer.Ordinal);

    private SafetensorsFolder(string path)
        : base(path)
    {
    }

    public override IReadOnlyCollection<string> Names => _homes.Keys;

    /// <summary>Whether the folder has weights of this form.</summary>
    public static bool IsIn(string folder) =>
        File.Exists(System.IO.Path.Combine(folder, SingleName)) || File.Exists(System.IO.Path.Combine(folder, IndexName));

    /// <exception cref="CheckpointException">A file is missing, damaged, or points outside the folder.</exception>
    public static SafetensorsFolder Open(string folder, bool useMmap = true)
    {
        var store = new SafetensorsFolder(folder);
        try
        {
            string index = System.IO.Path.Combine(folder, IndexName);
            if (File.Exists(index))
            {
                store.OpenShards(index, useMmap);
            }
            else
            {
                store.Add(SafetensorsFile.Open(System.IO.Path.Combine(folder, SingleName), useMmap));
            }
            return store;
        }
        catch
        {
            store.Dispose();
            throw;
        }
    }

    public override bool TryGet(string name, [NotNullWhen(true)] out TensorData? tensor)
    {
        tensor = null;
        return _homes.TryGetValue(name, out var file) && file.TryGet(name, out tensor);
    }

    public override string FileOf(string name) => _homes.TryGetValue(name, out var file) ? file.Path : Path;

    protected override void Dispose(bool disposing)
    {
        foreach (var file in _files)
        {
            file.Dispose();
        }
    }

    private void OpenShards(string index, bool useMmap)
    {
        var map = ShardIndex.Read(index);
        foreach (string shard in map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            Add(SafetensorsFile.Open(ShardIndex.Resolve(Path, shard, index), useMmap));
        }
        foreach (var (name, shard) in map)
        {
            if (!_homes.TryGetValue(name, out var home) || System.IO.Path.GetFileName(home.Path) != shard)
            {
                throw new CheckpointException(index, $"says tensor '{name}' is in '{shard}', but it is " +
                    (home is null ? "in none of the shards" : $"in '{System.IO.Path.GetFileName(home.Path)}'"));
            }
        }
    }

    private void Add(SafetensorsFile file)
    {
        _files.Add(file);
        foreach (string name in file.Names)
        {
            if (!_homes.TryAdd(name, file))
            {
                throw new CheckpointException(file.Path,
                    $"tensor '{name}' is also in '{System.IO.Path.GetFileName(_homes[name].Path)}'");
            }
        }
    }
}

/// <summary>A Hugging Face shard index: <c>{"weight_map": {tensor: file}}</c>.</summary>
internal static class ShardIndex
{
    private const long MostBytes = 64 << 20;

    /// <exception cref="CheckpointException">Not such an index.</exception>
    public static SortedDictionary<string, string> Read(string path)
    {
        try
        {
            if (new FileInfo(path).Length > MostBytes)
            {
                throw new CheckpointException(path, $"is larger than {MostBytes} bytes, too large for an index");
            }
            using var json = JsonDocument.Parse(File.ReadAllBytes(path), new JsonDocumentOptions { MaxDepth = 8 });
            if (json.RootElement.ValueKind != JsonValueKind.Object
                || !json.RootElement.TryGetProperty("weight_map", out var map) || map.ValueKind != JsonValueKind.Object)
            {
                throw new CheckpointException(path, "has no object 'weight_map'");
            }
            var result = new SortedDictionary<string, string>(StringComparer.Ordinal);
            foreach (var entry in map.EnumerateObject())
            {
                if (entry.Value.ValueKind != JsonValueKind.String || !result.TryAdd(entry.Name, entry.Value.GetString()!))
                {
                    throw new CheckpointException(path, $"'weight_map' entry '{entry.Name}' is not a text, or is there twice");
                }
            }
            return result;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException
            or InvalidOperationException)
        {
            throw new CheckpointException(path, "can't be read: " + e.Message, e);
        }
    }

    /// <summary>The shard's path: a plain file name in the folder; links are followed only inside it.</summary>
    /// <exception cref="CheckpointException">The name or the file is not acceptable.</exception>
    public static string Resolve(string folder, string shard, string index)
    {
        if (shard.Length == 0 || shard is "." or ".." || shard.AsSpan().ContainsAny('/', '\\', '\0')
            || System.IO.Path.IsPathRooted(shard))
        {
            throw new CheckpointException(index, $"names the shard '{shard}', expected a plain file name in the same folder");
        }
        string path = System.IO.Path.Combine(folder, shard);
        var file = new FileInfo(path);
        if (!file.Exists)
        {
            throw new CheckpointException(index, $"names the shard '{shard}', which is not in the folder");
        }
        // A downloaded snapshot links into its own cache; a link to a device or out of reach of the user's intent is not one.
        if (file.ResolveLinkTarget(returnFinalTarget: true) is { } target
            && (!target.Exists || (target.Attributes & (FileAttributes.Device | FileAttributes.Directory)) != 0
                || !IsSnapshotBlob(folder, target.FullName)))
        {
            throw new CheckpointException(index, $"names the shard '{shard}', a link to '{target.FullName}' outside the " +
                "model folder; copy the file there, or open the folder that holds it");
        }
        return path;
    }

    /// <summary>Inside the folder, or in the <c>blobs</c> beside the <c>snapshots</c> it is one of (the layout of Hugging
    /// Face's download cache).</summary>
    private static bool IsSnapshotBlob(string folder, string target)
    {
        string full = System.IO.Path.GetFullPath(folder) + System.IO.Path.DirectorySeparatorChar;
        if (target.StartsWith(full, StringComparison.Ordinal))
        {
            return true;
        }
        var parent = Directory.GetParent(System.IO.Path.GetFullPath(folder));
        return parent is { Name: "snapshots", Parent: { } cache } && target.StartsWith(
            System.IO.Path.Combine(cache.FullName, "blobs") + System.IO.Path.DirectorySeparatorChar, StringComparison.Ordinal);
    }
}
