using SamEngine.Compute;
using SamEngine.Compute.Cpu;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Tests.Compute;

/// <summary>What would make native code leave its memory is refused before it gets there.</summary>
public sealed class CpuGuardTests : IDisposable
{
    private readonly CpuBackend _backend = new(threads: 1);
    private readonly Probe _p;

    public CpuGuardTests() => _p = new Probe(_backend, 1);

    public void Dispose()
    {
        _p.Dispose();
        _backend.Dispose();
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(5)]
    public void Indices_outside_are_refused(int index)
    {
        var y = _p.Output("y", 1, 1, 8);
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            _p.Queue.Embedding(_p.Matrix(WeightFormat.F32, 8, [5], 0), _p.Indices(index), y));
        Assert.Throws<ArgumentOutOfRangeException>(() => _p.Queue.GatherRows(_p.Input(1, 5, 8), _p.Indices(index), y));
        Assert.Throws<ArgumentOutOfRangeException>(() => _p.Queue.TokenLogProbs(_p.Input(1, 1, 5, type: ElementType.F32),
            _p.Indices(index), _p.Output("log", 1, 1, 1, type: ElementType.F32)));
    }

    [Fact]
    public void Places_outside_the_cache_are_refused()
    {
        var cache = _p.Cache(new KvCacheShape(1, 1, 4, 2, 3));
        var table = _p.Table(_p.Random(6 * 4), 6, 4);
        var qkv = _p.Input(1, 1, 12);
        StepLayout Layout(int position, int slot, int block, int end) => new(_p.Indices(position), _p.Indices(slot),
            _p.Ints([0, end], 1, 2), _p.Ints([block], 1, 1));
        void Store(StepLayout layout) => _p.Queue.RotaryStoreKv(qkv, cache, 0, 1, table, layout);
        void Attend(StepLayout layout) =>
            _p.Queue.PagedAttention(qkv.SliceColumns(0, 4), cache, 0, 1, 1, layout, _p.Output("y", 1, 1, 4));
        Store(Layout(0, 5, 2, 1));
        Attend(Layout(0, 5, 2, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Store(Layout(6, 0, 0, 1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => Store(Layout(-1, 0, 0, 1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => Store(Layout(0, 6, 0, 1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => Store(Layout(0, -1, 0, 1)));
        Assert.Throws<ArgumentException>(() => Attend(Layout(0, 0, 3, 1)));
        Assert.Throws<ArgumentException>(() => Attend(Layout(0, 0, -1, 1)));
        Assert.Throws<ArgumentException>(() => Attend(Layout(2, 0, 0, 1)));
        Assert.Throws<ArgumentException>(() => Attend(Layout(-1, 0, 0, 1)));
        Assert.Throws<ArgumentException>(() => Attend(Layout(0, 0, 0, 0)));
        Assert.Throws<ArgumentOutOfRangeException>(() => _p.Queue.CopyKvBlocks(cache, _p.Ints([0, 3], 1, 2)));
    }

    [Fact]
    public void Views_stay_inside_their_buffers_and_outputs_do_not_repeat()
    {
        var x = _p.Input(1, 4, 8);
        Assert.Throws<ArgumentOutOfRangeException>(() => x.SliceRows(3, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => x.SliceRows(-1, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => x.SliceColumns(8, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => x.SliceColumns(0, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => x.SliceBatch(1, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            TensorView.Contiguous(x.Buffer, x.Buffer.Length - 1, 1, 1, 2));
        var weight = _p.Matrix(WeightFormat.F32, 8, [8], 0);
        Assert.Throws<ArgumentException>(() => _p.Queue.Linear(_p.Input(2, 4, 8), weight, x.RepeatBatch(2)));
        Assert.Throws<ArgumentException>(() => _p.Queue.Linear(x, weight, _p.Output("y", 1, 3, 8)));
    }
}
