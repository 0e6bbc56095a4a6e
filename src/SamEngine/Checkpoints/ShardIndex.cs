using System.Text.Json;

namespace SamEngine.Checkpoints;

/// <summary>A Hugging Face shard index: <c>{"weight_map": {tensor: file}}</c>.</summary>
internal static class ShardIndex
{
    private const int MostBytes = 64 << 20;

    /// <exception cref="CheckpointException">Not such an index.</exception>
    public static SortedDictionary<string, string> Read(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(SmallFile.Read(path, MostBytes), new JsonDocumentOptions { MaxDepth = 8 });
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
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException(path, "can't be read: " + e.Message, e);
        }
    }

    /// <summary>Writes an index, tensors in ordinal order.</summary>
    public static void Write(string path, IEnumerable<(string Name, string File)> tensors, long totalBytes)
    {
        using var stream = File.Create(path);
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteStartObject("metadata");
        json.WriteNumber("total_size", totalBytes);
        json.WriteEndObject();
        json.WriteStartObject("weight_map");
        foreach (var (name, file) in tensors.OrderBy(t => t.Name, StringComparer.Ordinal))
        {
            json.WriteString(name, file);
        }
        json.WriteEndObject();
        json.WriteEndObject();
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
        FileSystemInfo? target;
        try
        {
            target = file.ResolveLinkTarget(returnFinalTarget: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(index, $"names the shard '{shard}', a link that can't be followed: {e.Message}", e);
        }
        if (target is not null && (!target.Exists || (target.Attributes & (FileAttributes.Device | FileAttributes.Directory)) != 0
                || !IsWithin(folder, target.FullName)))
        {
            throw new CheckpointException(index, $"names the shard '{shard}', a link to '{target.FullName}' outside the " +
                "model folder; copy the file there, or open the folder that holds it");
        }
        return path;
    }

    /// <summary>Inside the folder, or in the <c>blobs</c> beside the <c>snapshots</c> it is one of (the layout of Hugging
    /// Face's download cache).</summary>
    private static bool IsWithin(string folder, string target)
    {
        string full = System.IO.Path.GetFullPath(folder);
        return IsBelow(full, target) || (Directory.GetParent(full) is { Name: "snapshots", Parent: { } cache }
            && IsBelow(System.IO.Path.Combine(cache.FullName, "blobs"), target));
    }

    /// <summary>Below a folder, without a linked folder on the way.</summary>
    private static bool IsBelow(string folder, string target)
    {
        folder = folder.TrimEnd(System.IO.Path.DirectorySeparatorChar);
        if (!target.StartsWith(folder + System.IO.Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            return false;
        }
        for (var parent = Directory.GetParent(target); parent is not null && parent.FullName != folder; parent = parent.Parent)
        {
            if (parent.LinkTarget is not null)
            {
                return false;
            }
        }
        return true;
    }
}
