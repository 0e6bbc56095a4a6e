using System.Text;

namespace SamEngine.Bench.MakeModel;

/// <summary>A tensor of a GGUF file.</summary>
/// <param name="Name">llama.cpp's name.</param>
/// <param name="Type">Its form.</param>
/// <param name="Rows">Rows; 0 for a vector.</param>
/// <param name="Columns">Values of a row.</param>
internal sealed record GgufTensor(string Name, GgmlType Type, long Rows, long Columns)
{
    public long Count => Math.Max(1, Rows) * Columns;

    public long ByteLength => Type.ByteLength(Count);
}

/// <summary>Writes a GGUF file, version 3: magic, counts, metadata, tensor table, then the tensors at multiples of 32
/// bytes.</summary>
internal sealed class GgufWriter : IDisposable
{
    private const int Alignment = 32;
    private const uint Version = 3;
    private readonly BinaryWriter _file;
    private readonly Queue<GgufTensor> _left;
    private readonly long _data;
    private long _written;

    /// <param name="path">File to write.</param>
    /// <param name="metadata">Values: string, uint or float.</param>
    /// <param name="tensors">In the order in which <see cref="Write"/> brings them.</param>
    public GgufWriter(string path, IReadOnlyList<(string Key, object Value)> metadata, IReadOnlyList<GgufTensor> tensors)
    {
        _file = new BinaryWriter(File.Create(path, 1 << 20), Encoding.UTF8);
        _left = new Queue<GgufTensor>(tensors);
        _file.Write("GGUF"u8);
        _file.Write(Version);
        _file.Write((ulong)tensors.Count);
        _file.Write((ulong)metadata.Count);
        foreach (var (key, value) in metadata)
        {
            WriteString(key);
            WriteValue(value);
        }
        long offset = 0;
        foreach (var tensor in tensors)
        {
            WriteString(tensor.Name);
            ulong[] sizes = tensor.Rows == 0 ? [(ulong)tensor.Columns] : [(ulong)tensor.Columns, (ulong)tensor.Rows];
            _file.Write((uint)sizes.Length);
            Array.ForEach(sizes, _file.Write);
            _file.Write(tensor.Type.Id);
            _file.Write((ulong)offset);
            offset = Aligned(offset + tensor.ByteLength);
        }
        Pad();
        _data = _file.BaseStream.Position;
    }

    /// <summary>Appends bytes of the first tensor that is not complete.</summary>
    public void Write(ReadOnlySpan<byte> bytes)
    {
        var tensor = _left.Peek();
        _written += bytes.Length;
        if (_written > tensor.ByteLength)
        {
            throw new InvalidOperationException($"'{tensor.Name}' takes {tensor.ByteLength} bytes, {_written} were brought");
        }
        _file.Write(bytes);
        if (_written == tensor.ByteLength)
        {
            _left.Dequeue();
            _written = 0;
            Pad();
        }
    }

    /// <exception cref="InvalidOperationException">A tensor is missing.</exception>
    public void Complete()
    {
        if (_left.Count > 0)
        {
            throw new InvalidOperationException($"'{_left.Peek().Name}' is not complete");
        }
        _file.Flush();
    }

    public void Dispose() => _file.Dispose();

    private static long Aligned(long at) => (at + Alignment - 1) / Alignment * Alignment;

    /// <summary>The first tensor lies at a multiple of 32 in the file, the others relative to it.</summary>
    private void Pad()
    {
        long at = _file.BaseStream.Position - _data;
        _file.Write(new byte[Aligned(at) - at]);
    }

    private void WriteString(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        _file.Write((ulong)bytes.Length);
        _file.Write(bytes);
    }

    private void WriteValue(object value)
    {
        switch (value)
        {
            case uint number:
                _file.Write(4u);
                _file.Write(number);
                break;
            case float number:
                _file.Write(6u);
                _file.Write(number);
                break;
            case string text:
                _file.Write(8u);
                WriteString(text);
                break;
            default:
                throw new ArgumentException($"metadata of type {value.GetType()}", nameof(value));
        }
    }
}
