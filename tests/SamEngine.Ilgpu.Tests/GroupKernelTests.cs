using ILGPU.Runtime.CPU;
using SamEngine.Testing.Conformance;
using Xunit;

namespace SamEngine.Ilgpu.Tests;

/// <summary>The kernels for GPUs, with groups of 16 threads on ILGPU's CPU accelerator. Each thread of a group is one of the system's
/// and a barrier takes up to half a millisecond: whole models stay with <see cref="IlgpuModelTests"/>.</summary>
public sealed class GroupKernelTests(GroupAccelerator accelerator) : IClassFixture<GroupAccelerator>
{
    public static IEnumerable<TheoryDataRow<string>> Cases => ConformanceSuite.Ids().Select(id => new TheoryDataRow<string>(id));

    [Theory]
    [MemberData(nameof(Cases))]
    public void Agrees_with_the_reference(string id) => ConformanceSuite.Check(accelerator.Backend, id);
}

/// <summary>A backend that takes the kernels for GPUs on ILGPU's CPU accelerator.</summary>
public sealed class GroupAccelerator : IDisposable
{
    public GroupAccelerator()
    {
        var devices = new DeviceList(new CPUDevice(4, 4, 1));
        Backend = new IlgpuBackend(devices, devices.Descriptions.Count - 1, groups: true);
    }

    internal IlgpuBackend Backend { get; }

    public void Dispose() => Backend.Dispose();
}
