using System.Text;
using System.Text.RegularExpressions;
using SamEngine.Compute;
using SamEngine.Testing;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>What is not used unless asked for. The kernel of <see cref="CudaVariants.Wgmma"/> has no twin in the emulator: here
/// it is compiled, on a Hopper GPU it must agree.</summary>
public sealed class CudaVariantTests
{
    public static TheoryData<string> Halves => new(nameof(ElementType.F16), nameof(ElementType.BF16));

    [Fact]
    public void Nothing_is_used_unasked()
    {
        using var backend = new CudaBackend(null, ElementType.F16);
        Assert.Equal(CudaVariants.None, backend.Variants);
        Assert.Equal(CudaVariants.None, new CudaProvider().Variants);
    }

    /// <summary>Only there do they compile: the instructions are of this very architecture.</summary>
    [Fact]
    public void The_wgmma_kernels_and_early_starts_are_in_the_image_for_Hopper_alone()
    {
        KernelImageTests.SkipWithoutKernels();
        foreach (var image in KernelImages.All.Where(i => i.IsPtx))
        {
            bool isHopper = image.Architecture == "sm_90a";
            foreach (string activation in (string[])["f16", "bf16"])
            {
                string text = Encoding.ASCII.GetString(KernelImages.Read(image, activation));
                Assert.Equal(isHopper, text.Contains($".entry linear_wgmma_{activation}(", StringComparison.Ordinal));
                int entries = Regex.Count(text, @"\.entry ");
                // Every kernel waits for the one before.
                Assert.Equal(isHopper ? entries : 0, Regex.Count(text, @"griddepcontrol\.wait;"));
                if (isHopper)
                {
                    Assert.Contains($"wgmma.mma_async.sync.aligned.m64n128k16.f32.{activation}.{activation}", text, StringComparison.Ordinal);
                    // The maps are used where they are, not from a copy on the stack.
                    Assert.Contains($"mov.b64 t, linear_wgmma_{activation}_param_0; cvta.param.u64", text, StringComparison.Ordinal);
                    Assert.Contains($".param .align 64 .b8 linear_wgmma_{activation}_param_0[448]", text, StringComparison.Ordinal);
                }
            }
        }
    }

    [Fact]
    public void Wgmma_without_its_kernel_is_refused()
    {
        Driver.SkipOnGpu();
        var error = Assert.Throws<BackendException>(() => new CudaBackend(null, ElementType.F16, CudaVariants.Wgmma));
        Assert.Contains("Wgmma needs the kernels for sm_90a", error.Message, StringComparison.Ordinal);
        using var backend = new CudaBackend(null, ElementType.F32);
        Assert.Throws<BackendException>(() => backend.Variants = CudaVariants.Wgmma);
        Assert.Equal(CudaVariants.None, backend.Variants);
    }

    [Theory]
    [MemberData(nameof(Halves))]
    public void Wgmma_agrees_with_the_reference(string activations)
    {
        using var backend = new CudaBackend(null, Enum.Parse<ElementType>(activations));
        SkipWithoutWgmma(backend);
        backend.Variants = CudaVariants.Wgmma;
        foreach (var linear in ConformanceSuite.All.Where(c => c.Operation == nameof(ComputeQueue.Linear)))
        {
            ConformanceSuite.Check(backend, linear);
        }
        Assert.True(backend.Kernels.LinearWgmma!.WasLaunched);
    }

    /// <summary>At real width K is split, and tiles are ragged at the right and below.</summary>
    [Theory]
    [MemberData(nameof(Halves))]
    public async Task Wgmma_is_close_at_real_width(string activations)
    {
        using var backend = new CudaBackend(null, Enum.Parse<ElementType>(activations));
        SkipWithoutWgmma(backend);
        backend.Variants = CudaVariants.Wgmma;
        await RealWidthModel.CheckRounded(backend, quantized: false, 2e-2);
        Assert.True(backend.Kernels.LinearWgmma!.WasLaunched);
    }

    [Fact]
    public async Task Steps_of_dependent_launches_compute_the_same()
    {
        using var model = new TinyModel();
        SkipWithoutDependentLaunches();
        var texts = new List<string>();
        foreach (var variants in (CudaVariants[])[CudaVariants.None, CudaVariants.DependentLaunches])
        {
            await using var loaded = await SamModel.LoadAsync(model.Folder, new() { BackendProvider = new CudaProvider { Variants = variants } });
            var request = new DescribeRequest
            {
                Images = [TinyModel.Picture(1), TinyModel.Picture(2)],
                Prompt = "what is common",
                Options = new GenerationOptions { NumBeams = 3, MaxLength = 40, MinLength = 40 },
            };
            texts.Add((await loaded.DescribeToEndAsync(request)).Text);
        }
        Assert.NotEmpty(texts[0]);
        Assert.Equal(texts[0], texts[1]);
    }

    [Fact]
    public void A_failing_dependent_launch_names_its_kernel()
    {
        Driver.SkipOnGpu();
        using var backend = new CudaBackend(null, ElementType.F32, CudaVariants.DependentLaunches);
        using var buffer = backend.Allocate(ElementType.F32, 64, "x");
        using var queue = backend.CreateQueue();
        queue.Add(buffer.View(1, 64), buffer.View(1, 64), buffer.View(1, 64));
        CudaEmulator.Fail("cuLaunchKernelEx", CudaEmulator.LaunchOutOfResources);
        var error = Assert.Throws<BackendException>(() => queue.Add(buffer.View(1, 64), buffer.View(1, 64), buffer.View(1, 64)));
        Assert.Contains("cuLaunchKernelEx of 'add_f32' failed: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (", error.Message, StringComparison.Ordinal);
        CudaEmulator.Reset();
    }

    [Fact]
    public void A_map_is_made_once_for_a_place_and_shape()
    {
        using var backend = new CudaBackend(null, ElementType.F16);
        using var buffer = (CudaBuffer)backend.Allocate(ElementType.F16, 130 * 72, "x");
        var maps = new TensorMaps(backend);
        ulong[] first = Words(maps.For(buffer.Pointer, 130, 70, 72));
        Assert.Contains(first, w => w != 0);
        Assert.Equal(first, Words(maps.For(buffer.Pointer, 130, 70, 72)));
        Assert.Equal(1, maps.Count);
        Assert.NotEqual(first, Words(maps.For(buffer.Pointer, 100, 70, 72)));
        maps.For(buffer.Pointer + 16, 100, 62, 72);
        Assert.Equal(3, maps.Count);
    }

    [Theory]
    [InlineData(8, 72)]
    [InlineData(0, 70)]
    public void A_map_that_the_driver_refuses_is_an_error(int offset, int stride)
    {
        using var backend = new CudaBackend(null, ElementType.F16);
        using var buffer = (CudaBuffer)backend.Allocate(ElementType.F16, 130 * 72, "x");
        var error = Assert.Throws<BackendException>(() => new TensorMaps(backend).For(buffer.Pointer + offset, 100, 64, stride));
        Assert.Contains("cuTensorMapEncodeTiled failed: CUDA_ERROR_INVALID_VALUE", error.Message, StringComparison.Ordinal);
    }

    private static ulong[] Words(TensorMap map) => [.. (ReadOnlySpan<ulong>)map];

    private static void SkipWithoutWgmma(CudaBackend backend) =>
        Assert.SkipWhen(backend.Refusal(CudaVariants.Wgmma) is not null, "needs a GPU of compute capability 9.0: the emulator has no wgmma");

    private static void SkipWithoutDependentLaunches()
    {
        using var backend = new CudaBackend(null, ElementType.F16);
        Assert.SkipWhen(backend.Refusal(CudaVariants.DependentLaunches) is not null, "needs a GPU of compute capability 9.0");
    }
}
