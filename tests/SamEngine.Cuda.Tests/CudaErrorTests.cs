using SamEngine.Compute;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>What goes wrong on a GPU, by failures injected into the emulated driver.</summary>
public sealed class CudaErrorTests : IDisposable
{
    private const long Memory = 1L << 32;

    private readonly TinyModel _model = new();

    public CudaErrorTests() => Driver.SkipOnGpu();

    private static SamModelOptions Options => new() { BackendProvider = new CudaProvider { ActivationType = CudaActivationType.F32 } };

    private static DescribeRequest Request => new()
    {
        Images = [TinyModel.Picture(1), TinyModel.Picture(2)],
        Prompt = "what is common",
        Options = new GenerationOptions { NumBeams = 2, MaxLength = 8, MinLength = 8 },
    };

    public void Dispose()
    {
        CudaEmulator.Reset();
        CudaEmulator.SetMemory(Memory);
        _model.Dispose();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(30)]
    public async Task Too_little_memory_while_loading_names_what_and_how_much_and_leaks_nothing(int after)
    {
        var before = CudaEmulator.Counters;
        CudaEmulator.Fail("cuMemAllocAsync", CudaEmulator.OutOfMemory, after);
        var error = await Assert.ThrowsAsync<BackendException>(() => SamModel.LoadAsync(_model.Folder, Options));
        Assert.False(error.IsFatal);
        Assert.Matches("not enough memory for '.+': [0-9.]+ [MG]iB wanted, [0-9.]+ GiB of [0-9.]+ GiB free on .+; use smaller weights", error.Message);
        Assert.Equal(before.Live, CudaEmulator.Counters.Live);
        // What failed once may be tried again.
        await using var model = await SamModel.LoadAsync(_model.Folder, Options);
        Assert.NotEmpty((await model.DescribeToEndAsync(Request)).Text);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(12)]
    public async Task Too_little_memory_for_a_request_ends_that_request_only(int after)
    {
        await using var model = await SamModel.LoadAsync(_model.Folder, Options);
        CudaEmulator.Fail("cuMemAllocAsync", CudaEmulator.OutOfMemory, after);
        var error = await Assert.ThrowsAsync<BackendException>(() => model.DescribeToEndAsync(Request).WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.False(error.IsFatal);
        Assert.Contains("not enough memory for '", error.Message, StringComparison.Ordinal);
        using var other = await SamModel.LoadAsync(_model.Folder);
        Assert.Equal((await other.DescribeToEndAsync(Request)).Text, (await model.DescribeToEndAsync(Request)).Text);
    }

    [Fact]
    public async Task Too_little_memory_for_the_model_is_said_with_the_numbers_before_anything_is_loaded()
    {
        var before = CudaEmulator.Counters;
        CudaEmulator.SetMemory(1 << 20);
        var loaded = new List<string>();
        var error = await Assert.ThrowsAsync<BackendException>(() => SamModel.LoadAsync(_model.Folder, Options,
            new Collector(loaded)));
        Assert.Matches("the model does not fit: [0-9.]+ MiB of weights, [0-9.]+ MiB of keys and values and about [0-9.]+ MiB of " +
            "workspace are [0-9.]+ MiB, 1.00 MiB of 1.00 MiB are free on ", error.Message);
        Assert.Empty(loaded);
        Assert.Equal(before.Allocations, CudaEmulator.Counters.Allocations);
    }

    [Fact]
    public async Task The_estimate_is_what_a_model_takes()
    {
        using var checkpoint = Checkpoints.SamCheckpoint.Open(Path.Combine(Golden.RepositoryRoot, "models", "sam-mini"));
        var budget = Model.MemoryEstimate.For(checkpoint, null, ElementType.F16, 0);
        long before = CudaEmulator.Counters.LiveBytes;
        using var backend = new CudaBackend(null, ElementType.F16);
        using var weights = Model.SamWeights.Load(checkpoint, backend);
        long taken = CudaEmulator.Counters.LiveBytes - before;
        Assert.InRange(budget.Weights, 0.8 * taken, 1.1 * taken);
        using var cache = backend.CreateKvCache(Model.InferenceEngine.CacheShape(checkpoint.Config, 0));
        Assert.Equal(budget.Cache, cache.ByteLength);
        await Task.CompletedTask;
    }

    [Theory]
    [InlineData("cuLaunchKernel", CudaEmulator.LaunchOutOfResources, 0, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")]
    [InlineData("cuLaunchKernel", CudaEmulator.LaunchOutOfResources, 60, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")]
    [InlineData("cuStreamSynchronize", CudaEmulator.IllegalAddress, 0, "CUDA_ERROR_ILLEGAL_ADDRESS")]
    [InlineData("cuStreamSynchronize", CudaEmulator.LaunchFailed, 3, "CUDA_ERROR_LAUNCH_FAILED")]
    [InlineData("cuMemcpyHtoDAsync", CudaEmulator.IllegalAddress, 5, "CUDA_ERROR_ILLEGAL_ADDRESS")]
    [InlineData("cuGraphLaunch", CudaEmulator.LaunchFailed, 0, "CUDA_ERROR_LAUNCH_FAILED")]
    [InlineData("cuStreamEndCapture", CudaEmulator.LaunchFailed, 0, "CUDA_ERROR_LAUNCH_FAILED")]
    public async Task A_failure_ends_every_request_at_once_and_later_ones_with_the_first_reason(string function, int status, int after,
        string name)
    {
        using var other = await SamModel.LoadAsync(_model.Folder);
        string expected = (await other.DescribeToEndAsync(Request)).Text;
        var model = await SamModel.LoadAsync(_model.Folder, Options);
        try
        {
            CudaEmulator.Fail(function, status, after);
            var running = Enumerable.Range(0, 3).Select(_ => model.DescribeToEndAsync(Request)).ToList();
            foreach (var task in running)
            {
                var error = await Assert.ThrowsAsync<BackendException>(() => task.WaitAsync(TimeSpan.FromSeconds(30)));
                Assert.True(error.IsFatal);
                Assert.Contains(function, error.Message, StringComparison.Ordinal);
                Assert.Contains(name, error.Message, StringComparison.Ordinal);
            }
            var later = await Assert.ThrowsAsync<BackendException>(
                () => model.DescribeToEndAsync(Request).WaitAsync(TimeSpan.FromSeconds(30)));
            Assert.True(later.IsFatal);
            Assert.Contains("failed before", later.Message, StringComparison.Ordinal);
            Assert.Contains(name, later.Message, StringComparison.Ordinal);
            // Other models in the process don't notice.
            Assert.Equal(expected, (await other.DescribeToEndAsync(Request)).Text);
        }
        finally
        {
            await model.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));
        }
        CudaEmulator.Reset();
        await using var again = await SamModel.LoadAsync(_model.Folder, Options);
        Assert.Equal(expected, (await again.DescribeToEndAsync(Request)).Text);
    }

    [Fact]
    public void A_failing_launch_names_its_kernel()
    {
        using var backend = new CudaBackend(null, ElementType.F32);
        using var buffer = backend.Allocate(ElementType.F32, 64, "x");
        using var queue = backend.CreateQueue();
        CudaEmulator.Fail("cuLaunchKernel", CudaEmulator.LaunchOutOfResources);
        var error = Assert.Throws<BackendException>(() => queue.Add(buffer.View(1, 64), buffer.View(1, 64), buffer.View(1, 64)));
        Assert.Contains("cuLaunchKernel of 'add_f32' failed: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_that_reaches_outside_its_memory_is_found_out()
    {
        using var backend = new CudaBackend(null, ElementType.F32);
        using var x = backend.Allocate(ElementType.F32, 64, "x");
        using var index = backend.Allocate(ElementType.I32, 1, "index");
        using var queue = backend.CreateQueue();
        queue.Upload<int>([4], index.View(1, 1));
        queue.GatherRows(x.View(4, 16), index.View(1, 1), x.View(1, 16));
        var error = Assert.Throws<BackendException>(queue.Synchronize);
        Assert.True(error.IsFatal);
        Assert.Contains("CUDA_ERROR_ILLEGAL_ADDRESS", error.Message, StringComparison.Ordinal);
        Assert.Contains("CUDA_ERROR_ILLEGAL_ADDRESS", backend.Failure, StringComparison.Ordinal);
        Assert.Throws<BackendException>(() => backend.Allocate(ElementType.F32, 1, "more"));
        Assert.Throws<BackendException>(backend.CreateQueue);
    }

    [Theory]
    [InlineData("cuDevicePrimaryCtxRetain")]
    [InlineData("cuStreamCreate")]
    [InlineData("cuModuleLoadData")]
    [InlineData("cuModuleGetFunction")]
    [InlineData("cuMemHostAlloc")]
    [InlineData("cuEventCreate")]
    [InlineData("cuMemsetD8Async")]
    public async Task A_failure_while_loading_names_the_call_and_leaks_nothing(string function)
    {
        var before = CudaEmulator.Counters;
        CudaEmulator.Fail(function, CudaEmulator.LaunchOutOfResources);
        var error = await Assert.ThrowsAsync<BackendException>(() => SamModel.LoadAsync(_model.Folder, Options));
        Assert.Contains($"{function}", error.Message, StringComparison.Ordinal);
        Assert.Contains("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", error.Message, StringComparison.Ordinal);
        Assert.Equal(before.Live, CudaEmulator.Counters.Live);
    }

    [Fact]
    public void A_table_without_a_queue_to_upload_it_leaks_nothing()
    {
        using var backend = new CudaBackend(null, ElementType.F32);
        long before = CudaEmulator.Counters.Live;
        CudaEmulator.Fail("cuMemHostAlloc", CudaEmulator.LaunchOutOfResources);
        Assert.Throws<BackendException>(() => backend.LoadVector("x", new float[64]));
        Assert.Equal(before, CudaEmulator.Counters.Live);
    }

    [Fact]
    public void What_outlives_its_backend_is_given_back_all_the_same()
    {
        long before = CudaEmulator.Counters.Live;
        var backend = new CudaBackend(null, ElementType.F32);
        var buffer = backend.Allocate(ElementType.F32, 64, "x");
        var queue = backend.CreateQueue();
        queue.Upload<float>(new float[64], buffer.View(1, 64));
        backend.Dispose();
        Assert.Throws<ObjectDisposedException>(() => backend.Allocate(ElementType.F32, 64, "more"));
        queue.Dispose();
        buffer.Dispose();
        Assert.Equal(before, CudaEmulator.Counters.Live);
    }

    [Fact]
    public void A_kernel_that_the_image_lacks_is_named()
    {
        CudaEmulator.Fail("cuModuleGetFunction", 500, 3);
        var error = Assert.Throws<BackendException>(() => new CudaBackend(null, ElementType.F16));
        Assert.Contains("have no 'linear_f16_q8'", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(1)]
    public void A_device_that_is_not_there_is_named(int device)
    {
        var error = Assert.Throws<BackendException>(() => new CudaBackend(device, ElementType.F16));
        Assert.Contains($"no device {device}, only 0 to 0", error.Message, StringComparison.Ordinal);
    }

    private sealed class Collector(List<string> loaded) : IProgress<LoadProgress>
    {
        public void Report(LoadProgress value) => loaded.Add(value.ToString()!);
    }
}
