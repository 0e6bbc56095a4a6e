using System.Buffers.Binary;
using System.Text;
using SamEngine.Checkpoints;

namespace SamEngine.Testing;

/// <summary>Writes zip files as torch.save does, entries stored as they are; every field can be made wrong.</summary>
internal sealed class StoredZip : IDisposable
{
    private readonly FileStream _stream;
    private readonly List<Entry> _entries = [];

    public StoredZip(string path)
    {
        _stream = new FileStream(path, FileMode.Create, FileAccess.ReadWrite, FileShare.None, 1 << 20);
    }

    /// <summary>Write sizes and offsets in the form for large files.</summary>
    public bool Zip64 { get; init; }

    public ushort Flags { get; set; }

    public ushort Method { get; set; }

    /// <summary>Added to every checksum.</summary>
    public uint CrcError { get; set; }

    /// <summary>Adds an entry at the alignment that torch.save gives.</summary>
    public void Add(string name, ReadOnlySpan<byte> bytes)
    {
        Begin(name);
        Write(bytes);
        End();
    }

    /// <summary>Starts an entry whose bytes come in pieces.</summary>
    public void Begin(string name)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(name);
        long offset = _stream.Position;
        int padding = (int)((64 - (offset + 30 + utf8.Length + 4) % 64) % 64);
        _entries.Add(new Entry(utf8, offset));
        Span<byte> header = stackalloc byte[30];
        header.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(header, 0x04034b50);
        BinaryPrimitives.WriteUInt16LittleEndian(header[6..], Flags);
        BinaryPrimitives.WriteUInt16LittleEndian(header[8..], Method);
        BinaryPrimitives.WriteUInt16LittleEndian(header[26..], (ushort)utf8.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(header[28..], (ushort)(padding + 4));
        _stream.Write(header);
        _stream.Write(utf8);
        Span<byte> extra = stackalloc byte[4];
        BinaryPrimitives.WriteUInt16LittleEndian(extra, 0x4246);
        BinaryPrimitives.WriteUInt16LittleEndian(extra[2..], (ushort)padding);
        _stream.Write(extra);
        _stream.Write(new byte[padding]);
    }

    public void Write(ReadOnlySpan<byte> bytes)
    {
        var entry = _entries[^1];
        entry.Crc = Crc32.Append(entry.Crc, bytes);
        entry.Length += bytes.Length;
        _stream.Write(bytes);
    }

    /// <summary>Leaves a hole of zeros, without a checksum.</summary>
    public void Skip(long bytes)
    {
        _entries[^1].Length += bytes;
        _stream.SetLength(_stream.Position + bytes);
        _stream.Position += bytes;
    }

    /// <summary>Ends the entry; <paramref name="declared"/> lies about its length in the directory.</summary>
    public void End(long? declared = null) => _entries[^1].Length = declared ?? _entries[^1].Length;

    /// <summary>Writes the directory.</summary>
    public void Dispose()
    {
        long start = _stream.Position;
        foreach (var entry in _entries)
        {
            byte[] record = new byte[46 + entry.Name.Length + (Zip64 ? 28 : 0)];
            var span = record.AsSpan();
            BinaryPrimitives.WriteUInt32LittleEndian(span, 0x02014b50);
            BinaryPrimitives.WriteUInt16LittleEndian(span[8..], Flags);
            BinaryPrimitives.WriteUInt16LittleEndian(span[10..], Method);
            BinaryPrimitives.WriteUInt32LittleEndian(span[16..], entry.Crc == 0 ? 0 : entry.Crc + CrcError);
            uint length = Zip64 ? uint.MaxValue : (uint)entry.Length;
            BinaryPrimitives.WriteUInt32LittleEndian(span[20..], length);
            BinaryPrimitives.WriteUInt32LittleEndian(span[24..], length);
            BinaryPrimitives.WriteUInt16LittleEndian(span[28..], (ushort)entry.Name.Length);
            BinaryPrimitives.WriteUInt32LittleEndian(span[42..], Zip64 ? uint.MaxValue : (uint)entry.Offset);
            entry.Name.CopyTo(span[46..]);
            if (Zip64)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(span[30..], 28);
                var extra = span[(46 + entry.Name.Length)..];
                BinaryPrimitives.WriteUInt16LittleEndian(extra, 1);
                BinaryPrimitives.WriteUInt16LittleEndian(extra[2..], 24);
                BinaryPrimitives.WriteInt64LittleEndian(extra[4..], entry.Length);
                BinaryPrimitives.WriteInt64LittleEndian(extra[12..], entry.Length);
                BinaryPrimitives.WriteInt64LittleEndian(extra[20..], entry.Offset);
            }
            _stream.Write(record);
        }
        long size = _stream.Position - start;
        if (Zip64)
        {
            byte[] end64 = new byte[56 + 20];
            BinaryPrimitives.WriteUInt32LittleEndian(end64, 0x06064b50);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(4), 44);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(32), _entries.Count);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(40), size);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(48), start);
            BinaryPrimitives.WriteUInt32LittleEndian(end64.AsSpan(56), 0x07064b50);
            BinaryPrimitives.WriteInt64LittleEndian(end64.AsSpan(64), start + size);
            _stream.Write(end64);
        }
        byte[] end = new byte[22];
        BinaryPrimitives.WriteUInt32LittleEndian(end, 0x06054b50);
        BinaryPrimitives.WriteUInt16LittleEndian(end.AsSpan(10), Zip64 ? ushort.MaxValue : (ushort)_entries.Count);
        BinaryPrimitives.WriteUInt32LittleEndian(end.AsSpan(12), Zip64 ? uint.MaxValue : (uint)size);
        BinaryPrimitives.WriteUInt32LittleEndian(end.AsSpan(16), Zip64 ? uint.MaxValue : (uint)start);
        _stream.Write(end);
        _stream.Dispose();
    }

    private sealed class Entry(byte[] name, long offset)
    {
        public byte[] Name => name;

        public long Offset => offset;

        public uint Crc { get; set; }

        public long Length { get; set; }
    }
}
