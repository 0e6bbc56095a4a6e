namespace SamEngine;

/// <summary>Folders that results are written to: what is wrong with one is said before the work begins.</summary>
internal static class OutputFolder
{
    private const string Advice = "; name another folder";

    /// <summary>Checks that the folder is there or can be made, and that files can be made in it; nothing is left behind.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="mustBeEmpty">Whether it may hold nothing yet.</param>
    /// <exception cref="OutputException">It can't be used.</exception>
    public static void Require(string path, bool mustBeEmpty)
    {
        if (File.Exists(path))
        {
            throw new OutputException(path, "is a file, expected a folder to write" + Advice);
        }
        // The nearest folder that is there.
        string place = Path.GetFullPath(path);
        try
        {
            if (mustBeEmpty && Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any())
            {
                throw new OutputException(path, $"already exists and is not empty{Advice} or remove it");
            }
            while (!Directory.Exists(place) && Path.GetDirectoryName(place) is { } parent)
            {
                if (File.Exists(place))
                {
                    throw new OutputException(path, $"can't be written: {place} is a file{Advice}");
                }
                place = parent;
            }
            using var probe = new FileStream(Path.Combine(place, $".{Guid.NewGuid():N}.tmp"), FileMode.CreateNew, FileAccess.Write,
                FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            string reason = e is UnauthorizedAccessException ? " (no permission)"
                : e is FileNotFoundException or DirectoryNotFoundException ? "" : $" ({e.Message})";
            throw new OutputException(path, $"can't be written: no file can be made in {place}{reason}{Advice}", e);
        }
    }

    /// <summary>Makes a folder that is there whole or not at all: it is written beside its place, where a failure leaves nothing.</summary>
    /// <param name="path">The folder, which holds nothing yet.</param>
    /// <param name="write">Writes the files into the folder it is given.</param>
    /// <exception cref="OutputException">It can't be written.</exception>
    public static void Fill(string path, Action<string> write)
    {
        string place = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        string partial = $"{place}.partial-{Environment.ProcessId}";
        try
        {
            Directory.CreateDirectory(partial);
            write(partial);
            if (Directory.Exists(place))
            {
                Directory.Delete(place);
            }
            Directory.Move(partial, place);
        }
        catch (Exception e)
        {
            if (Directory.Exists(partial))
            {
                Directory.Delete(partial, recursive: true);
            }
            if (e is IOException or UnauthorizedAccessException)
            {
                throw Failed(path, e);
            }
            throw;
        }
    }

    /// <summary>The error of a folder whose writing failed on the way.</summary>
    public static OutputException Failed(string path, Exception error) =>
        new(path, $"can't be written: {error.Message}", error);
}
