using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>Decode steps recorded once and launched as graphs.</summary>
public sealed class CudaStepTests(F16Fixture cuda) : IClassFixture<F16Fixture>
{
    private const int Length = 60;

    [Theory]
    [InlineData(1, false)]
    [InlineData(5, false)]
    [InlineData(1, true)]
    [InlineData(3, true)]
    public async Task A_recorded_step_computes_the_same(int beams, bool sample)
    {
        using var model = new TinyModel();
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var weights = SamWeights.Load(checkpoint, cuda.Backend);
        using var engine = new InferenceEngine(weights, cuda.Backend, cacheTokens: 0);
        var queue = (CudaQueue)engine.Queue;
        // Who traces gets every step enqueued anew.
        engine.Trace = (_, _) => { };
        var expected = await Run(engine, checkpoint, beams, sample, null);
        Assert.Equal(0, queue.Replays);
        engine.Trace = null;
        var actual = await Run(engine, checkpoint, beams, sample, null);
        Assert.True(queue.Replays > Length / 2, $"only {queue.Replays} steps from a recording");
        Assert.Equal(expected.Select(r => r.Score), actual.Select(r => r.Score));
        Assert.Equal(expected.Select(r => string.Join(' ', r.Tokens)), actual.Select(r => string.Join(' ', r.Tokens)));
    }

    [Fact]
    public async Task Requests_of_unlike_shapes_compute_the_same_side_by_side()
    {
        using var model = new TinyModel();
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var weights = SamWeights.Load(checkpoint, cuda.Backend);
        using var engine = new InferenceEngine(weights, cuda.Backend, cacheTokens: 4096);
        var alone = new List<string>();
        foreach (int beams in (int[])[1, 4, 1])
        {
            alone.Add(Text(await Run(engine, checkpoint, beams, false, null, alone.Count)));
        }
        var together = await Task.WhenAll(new[] { 1, 4, 1 }.Select((beams, i) => Run(engine, checkpoint, beams, false, null, i)));
        Assert.Equal(alone, together.Select(Text));
        Assert.True(((CudaQueue)engine.Queue).Replays > Length);
    }

    [Fact]
    public async Task A_recorded_step_allocates_nothing_and_waits_once()
    {
        Driver.SkipOnGpu();
        using var model = new TinyModel();
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var weights = SamWeights.Load(checkpoint, cuda.Backend);
        using var engine = new InferenceEngine(weights, cuda.Backend, cacheTokens: 0);
        var managed = new StepAllocations();
        var driver = new CudaEmulatorCounters[Length + 8];
        for (int run = 0; run < 2; run++)
        {
            // The second run finds every buffer grown, every step recorded and every method compiled.
            managed.Restart();
            await Run(engine, checkpoint, 5, false, _ =>
            {
                driver[managed.Count] = CudaEmulator.Counters;
                managed.Add();
            });
        }
        managed.AssertNone(Length / 2);
        for (int i = StepAllocations.WarmUp; i < managed.Count - 1; i++)
        {
            Assert.Equal(driver[i - 1].Allocations, driver[i].Allocations);
            Assert.Equal(driver[i - 1].Synchronizations + 1, driver[i].Synchronizations);
            Assert.Equal(driver[i - 1].GraphLaunches + 1, driver[i].GraphLaunches);
            // Two groups of inputs and the scores up; scores and candidates down.
            Assert.Equal(driver[i - 1].Copies + 5, driver[i].Copies);
        }
    }

    [Fact]
    public async Task Times_of_the_stages_are_the_devices()
    {
        using var model = new TinyModel();
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var weights = SamWeights.Load(checkpoint, cuda.Backend);
        using var engine = new InferenceEngine(weights, cuda.Backend, cacheTokens: 0);
        EngineTimings? timings = null;
        var watch = System.Diagnostics.Stopwatch.StartNew();
        await Run(engine, checkpoint, 1, false, null, 1, t => timings = t);
        TimeSpan[] stages = [timings!.Vision, timings.QFormer, timings.Prefill];
        Assert.All(stages, t => Assert.InRange(t, TimeSpan.FromTicks(1), watch.Elapsed));
    }

    [Fact]
    public void Memory_freed_since_makes_a_recording_void()
    {
        using var queue = cuda.Backend.OpenQueue();
        using var x = cuda.Backend.Allocate(ElementType.F32, 4, "x");
        using var one = cuda.Backend.Allocate(ElementType.F32, 4, "one");
        queue.Upload<float>([1, 1, 1, 1], one.View(1, 4));
        var key = new StepKey(1, 1, 1, 1, 1, 1);
        int calls = 0;
        void Step(DeviceBuffer y) => queue.Step(key, y, to =>
        {
            calls++;
            queue.Copy(one.View(1, 4), to.View(1, 4));
        });
        for (int i = 0; i < 4; i++)
        {
            Step(x);
        }
        // Once as it is, once recorded.
        Assert.Equal(2, calls);
        Assert.Equal(2, queue.Replays);
        cuda.Backend.Allocate(ElementType.F32, 4, "other").Dispose();
        using var y = cuda.Backend.Allocate(ElementType.F32, 4, "y");
        Step(y);
        Assert.Equal(3, calls);
        float[] values = new float[4];
        queue.ReadBack<float>(y.View(1, 4), values);
        Assert.Equal([1, 1, 1, 1], values);
    }

    [Fact]
    public void A_step_that_allocates_is_enqueued_anew_and_not_recorded()
    {
        using var queue = cuda.Backend.OpenQueue();
        using var x = cuda.Backend.Allocate(ElementType.F32, 4, "x");
        var key = new StepKey(2, 1, 1, 1, 1, 1);
        int calls = 0;
        for (int i = 0; i < 2; i++)
        {
            queue.Step(key, x, to =>
            {
                calls++;
                using var one = cuda.Backend.Allocate(ElementType.F32, 4, "one");
                queue.Copy(one.View(1, 4), to.View(1, 4));
            });
        }
        queue.Synchronize();
        Assert.Equal(0, queue.Replays);
        Assert.InRange(calls, 2, 3);
    }

    [Fact]
    public void A_step_that_throws_leaves_the_queue_usable()
    {
        using var queue = cuda.Backend.OpenQueue();
        using var x = cuda.Backend.Allocate(ElementType.F32, 4, "x");
        var key = new StepKey(3, 1, 1, 1, 1, 1);
        queue.Step(key, x, to => queue.Copy(to.View(1, 2), TensorView.Contiguous(to, 2, 1, 1, 2)));
        Assert.Throws<InvalidOperationException>(() => queue.Step(key, x, _ => throw new InvalidOperationException("this step")));
        // Uploads can't be recorded.
        Assert.Throws<InvalidOperationException>(() => queue.Step(key, x, to => queue.Upload<float>([1, 2, 3, 4], to.View(1, 4))));
        queue.Upload<float>([1, 2, 3, 4], x.View(1, 4));
        float[] values = new float[4];
        queue.ReadBack<float>(x.View(1, 4), values);
        Assert.Equal([1, 2, 3, 4], values);
    }

    private static string Text(IReadOnlyList<Hypothesis> results) => string.Join(' ', results[0].Tokens);

    private static async Task<IReadOnlyList<Hypothesis>> Run(InferenceEngine engine, SamCheckpoint checkpoint, int beams, bool sample,
        Action<TokenSearch>? onStep, int seed = 1, Action<EngineTimings>? onEnd = null)
    {
        var config = checkpoint.Config;
        var settings = GenerationSettings.Create(
            new GenerationOptions { NumBeams = beams, DoSample = sample, Seed = 1, MaxLength = Length, MinLength = Length },
            config.Llm.VocabularySize, config.Llm.BosTokenId, config.Llm.EosTokenId);
        int side = config.Vision.ImageSize;
        var random = new Random(seed);
        float[] pixels = [.. Enumerable.Range(0, 2 * 3 * side * side).Select(_ => (float)(random.NextDouble() * 4 - 2))];
        var work = new GenerationWork(new EngineInput(2, pixels, [2, 5, 3], [1, 7, 8], true), settings,
            TokenSearch.Create(settings), onStep, default);
        engine.Submit(work);
        await work.Completion;
        onEnd?.Invoke(work.Timings);
        return work.Search.Results();
    }
}
