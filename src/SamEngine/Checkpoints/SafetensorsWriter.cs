using System.Buffers;
using System.Buffers.Binary;
using System.Text.Json;

namespace SamEngine.Checkpoints;

/// <summary>Writes one safetensors file in a single pass: the header is laid out from the shapes, then the tensors follow in
/// the order declared, in pieces of any size.</summary>
internal sealed class SafetensorsWriter : IDisposable
{
    private readonly FileStream _stream;
    private readonly IReadOnlyList<(string Name, TensorDType DType, long[] Shape)> _tensors;
    private int _current = -1;
    private long _left;

    /// <summary>Creates the file (it must not exist) and writes the header.</summary>
    public SafetensorsWriter(string path, IReadOnlyList<(string Name, TensorDType DType, long[] Shape)> tensors,
        IReadOnlyDictionary<string, string>? metadata = null)
    {
        _tensors = tensors;
        _stream = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 20);
        _stream.Write(Header(tensors, metadata));
    }

    /// <summary>All that stands before the data, of a multiple of 64 bytes, so that tensors of such lengths are aligned in
    /// the mapped file.</summary>
    public static byte[] Header(IReadOnlyList<(string Name, TensorDType DType, long[] Shape)> tensors,
        IReadOnlyDictionary<string, string>? metadata)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject("__metadata__");
                foreach (var (key, value) in metadata)
                {
                    json.WriteString(key, value);
                }
                json.WriteEndObject();
            }
            long offset = 0;
            foreach (var (name, dtype, shape) in tensors)
            {
                json.WriteStartObject(name);
                json.WriteString("dtype", dtype == TensorDType.Bool ? "BOOL" : dtype.ToString());
                json.WriteStartArray("shape");
                foreach (long extent in shape)
                {
                    json.WriteNumberValue(extent);
                }
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                offset = checked(offset + ByteLength(dtype, shape));
                json.WriteNumberValue(offset);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        byte[] header = new byte[(8 + buffer.WrittenCount + 63) / 64 * 64];
        header.AsSpan().Fill((byte)' ');
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - 8);
        buffer.WrittenSpan.CopyTo(header.AsSpan(8));
        return header;
    }

    public static long ByteLength(TensorDType dtype, IEnumerable<long> shape) =>
        shape.Aggregate((long)dtype.ByteSize(), (a, b) => checked(a * b));

    /// <summary>Starts the next declared tensor, which must have this name.</summary>
    public void Begin(string name)
    {
        if (_left != 0 || _current + 1 >= _tensors.Count || _tensors[_current + 1].Name != name)
        {
            throw new InvalidOperationException($"'{name}' is not the next tensor, or {_left} bytes of the last are missing");
        }
        _current++;
        _left = ByteLength(_tensors[_current].DType, _tensors[_current].Shape);
    }

    /// <summary>Appends bytes of the tensor begun last.</summary>
    public void Write(ReadOnlySpan<byte> bytes)
    {
        _left -= bytes.Length;
        if (_left < 0)
        {
            throw new InvalidOperationException($"more bytes than '{_tensors[_current].Name}' has");
        }
        _stream.Write(bytes);
    }

    /// <summary>Writes everything through to the disk; all declared tensors must be there.</summary>
    public void Complete()
    {
        if (_left != 0 || _current != _tensors.Count - 1)
        {
            throw new InvalidOperationException("tensors are missing");
        }
        _stream.Flush(flushToDisk: true);
    }

    public void Dispose() => _stream.Dispose();
}
