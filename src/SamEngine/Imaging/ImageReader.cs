namespace SamEngine.Imaging;

/// <summary>Gets the encoded bytes of a picture, within the limits.</summary>
internal static class ImageReader
{
    private const int ChunkBytes = 1 << 16;

    public static ReadOnlyMemory<byte> ReadFile(string path, int index, ImageLimits limits, CancellationToken cancel)
    {
        ReadOnlyMemory<byte> Read()
        {
            // bufferSize 1: the reads below are large already.
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1);
            if (file.CanSeek && file.Length > limits.MaxFileBytes)
            {
                throw TooManyBytes(index, path, file.Length, limits);
            }
            return ReadStream(file, path, index, limits, cancel);
        }
        try
        {
            if ((File.ResolveLinkTarget(path, returnFinalTarget: true) ?? new FileInfo(path)) is FileInfo { Exists: true, Length: > 0 })
            {
                return Read();
            }
            // A pipe may never open, nor give anything: its thread is left behind then.
            return Task.Factory.StartNew(Read, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)
                .WaitAsync(cancel).GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw NoFile(path, index, e);
        }
        catch (Exception e) when (e is UnauthorizedAccessException && Directory.Exists(path))
        {
            throw IsFolder(path, index, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException
            or NotSupportedException or System.Security.SecurityException)
        {
            throw new ImageException(index, path, "can't be read: " + e.Message, e);
        }
    }

    /// <summary>Says at once what <see cref="ReadFile"/> would say later of a path that names no file.</summary>
    /// <exception cref="ImageException">There is none, or a folder.</exception>
    public static void RequireFile(string path, int index)
    {
        if (!File.Exists(path))
        {
            throw Directory.Exists(path) ? IsFolder(path, index) : NoFile(path, index);
        }
    }

    /// <summary>Reads to the end, however many bytes each read gives; a stream that goes on past the limit is an error.</summary>
    public static ReadOnlyMemory<byte> ReadStream(
        Stream stream, string name, int index, ImageLimits limits, CancellationToken cancel)
    {
        int expected = 0;
        try
        {
            expected = stream.CanSeek ? (int)Math.Clamp(stream.Length - stream.Position, 0, limits.MaxFileBytes) : 0;
            // One byte more than expected, so that the end shows without growing.
            byte[] buffer = GC.AllocateUninitializedArray<byte>(Math.Max(expected + 1, ChunkBytes));
            int length = 0;
            while (true)
            {
                cancel.ThrowIfCancellationRequested();
                if (length == buffer.Length)
                {
                    Array.Resize(ref buffer, (int)Math.Min(2L * buffer.Length, limits.MaxFileBytes + 1L));
                }
                int asked = Math.Min(buffer.Length - length, 1 << 20);
                int got = stream.Read(buffer, length, asked);
                if (got < 0 || got > asked)
                {
                    throw new IOException($"the stream says it read {got} bytes where {asked} were asked for");
                }
                if (got == 0)
                {
                    return buffer.AsMemory(0, length);
                }
                length += got;
                if (length > limits.MaxFileBytes)
                {
                    throw TooManyBytes(index, name, null, limits);
                }
            }
        }
        catch (Exception e) when (e is not (OperationCanceledException or ImageException))
        {
            // The stream is the caller's: whatever it throws is this picture's error.
            throw new ImageException(index, name, "can't be read: " + e.Message, e);
        }
    }

    public static ImageException TooManyBytes(int index, string name, long? bytes, ImageLimits limits) => new(
        index, name,
        (bytes is { } n ? $"{n} bytes" : $"more than {limits.MaxFileBytes} bytes") +
        $" is over the limit of {limits.MaxFileBytes}; save the picture smaller or raise ImageLimits.MaxFileBytes");

    private static ImageException NoFile(string path, int index, Exception? inner = null) =>
        new(index, path, "there is no such file; check the path", inner);

    private static ImageException IsFolder(string path, int index, Exception? inner = null) =>
        new(index, path, "is a folder, expected a picture file", inner);
}
