namespace SamEngine.Checkpoints;

/// <summary>Opens files that must be regular ones, and reads small ones whole.</summary>
internal static class SmallFile
{
    /// <summary>Reads a file of at most <paramref name="most"/> bytes.</summary>
    /// <exception cref="CheckpointException">Missing, not a regular file, empty, or larger.</exception>
    public static byte[] Read(string path, int most)
    {
        using var stream = Open(path);
        try
        {
            if (stream.Length > most)
            {
                throw new CheckpointException(path, $"has {stream.Length} bytes, more than the {most} that such a file may have");
            }
            byte[] bytes = new byte[stream.Length];
            stream.ReadExactly(bytes);
            return bytes;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(path, "can't be read: " + e.Message, e);
        }
    }

    /// <summary>Opens a regular file that is not empty.</summary>
    /// <exception cref="CheckpointException">It is not one.</exception>
    public static FileStream Open(string path)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw new CheckpointException(path, "is a folder, expected a file");
            }
            // Looked at before it is opened: opening a pipe would wait for a writer, and a device never ends. Both have no
            // length.
            var info = new FileInfo(path);
            if (info.ResolveLinkTarget(returnFinalTarget: true) is { } target)
            {
                info = new FileInfo(target.FullName);
            }
            if (!info.Exists)
            {
                throw new CheckpointException(path, "does not exist");
            }
            if (info.Length == 0)
            {
                throw new CheckpointException(path, "is empty, or not a regular file");
            }
            var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1);
            if (stream.CanSeek)
            {
                return stream;
            }
            stream.Dispose();
            throw new CheckpointException(path, "is not a regular file");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new CheckpointException(path, "can't be opened: " + e.Message, e);
        }
    }
}
