using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Json;

namespace SamEngine.Checkpoints;

/// <summary>
/// One safetensors file (github.com/huggingface/safetensors): 8 bytes header length, JSON header, data. Held to the
/// format's own rules: header of at most 100 MB that starts with '{', no duplicate names, offsets that cover the data
/// without holes or overlaps, shapes that match them.
/// </summary>
internal sealed class SafetensorsFile : TensorStore
{
    private const long MostHeaderBytes = 100_000_000;
    private const int MostDimensions = 8;
    private const int MostEntries = 200_000;

    private readonly FileBytes _bytes;
    private readonly SortedDictionary<string, TensorData> _tensors = new(StringComparer.Ordinal);

    private readonly Dictionary<string, QuantizedEntry> _quantized = new(StringComparer.Ordinal);

    private SafetensorsFile(string path, FileBytes bytes)
        : base(path)
    {
        _bytes = bytes;
    }

    public override IReadOnlyCollection<string> Names => _tensors.Keys;

    /// <summary>Entries of <c>__metadata__</c>.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; private set; } = new Dictionary<string, string>();

    /// <summary>Opens and checks a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="useMmap">Map it instead of reading it; then the file must not be changed while it is open.</param>
    /// <exception cref="CheckpointException">The file breaks a rule; the message names it.</exception>
    public static SafetensorsFile Open(string path, bool useMmap = true)
    {
        var file = new SafetensorsFile(path, FileBytes.Open(path, useMmap));
        try
        {
            file.ReadHeader();
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public override bool TryGet(string name, [NotNullWhen(true)] out TensorData? tensor) =>
        _tensors.TryGetValue(name, out tensor);

    public override void Verify(string name)
    {
        if (_quantized.TryGetValue(name, out var matrix))
        {
            matrix.Verify(_tensors[name], Wrong);
        }
    }

    protected override void Dispose(bool disposing) => _bytes.Dispose();

    private void ReadHeader()
    {
        if (_bytes.Length < 8)
        {
            throw Wrong($"has {_bytes.Length} bytes, a safetensors file has at least 8: it is truncated");
        }
        ulong declared = BinaryPrimitives.ReadUInt64LittleEndian(_bytes.Slice(0, 8));
        if (declared > MostHeaderBytes)
        {
            throw Wrong($"not a safetensors file, or damaged: declares a header of {declared} bytes, more than the {MostHeaderBytes} allowed");
        }
        int length = (int)declared;
        if (length > _bytes.Length - 8)
        {
            throw Wrong($"declares a header of {length} bytes, but only {_bytes.Length - 8} follow: it is truncated");
        }
        var header = _bytes.Slice(8, length);
        if (length < 2 || header[0] != (byte)'{')
        {
            throw Wrong("header does not start with '{': not a safetensors file");
        }
        var entries = ParseHeader(header);
        Place(entries, 8L + length);
        ReadQuantized();
    }

    /// <summary>Turns the tensors that the metadata says are quantised into matrices.</summary>
    private void ReadQuantized()
    {
        foreach (var (name, matrix) in QuantizedEntry.ReadAll(Metadata, Wrong))
        {
            if (!_tensors.TryGetValue(name, out var bytes) || bytes.DType != TensorDType.U8)
            {
                throw Wrong($"metadata describes the quantised tensor '{Short(name)}', which is " +
                    (bytes is null ? "not in the file" : $"stored as {bytes.DType}, expected U8"));
            }
            if (bytes.ByteLength != matrix.ByteLength)
            {
                throw Wrong($"tensor '{Short(name)}': {matrix} needs {matrix.ByteLength} bytes, it has {bytes.ByteLength}");
            }
            _tensors[name] = new TensorData(name, matrix.DType, matrix.Shape, bytes.Address, bytes.ByteLength, _bytes,
                matrix.GroupSize);
            _quantized.Add(name, matrix);
        }
    }

    private List<Entry> ParseHeader(ReadOnlySpan<byte> header)
    {
        var entries = new List<Entry>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            // Trailing spaces pad the header; anything else after the object is an error.
            var reader = new Utf8JsonReader(header, new JsonReaderOptions { MaxDepth = 4 });
            reader.Read();
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                throw Wrong("header is not a JSON object");
            }
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                string name = reader.GetString()!;
                if (!names.Add(name))
                {
                    throw Wrong($"tensor '{Short(name)}' is listed twice");
                }
                if (names.Count > MostEntries)
                {
                    throw Wrong($"lists more than {MostEntries} tensors");
                }
                reader.Read();
                if (name == "__metadata__")
                {
                    Metadata = ReadMetadata(ref reader);
                }
                else
                {
                    entries.Add(ReadEntry(ref reader, name));
                }
            }
            while (reader.Read())
            {
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or DecoderFallbackException
            or FormatException)
        {
            throw Wrong("header is not valid JSON: " + e.Message, e);
        }
        return entries;
    }

    private Dictionary<string, string> ReadMetadata(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Wrong("'__metadata__' is not an object of texts");
        }
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            if (metadata.Count >= MostEntries)
            {
                throw Wrong($"'__metadata__' has more than {MostEntries} entries");
            }
            if (reader.TokenType != JsonTokenType.String || !metadata.TryAdd(key, reader.GetString()!))
            {
                throw Wrong($"'__metadata__' entry '{Short(key)}' is not a text, or is there twice");
            }
        }
        return metadata;
    }

    private Entry ReadEntry(ref Utf8JsonReader reader, string name)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Wrong($"tensor '{Short(name)}': entry is not an object");
        }
        TensorDType? dtype = null;
        long[]? shape = null;
        long[]? offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            switch (key)
            {
                case "dtype" when dtype is null && reader.TokenType == JsonTokenType.String:
                    dtype = ParseDType(reader.GetString()!, name);
                    break;
                case "shape" when shape is null:
                    shape = ReadNumbers(ref reader, name, key, MostDimensions);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ReadNumbers(ref reader, name, key, 2);
                    break;
                default:
                    throw Wrong($"tensor '{Short(name)}': unexpected or repeated field '{Short(key)}'");
            }
        }
        if (dtype is null || shape is null || offsets is not { Length: 2 })
        {
            throw Wrong($"tensor '{Short(name)}': dtype, shape or data_offsets (two numbers) is missing");
        }
        return new Entry(name, dtype.Value, shape, offsets[0], offsets[1]);
    }

    private TensorDType ParseDType(string text, string name) => text switch
    {
        "BOOL" => TensorDType.Bool,
        "U8" => TensorDType.U8,
        "I8" => TensorDType.I8,
        "I16" => TensorDType.I16,
        "I32" => TensorDType.I32,
        "I64" => TensorDType.I64,
        "F16" => TensorDType.F16,
        "BF16" => TensorDType.BF16,
        "F32" => TensorDType.F32,
        "F64" => TensorDType.F64,
        _ => throw Wrong($"tensor '{Short(name)}': unknown dtype '{Short(text)}'"),
    };

    private long[] ReadNumbers(ref Utf8JsonReader reader, string name, string key, int most)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw Wrong($"tensor '{Short(name)}': {key} is not a list");
        }
        var numbers = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long value) || value < 0
                || numbers.Count == most)
            {
                throw Wrong($"tensor '{Short(name)}': {key} holds something else than at most {most} whole numbers >= 0");
            }
            numbers.Add(value);
        }
        return [.. numbers];
    }

    private void Place(List<Entry> entries, long dataStart)
    {
        long available = _bytes.Length - dataStart;
        long expected = 0;
        foreach (var entry in entries.OrderBy(e => e.Begin).ThenBy(e => e.End))
        {
            if (entry.Begin != expected || entry.End < entry.Begin || entry.End > available)
            {
                throw Wrong($"tensor '{Short(entry.Name)}': data at {entry.Begin}..{entry.End}, expected to start at " +
                    $"{expected} and end within {available} bytes: offsets overlap, leave holes, or the file is truncated");
            }
            expected = entry.End;
            long bytes;
            try
            {
                bytes = entry.Shape.Aggregate((long)entry.DType.ByteSize(), (a, b) => checked(a * b));
            }
            catch (OverflowException e)
            {
                throw Wrong($"tensor '{Short(entry.Name)}': shape [{string.Join(", ", entry.Shape)}] overflows", e);
            }
            if (bytes != entry.End - entry.Begin)
            {
                throw Wrong($"tensor '{Short(entry.Name)}': {entry.DType} [{string.Join(", ", entry.Shape)}] needs {bytes} " +
                    $"bytes, its offsets give {entry.End - entry.Begin}");
            }
            _tensors.Add(entry.Name, new TensorData(entry.Name, entry.DType, entry.Shape,
                _bytes.Address + (nint)(dataStart + entry.Begin), bytes, _bytes));
        }
        if (expected != available)
        {
            throw Wrong($"tensors end at byte {expected} of {available}: {available - expected} bytes belong to none");
        }
    }

    private CheckpointException Wrong(string message, Exception? inner = null) => new(Path, message, inner);

    private static string Short(string text) => text.Length > 120 ? text[..120] + "…" : text;

    private sealed record Entry(string Name, TensorDType DType, long[] Shape, long Begin, long End);
}
