using System.Diagnostics;
using System.Runtime.InteropServices;
using SamEngine.Bench.Compare;
using SamEngine.Compute;
using SamEngine.Model;

namespace SamEngine.Bench;

/// <summary>The times of one operation at one size.</summary>
/// <param name="Name">Operation, part of the model, sizes.</param>
/// <param name="Format">Weights; "" where there are none.</param>
/// <param name="InstructionSet">Kernels that ran.</param>
/// <param name="Cost">What it must do.</param>
/// <param name="BytesPerWeight">Decides which arithmetic bounds it; 0: fp32.</param>
/// <param name="Seconds">Every timed run.</param>
internal sealed record KernelResult(string Name, string Format, string InstructionSet, Cost Cost, double BytesPerWeight, IReadOnlyList<double> Seconds);

/// <summary>
/// Times operations of the compute seam at the published model's sizes. Weights are rotated through copies that together do
/// not fit the caches, as the layers of a model do not; activations stay where the operation before would leave them.
/// </summary>
internal sealed unsafe class KernelBench(Backend backend, int iterations, int groupSize) : IDisposable
{
    private const int WarmUps = 2;
    private const long ColdBytes = 512L << 20;
    private const int MostCopies = 64;

    private readonly VisionConfig _v = SamConfig.Published.Vision;
    private readonly LlamaConfig _l = SamConfig.Published.Llm;
    private readonly int _rows = WorkItems.Rows(SamConfig.Published);
    private readonly List<IDisposable> _owned = [];
    private readonly List<nint> _memory = [];
    private readonly ComputeQueue _queue = backend.CreateQueue();

    private static readonly WeightFormat[] s_formats = [WeightFormat.F32, WeightFormat.BF16, WeightFormat.Q8, WeightFormat.Q4];

    public IEnumerable<KernelResult> Run(string? filter, CancellationToken cancellation)
    {
        foreach (var (name, time) in Cases())
        {
            cancellation.ThrowIfCancellationRequested();
            if (filter is not null && !name.Contains(filter, StringComparison.OrdinalIgnoreCase))
            {
                continue;
            }
            Console.Error.WriteLine("timing " + name);
            yield return time();
            Release();
        }
    }

    public void Dispose()
    {
        Release();
        _queue.Dispose();
    }

    private IEnumerable<(string Name, Func<KernelResult> Time)> Cases()
    {
        foreach (var format in s_formats)
        {
            foreach (var (part, n, k, rows) in (IEnumerable<(string, int, int, int[])>)
            [
                ("vision qkv", 3 * _v.Width, _v.Width, [_v.Tokens, WorkItems.Images * _v.Tokens]),
                ("vision fc1", _v.MlpHidden, _v.Width, [_v.Tokens]),
                ("vision fc2", _v.Width, _v.MlpHidden, [_v.Tokens]),
                ("llm qkv", 3 * _l.HiddenSize, _l.HiddenSize, [1, WorkItems.Beams, _rows]),
                ("llm gate, up", 2 * _l.IntermediateSize, _l.HiddenSize, [1, WorkItems.Beams, _rows]),
                ("llm down", _l.HiddenSize, _l.IntermediateSize, [1, WorkItems.Beams, _rows]),
                ("llm head", _l.VocabularySize, _l.HiddenSize, [1, WorkItems.Beams]),
            ])
            {
                foreach (int m in rows)
                {
                    string name = FormattableString.Invariant($"linear {part} {m} x {n} x {k} {format}").ToLowerInvariant();
                    yield return (name, () => Linear(name, format, m, n, k));
                }
            }
        }
        foreach (int images in (int[])[1, WorkItems.Images])
        {
            string name = FormattableString.Invariant($"attention vision {images} x {_v.Tokens} tokens, {_v.Heads} heads of {_v.HeadDim}");
            yield return (name, () => VisionAttention(name, images));
        }
        foreach (var (part, sequences, first, rows) in (IEnumerable<(string, int, int, int)>)
            [("prefill", 1, 0, _rows), ("decode", 1, _rows, 1), ("beams", WorkItems.Beams, _rows, 1)])
        {
            string name = FormattableString.Invariant($"attention llm {part}, {sequences} x {rows} rows after {first}");
            yield return (name, () => PagedAttention(name, sequences, first, rows));
        }
        foreach (int rows in (int[])[1, _rows])
        {
            string norm = FormattableString.Invariant($"rms norm {rows} x {_l.HiddenSize}");
            yield return (norm, () => RmsNorm(norm, rows));
            string swiGlu = FormattableString.Invariant($"swiglu {rows} x {_l.IntermediateSize}");
            yield return (swiGlu, () => SwiGlu(swiGlu, rows));
        }
        string layer = FormattableString.Invariant($"layer norm {_v.Tokens} x {_v.Width}");
        yield return (layer, () => LayerNorm(layer));
        string pool = FormattableString.Invariant($"group pool {WorkItems.Images} x {_v.Tokens} x {_v.Width}");
        yield return (pool, () => GroupPool(pool));
    }

    private KernelResult Linear(string name, WeightFormat format, int m, int n, int k)
    {
        bool quantised = format is WeightFormat.Q8 or WeightFormat.Q4;
        long bytes = quantised ? QuantizedLayout.ByteLength(format, n, k, groupSize) : (long)n * k * (format == WeightFormat.F32 ? 4 : 2);
        // Many rows find a weight in the cache again by themselves; few must not.
        int copies = m > 16 ? 1 : (int)Math.Clamp(ColdBytes / bytes, 1, MostCopies);
        var weights = Enumerable.Range(0, copies).Select(_ => Weight(name, format, n, k, bytes, quantised ? groupSize : 0)).ToList();
        var x = Buffer(1, m, k);
        var y = Buffer(1, m, n);
        int next = 0;
        return Time(name, format.ToString().ToLowerInvariant(), new Cost(2.0 * m * n * k, bytes), bytes / ((double)n * k),
            () => _queue.Linear(x, weights[next++ % copies], y));
    }

    private KernelResult VisionAttention(string name, int images)
    {
        var qkv = Buffer(images, _v.Tokens, 3 * _v.Width);
        var y = Buffer(images, _v.Tokens, _v.Width);
        var cost = new Cost(4.0 * images * _v.Tokens * _v.Tokens * _v.Width, 0);
        return Time(name, "", cost, 0, () => _queue.Attention(qkv.SliceColumns(0, _v.Width), qkv.SliceColumns(_v.Width, _v.Width),
            qkv.SliceColumns(2 * _v.Width, _v.Width), _v.Heads, 1 / MathF.Sqrt(_v.HeadDim), y));
    }

    /// <summary>Beams share the blocks of the prompt and have one block each for their own tokens.</summary>
    private KernelResult PagedAttention(string name, int sequences, int first, int rows)
    {
        const int BlockSize = 16;
        int shared = first / BlockSize;
        int own = (first + rows + BlockSize - 1) / BlockSize - shared;
        int blocks = shared + sequences * own;
        // As many layers as the model has: one alone would stay in the caches from step to step.
        int layers = sequences * rows > 16 ? 1 : _l.Layers;
        var cache = Filled(new KvCacheShape(layers, _l.KeyValueHeads, _l.HeadDim, BlockSize, blocks));
        int[] Blocks(int sequence) => [.. Enumerable.Range(0, shared), .. Enumerable.Range(shared + sequence * own, own)];
        int[] positions = [.. Enumerable.Range(0, sequences).SelectMany(_ => Enumerable.Range(first, rows))];
        int[] slots = [.. Enumerable.Range(0, sequences).SelectMany(s => Enumerable.Range(first, rows)
            .Select(p => Blocks(s)[p / BlockSize] * BlockSize + p % BlockSize))];
        var layout = new StepLayout(Indices(1, positions), Indices(1, slots), Indices(1, [.. Enumerable.Range(0, sequences + 1).Select(s => s * rows)]),
            Indices(sequences, [.. Enumerable.Range(0, sequences).SelectMany(Blocks)]));
        var q = Buffer(1, sequences * rows, _l.HiddenSize);
        var y = Buffer(1, sequences * rows, _l.HiddenSize);
        double pairs = sequences * (rows * (double)first + rows * (rows + 1) / 2.0);
        double tokens = first + sequences * (double)rows;
        var cost = new Cost(4 * pairs * _l.HiddenSize, tokens * 2 * _l.KeyValueHeads * _l.HeadDim * sizeof(float));
        int next = 0;
        return Time(name, "", cost, 0, () => _queue.PagedAttention(q, cache, next++ % layers, _l.Heads, 1 / MathF.Sqrt(_l.HeadDim), layout, y));
    }

    /// <summary>A cache whose every slot was written: memory never written is one page of zeros.</summary>
    private KvCache Filled(KvCacheShape shape)
    {
        var cache = backend.CreateKvCache(shape);
        _owned.Add(cache);
        int slots = shape.Blocks * shape.BlockSize;
        int[] order = [.. Enumerable.Range(0, slots)];
        var layout = new StepLayout(Indices(1, order), Indices(1, order), Indices(1, [0, slots]), Indices(1, order[..shape.Blocks]));
        var qkv = Buffer(1, slots, (_l.Heads + 2 * shape.Heads) * shape.HeadDim);
        var angles = backend.LoadTable("angles", new float[slots * shape.HeadDim], slots, shape.HeadDim);
        for (int layer = 0; layer < shape.Layers; layer++)
        {
            _queue.RotaryStoreKv(qkv, cache, layer, _l.Heads, angles, layout);
        }
        return cache;
    }

    private KernelResult RmsNorm(string name, int rows)
    {
        var x = Buffer(1, rows, _l.HiddenSize);
        var gain = backend.LoadVector("gain", new float[_l.HiddenSize]);
        return Time(name, "", Elementwise(2.0 * rows * _l.HiddenSize), 0, () => _queue.RmsNorm(x, gain, _l.RmsNormEps, x));
    }

    private KernelResult LayerNorm(string name)
    {
        var x = Buffer(1, _v.Tokens, _v.Width);
        var y = Buffer(1, _v.Tokens, _v.Width);
        var vector = backend.LoadVector("gain", new float[_v.Width]);
        return Time(name, "", Elementwise(2.0 * _v.Tokens * _v.Width), 0, () => _queue.LayerNorm(x, vector, vector, _v.LayerNormEps, y));
    }

    private KernelResult SwiGlu(string name, int rows)
    {
        var x = Buffer(1, rows, 2 * _l.IntermediateSize);
        var y = Buffer(1, rows, _l.IntermediateSize);
        return Time(name, "", Elementwise(3.0 * rows * _l.IntermediateSize), 0, () => _queue.SwiGlu(x, y));
    }

    private KernelResult GroupPool(string name)
    {
        var x = Buffer(WorkItems.Images, _v.Tokens, _v.Width);
        var y = Buffer(1, _v.Tokens, _v.Width);
        var weight = backend.LoadVector("weight", new float[_v.Width]);
        var bias = backend.LoadVector("bias", new float[1]);
        return Time(name, "", Elementwise((WorkItems.Images + 1.0) * _v.Tokens * _v.Width), 0, () => _queue.GroupPool(x, weight, bias, y));
    }

    /// <summary>Activations read and written once; where they lie in a cache, more than the memory's speed is possible.</summary>
    private static Cost Elementwise(double elements) => new(0, sizeof(float) * elements);

    private KernelResult Time(string name, string format, Cost cost, double bytesPerWeight, Action enqueue)
    {
        var times = new List<double>();
        for (int i = 0; i < WarmUps + iterations; i++)
        {
            long start = Stopwatch.GetTimestamp();
            enqueue();
            _queue.Synchronize();
            times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        return new KernelResult(name, format, backend.Info.InstructionSet, cost, bytesPerWeight, times[WarmUps..]);
    }

    private TensorView Buffer(int batch, int rows, int columns)
    {
        var buffer = backend.Allocate(backend.ActivationType, (long)batch * rows * columns, "activations");
        _owned.Add(buffer);
        var view = buffer.View(batch, rows, columns);
        var random = new Random(1);
        _queue.Upload<float>([.. Enumerable.Range(0, (int)view.Count).Select(_ => (float)(2 * random.NextDouble() - 1))], view);
        return view;
    }

    private TensorView Indices(int rows, int[] values)
    {
        var buffer = backend.Allocate(ElementType.I32, values.Length, "indices");
        _owned.Add(buffer);
        var view = buffer.View(rows, values.Length / rows);
        _queue.Upload<int>(values, view);
        return view;
    }

    /// <summary>Every byte between 0x20 and 0x2F: a small ordinary number in each floating-point format, scales included, whatever
    /// the layout. Times do not depend on the values.</summary>
    private Weight Weight(string name, WeightFormat format, int rows, int columns, long bytes, int group)
    {
        byte* memory = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, 64);
        _memory.Add((nint)memory);
        var random = new Random(1);
        byte[] pattern = new byte[1 << 20];
        random.NextBytes(pattern);
        for (int i = 0; i < pattern.Length; i++)
        {
            pattern[i] = (byte)(0x20 | (pattern[i] & 0x0F));
        }
        for (long at = 0; at < bytes; at += pattern.Length)
        {
            int length = (int)Math.Min(pattern.Length, bytes - at);
            pattern.AsSpan(0, length).CopyTo(new Span<byte>(memory + at, length));
        }
        var weight = backend.LoadMatrix(new MatrixSource(name, format, columns, [new MatrixPart((nint)memory, bytes, rows, this)], group));
        _owned.Add(weight);
        return weight;
    }

    private void Release()
    {
        _queue.Synchronize();
        _owned.ForEach(o => o.Dispose());
        _owned.Clear();
        _memory.ForEach(m => NativeMemory.AlignedFree((void*)m));
        _memory.Clear();
    }
}
