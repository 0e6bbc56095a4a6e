using System.Text;

namespace SamEngine.Bench.MakeModel;

/// <summary>A tensor as a GGUF file's table names it.</summary>
/// <param name="Sizes">Columns first.</param>
/// <param name="Type"><c>ggml_type</c>.</param>
/// <param name="Offset">First byte in the file.</param>
internal sealed record GgufEntry(IReadOnlyList<long> Sizes, uint Type, long Offset);

/// <summary>What a GGUF file says about itself.</summary>
/// <param name="Metadata">Numbers and strings; of an array its length.</param>
/// <param name="Tensors">By name.</param>
internal sealed record GgufHeader(IReadOnlyDictionary<string, object> Metadata, IReadOnlyDictionary<string, GgufEntry> Tensors)
{
    private const int Most = 64 << 20;
    private const int MostCount = 1 << 20;
    private const int DefaultAlignment = 32;

    /// <summary>Layers of the language model; 0 when the file does not say.</summary>
    public long Layers => Metadata.GetValueOrDefault("general.architecture") is string architecture
        && Metadata.TryGetValue(architecture + ".block_count", out var count) ? Convert.ToInt64(count, null) : 0;

    /// <exception cref="CheckpointException">Not a GGUF file of version 2 or 3.</exception>
    public static GgufHeader Read(string path)
    {
        try
        {
            using var file = new BinaryReader(File.OpenRead(path), Encoding.UTF8);
            if (!file.ReadBytes(4).AsSpan().SequenceEqual("GGUF"u8) || file.ReadUInt32() is not (2 or 3))
            {
                throw new CheckpointException(path, "is not a GGUF file of version 2 or 3");
            }
            long tensors = Count(file);
            long pairs = Count(file);
            var metadata = new Dictionary<string, object>(StringComparer.Ordinal);
            for (long i = 0; i < pairs; i++)
            {
                metadata[Text(file)] = Value(file, file.ReadUInt32());
            }
            var table = new List<(string Name, GgufEntry Entry)>();
            for (long i = 0; i < tensors; i++)
            {
                string name = Text(file);
                uint rank = file.ReadUInt32();
                long[] sizes = [.. Enumerable.Range(0, rank <= 4 ? (int)rank : throw new InvalidDataException($"'{name}' has rank {rank}"))
                    .Select(_ => file.ReadInt64())];
                table.Add((name, new GgufEntry(sizes, file.ReadUInt32(), file.ReadInt64())));
            }
            long alignment = metadata.TryGetValue("general.alignment", out var stated) ? Math.Max(1, Convert.ToInt64(stated, null)) : DefaultAlignment;
            long start = (file.BaseStream.Position + alignment - 1) / alignment * alignment;
            return new GgufHeader(metadata, table.ToDictionary(t => t.Name, t => t.Entry with { Offset = start + t.Entry.Offset }, StringComparer.Ordinal));
        }
        catch (Exception e) when (e is IOException or InvalidDataException or ArgumentException)
        {
            throw new CheckpointException(path, "is not a whole GGUF file: " + e.Message, e);
        }
    }

    private static long Count(BinaryReader file) => file.ReadInt64() is var count && count is >= 0 and <= MostCount ? count
        : throw new InvalidDataException($"{count} entries");

    private static string Text(BinaryReader file)
    {
        long length = file.ReadInt64();
        byte[] bytes = length is >= 0 and <= Most ? file.ReadBytes((int)length) : throw new InvalidDataException($"a string of {length} bytes");
        return bytes.Length == length ? Encoding.UTF8.GetString(bytes) : throw new EndOfStreamException("it ends inside a string");
    }

    private static object Value(BinaryReader file, uint type) => type switch
    {
        0 => file.ReadByte(),
        1 => file.ReadSByte(),
        2 => file.ReadUInt16(),
        3 => file.ReadInt16(),
        4 => file.ReadUInt32(),
        5 => file.ReadInt32(),
        6 => file.ReadSingle(),
        7 => file.ReadByte() != 0,
        8 => Text(file),
        9 => SkipArray(file),
        10 => file.ReadUInt64(),
        11 => file.ReadInt64(),
        12 => file.ReadDouble(),
        _ => throw new InvalidDataException($"metadata of type {type}"),
    };

    private static long SkipArray(BinaryReader file)
    {
        uint type = file.ReadUInt32();
        long count = Count(file);
        for (long i = 0; i < count; i++)
        {
            Value(file, type);
        }
        return count;
    }
}
