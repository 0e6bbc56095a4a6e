using System.Runtime.InteropServices;
using SamEngine.Checkpoints;
using SamEngine.Compute;

namespace SamEngine.Model;

/// <summary>
/// Takes tensors from a checkpoint by their names and gives them to a backend. Matrices stay where they are mapped unless
/// <paramref name="formats"/> asks for another format.
/// </summary>
internal sealed class CheckpointLoader(SamCheckpoint checkpoint, Backend backend, WeightFormats? formats)
    : WeightLoader(checkpoint.Config, backend)
{
    /// <summary>Called with each tensor's name and bytes as it is loaded.</summary>
    public Action<string, long>? Progress { get; set; }

    /// <summary>Stops loading between tensors.</summary>
    public CancellationToken Cancellation { get; set; }

    public override bool Has(string name) => checkpoint.Has(name);

    public override Weight Stack(IReadOnlyList<(string Name, int Rows)> parts, params long[] columnShape)
    {
        int columns = checked((int)columnShape.Aggregate(1L, (a, b) => checked(a * b)));
        var tensors = parts.Select(p => Take(p.Name, [p.Rows, .. columnShape])).ToList();
        var stored = tensors.Select(t => (Format: FormatOf(t), t.GroupSize)).Distinct().ToList();
        var wanted = formats?.Of(parts[0].Name)
            ?? (stored is [{ Format: { } same }] ? same : WeightFormat.F32);
        string label = parts.Count == 1 ? parts[0].Name : $"{parts[0].Name} and {parts.Count - 1} more";
        var quantized = tensors.FirstOrDefault(t => t.DType.IsQuantized());
        if (quantized is not null && (FormatOf(quantized) != wanted || stored.Count > 1))
        {
            string found = $"'{quantized.Name}' is stored as {quantized.DType} in groups of {quantized.GroupSize}";
            throw stored.Count > 1
                ? new CheckpointException(checkpoint.FileOf(parts[0].Name), $"{found}, which differs from others of '{label}'; they are used as one")
                : new RequestException(nameof(SamModelOptions.Weights),
                    $"asks for {wanted}, but {found}; quantize the original with 'sam model quantize'");
        }
        int group = !wanted.IsQuantized() ? 0 : quantized?.GroupSize ?? formats!.GroupSize;
        var sources = tensors.Select((t, i) => FormatOf(t) == wanted
            ? new MatrixPart(t.Address, t.ByteLength, parts[i].Rows, t)
            : Converted(t, wanted, group, parts[i])).ToList();
        var weight = Backend.LoadMatrix(new MatrixSource(label, wanted, columns, sources, group));
        Keep(weight);
        return weight;
    }

    public override void Finish() => checkpoint.Finish();

    protected override float[] Values(string name, params long[] shape)
    {
        var tensor = Take(name, shape);
        return !tensor.DType.IsQuantized() ? tensor.ToFloats() : throw new CheckpointException(checkpoint.FileOf(name),
            $"tensor '{name}' is {tensor.DType}, expected floating point: only matrices of linear layers and embeddings can " +
            "be quantised");
    }

    private static WeightFormat? FormatOf(TensorData tensor) => tensor.DType switch
    {
        TensorDType.F32 => WeightFormat.F32,
        TensorDType.F16 => WeightFormat.F16,
        TensorDType.BF16 => WeightFormat.BF16,
        TensorDType.Q8 => WeightFormat.Q8,
        TensorDType.Q4 => WeightFormat.Q4,
        _ => null,
    };

    private TensorData Take(string name, long[] shape)
    {
        Cancellation.ThrowIfCancellationRequested();
        var tensor = checkpoint.Get(name, shape);
        ByteLength += tensor.ByteLength;
        Progress?.Invoke(name, tensor.ByteLength);
        return tensor;
    }

    private MatrixPart Converted(TensorData tensor, WeightFormat wanted, int group, (string Name, int Rows) part)
    {
        long bytes = wanted.IsQuantized() ? QuantizedLayout.ByteLength(wanted, part.Rows, tensor.Columns, group)
            : checked(tensor.Count * (wanted == WeightFormat.F32 ? 4 : 2));
        var memory = new NativeBlock(bytes);
        Keep(memory);
        if (wanted.IsQuantized())
        {
            TensorQuantizer.Quantize(tensor, checkpoint.FileOf(part.Name), wanted, group, memory.Address, bytes,
                Backend.Info.Threads > 0 ? Backend.Info.Threads : -1, Cancellation);
        }
        else
        {
            tensor.CopyAs(wanted switch
            {
                WeightFormat.F16 => TensorDType.F16,
                WeightFormat.BF16 => TensorDType.BF16,
                _ => TensorDType.F32,
            }, memory.Span);
        }
        return new MatrixPart(memory.Address, bytes, part.Rows, memory);
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
