using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>Named scratch memory that grows to the largest shape seen and is reused from call to call, so that a step of a
/// known shape allocates nothing. Not thread-safe; contents do not survive the next <c>Rent</c> of the name.</summary>
internal sealed class Workspace(Backend backend) : IDisposable
{
    private readonly Dictionary<string, DeviceBuffer> _buffers = new(StringComparer.Ordinal);

    /// <summary>Bytes held now.</summary>
    public long ByteLength => _buffers.Values.Sum(b => b.ByteLength);

    /// <summary>A contiguous view of the backend's activation type; contents are undefined.</summary>
    public TensorView Rent(string name, int batch, int rows, int columns) =>
        Rent(name, backend.ActivationType, batch, rows, columns);

    /// <summary>A contiguous view; contents are undefined.</summary>
    public TensorView Rent(string name, ElementType type, int batch, int rows, int columns)
    {
        long length = checked((long)batch * rows * columns);
        if (!_buffers.TryGetValue(name, out var buffer) || buffer.Length < length)
        {
            _buffers.Remove(name);
            buffer?.Dispose();
            buffer = backend.Allocate(type, length, name);
            _buffers.Add(name, buffer);
        }
        return TensorView.Contiguous(buffer, 0, batch, rows, columns);
    }

    public void Dispose()
    {
        foreach (var buffer in _buffers.Values)
        {
            buffer.Dispose();
        }
        _buffers.Clear();
    }
}
