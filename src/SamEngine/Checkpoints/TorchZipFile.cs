using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text;

namespace SamEngine.Checkpoints;

/// <summary>
/// A torch.save file in zip form (<c>.pth</c>, <c>.bin</c>). Nothing in it is executed (<see cref="PickleReader"/>);
/// storages are stored entries of the zip, mapped where they lie; views are checked against them. Names are those of the
/// dictionary with the tensors: of <c>model</c> or <c>state_dict</c> where the file has one, else of the whole.
/// </summary>
internal sealed class TorchZipFile : TensorStore
{
    private const int MostEntries = 1_000_000;
    private const int MostPickleBytes = 256 << 20;
    private const int MostTensors = 1_000_000;

    private readonly FileBytes _bytes;
    private readonly Dictionary<string, (long Start, long Length, uint Crc)> _entries = new(StringComparer.Ordinal);
    private readonly HashSet<string> _verified = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, object?> _values = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (TensorData Tensor, OwnedBlock Block)> _copies = new(StringComparer.Ordinal);
    private string _root = "";

    private TorchZipFile(string path, FileBytes bytes)
        : base(path)
    {
        _bytes = bytes;
    }

    public override IReadOnlyCollection<string> Names => _values.Keys;

    /// <summary>Whether a file's name says that torch.save wrote it.</summary>
    public static bool IsNamed(string path) => System.IO.Path.GetExtension(path) is ".pth" or ".pt" or ".bin";

    /// <summary>Opens and checks a file.</summary>
    /// <exception cref="CheckpointException">Not such a file, or one that breaks a rule.</exception>
    public static TorchZipFile Open(string path, bool useMmap = true)
    {
        var file = new TorchZipFile(path, FileBytes.Open(path, useMmap));
        try
        {
            file.ReadDirectory();
            file.ReadPickle();
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public override bool TryGet(string name, [NotNullWhen(true)] out TensorData? tensor)
    {
        tensor = null;
        if (!_values.TryGetValue(name, out object? value))
        {
            return false;
        }
        if (value is not PickleReader.Tensor described)
        {
            throw Wrong($"'{name}' is {(value as PickleReader.Refused)?.Name ?? "not a tensor"}, expected a tensor");
        }
        tensor = _copies.TryGetValue(name, out var copy) ? copy.Tensor : Materialise(name, described);
        return true;
    }

    /// <summary>Compares the checksum of the tensor's storage.</summary>
    public override void Verify(string name)
    {
        if (_values[name] is PickleReader.Tensor { Storage.Key: var key } && _verified.Add(key))
        {
            VerifyEntry($"{_root}/data/{key}");
        }
    }

    public override void Release(string name)
    {
        if (_copies.Remove(name, out var copy))
        {
            copy.Block.Dispose();
        }
    }

    protected override void Dispose(bool disposing)
    {
        foreach (var (_, block) in _copies.Values)
        {
            block.Dispose();
        }
        _copies.Clear();
        _bytes.Dispose();
    }

    private void VerifyEntry(string name)
    {
        // torch.save writes 0 when it is told not to compute checksums.
        if (!_entries.TryGetValue(name, out var entry) || entry.Crc == 0)
        {
            return;
        }
        var (start, length, expected) = entry;
        const int Piece = 1 << 24;
        uint crc = 0;
        for (long done = 0; done < length; done += Piece)
        {
            crc = Crc32.Append(crc, _bytes.Slice(start + done, (int)Math.Min(Piece, length - done)));
        }
        if (crc != expected)
        {
            throw Wrong($"entry '{name}' has the checksum {crc:x8}, expected {expected:x8}: the file is damaged");
        }
    }

    private TensorData Materialise(string name, PickleReader.Tensor tensor)
    {
        var storage = tensor.Storage;
        if (storage.DType is not { } dtype)
        {
            throw Wrong($"tensor '{name}' has a storage of type {storage.TypeName}, which is not supported");
        }
        if (!_entries.TryGetValue($"{_root}/data/{storage.Key}", out var entry))
        {
            throw Wrong($"tensor '{name}' names the storage '{storage.Key}', which is not in the file");
        }
        int size = dtype.ByteSize();
        try
        {
            if (checked(storage.Elements * size) != entry.Length)
            {
                throw Wrong($"tensor '{name}': its storage declares {storage.Elements} elements of {dtype}, the file has " +
                    $"{entry.Length} bytes");
            }
            if (tensor.Shape.Length != tensor.Strides.Length || tensor.Offset < 0 || tensor.Shape.Any(n => n < 0)
                || tensor.Strides.Any(n => n < 0))
            {
                throw Wrong($"tensor '{name}' has a negative or incomplete shape, stride or offset");
            }
            long count = tensor.Shape.Aggregate(1L, (a, b) => checked(a * b));
            long last = tensor.Offset;
            for (int i = 0; i < tensor.Shape.Length && count > 0; i++)
            {
                last = checked(last + (tensor.Shape[i] - 1) * tensor.Strides[i]);
            }
            if (count > 0 && last >= storage.Elements)
            {
                throw Wrong($"tensor '{name}' reaches element {last} of a storage of {storage.Elements}");
            }
            nint start = _bytes.Address + (nint)entry.Start;
            if (count == 0 || IsContiguous(tensor))
            {
                return new TensorData(name, dtype, tensor.Shape, start + (nint)(tensor.Offset * size), count * size, _bytes);
            }
            // Overlapping views could describe far more than the file holds.
            if (count > storage.Elements)
            {
                throw Wrong($"tensor '{name}' has {count} elements over a storage of {storage.Elements}: its view overlaps");
            }
            var copy = new OwnedBlock(count * size);
            Gather(start, tensor, size, copy);
            var gathered = new TensorData(name, dtype, tensor.Shape, copy.Address, count * size, copy);
            _copies.Add(name, (gathered, copy));
            return gathered;
        }
        catch (OverflowException e)
        {
            throw new CheckpointException(Path, $"tensor '{name}': its shape overflows", e);
        }
    }

    private static unsafe void Gather(nint start, PickleReader.Tensor tensor, int size, OwnedBlock copy)
    {
        byte* from = (byte*)start;
        byte* to = (byte*)copy.Address;
        long[] index = new long[tensor.Shape.Length];
        long count = tensor.Shape.Aggregate(1L, (a, b) => a * b);
        long element = tensor.Offset;
        for (long i = 0; i < count; i++)
        {
            Buffer.MemoryCopy(from + element * size, to + i * size, size, size);
            for (int d = index.Length - 1; d >= 0; d--)
            {
                element += tensor.Strides[d];
                if (++index[d] < tensor.Shape[d])
                {
                    break;
                }
                element -= tensor.Strides[d] * tensor.Shape[d];
                index[d] = 0;
            }
        }
    }

    private static bool IsContiguous(PickleReader.Tensor tensor)
    {
        long expected = 1;
        for (int d = tensor.Shape.Length - 1; d >= 0; d--)
        {
            if (tensor.Shape[d] != 1 && tensor.Strides[d] != expected)
            {
                return false;
            }
            expected *= tensor.Shape[d];
        }
        return true;
    }

    private void ReadPickle()
    {
        string? pickle = _entries.Keys.FirstOrDefault(n => n.EndsWith("/data.pkl", StringComparison.Ordinal)
            && n.IndexOf('/', StringComparison.Ordinal) == n.Length - "/data.pkl".Length);
        if (pickle is null)
        {
            throw Wrong("is a zip file without 'data.pkl': not written by torch.save");
        }
        _root = pickle[..^"/data.pkl".Length];
        if (_entries.TryGetValue(_root + "/byteorder", out var order)
            && !_bytes.Slice(order.Start, (int)Math.Min(order.Length, 16)).StartsWith("little"u8))
        {
            throw Wrong("was written on a big-endian machine, which is not supported");
        }
        var (start, length, _) = _entries[pickle];
        if (length > MostPickleBytes)
        {
            throw Wrong($"has a pickle of {length} bytes, more than {MostPickleBytes}");
        }
        VerifyEntry(pickle);
        if (PickleReader.Read(_bytes.Slice(start, (int)length).ToArray(), Path) is not PickleReader.Map top)
        {
            throw Wrong("does not hold a dictionary");
        }
        foreach (string inner in (string[])["model", "state_dict"])
        {
            if (top.Entries.TryGetValue(inner, out object? value) && value is PickleReader.Map map)
            {
                top = map;
                break;
            }
        }
        if (top.Entries.Count > MostTensors)
        {
            throw Wrong($"has {top.Entries.Count} entries");
        }
        foreach (var (name, value) in top.Entries)
        {
            _values.Add(name, value);
        }
        if (!_values.Values.Any(v => v is PickleReader.Tensor))
        {
            throw Wrong("holds no tensors");
        }
    }

    /// <summary>The zip's central directory; zip64 where it has one.</summary>
    private void ReadDirectory()
    {
        const uint EndSignature = 0x06054b50;
        const uint End64Signature = 0x06064b50;
        const uint Locator64Signature = 0x07064b50;
        const uint EntrySignature = 0x02014b50;
        long length = _bytes.Length;
        if (length < 22)
        {
            throw Wrong("is too short for a zip file; expected what torch.save writes since 1.6");
        }
        int tail = (int)Math.Min(length, 22 + 65535);
        var end = _bytes.Slice(length - tail, tail);
        int at = tail - 22;
        while (at >= 0 && BinaryPrimitives.ReadUInt32LittleEndian(end[at..]) != EndSignature)
        {
            at--;
        }
        if (at < 0)
        {
            throw Wrong("is not a zip file; expected what torch.save writes since 1.6 (older files: load and save them again)");
        }
        ulong count = BinaryPrimitives.ReadUInt16LittleEndian(end[(at + 10)..]);
        ulong size = BinaryPrimitives.ReadUInt32LittleEndian(end[(at + 12)..]);
        ulong offset = BinaryPrimitives.ReadUInt32LittleEndian(end[(at + 16)..]);
        if (at >= 20 && BinaryPrimitives.ReadUInt32LittleEndian(end[(at - 20)..]) == Locator64Signature)
        {
            ulong place = BinaryPrimitives.ReadUInt64LittleEndian(end[(at - 12)..]);
            if (place > (ulong)length - 56 || length < 56
                || BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Slice((long)place, 4)) != End64Signature)
            {
                throw Damaged();
            }
            var end64 = _bytes.Slice((long)place, 56);
            count = BinaryPrimitives.ReadUInt64LittleEndian(end64[32..]);
            size = BinaryPrimitives.ReadUInt64LittleEndian(end64[40..]);
            offset = BinaryPrimitives.ReadUInt64LittleEndian(end64[48..]);
        }
        if (count > MostEntries || size > int.MaxValue || offset > (ulong)length || size > (ulong)length - offset)
        {
            throw Damaged();
        }
        var directory = _bytes.Slice((long)offset, (int)size);
        for (ulong i = 0; i < count; i++)
        {
            if (directory.Length < 46 || BinaryPrimitives.ReadUInt32LittleEndian(directory) != EntrySignature)
            {
                throw Damaged();
            }
            directory = directory[ReadEntry(directory)..];
        }
    }

    private int ReadEntry(ReadOnlySpan<byte> directory)
    {
        const uint LocalSignature = 0x04034b50;
        int flags = BinaryPrimitives.ReadUInt16LittleEndian(directory[8..]);
        int method = BinaryPrimitives.ReadUInt16LittleEndian(directory[10..]);
        uint crc = BinaryPrimitives.ReadUInt32LittleEndian(directory[16..]);
        ulong packed = BinaryPrimitives.ReadUInt32LittleEndian(directory[20..]);
        ulong plain = BinaryPrimitives.ReadUInt32LittleEndian(directory[24..]);
        int nameLength = BinaryPrimitives.ReadUInt16LittleEndian(directory[28..]);
        int extraLength = BinaryPrimitives.ReadUInt16LittleEndian(directory[30..]);
        int commentLength = BinaryPrimitives.ReadUInt16LittleEndian(directory[32..]);
        ulong local = BinaryPrimitives.ReadUInt32LittleEndian(directory[42..]);
        int total = 46 + nameLength + extraLength + commentLength;
        if (total > directory.Length)
        {
            throw Damaged();
        }
        string name = Encoding.UTF8.GetString(directory.Slice(46, nameLength));
        var extra = directory.Slice(46 + nameLength, extraLength);
        while (extra.Length >= 4)
        {
            int id = BinaryPrimitives.ReadUInt16LittleEndian(extra);
            int length = BinaryPrimitives.ReadUInt16LittleEndian(extra[2..]);
            if (length > extra.Length - 4)
            {
                throw Damaged();
            }
            if (id == 1)
            {
                var fields = extra.Slice(4, length);
                Widen(ref plain, ref fields);
                Widen(ref packed, ref fields);
                Widen(ref local, ref fields);
            }
            extra = extra[(4 + length)..];
        }
        if (name.Length == 0 || name[0] == '/' || name.Contains('\\', StringComparison.Ordinal)
            || name.Split('/').Contains("..", StringComparer.Ordinal))
        {
            throw Wrong($"has an entry '{name}', which is not a name torch.save writes");
        }
        if ((flags & 1) != 0 || method != 0 || packed != plain)
        {
            throw Wrong($"entry '{name}' is encrypted or compressed; torch.save stores entries as they are");
        }
        if (local > (ulong)_bytes.Length - 30 || _bytes.Length < 30)
        {
            throw Damaged();
        }
        var header = _bytes.Slice((long)local, 30);
        if (BinaryPrimitives.ReadUInt32LittleEndian(header) != LocalSignature)
        {
            throw Damaged();
        }
        ulong start = local + 30 + BinaryPrimitives.ReadUInt16LittleEndian(header[26..])
            + (ulong)BinaryPrimitives.ReadUInt16LittleEndian(header[28..]);
        if (start > (ulong)_bytes.Length || plain > (ulong)_bytes.Length - start)
        {
            throw Wrong($"entry '{name}' reaches past the end of the file: it is truncated");
        }
        if (!_entries.TryAdd(name, ((long)start, (long)plain, crc)))
        {
            throw Wrong($"has two entries '{name}'");
        }
        return total;
    }

    private void Widen(ref ulong value, ref ReadOnlySpan<byte> fields)
    {
        if (value != uint.MaxValue)
        {
            return;
        }
        if (fields.Length < 8)
        {
            throw Damaged();
        }
        value = BinaryPrimitives.ReadUInt64LittleEndian(fields);
        fields = fields[8..];
    }

    private CheckpointException Damaged() => Wrong("has a damaged zip directory, or is truncated");

    private CheckpointException Wrong(string message) => new(Path, message);

    /// <summary>A copy of a view that is not contiguous in the file.</summary>
    private sealed unsafe class OwnedBlock : SafeHandle
    {
        public OwnedBlock(long length)
            : base(0, ownsHandle: true) => SetHandle((nint)NativeMemory.Alloc((nuint)length));

        public override bool IsInvalid => handle == 0;

        public nint Address => handle;

        protected override bool ReleaseHandle()
        {
            NativeMemory.Free((void*)handle);
            return true;
        }
    }
}
