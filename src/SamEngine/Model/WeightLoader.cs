using System.Runtime.InteropServices;
using SamEngine.Checkpoints;
using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>
/// Takes tensors from a checkpoint by their names and gives them to a backend. Matrices stay where they are mapped unless
/// <paramref name="format"/> asks for another format; vectors become fp32. Everything loaded is released by
/// <see cref="Dispose"/>.
/// </summary>
internal sealed class WeightLoader(SamCheckpoint checkpoint, Backend backend, WeightFormat? format) : IDisposable
{
    private readonly List<IDisposable> _loaded = [];

    public SamConfig Config => checkpoint.Config;

    public Backend Backend => backend;

    /// <summary>Called with each tensor's name and bytes as it is loaded.</summary>
    public Action<string, long>? Progress { get; set; }

    /// <summary>Stops loading between tensors.</summary>
    public CancellationToken Cancellation { get; set; }

    /// <summary>Bytes of all tensors taken so far.</summary>
    public long ByteLength { get; private set; }

    /// <summary>Whether the checkpoint has this tensor.</summary>
    public bool Has(string name) => checkpoint.Has(name);

    /// <summary>A matrix [rows, columns]; the stored tensor may have more dimensions of the same extent (convolutions).</summary>
    public Weight Matrix(string name, int rows, params long[] columnShape) => Stack([(name, rows)], columnShape);

    /// <summary>Several matrices of equal width used as one, stacked along the rows in the order given.</summary>
    public Weight Stack(IReadOnlyList<(string Name, int Rows)> parts, params long[] columnShape)
    {
        int columns = checked((int)columnShape.Aggregate(1L, (a, b) => checked(a * b)));
        var tensors = parts.Select(p => Take(p.Name, [p.Rows, .. columnShape])).ToList();
        var stored = tensors.Select(t => FormatOf(t)).Distinct().ToList();
        var wanted = format ?? (stored.Count == 1 && stored[0] is { } same ? same : WeightFormat.F32);
        string label = parts.Count == 1 ? parts[0].Name : $"{parts[0].Name} and {parts.Count - 1} more";
        if (wanted is WeightFormat.Q8 or WeightFormat.Q4)
        {
            throw new RequestException(nameof(SamModelOptions.Weights),
                $"{wanted} weights can't be made while loading; use F32, F16 or BF16");
        }
        var sources = tensors.Select((t, i) => FormatOf(t) == wanted
            ? new MatrixPart(t.Address, t.ByteLength, parts[i].Rows, t)
            : Converted(t, wanted, parts[i].Rows)).ToList();
        var weight = backend.LoadMatrix(new MatrixSource(label, wanted, columns, sources));
        _loaded.Add(weight);
        return weight;
    }

    /// <summary>A vector of fp32 values on the device.</summary>
    public TensorView Vector(string name, int length) => Upload(name, Values(name, length), 1, length);

    /// <summary>Vectors one after the other; a null name stands for zeros.</summary>
    public TensorView Vectors(IReadOnlyList<(string? Name, int Length)> parts)
    {
        float[] all = [.. parts.SelectMany(p => p.Name is null ? new float[p.Length] : Values(p.Name, p.Length))];
        return Upload(parts.First(p => p.Name is not null).Name!, all, 1, all.Length);
    }

    /// <summary>An fp32 table [1, rows, columns] on the device.</summary>
    public TensorView Table(string name, int rows, int columns, params long[] storedShape) =>
        Upload(name, Values(name, storedShape), rows, columns);

    /// <summary>A computed fp32 table.</summary>
    public TensorView Upload(string name, ReadOnlySpan<float> values, int rows, int columns)
    {
        var view = backend.LoadTable(name, values, rows, columns);
        _loaded.Add(view.Buffer);
        return view;
    }

    public void Dispose()
    {
        for (int i = _loaded.Count - 1; i >= 0; i--)
        {
            _loaded[i].Dispose();
        }
        _loaded.Clear();
    }

    private static WeightFormat? FormatOf(TensorData tensor) => tensor.DType switch
    {
        TensorDType.F32 => WeightFormat.F32,
        TensorDType.F16 => WeightFormat.F16,
        TensorDType.BF16 => WeightFormat.BF16,
        _ => null,
    };

    private float[] Values(string name, params long[] shape) => Take(name, shape).ToFloats();

    private TensorData Take(string name, long[] shape)
    {
        Cancellation.ThrowIfCancellationRequested();
        var tensor = checkpoint.Get(name, shape);
        ByteLength += tensor.ByteLength;
        Progress?.Invoke(name, tensor.ByteLength);
        return tensor;
    }

    private unsafe MatrixPart Converted(TensorData tensor, WeightFormat wanted, int rows)
    {
        var type = wanted switch
        {
            WeightFormat.F16 => TensorDType.F16,
            WeightFormat.BF16 => TensorDType.BF16,
            _ => TensorDType.F32,
        };
        long count = tensor.Shape.Aggregate(1L, (a, b) => checked(a * b));
        long bytes = checked(count * (wanted == WeightFormat.F32 ? 4 : 2));
        var memory = new NativeBlock(bytes);
        _loaded.Add(memory);
        tensor.CopyAs(type, memory.Span);
        return new MatrixPart(memory.Address, bytes, rows, memory);
    }

    /// <summary>Unmanaged memory for one converted tensor.</summary>
    private sealed unsafe class NativeBlock : SafeHandle
    {
        private readonly long _length;

        public NativeBlock(long length)
            : base(0, true)
        {
            _length = length;
            SetHandle((nint)NativeMemory.AlignedAlloc((nuint)length, 64));
        }

        public override bool IsInvalid => handle == 0;

        public nint Address => handle;

        public Span<byte> Span => new((void*)handle, checked((int)_length));

        protected override bool ReleaseHandle()
        {
            NativeMemory.AlignedFree((void*)handle);
            return true;
        }
    }
}
