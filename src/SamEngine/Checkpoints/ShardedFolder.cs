using System.Diagnostics.CodeAnalysis;

namespace SamEngine.Checkpoints;

/// <summary>Weights of a model folder: one file, or the shards that an index names. Every tensor is in one file only, and
/// the index says which.</summary>
internal abstract class ShardedFolder : TensorStore
{
    private readonly List<TensorStore> _files = [];
    private readonly SortedDictionary<string, TensorStore> _homes = new(StringComparer.Ordinal);

    protected ShardedFolder(string path, string singleName, string indexName, Func<string, TensorStore> open)
        : base(path)
    {
        try
        {
            string index = System.IO.Path.Combine(path, indexName);
            if (File.Exists(index))
            {
                OpenShards(index, open);
            }
            else
            {
                Add(open(System.IO.Path.Combine(path, singleName)));
            }
        }
        catch
        {
            Dispose(true);
            throw;
        }
    }

    public override IReadOnlyCollection<string> Names => _homes.Keys;

    public override bool TryGet(string name, [NotNullWhen(true)] out TensorData? tensor)
    {
        tensor = null;
        return _homes.TryGetValue(name, out var file) && file.TryGet(name, out tensor);
    }

    public override string FileOf(string name) => _homes.TryGetValue(name, out var file) ? file.Path : Path;

    public override void Verify(string name) => _homes[name].Verify(name);

    public override void Release(string name) => _homes[name].Release(name);

    /// <summary>Whether the folder has weights of these file names.</summary>
    protected static bool IsIn(string folder, string singleName, string indexName) =>
        File.Exists(System.IO.Path.Combine(folder, singleName)) || File.Exists(System.IO.Path.Combine(folder, indexName));

    protected sealed override void Dispose(bool disposing)
    {
        foreach (var file in _files)
        {
            file.Dispose();
        }
    }

    private void OpenShards(string index, Func<string, TensorStore> open)
    {
        var map = ShardIndex.Read(index);
        foreach (string shard in map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            Add(open(ShardIndex.Resolve(Path, shard, index)));
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

    private void Add(TensorStore file)
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
