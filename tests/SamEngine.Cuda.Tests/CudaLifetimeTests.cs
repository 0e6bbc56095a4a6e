using SamEngine.Compute;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>What lives on the device and how it ends: loads that fail half-way, disposal in any order, models side by side.</summary>
public sealed class CudaLifetimeTests : IDisposable
{
    private readonly TinyModel _model = new();

    public CudaLifetimeTests() => Driver.SkipOnGpu();

    private static SamModelOptions Options => new() { BackendProvider = new CudaProvider { ActivationType = CudaActivationType.F32 } };

    public void Dispose()
    {
        CudaEmulator.Reset();
        _model.Dispose();
    }

    [Fact]
    public async Task Memory_that_runs_out_for_the_weights_or_the_engine_leaks_none()
    {
        var before = CudaEmulator.Counters;
        (await SamModel.LoadAsync(_model.Folder, Options)).Dispose();
        int allocations = (int)(CudaEmulator.Counters.Allocations - before.Allocations);
        // Some of the weights, and everything after them.
        for (int i = 0; i < allocations; i += i < allocations - 12 ? 11 : 1)
        {
            CudaEmulator.Fail("cuMemAllocAsync", CudaEmulator.OutOfMemory, i);
            var error = await Assert.ThrowsAsync<BackendException>(() => SamModel.LoadAsync(_model.Folder, Options));
            Assert.True(before.Live == CudaEmulator.Counters.Live, $"{CudaEmulator.Counters.Live - before.Live} left: {error.Message}");
        }
    }

    [Fact]
    public async Task Memory_that_runs_out_in_a_request_ends_that_one_and_the_next_finds_nothing_amiss()
    {
        string? expected = null;
        int failed = 0;
        // Workspace of the pictures, the prompt, and of recorded steps with their scratch memory.
        for (int i = 0; i < 60; i += 8)
        {
            using var model = await SamModel.LoadAsync(_model.Folder, Options);
            expected ??= (await model.DescribeToEndAsync(Request(2))).Text;
            CudaEmulator.Fail("cuMemAllocAsync", CudaEmulator.OutOfMemory, i);
            try
            {
                Assert.Equal(expected, (await model.DescribeToEndAsync(Request(2))).Text);
            }
            catch (BackendException e)
            {
                Assert.False(e.IsFatal);
                failed++;
            }
            CudaEmulator.Reset();
            Assert.Equal(expected, (await model.DescribeToEndAsync(Request(2))).Text);
            Assert.Equal(0, model.Engine.UsedBlocks);
        }
        Assert.True(failed >= 3, $"only {failed} requests found too little memory");
    }

    [Fact]
    public void What_lives_on_the_device_may_outlive_its_backend()
    {
        long before = CudaEmulator.Counters.Live;
        var backend = new CudaBackend(null, ElementType.F16);
        var buffer = backend.Allocate(ElementType.F32, 64, "x");
        var queue = backend.CreateQueue();
        queue.Upload<float>(new float[64], buffer.View(1, 64));
        backend.Dispose();
        queue.Dispose();
        buffer.Dispose();
        Assert.Equal(before, CudaEmulator.Counters.Live);
    }

    [Fact]
    public async Task Two_models_with_requests_that_come_and_are_cancelled_say_what_they_say_alone()
    {
        using var first = await SamModel.LoadAsync(_model.Folder, Options);
        var second = await SamModel.LoadAsync(_model.Folder, Options);
        string[] alone = new string[3];
        for (int i = 0; i < alone.Length; i++)
        {
            alone[i] = (await first.DescribeToEndAsync(Request(i))).Text;
        }
        var random = new Random(1);
        var tasks = Enumerable.Range(0, 30).Select(async n =>
        {
            int i = n % alone.Length;
            using var cancel = new CancellationTokenSource();
            if (n % 3 == 0)
            {
                cancel.CancelAfter(random.Next(1, 200));
            }
            try
            {
                var result = await (n % 2 == 0 ? first : second).DescribeToEndAsync(Request(i), cancel.Token);
                Assert.Equal(alone[i], result.Text);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
            }
            catch (ObjectDisposedException) when (n % 2 == 1)
            {
            }
        }).ToArray();
        await Task.Delay(300);
        second.Dispose();
        await Task.WhenAll(tasks).WaitAsync(TimeSpan.FromSeconds(120));
        // Whoever cancels does not wait for the engine to notice.
        Assert.True(SpinWait.SpinUntil(() => first.Engine.UsedBlocks == 0, 5000), $"{first.Engine.UsedBlocks} blocks are kept");
    }

    private static DescribeRequest Request(int i) => new()
    {
        Images = [TinyModel.Picture(i), TinyModel.Picture(i + 1)],
        Prompt = "what is common",
        Options = new GenerationOptions { NumBeams = 1 + i, MaxLength = 10 + 6 * i, MinLength = 10 + 6 * i },
    };
}
