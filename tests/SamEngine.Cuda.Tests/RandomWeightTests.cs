using System.Runtime.InteropServices;
using SamEngine.Bench;
using SamEngine.Compute;
using SamEngine.Cuda.Driver;
using SamEngine.Decoding;
using SamEngine.GpuBench;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>The weights that the bench makes on the device.</summary>
public sealed class RandomWeightTests : IDisposable
{
    private const string Name = "llm_model.model.layers.0.self_attn.q_proj.weight";
    private const int Rows = 70;

    /// <summary>With those that fill the last tile up.</summary>
    private const int AllRows = 128;

    private readonly CudaBackend _backend = new(null, ElementType.F16);

    public static TheoryData<WeightFormat> Formats => [.. Enum.GetValues<WeightFormat>()];

    public void Dispose() => _backend.Dispose();

    /// <summary>Of all but 1024 columns the last piece of 16 bytes and the last group have a part only, and other pieces
    /// nothing.</summary>
    [Theory]
    [MemberData(nameof(Formats))]
    public void Elements_have_the_deviation_of_their_columns_and_what_fills_up_is_zero(WeightFormat format)
    {
        foreach (int columns in (int[])[588, 100, 5, 1024])
        {
            using var loader = new RandomWeightLoader(TinyModel.Config, _backend, format, seed: 1);
            var (weight, values) = Make(loader, Name, Rows, columns);
            Assert.Equal((Rows, columns), (weight.Rows, weight.Columns));
            int stride = weight.Native.RowStride;
            double[] inside = [.. Enumerable.Range(0, Rows).SelectMany(r => values[(r * stride)..(r * stride + columns)])];
            double unit = 1 / Math.Sqrt(columns);
            double error = 1 / Math.Sqrt(inside.Length);
            Assert.InRange(Deviation(inside) / unit, 0.95 - error, 1.05 + error);
            // Of Q4 elements of a group share a mean.
            Assert.InRange(inside.Average() / unit, -8 * error, 8 * error);
            double some = 0.1 + 3 * unit;
            Assert.All(inside.Chunk(columns), row => Assert.InRange(Deviation(row) / unit, 1 - Math.Min(some, 0.999), 1 + some));
            Assert.All(Enumerable.Range(0, columns), c => Assert.Contains(inside.Where((_, i) => i % columns == c), v => v != 0));
            Assert.Equal(AllRows * stride, values.Length);
            Assert.All(values.Select((v, i) => (Value: v, Row: i / stride, Column: i % stride)).Where(v => v.Row >= Rows || v.Column >= columns),
                v => Assert.Equal(0, v.Value));
            // Neighbours have nothing in common, in a row or in a column.
            Assert.InRange(Correlation(inside, 1), -8 * error, 8 * error);
            Assert.InRange(Correlation(inside, columns), -8 * error, 8 * error);
        }
    }

    [Fact]
    public void Every_level_is_used_under_scales_that_differ()
    {
        foreach (var (format, levels) in ((WeightFormat, int)[])[(WeightFormat.Q8, 255), (WeightFormat.Q4, 16)])
        {
            using var loader = new RandomWeightLoader(TinyModel.Config, _backend, format, seed: 1);
            var weight = (CudaWeight)loader.Matrix(Name, Rows, 1024);
            var counts = Levels(weight)[..(Rows * 1024)].GroupBy(l => l).ToDictionary(g => g.Key, g => g.Count());
            Assert.Equal(levels, counts.Count);
            double each = Rows * 1024.0 / (format == WeightFormat.Q8 ? 256 : 16);
            Assert.All(counts.Where(c => format == WeightFormat.Q4 || c.Key != 0), c => Assert.InRange(c.Value, 0.7 * each, 1.3 * each));
            Half[] scales = Scales(weight)[..(Rows * 16)];
            Assert.Equal(format == WeightFormat.Q4 ? 0.5 : 0, scales.Count(s => s < (Half)0) / (double)scales.Length, 0.1);
            double[] sizes = [.. scales.Select(s => Math.Abs((double)s))];
            Assert.InRange(sizes.Max() / sizes.Min(), 1.5, 5.0 / 3 + 0.01);
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void Values_follow_from_name_and_seed(WeightFormat format)
    {
        double[] Of(ulong seed, string name)
        {
            using var loader = new RandomWeightLoader(TinyModel.Config, _backend, format, seed);
            return Make(loader, name, Rows, 100).Values;
        }
        double[] values = Of(1, Name);
        Assert.Equal(values, Of(1, Name));
        Assert.True(Same(values, Of(2, Name)) < 0.2);
        Assert.True(Same(values, Of(1, Name.Replace(".0.", ".1.", StringComparison.Ordinal))) < 0.2);
    }

    [Theory]
    [InlineData(WeightFormat.F32, "8320123CD73B05BE")]
    [InlineData(WeightFormat.F16, "4D2F9120C8AC2AB0")]
    [InlineData(WeightFormat.BF16, "EA3D123C99BD05BE")]
    [InlineData(WeightFormat.Q8, "4B549706C8C8D89F")]
    [InlineData(WeightFormat.Q4, "4B549706C8C8D89F")]
    public void Values_are_the_same_on_every_device(WeightFormat format, string first)
    {
        using var loader = new RandomWeightLoader(TinyModel.Config, _backend, format, seed: 3);
        Assert.Equal(first, Convert.ToHexString(Read(((CudaWeight)loader.Matrix(Name, Rows, 100)).Native.Data, 8)));
    }

    /// <summary>Deviations add up over layers, whatever the width.</summary>
    [Theory]
    [InlineData(WeightFormat.F16)]
    [InlineData(WeightFormat.Q8)]
    [InlineData(WeightFormat.Q4)]
    public async Task A_model_of_full_depth_stays_far_from_the_largest_half(WeightFormat format)
    {
        var config = TinyModel.Config with
        {
            Vision = TinyModel.Config.Vision with { Depth = SamConfig.Published.Vision.Depth },
            QFormer = TinyModel.Config.QFormer with { Layers = SamConfig.Published.QFormer.Layers },
            Llm = TinyModel.Config.Llm with { Layers = SamConfig.Published.Llm.Layers },
        };
        using var weights = SamWeights.Load(new RandomWeightLoader(config, _backend, format, seed: 1));
        Assert.Equal(config, weights.Config);
        Assert.True(weights.QFormer.HasGuidance);
        using var engine = new InferenceEngine(weights, _backend, cacheTokens: 0);
        var stages = new Dictionary<string, float>();
        engine.Trace = (stage, view) =>
        {
            if (view.Type != ElementType.I32)
            {
                float[] values = new float[view.Count];
                engine.Queue.ReadBack<float>(view, values);
                stages[stage] = Math.Max(stages.GetValueOrDefault(stage), values.Max(MathF.Abs));
            }
        };
        var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 1, MaxLength = 3, MinLength = 3 },
            config.Llm.VocabularySize, config.Llm.BosTokenId, config.Llm.EosTokenId);
        var work = new GenerationWork(Samples.Request(config, images: 2, words: 4, rows: 12), settings, TokenSearch.Create(settings), null, default);
        engine.Submit(work);
        await work.Completion;
        Assert.Contains($"vit.block.{config.Vision.Depth - 1}", stages);
        Assert.Contains($"llm.hidden.{config.Llm.Layers}", stages);
        Assert.Contains("llm_logits", stages);
        Assert.All(stages, s => Assert.InRange(s.Value, 0.1f, 200));
    }

    [Fact]
    public void A_matrix_is_made_without_a_copy_from_the_host()
    {
        Driver.SkipOnGpu();
        using var loader = new RandomWeightLoader(TinyModel.Config, _backend, WeightFormat.Q4, seed: 1);
        long before = CudaEmulator.Counters.Copies;
        loader.Matrix(Name, Rows, 100);
        Assert.Equal(before, CudaEmulator.Counters.Copies);
        loader.Vector("llm_model.model.norm.weight", 100);
        Assert.True(CudaEmulator.Counters.Copies > before);
    }

    private (CudaWeight Weight, double[] Values) Make(RandomWeightLoader loader, string name, int rows, int columns)
    {
        var weight = (CudaWeight)loader.Matrix(name, rows, columns);
        return (weight, Values(weight));
    }

    /// <summary>All of it, with what fills rows and columns up.</summary>
    private double[] Values(CudaWeight weight)
    {
        var native = weight.Native;
        if (!weight.Format.IsQuantized())
        {
            byte[] bytes = Read(native.Data, weight.OwnedBytes);
            return weight.Format switch
            {
                WeightFormat.F32 => [.. MemoryMarshal.Cast<byte, float>(bytes).ToArray().Select(v => (double)v)],
                WeightFormat.F16 => [.. MemoryMarshal.Cast<byte, Half>(bytes).ToArray().Select(v => (double)v)],
                _ => [.. MemoryMarshal.Cast<byte, ushort>(bytes).ToArray().Select(v => (double)BitConverter.UInt32BitsToSingle((uint)v << 16))],
            };
        }
        Half[] scales = Scales(weight);
        // Scales of what lies outside are zero as well.
        Assert.All(scales.Select((s, i) => (Scale: s, Row: i / native.Groups, Column: i % native.Groups * native.GroupSize)),
            s => Assert.Equal(s.Row >= native.Rows || s.Column >= native.Columns, s.Scale == (Half)0));
        // The levels are looked at by themselves, so that a level outside shows, whatever its scale.
        return [.. Levels(weight).Select((level, i) =>
        {
            int row = i / native.RowStride;
            int column = i % native.RowStride;
            return row >= native.Rows || column >= native.Columns ? level
                : level * (double)scales[row * native.Groups + column / native.GroupSize] * QuantizedLayout.ScaleUnit;
        })];
    }

    private sbyte[] Levels(CudaWeight weight)
    {
        int elements = AllRows * weight.Native.RowStride;
        byte[] bytes = Read(weight.Native.Data, weight.Format == WeightFormat.Q8 ? elements : elements / 2);
        return weight.Format == WeightFormat.Q8 ? MemoryMarshal.Cast<byte, sbyte>(bytes).ToArray()
            : [.. bytes.SelectMany(b => (sbyte[])[QuantizedLayout.Levels[b & 15], QuantizedLayout.Levels[b >> 4]])];
    }

    private Half[] Scales(CudaWeight weight) =>
        MemoryMarshal.Cast<byte, Half>(Read(weight.Native.Scales, AllRows * weight.Native.Groups * sizeof(ushort))).ToArray();

    private unsafe byte[] Read(nint from, long count)
    {
        byte[] bytes = new byte[count];
        using var queue = _backend.OpenQueue();
        fixed (byte* to = bytes)
        {
            _backend.Check(CudaDriver.cuMemcpyDtoHAsync_v2(to, from, (nuint)count, queue.Stream));
            queue.Synchronize();
        }
        return bytes;
    }

    private static double Deviation(double[] values) => Math.Sqrt(values.Average(v => v * v));

    private static double Correlation(double[] values, int distance) =>
        values.Zip(values.Skip(distance), (a, b) => a * b).Average() / values.Average(v => v * v);

    private static double Same(double[] a, double[] b) => a.Zip(b, (x, y) => x == y && x != 0 ? 1.0 : 0).Sum() / a.Count(x => x != 0);
}
