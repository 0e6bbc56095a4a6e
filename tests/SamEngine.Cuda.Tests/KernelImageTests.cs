using System.Text;
using System.Text.RegularExpressions;
using SamEngine.Compute;
using Xunit;

namespace SamEngine.Cuda.Tests;

/// <summary>The images that the build embedded.</summary>
public sealed class KernelImageTests
{
    /// <summary>Whether this build had a compiler for them.</summary>
    internal static void SkipWithoutKernels()
    {
        if (KernelImages.All.Count > 0)
        {
            return;
        }
        Assert.False(Environment.GetEnvironmentVariable("SAM_KERNELS_REQUIRED") == "1",
            "no kernels are embedded, and SAM_KERNELS_REQUIRED=1");
        Assert.Skip("no kernels are embedded: neither nvcc nor clang++ 18 or later was found");
    }

    [Theory]
    [InlineData(nameof(ElementType.F32))]
    [InlineData(nameof(ElementType.F16))]
    [InlineData(nameof(ElementType.BF16))]
    public void Every_kernel_that_is_launched_is_in_every_PTX(string activations)
    {
        SkipWithoutKernels();
        using var backend = new CudaBackend(null, Enum.Parse<ElementType>(activations));
        string[] names = [.. backend.Kernels.All.Select(k => k.Name)];
        Assert.True(names.Length > 30, $"only {names.Length} kernels");
        foreach (var image in KernelImages.All.Where(i => i.IsPtx))
        {
            byte[] bytes = KernelImages.Read(image, CudaKernels.Suffix(backend.ActivationType));
            Assert.Equal(0, bytes[^1]);
            string text = Encoding.ASCII.GetString(bytes);
            string[] entries = [.. Regex.Matches(text, @"\.entry ([a-z0-9_]+)").Select(m => m.Groups[1].Value)];
            // All of them, and none for another type, each whole. Variants are only used when asked for, and CudaVariantTests' own.
            Assert.Equal(names.Order(StringComparer.Ordinal),
                entries.Where(e => !e.StartsWith("linear_wgmma_", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
            Assert.Equal(entries.Length, Regex.Count(text, @"\n\}\n"));
            Assert.Equal(text.Count(c => c == '{'), text.Count(c => c == '}'));
            Assert.Contains($".target {image.Architecture}", text, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Kernels_for_other_activations_are_cut_out_of_PTX()
    {
        string Entry(string name) => $"\n.visible .entry {name}(\n\t.param .b8 p[4]\n)\n{{\n\t{{ .reg .pred p; }}\n\tret;\n}}\n";
        string all = ".version 8.0" + Entry("linear_f32_f16") + "\t// a comment\n" + Entry("linear_f16_f32") + Entry("select_rows")
            + Entry("copy_f32_bf16") + Entry("swiglu_f16") + "\0";
        Assert.Equal(".version 8.0\n\t// a comment\n" + Entry("linear_f16_f32") + Entry("select_rows") + Entry("copy_f32_bf16")
            + Entry("swiglu_f16") + "\0", KernelImages.Only(all, "f16"));
        Assert.Equal(".version 8.0\n\t// a comment\n\n" + Entry("select_rows") + Entry("copy_f32_bf16") + "\n\0", KernelImages.Only(all, "bf16"));
    }

    [Fact]
    public void Later_GPUs_are_served_by_PTX()
    {
        SkipWithoutKernels();
        Assert.NotNull(KernelImages.For(80));
        Assert.NotNull(KernelImages.For(89));
        Assert.Equal("sm_90a", KernelImages.For(90)!.Architecture);
        Assert.True(KernelImages.For(120)!.IsPtx);
        Assert.Null(KernelImages.For(75));
        Assert.Contains("compute capability 7.5", KernelImages.WhyNone(75), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(80, false, true, 80, true)]
    [InlineData(80, false, true, 75, false)]
    [InlineData(80, false, true, 120, true)]
    [InlineData(90, true, true, 90, true)]
    [InlineData(90, true, true, 100, false)]
    [InlineData(80, false, false, 89, true)]
    [InlineData(80, false, false, 90, false)]
    [InlineData(89, false, false, 80, false)]
    public void An_image_serves_its_generation_and_PTX_later_ones(int of, bool specific, bool ptx, int capability, bool serves) =>
        Assert.Equal(serves, new KernelImage("", $"sm_{of}", of, specific, ptx).Serves(capability));
}
