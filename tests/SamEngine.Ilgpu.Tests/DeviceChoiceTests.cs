using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>Which GPU is taken by itself, and what is said where none is.</summary>
public sealed class DeviceChoiceTests
{
    private static readonly GpuDriver Cuda = new("libcuda.so.1", null);
    private static readonly GpuDriver NoCuda = new("libcuda.so.1", "not there");
    private static readonly GpuDriver OpenCL = new("libOpenCL.so.1", null);
    private static readonly GpuDriver NoOpenCL = new("libOpenCL.so.1", "not there");
    private static readonly IlgpuDevice Simulated = new(9, IlgpuDeviceKind.Cpu, "simulated", false, 0, null);
    private static readonly IlgpuDevice Nvidia = new(0, IlgpuDeviceKind.Cuda, "NVIDIA", true, 1, null);
    private static readonly IlgpuDevice OldNvidia = Nvidia with { Name = "old NVIDIA", Refusal = "too old" };
    private static readonly IlgpuDevice Processor = new(1, IlgpuDeviceKind.OpenCL, "processor", false, 1, null);
    private static readonly IlgpuDevice Radeon = new(2, IlgpuDeviceKind.OpenCL, "Radeon", true, 1, null);

    [Fact]
    public void The_first_GPU_that_can_be_used_is_taken()
    {
        Assert.Equal((0, ""), Choose([Cuda, OpenCL], Nvidia, Processor, Radeon, Simulated));
        Assert.Equal((2, ""), Choose([NoCuda, OpenCL], Processor, Radeon, Simulated));
        Assert.Equal((2, ""), Choose([Cuda, OpenCL], OldNvidia, Processor, Radeon, Simulated));
    }

    [Fact]
    public void Without_one_the_reasons_are_named()
    {
        Assert.Equal((null, "device 0, old NVIDIA: too old"), Choose([Cuda, NoOpenCL], OldNvidia, Simulated));
        Assert.Equal((null, "libcuda.so.1: found no GPU; libOpenCL.so.1: found no GPU"), Choose([Cuda, OpenCL], Processor, Simulated));
    }

    [Fact]
    public void Without_a_driver_ILGPU_is_not_asked()
    {
        Assert.Null(IlgpuProvider.ForFirstGpu([NoCuda, NoOpenCL], () => throw new InvalidOperationException("asked"), out string problems));
        Assert.Equal("libcuda.so.1: not there; libOpenCL.so.1: not there", problems);
    }

    private static (int?, string) Choose(GpuDriver[] drivers, params IlgpuDevice[] devices) =>
        (IlgpuProvider.ForFirstGpu(drivers, () => devices, out string problems)?.Device, problems);
}
