using System.Runtime;
using SamEngine.Checkpoints;
using SamEngine.Compute;
using SamEngine.Decoding;
using SamEngine.Model;
using SamEngine.Testing;
using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>What a step costs beside its kernels: managed memory, and time for compiling.</summary>
[Collection(nameof(Alone))]
public sealed class IlgpuStepTests(CpuAccelerator accelerator) : IClassFixture<CpuAccelerator>
{
    private const int Width = 16;

    private IlgpuBackend Backend => accelerator.Backend;

    [Theory]
    [InlineData(1, false)]
    [InlineData(5, true)]
    public async Task Every_decode_step_allocates_what_ILGPUs_launches_do(int beams, bool sample)
    {
        using var model = new TinyModel();
        using var checkpoint = SamCheckpoint.Open(model.Folder);
        using var weights = SamWeights.Load(checkpoint, Backend);
        using var engine = new InferenceEngine(weights, Backend, cacheTokens: 0);
        var config = checkpoint.Config;
        var settings = GenerationSettings.Create(
            new GenerationOptions { NumBeams = beams, DoSample = sample, Seed = 1, MaxLength = 60, MinLength = 60 },
            config.Llm.VocabularySize, config.Llm.BosTokenId, config.Llm.EosTokenId);
        int side = config.Vision.ImageSize;
        var steps = new StepAllocations();
        for (int run = 0; run < 2; run++)
        {
            // The second run finds every buffer grown and every method compiled.
            steps.Restart();
            var work = new GenerationWork(new EngineInput(2, new float[2 * 3 * side * side], [2, 5, 3], [1, 7, 8], true),
                settings, TokenSearch.Create(settings), _ => steps.Add(), default);
            engine.Submit(work);
            await work.Completion;
        }
        long[] costs = [.. steps.Costs(21).Order()];
        // Whatever the step, it is the same number of launches, give or take the copy of a block: what grew with the text would
        // show. ILGPU's list of its objects grows at times.
        Assert.InRange(costs[^4] - costs[0], 0, 512);
    }

    [Fact]
    public void Operations_allocate_nothing_beside_ILGPUs_launches()
    {
        using var queue = Backend.CreateQueue();
        using var x = Backend.Allocate(ElementType.F32, 4 * Width, "x");
        using var y = Backend.Allocate(ElementType.F32, 4 * Width, "y");
        using var indices = Backend.Allocate(ElementType.I32, 4, "indices");
        var from = x.View(4, Width);
        var to = y.View(4, Width);
        var gain = x.View(1, Width);
        var source = new DeviceView<float>(((IlgpuBuffer)x).Floats, 0, 4, Width, 4 * Width, Width);
        var target = new DeviceView<float>(((IlgpuBuffer)y).Floats, 0, 4, Width, 4 * Width, Width);
        var rows = new DeviceView<int>(((IlgpuBuffer)indices).Ints, 0, 1, 4, 4, 4);
        var config = Backend.Workers(4 * Width);
        var rmsNorm = Backend.Loader.Load<DeviceView<float>, DeviceView<float>, DeviceView<float>, float, int>(Norms.RmsNorm);

        Same(() => Backend.Kernels.CopyFloats(config, source, target, 4 * Width), () => queue.Copy(from, to));
        Same(() => Backend.Kernels.Add(config, source, source, target, 4 * Width), () => queue.Add(from, from, to));
        Same(() => Backend.Kernels.GatherRows(config, source, rows, target, 4 * Width),
            () => queue.GatherRows(from, indices.View(1, 4), to));
        Same(() => rmsNorm(config, source, source, target, 1e-5f, 4), () => queue.RmsNorm(from, gain, 1e-5f, to));
        Same(() => { }, queue.Synchronize);
    }

    [Fact]
    public async Task A_loaded_model_has_nothing_left_to_compile()
    {
        using var tiny = new TinyModel();
        using var temp = new TempFolder();
        using (var checkpoint = SamCheckpoint.Open(tiny.Folder))
        using (var backend = new IlgpuBackend())
        using (var weights = SamWeights.Load(checkpoint, backend))
        using (var cold = new InferenceEngine(weights, backend, cacheTokens: 0))
        {
            int side = checkpoint.Config.Vision.ImageSize;
            var settings = GenerationSettings.Create(new GenerationOptions { NumBeams = 1, MaxLength = 4 },
                checkpoint.Config.Llm.VocabularySize, checkpoint.Config.Llm.BosTokenId, checkpoint.Config.Llm.EosTokenId);
            long compiled = await CompiledAsync(cold, () =>
            {
                var work = new GenerationWork(new EngineInput(2, new float[2 * 3 * side * side], [2, 5, 3], [1, 7, 8], true), settings,
                    TokenSearch.Create(settings), null, default);
                cold.Submit(work);
                return work.Completion;
            });
            // Launches are compiled for each accelerator anew, whatever ran in this process before.
            Assert.True(compiled > 10, $"{compiled} methods");
        }
        var pictures = PictureFiles.Write(temp.Path, 2).Select(SamImage.FromFile).ToList();
        int simulated = IlgpuProvider.Devices.Count - 1;
        using var model = await SamModel.LoadAsync(tiny.Folder, new SamModelOptions { BackendProvider = new IlgpuProvider { Device = simulated } });
        // What only a request that has run leaves behind.
        Assert.True(model.Engine.WorkspaceBytes > 0);
        Assert.Equal(0, await CompiledAsync(model.Engine, () => model.DescribeToEndAsync(new DescribeRequest
        {
            Images = pictures,
            Prompt = "What?",
            Options = new GenerationOptions { NumBeams = 1, MaxLength = 4 },
        })));
    }

    /// <summary>Methods that .NET compiles on the engine's thread between the first stage of a request and its first logits.</summary>
    private static async Task<long> CompiledAsync(InferenceEngine engine, Func<Task> request)
    {
        long first = -1;
        long last = -1;
        engine.Trace = (stage, _) =>
        {
            long now = JitInfo.GetCompiledMethodCount(currentThread: true);
            first = first < 0 ? now : first;
            last = last < 0 && stage == "llm_logits" ? now : last;
        };
        await request();
        return last - first;
    }

    private static void Same(Action launch, Action operation) => Assert.Equal(Allocated(launch), Allocated(operation));

    /// <summary>Bytes for one call: the least of several, as ILGPU's list of its objects grows at times.</summary>
    private static long Allocated(Action action)
    {
        long least = long.MaxValue;
        for (int i = 0; i < 200; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            action();
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        return least;
    }
}
