using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using SamEngine.Compute;

namespace SamEngine.Checkpoints;

/// <summary>
/// What a safetensors header says of one quantised matrix. The matrix is stored as U8 under its name; <c>__metadata__</c>
/// has <c>samengine.quantized</c> = layout version, and <c>samengine.quantized:NAME</c> =
/// <c>q4 group=64 shape=11008x4096 checksum=0123456789abcdef…</c>.
/// </summary>
/// <param name="DType">Q8 or Q4.</param>
/// <param name="GroupSize">Columns that share a scale.</param>
/// <param name="Shape">Extents of the tensor; all but the first make the columns.</param>
/// <param name="Checksum">Of format, group, shape and bytes.</param>
internal sealed record QuantizedEntry(TensorDType DType, int GroupSize, long[] Shape, string Checksum)
{
    public const string VersionKey = "samengine.quantized";
    private const string Prefix = VersionKey + ":";

    public WeightFormat Format => DType == TensorDType.Q8 ? WeightFormat.Q8 : WeightFormat.Q4;

    public int Rows => (int)Shape[0];

    public int Columns => (int)Shape.Skip(1).Aggregate(1L, (a, b) => a * b);

    public long ByteLength => QuantizedLayout.ByteLength(Format, Rows, Columns, GroupSize);

    private string Description =>
        $"{(DType == TensorDType.Q8 ? "q8" : "q4")} group={GroupSize} shape={string.Join('x', Shape)}";

    public override string ToString() => Description;

    /// <summary>The metadata entry.</summary>
    public KeyValuePair<string, string> ToMetadata(string name) => new(Prefix + name, $"{Description} checksum={Checksum}");

    /// <summary>The entry for a matrix of these bytes.</summary>
    public QuantizedEntry WithChecksumOf(ReadOnlySpan<byte> bytes) => this with { Checksum = Sum(bytes) };

    /// <summary>Room for a checksum that is not known yet.</summary>
    public static string NoChecksum { get; } = new('0', 32);

    /// <exception cref="CheckpointException">The bytes are not those that were written, or no scales to compute with.</exception>
    public void Verify(TensorData tensor, Func<string, Exception?, CheckpointException> wrong)
    {
        var bytes = tensor.Bytes;
        string actual = Sum(bytes);
        if (actual != Checksum)
        {
            throw wrong($"tensor '{tensor.Name}': checksum is {actual}, the header says {Checksum}: the file is damaged; " +
                "fetch or quantize it again", null);
        }
        long bad = QuantizedLayout.CountBadScales(bytes[..(int)QuantizedLayout.ScaleBytes(Rows, Columns, GroupSize)]);
        if (bad > 0)
        {
            throw wrong($"tensor '{tensor.Name}': {bad} scales are NaN or infinite, expected finite numbers; quantize the " +
                "original again", null);
        }
    }

    /// <summary>All quantised matrices that metadata describes, checked for what can be seen without the tensors.</summary>
    public static IEnumerable<(string Name, QuantizedEntry Matrix)> ReadAll(IReadOnlyDictionary<string, string> metadata,
        Func<string, Exception?, CheckpointException> wrong)
    {
        bool hasVersion = metadata.TryGetValue(VersionKey, out string? version);
        if (hasVersion && version != QuantizedLayout.Version.ToString(CultureInfo.InvariantCulture))
        {
            throw wrong($"has quantised weights of layout version '{Short(version!)}', this build reads version " +
                $"{QuantizedLayout.Version}; use a newer build, or quantize the original again with 'sam model quantize'", null);
        }
        foreach (var (key, value) in metadata.OrderBy(e => e.Key, StringComparer.Ordinal))
        {
            if (!key.StartsWith(Prefix, StringComparison.Ordinal))
            {
                continue;
            }
            if (!hasVersion)
            {
                throw wrong($"has quantised tensors but no '{VersionKey}' in its metadata: their layout is not known", null);
            }
            string name = key[Prefix.Length..];
            yield return (name, Parse(value) ?? throw wrong($"tensor '{Short(name)}': metadata is '{Short(value)}', expected " +
                "'q8|q4 group=32|64|128 shape=ROWSxCOLUMNS checksum=(32 hexadecimal digits)'", null));
        }
    }

    private static QuantizedEntry? Parse(string text)
    {
        string[] fields = text.Split(' ');
        if (fields.Length != 4 || fields[0] is not ("q8" or "q4")
            || !fields[1].StartsWith("group=", StringComparison.Ordinal)
            || !int.TryParse(fields[1]["group=".Length..], NumberStyles.None, CultureInfo.InvariantCulture, out int group)
            || !QuantizedLayout.IsGroupSize(group) || !fields[2].StartsWith("shape=", StringComparison.Ordinal)
            || !fields[3].StartsWith("checksum=", StringComparison.Ordinal))
        {
            return null;
        }
        string[] extents = fields[2]["shape=".Length..].Split('x');
        var shape = new long[extents.Length];
        long columns = 1;
        for (int i = 0; i < extents.Length; i++)
        {
            // The limits keep every product below 2^63, whatever the header claims.
            if (!long.TryParse(extents[i], NumberStyles.None, CultureInfo.InvariantCulture, out shape[i])
                || shape[i] is < 1 or > 1 << 28 || (i > 0 && (columns *= shape[i]) > 1 << 28))
            {
                return null;
            }
        }
        string checksum = fields[3]["checksum=".Length..];
        return shape.Length is >= 2 and <= 8 && checksum.Length == NoChecksum.Length && checksum.All(char.IsAsciiHexDigitLower)
            ? new QuantizedEntry(fields[0] == "q8" ? TensorDType.Q8 : TensorDType.Q4, group, shape, checksum) : null;
    }

    /// <summary>Four CRC-32C side by side, each over every fourth eight bytes, after the description: as fast as memory,
    /// where one would wait for itself.</summary>
    private string Sum(ReadOnlySpan<byte> bytes)
    {
        uint a = 0, b = 1, c = 2, d = 3;
        foreach (byte v in Encoding.ASCII.GetBytes($"{QuantizedLayout.Version} {Description}"))
        {
            (a, b, c, d) = (BitOperations.Crc32C(a, v), BitOperations.Crc32C(b, v), BitOperations.Crc32C(c, v),
                BitOperations.Crc32C(d, v));
        }
        // Layout lengths are multiples of 64.
        var words = MemoryMarshal.Cast<byte, ulong>(bytes);
        for (int i = 0; i + 3 < words.Length; i += 4)
        {
            a = BitOperations.Crc32C(a, words[i]);
            b = BitOperations.Crc32C(b, words[i + 1]);
            c = BitOperations.Crc32C(c, words[i + 2]);
            d = BitOperations.Crc32C(d, words[i + 3]);
        }
        return string.Create(CultureInfo.InvariantCulture, $"{a:x8}{b:x8}{c:x8}{d:x8}");
    }

    private static string Short(string text) => text.Length > 120 ? text[..120] + "…" : text;
}
