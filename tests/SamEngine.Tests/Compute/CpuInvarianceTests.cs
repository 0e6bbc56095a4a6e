using System.Runtime.InteropServices;
using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Testing;
using SamEngine.Testing.Conformance;
using SamEngine.Testing.Reference;
using Xunit;

namespace SamEngine.Tests.Compute;

/// <summary>On the CPU a row's result depends neither on the number of threads nor on the rows beside it.</summary>
public sealed class CpuInvarianceTests
{
    public static IEnumerable<TheoryDataRow<string>> Cases => ConformanceSuite.Ids().Select(id => new TheoryDataRow<string>(id));

    [Theory]
    [MemberData(nameof(Cases))]
    public void Any_number_of_threads_gives_the_same_bits(string id)
    {
        foreach (string instructionSet in CpuBackend.InstructionSets)
        {
            using var one = new CpuBackend(threads: 1, instructionSet);
            foreach (int threads in new[] { 2, 3, 7 })
            {
                using var several = new CpuBackend(threads, instructionSet);
                ConformanceSuite.CheckIdentical(one, several, id);
            }
        }
    }

    public static IEnumerable<TheoryDataRow<string, WeightFormat>> Formats =>
        from instructionSet in CpuBackend.InstructionSets
        from format in Enum.GetValues<WeightFormat>()
        select new TheoryDataRow<string, WeightFormat>(instructionSet, format);

    [Theory]
    [MemberData(nameof(Formats))]
    public void A_row_of_a_linear_layer_does_not_depend_on_the_rows_beside_it(string instructionSet, WeightFormat format)
    {
        using var backend = new CpuBackend(threads: 2, instructionSet);
        using var probe = new Probe(backend, 1);
        foreach (var (columns, outputs) in new[] { (64, 5), (192, 70), (1408, 33) })
        {
            var weight = probe.Matrix(format, columns, [outputs], format.IsQuantized() ? 64 : 0);
            var x = probe.Input(1, 40, columns);
            var alone = probe.Output("alone", 1, 40, outputs);
            for (int row = 0; row < 40; row++)
            {
                probe.Queue.Linear(x.SliceRows(row, 1), weight, alone.SliceRows(row, 1));
            }
            float[] expected = Read(probe, alone);
            foreach (int rows in new[] { 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 24, 31, 40 })
            {
                for (int start = 0; start + rows <= 40; start += rows)
                {
                    var together = probe.Output("together", 1, rows, outputs);
                    probe.Queue.Linear(x.SliceRows(start, rows), weight, together);
                    AssertSameBits(expected.AsSpan(start * outputs, rows * outputs), Read(probe, together),
                        $"{columns} to {outputs}, rows {start}+{rows}");
                }
            }
        }
    }

    [Theory]
    [InlineData(WeightFormat.Q8, 32)]
    [InlineData(WeightFormat.Q8, 128)]
    [InlineData(WeightFormat.Q4, 64)]
    [InlineData(WeightFormat.Q4, 128)]
    public void Quantised_layers_give_the_same_bits_on_every_instruction_set(WeightFormat format, int group)
    {
        foreach (var (rows, columns, outputs) in new[] { (1, 588, 70), (5, 1408, 33), (37, 320, 161) })
        {
            float[]? expected = null;
            foreach (string instructionSet in CpuBackend.InstructionSets)
            {
                using var backend = new CpuBackend(threads: 2, instructionSet);
                using var probe = new Probe(backend, 3);
                var y = probe.Output("y", 1, rows, outputs);
                probe.Queue.Linear(probe.Input(1, rows, columns, pad: 3), probe.Matrix(format, columns, [outputs - 9, 9], group),
                    y, probe.Vector(outputs));
                float[] actual = Read(probe, y);
                expected ??= actual;
                AssertSameBits(expected, actual, $"{instructionSet}, {rows} x {columns} to {outputs}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void Inputs_that_need_no_rounding_give_exact_sums(string instructionSet, WeightFormat format)
    {
        // Whole numbers with 127 in every group are their own 8-bit codes, and are exact in bf16.
        const int Rows = 11, Columns = 256, Outputs = 83, Group = 32;
        using var backend = new CpuBackend(threads: 2, instructionSet);
        using var oracle = new ReferenceBackend();
        float[] Results(Backend on)
        {
            using var probe = new Probe(on, 4);
            float[] x = [.. Enumerable.Range(0, Rows * Columns).Select(i => i % Group == i / Group % Group ? 127f : probe.Next(255) - 127)];
            var y = probe.Output("y", 1, Rows, Outputs, type: ElementType.F32);
            probe.Queue.Linear(probe.Input(x, 1, Rows, Columns), probe.Matrix(format, Columns, [Outputs],
                format.IsQuantized() ? Group : 0), y);
            return Read(probe, y);
        }
        Tolerance.AssertClose($"{instructionSet} {format}", Results(backend), Results(oracle), 2e-4, 1e-6);
    }

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public void A_NaN_in_the_input_of_a_quantised_layer_comes_out(string instructionSet)
    {
        using var backend = new CpuBackend(threads: 1, instructionSet);
        using var probe = new Probe(backend, 5);
        float[] x = probe.Random(3 * 128);
        x[128 + 70] = float.NaN;
        x[256 + 3] = float.PositiveInfinity;
        var y = probe.Output("y", 1, 3, 20);
        probe.Queue.Linear(probe.Input(x, 1, 3, 128), probe.Matrix(WeightFormat.Q8, 128, [20], 64), y);
        float[] values = Read(probe, y);
        Assert.All(values[..20], v => Assert.True(float.IsFinite(v)));
        Assert.All(values[20..], v => Assert.True(float.IsNaN(v)));
    }

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public void Rows_in_several_blocks_of_a_quantised_layer_give_the_same_bits(string instructionSet)
    {
        const int Rows = 531, Columns = 192, Outputs = 70;
        foreach (var format in new[] { WeightFormat.Q8, WeightFormat.Q4 })
        {
            using var backend = new CpuBackend(threads: 2, instructionSet);
            using var probe = new Probe(backend, 6);
            var weight = probe.Matrix(format, Columns, [Outputs], 64);
            var x = probe.Input(1, Rows, Columns);
            var together = probe.Output("together", 1, Rows, Outputs);
            probe.Queue.Linear(x, weight, together);
            var parts = probe.Output("parts", 1, Rows, Outputs);
            for (int row = 0; row < Rows; row += 40)
            {
                int count = Math.Min(40, Rows - row);
                probe.Queue.Linear(x.SliceRows(row, count), weight, parts.SliceRows(row, count));
            }
            AssertSameBits(Read(probe, parts), Read(probe, together), format.ToString());
        }
    }

    [Theory]
    [MemberData(nameof(InstructionSets))]
    public void Prefill_in_one_step_or_in_several_gives_the_same_bits(string instructionSet)
    {
        const int Heads = 3;
        const int Width = 40;
        // Enough of a head on one thread that its keys and values are copied together; a single row's are not.
        const int Rows = 100;
        using var backend = new CpuBackend(threads: 1, instructionSet);
        using var probe = new Probe(backend, 2);
        var table = probe.Table(probe.Random(128 * Width), 128, Width);
        float[] rows = probe.Random(Rows * 3 * Heads * Width);
        float[] Attention(params int[] pieces)
        {
            using var cache = backend.CreateKvCache(new KvCacheShape(1, Heads, Width, 16, 7));
            var y = probe.Output("y", 1, Rows, Heads * Width);
            var qkv = probe.Input((float[])rows.Clone(), 1, Rows, 3 * Heads * Width);
            int at = 0;
            foreach (int count in pieces)
            {
                var layout = probe.Layout(16, (at, count, [2, 0, 3, 5, 1, 6, 4]));
                var part = qkv.SliceRows(at, count);
                probe.Queue.RotaryStoreKv(part, cache, 0, Heads, table, layout);
                probe.Queue.PagedAttention(part.SliceColumns(0, Heads * Width), cache, 0, Heads, 0.2f, layout,
                    y.SliceRows(at, count));
                at += count;
            }
            return Read(probe, y);
        }
        float[] whole = Attention(Rows);
        AssertSameBits(whole, Attention(57, 43), "two pieces");
        AssertSameBits(whole, Attention([.. Enumerable.Repeat(1, Rows)]), "row by row");
    }

    public static TheoryData<string> InstructionSets => [.. CpuBackend.InstructionSets];

    private static float[] Read(Probe probe, TensorView view)
    {
        float[] values = new float[view.Count];
        probe.Queue.ReadBack<float>(view, values);
        return values;
    }

    private static void AssertSameBits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string what) =>
        Assert.True(MemoryMarshal.Cast<float, int>(expected).SequenceEqual(MemoryMarshal.Cast<float, int>(actual)), what);
}
