using System.Buffers;
using System.Runtime.InteropServices;
using SamEngine.Compute;

namespace SamEngine.Cuda;

/// <summary>
/// A weight matrix laid out for the kernels (kernels/arguments.h): its parts one under the other, rows filled up to whole
/// strides and whole tiles with zeros, quantised rows no longer interleaved. Laid out on the host while it is uploaded, a
/// piece of staging memory at a time.
/// </summary>
internal sealed unsafe class CudaWeight : Weight
{
    /// <summary>Rows and columns are filled up to a multiple of this.</summary>
    private const int Tile = 64;

    /// <summary>Pieces of which several threads lay out the rows.</summary>
    private const int LeastParallelBytes = 1 << 16;

    /// <summary>The code of a level of Q4, by the level's byte.</summary>
    private static readonly byte[] Codes = CodeTable();

    private readonly DeviceMemory _data;
    private readonly DeviceMemory? _scales;
    private readonly DeviceWeight _native;

    public CudaWeight(CudaBackend backend, MatrixSource source)
        : this(backend, source.Name, source.Format, source.Rows, source.Columns, source.GroupSize)
    {
        try
        {
            using var queue = backend.OpenQueue();
            int first = 0;
            foreach (var part in source.Parts)
            {
                Upload(queue, part, first);
                first += part.Rows;
            }
            queue.Synchronize();
        }
        catch
        {
            Dispose(true);
            throw;
        }
    }

    /// <summary>A matrix of zeros, for a kernel to fill.</summary>
    public CudaWeight(CudaBackend backend, string name, WeightFormat format, int rows, int columns, int groupSize)
        : base(name, format, rows, columns)
    {
        int stride = RowStride(columns, groupSize);
        long filled = RoundUp(rows, Tile);
        int groups = format.IsQuantized() ? stride / groupSize : 0;
        // Of Q4 the level 0 is not code 0.
        const byte zeros = QuantizedLayout.ZeroLevel * 0x11;
        _data = backend.AllocateBytes(filled * RowBytes(format, stride), name, format == WeightFormat.Q4 ? zeros : (byte)0);
        try
        {
            _scales = groups > 0 ? backend.AllocateBytes(filled * groups * sizeof(ushort), name + " (scales)", 0) : null;
        }
        catch
        {
            Dispose(true);
            throw;
        }
        _native = new DeviceWeight
        {
            Data = _data.Value,
            Scales = _scales?.Value ?? 0,
            Rows = rows,
            Columns = columns,
            RowStride = stride,
            GroupSize = groupSize,
            Groups = groups,
        };
    }

    public override long OwnedBytes => _data.ByteLength + (_scales?.ByteLength ?? 0);

    public DeviceWeight Native
    {
        get
        {
            ObjectDisposedException.ThrowIf(_data.IsClosed, this);
            return _native;
        }
    }

    protected override void Dispose(bool disposing)
    {
        _data.Dispose();
        _scales?.Dispose();
    }

    private static byte[] CodeTable()
    {
        byte[] codes = new byte[256];
        for (int code = 0; code < QuantizedLayout.Levels.Length; code++)
        {
            codes[(byte)QuantizedLayout.Levels[code]] = (byte)code;
        }
        return codes;
    }

    private static int RowStride(int columns, int groupSize) => checked((int)RoundUp(columns, Math.Max(Tile, groupSize)));

    private static long RoundUp(long value, int unit) => (value + unit - 1) / unit * unit;

    private static long RowBytes(WeightFormat format, long stride) => format switch
    {
        WeightFormat.F32 => stride * sizeof(float),
        WeightFormat.Q8 => stride,
        WeightFormat.Q4 => stride / 2,
        _ => stride * sizeof(ushort),
    };

    private void Upload(CudaQueue queue, MatrixPart part, int firstRow)
    {
        long rowBytes = RowBytes(Format, _native.RowStride);
        if (rowBytes > StagingRing.SegmentBytes)
        {
            throw new BackendException(Driver.CudaErrors.Backend,
                $"'{Name}' has {Columns} columns, expected at most {StagingRing.SegmentBytes / sizeof(float)}");
        }
        int chunk = (int)(StagingRing.SegmentBytes / rowBytes);
        ushort[] scales = new ushort[Math.Min(chunk, part.Rows) * _native.Groups];
        for (int start = 0; start < part.Rows; start += chunk)
        {
            int count = Math.Min(chunk, part.Rows - start);
            int bytes = checked((int)(count * rowBytes));
            var staging = (nint)queue.Stage(bytes);
            int first = start;
            void Lay(int row) => LayOut(part, first + row, new Span<byte>((byte*)staging + row * rowBytes, (int)rowBytes),
                scales.AsSpan(row * _native.Groups, _native.Groups));
            if (bytes >= LeastParallelBytes)
            {
                Parallel.For(0, count, Lay);
            }
            else
            {
                for (int row = 0; row < count; row++)
                {
                    Lay(row);
                }
            }
            queue.Send(new ReadOnlySpan<byte>((byte*)staging, bytes), _data.Value + (nint)((firstRow + start) * rowBytes));
            SendScales(queue, scales.AsSpan(0, count * _native.Groups), firstRow + start);
        }
    }

    /// <summary>One row, filled up to the stride.</summary>
    private void LayOut(MatrixPart part, int row, Span<byte> to, Span<ushort> scales)
    {
        if (!Format.IsQuantized())
        {
            int stored = Columns * (Format == WeightFormat.F32 ? sizeof(float) : sizeof(ushort));
            new ReadOnlySpan<byte>((byte*)part.Address + (long)row * stored, stored).CopyTo(to);
            to[stored..].Clear();
            return;
        }
        int groups = QuantizedLayout.Groups(Columns, _native.GroupSize);
        sbyte[] rented = ArrayPool<sbyte>.Shared.Rent(groups * _native.GroupSize);
        var levels = rented.AsSpan(0, groups * _native.GroupSize);
        QuantizedLayout.ReadRow((void*)part.Address, Format, part.Rows, Columns, _native.GroupSize, row, levels, scales[..groups]);
        Pack(levels, to);
        ArrayPool<sbyte>.Shared.Return(rented);
    }

    private void SendScales(CudaQueue queue, ReadOnlySpan<ushort> scales, long firstRow)
    {
        var bytes = MemoryMarshal.AsBytes(scales);
        nint to = (_scales?.Value ?? 0) + (nint)(firstRow * _native.Groups * sizeof(ushort));
        while (!bytes.IsEmpty)
        {
            int count = Math.Min(bytes.Length, StagingRing.SegmentBytes);
            var staging = new Span<byte>(queue.Stage(count), count);
            bytes[..count].CopyTo(staging);
            queue.Send(staging, to);
            bytes = bytes[count..];
            to += count;
        }
    }

    /// <summary>Levels as the kernels read them.</summary>
    private void Pack(ReadOnlySpan<sbyte> levels, Span<byte> to)
    {
        if (Format == WeightFormat.Q8)
        {
            MemoryMarshal.AsBytes(levels).CopyTo(to);
            to[levels.Length..].Clear();
            return;
        }
        to[(levels.Length / 2)..].Fill(QuantizedLayout.ZeroLevel * 0x11);
        for (int i = 0; i < levels.Length / 2; i++)
        {
            to[i] = (byte)(Codes[(byte)levels[2 * i]] | Codes[(byte)levels[2 * i + 1]] << 4);
        }
    }
}
