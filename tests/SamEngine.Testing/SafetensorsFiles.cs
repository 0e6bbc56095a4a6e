using System.Buffers.Binary;
using System.Text;
using SamEngine.Checkpoints;

namespace SamEngine.Testing;

/// <summary>Writes safetensors files for tests, sound ones and others.</summary>
internal static class SafetensorsFiles
{
    public static void Write(string path, IReadOnlyList<TensorSource> tensors)
    {
        using var writer = new SafetensorsWriter(path, [.. tensors.Select(t => (t.Name, t.DType, t.Shape))]);
        foreach (var tensor in tensors)
        {
            writer.Begin(tensor.Name);
            foreach (var piece in tensor.Bytes())
            {
                writer.Write(piece.Span);
            }
        }
        writer.Complete();
    }

    /// <summary>A header of this text with its length in front, and zeros as data.</summary>
    public static byte[] File(string header, int dataBytes = 0) => File(Encoding.UTF8.GetBytes(header), dataBytes);

    public static byte[] File(byte[] header, int dataBytes = 0)
    {
        byte[] file = new byte[8 + header.Length + dataBytes];
        BinaryPrimitives.WriteInt64LittleEndian(file, header.Length);
        header.CopyTo(file, 8);
        return file;
    }
}
