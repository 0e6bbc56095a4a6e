using System.Diagnostics.CodeAnalysis;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;

namespace SamEngine.Checkpoints;

/// <summary>Named tensors of a file or folder. Tensors are valid until the store is disposed.</summary>
internal abstract class TensorStore(string path) : IDisposable
{
    /// <summary>The file or folder, for errors.</summary>
    public string Path { get; } = path;

    /// <summary>All names, sorted by ordinal.</summary>
    public abstract IReadOnlyCollection<string> Names { get; }

    public abstract bool TryGet(string name, [NotNullWhen(true)] out TensorData? tensor);

    /// <summary>The file that holds this tensor, for errors.</summary>
    public virtual string FileOf(string name) => Path;

    /// <summary>Checks what the file says about a tensor's bytes beyond their shape (checksums), where it says something.</summary>
    /// <exception cref="CheckpointException">The bytes are not those that were written.</exception>
    public virtual void Verify(string name)
    {
    }

    /// <summary>Gives back what a tensor needed beyond the file's own memory; it is not valid any more.</summary>
    public virtual void Release(string name)
    {
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>The bytes of a file: memory-mapped, or read into memory of our own when the file may change underneath.</summary>
internal sealed unsafe class FileBytes : IDisposable
{
    private readonly MemoryMappedFile? _map;
    private readonly MemoryMappedViewAccessor? _view;
    private void* _owned;

    private FileBytes(MemoryMappedFile? map, MemoryMappedViewAccessor? view, void* owned, nint address, long length)
    {
        _map = map;
        _view = view;
        _owned = owned;
        Address = address;
        Length = length;
    }

    ~FileBytes() => Release();

    public nint Address { get; }

    public long Length { get; }

    /// <exception cref="CheckpointException">Missing, a folder, not readable, or too large for the memory.</exception>
    public static FileBytes Open(string path, bool useMmap)
    {
        try
        {
            using var stream = SmallFile.Open(path);
            long length = stream.Length;
            if (useMmap)
            {
                var map = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read,
                    HandleInheritability.None, leaveOpen: false);
                var view = map.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
                byte* pointer = null;
                view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
                return new FileBytes(map, view, null, (nint)(pointer + view.PointerOffset), length);
            }
            void* memory = NativeMemory.Alloc((nuint)length);
            var bytes = new FileBytes(null, null, memory, (nint)memory, length);
            for (long at = 0; at < length;)
            {
                int read = stream.Read(new Span<byte>((byte*)memory + at, (int)Math.Min(length - at, 1 << 24)));
                if (read == 0)
                {
                    bytes.Dispose();
                    throw new CheckpointException(path, $"ended at byte {at} of {length} while it was read");
                }
                at += read;
            }
            return bytes;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or OutOfMemoryException
            or NotSupportedException or ArgumentException)
        {
            throw new CheckpointException(path, "can't be opened: " + e.Message, e);
        }
    }

    /// <summary>At most 2 GiB of the bytes.</summary>
    public ReadOnlySpan<byte> Slice(long start, int length)
    {
        ObjectDisposedException.ThrowIf(_view is null && _owned is null, this);
        if (start < 0 || length < 0 || start > Length - length)
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"{start}+{length} of {Length} bytes");
        }
        return new ReadOnlySpan<byte>((byte*)Address + start, length);
    }

    public void Dispose()
    {
        Release();
        GC.SuppressFinalize(this);
    }

    private void Release()
    {
        if (_owned is not null)
        {
            NativeMemory.Free(_owned);
            _owned = null;
        }
        else if (_view is { SafeMemoryMappedViewHandle.IsClosed: false })
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map?.Dispose();
        }
    }
}
