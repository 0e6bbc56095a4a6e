using System.Runtime.InteropServices;
using SamEngine.Compute;

namespace SamEngine.Testing.Conformance;

/// <summary>
/// One backend under test, and the data of one case: the same numbers on every backend. Inputs lie with gaps of NaN around
/// each row, so that reading outside shows in the result; outputs lie in a buffer full of a mark, which is compared as a
/// whole, so that writing outside shows too.
/// </summary>
internal sealed class Probe(Backend backend, int seed) : IDisposable
{
    private const float Mark = 12345.5f;
    private const int IntMark = -777;
    private readonly Random _random = new(seed);
    private readonly List<IDisposable> _owned = [];
    private readonly List<(string Name, DeviceBuffer Buffer)> _outputs = [];

    public ComputeQueue Queue { get; } = backend.CreateQueue();

    /// <summary>Uniform values of deviation <paramref name="scale"/>.</summary>
    public float[] Random(long count, double scale = 1)
    {
        float[] values = new float[count];
        for (long i = 0; i < count; i++)
        {
            values[i] = (float)((_random.NextDouble() * 2 - 1) * Math.Sqrt(3) * scale);
        }
        return values;
    }

    public int Next(int limit) => _random.Next(limit);

    /// <summary>An activation input with <paramref name="pad"/> elements of NaN before the data and after every row.</summary>
    public TensorView Input(int batch, int rows, int columns, int pad = 0, double scale = 1, ElementType? type = null) =>
        Input(Random((long)batch * rows * columns, scale), batch, rows, columns, pad, type);

    public TensorView Input(float[] values, int batch, int rows, int columns, int pad = 0, ElementType? type = null) =>
        Place("input", values, float.NaN, type ?? backend.ActivationType, batch, rows, columns, pad);

    /// <summary>An input that the operation also writes: it is compared like an output.</summary>
    public TensorView InOut(string name, int batch, int rows, int columns, int pad = 0, double scale = 1)
    {
        var view = Place(name, Random((long)batch * rows * columns, scale), Mark, backend.ActivationType, batch, rows,
            columns, pad);
        _outputs.Add((name, view.Buffer));
        return view;
    }

    public TensorView Output(string name, int batch, int rows, int columns, int pad = 0, ElementType? type = null)
    {
        var view = type == ElementType.I32
            ? Place(name, (int[])null!, IntMark, ElementType.I32, batch, rows, columns, pad)
            : Place(name, (float[])null!, Mark, type ?? backend.ActivationType, batch, rows, columns, pad);
        _outputs.Add((name, view.Buffer));
        return view;
    }

    /// <summary>An fp32 vector [1, 1, length]: bias or gain.</summary>
    public TensorView Vector(int length, double scale = 1, float offset = 0) =>
        Input([.. Random(length, scale).Select(v => v + offset)], 1, 1, length, type: ElementType.F32);

    /// <summary>An fp32 table [1, rows, columns].</summary>
    public TensorView Table(float[] values, int rows, int columns, int pad = 0) =>
        Input(values, 1, rows, columns, pad, ElementType.F32);

    /// <summary>I32 [1, 1, n].</summary>
    public TensorView Indices(params int[] values) => Ints(values, 1, values.Length);

    /// <summary>I32 [1, rows, columns].</summary>
    public TensorView Ints(int[] values, int rows, int columns, int pad = 0) =>
        Place("indices", values, IntMark, ElementType.I32, 1, rows, columns, pad);

    /// <summary>A weight matrix of deviation 1/sqrt(columns) made of parts with these numbers of rows.</summary>
    public Weight Matrix(WeightFormat format, int columns, int[] partRows, int group = 0)
    {
        var parts = partRows.Select(rows => Part(format, Random((long)rows * columns, 1 / Math.Sqrt(columns)), columns, rows, group)).ToList();
        var weight = backend.LoadMatrix(new MatrixSource("weight", format, columns, parts, group));
        _owned.Add(weight);
        return weight;
    }

    /// <summary>A weight matrix of these values.</summary>
    public Weight Matrix(WeightFormat format, float[] values, int rows, int group = 0)
    {
        int columns = values.Length / rows;
        var weight = backend.LoadMatrix(new MatrixSource("weight", format, columns, [Part(format, values, columns, rows, group)], group));
        _owned.Add(weight);
        return weight;
    }

    public KvCache Cache(KvCacheShape shape)
    {
        var cache = backend.CreateKvCache(shape);
        _owned.Add(cache);
        return cache;
    }

    /// <summary>Positions, slots, row starts and block table of a ragged step.</summary>
    /// <param name="blockSize">Tokens in a block of the cache.</param>
    /// <param name="sequences">First position, number of rows, and blocks of each sequence.</param>
    public StepLayout Layout(int blockSize, params (int First, int Rows, int[] Blocks)[] sequences)
    {
        int widest = sequences.Max(s => s.Blocks.Length);
        var positions = sequences.SelectMany(s => Enumerable.Range(s.First, s.Rows)).ToArray();
        var slots = sequences.SelectMany(s => Enumerable.Range(s.First, s.Rows)
            .Select(p => s.Blocks[p / blockSize] * blockSize + p % blockSize)).ToArray();
        int[] starts = [0, .. sequences.Select((_, i) => sequences.Take(i + 1).Sum(s => s.Rows))];
        // Unused places name block 0: they must not be read, but must be in range for a backend that checks.
        int[] table = [.. sequences.SelectMany(s => s.Blocks.Concat(Enumerable.Repeat(0, widest - s.Blocks.Length)))];
        return new StepLayout(Indices(positions), Indices(slots), Indices(starts),
            Ints(table, sequences.Length, widest, pad: 2));
    }

    /// <summary>Whole contents of every output buffer; integers as they are.</summary>
    public IReadOnlyList<(string Name, float[] Floats, int[] Ints)> Results()
    {
        Queue.Synchronize();
        return [.. _outputs.Select(output =>
        {
            var view = output.Buffer.View(1, checked((int)output.Buffer.Length));
            float[] floats = output.Buffer.Type == ElementType.I32 ? [] : new float[output.Buffer.Length];
            int[] ints = output.Buffer.Type == ElementType.I32 ? new int[output.Buffer.Length] : [];
            if (floats.Length > 0)
            {
                Queue.ReadBack<float>(view, floats);
            }
            else
            {
                Queue.ReadBack<int>(view, ints);
            }
            return (output.Name, floats, ints);
        })];
    }

    public void Dispose()
    {
        Queue.Dispose();
        foreach (var owned in _owned)
        {
            owned.Dispose();
        }
    }

    private TensorView Place<T>(string name, T[]? values, T gap, ElementType type, int batch, int rows, int columns, int pad)
        where T : unmanaged
    {
        long rowStride = columns + pad;
        long batchStride = rows * rowStride + pad;
        T[] all = new T[pad + batch * batchStride];
        Array.Fill(all, gap);
        for (int b = 0; b < batch && values is not null; b++)
        {
            for (int r = 0; r < rows; r++)
            {
                Array.Copy(values, ((long)b * rows + r) * columns, all, pad + b * batchStride + r * rowStride, columns);
            }
        }
        var buffer = backend.Allocate(type, all.Length, name);
        _owned.Add(buffer);
        Queue.Upload<T>(all, buffer.View(1, all.Length));
        return new TensorView(buffer, pad, batch, rows, columns, batchStride, rowStride);
    }

    private unsafe MatrixPart Part(WeightFormat format, float[] values, int columns, int rows, int group)
    {
        byte[] bytes = format switch
        {
            WeightFormat.F32 => MemoryMarshal.AsBytes<float>(values).ToArray(),
            WeightFormat.F16 => [.. values.SelectMany(v => BitConverter.GetBytes((Half)v))],
            WeightFormat.BF16 => [.. values.SelectMany(v => BitConverter.GetBytes(
                (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)))],
            _ => Quantizer.Quantize(values, format, rows, columns, group),
        };
        // Memory of the exact size from the C heap: a sanitizer sees what reads past it.
        var memory = new HostMemory(bytes);
        _owned.Add(memory);
        return new MatrixPart(memory.Address, bytes.Length, rows, memory);
    }

    private sealed unsafe class HostMemory : IDisposable
    {
        public HostMemory(byte[] bytes)
        {
            Address = (nint)NativeMemory.Alloc((nuint)bytes.Length);
            bytes.CopyTo(new Span<byte>((void*)Address, bytes.Length));
        }

        public nint Address { get; }

        public void Dispose() => NativeMemory.Free((void*)Address);
    }
}
