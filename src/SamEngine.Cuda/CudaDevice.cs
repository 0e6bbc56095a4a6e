using System.Runtime.InteropServices;
using SamEngine.Cuda.Driver;

namespace SamEngine.Cuda;

/// <summary>An NVIDIA GPU.</summary>
/// <param name="Number">What selects it: <see cref="CudaProvider.Device"/>, <c>--device</c>.</param>
/// <param name="Name">As the driver calls it.</param>
/// <param name="ComputeCapability">10 * major + minor: 80, 89, 90.</param>
/// <param name="MemoryBytes">Device memory.</param>
/// <param name="Kernels">The embedded kernels that it would run, such as "PTX sm_80"; null when none serves it.</param>
/// <param name="Refusal">Why it can't be used; null when it can.</param>
public sealed record CudaDevice(int Number, string Name, int ComputeCapability, long MemoryBytes, string? Kernels, string? Refusal)
{
    /// <summary>Ampere: what the kernels are written for.</summary>
    private const int LeastCapability = 80;

    /// <summary>Every GPU of the driver, in its order.</summary>
    internal static IReadOnlyList<CudaDevice> All()
    {
        CudaLibrary.Ensure();
        return [.. Enumerable.Range(0, Count()).Select(Describe)];
    }

    internal static unsafe int Attribute(int number, CudaDeviceAttribute attribute)
    {
        int value;
        CudaErrors.Check(CudaDriver.cuDeviceGetAttribute(&value, attribute, Handle(number)));
        return value;
    }

    internal static unsafe int Handle(int number)
    {
        int device;
        CudaErrors.Check(CudaDriver.cuDeviceGet(&device, number));
        return device;
    }

    private static unsafe int Count()
    {
        int count;
        CudaErrors.Check(CudaDriver.cuDeviceGetCount(&count));
        return count;
    }

    private static unsafe CudaDevice Describe(int number)
    {
        const int NameBytes = 256;
        int device = Handle(number);
        byte* name = stackalloc byte[NameBytes];
        CudaErrors.Check(CudaDriver.cuDeviceGetName(name, NameBytes, device));
        nuint memory;
        CudaErrors.Check(CudaDriver.cuDeviceTotalMem_v2(&memory, device));
        int capability = 10 * Attribute(number, CudaDeviceAttribute.ComputeCapabilityMajor)
            + Attribute(number, CudaDeviceAttribute.ComputeCapabilityMinor);
        string? kernels = KernelImages.For(capability)?.ToString() ?? (KernelImages.DriverHasKernels ? "the driver's own" : null);
        string? refusal = capability < LeastCapability
                ? $"it has compute capability {capability / 10}.{capability % 10}, expected {LeastCapability / 10}.{LeastCapability % 10} or later"
            : Attribute(number, CudaDeviceAttribute.MemoryPoolsSupported) == 0 ? "its driver has no memory pools"
            : kernels is null ? KernelImages.WhyNone(capability) : null;
        return new CudaDevice(number, Marshal.PtrToStringUTF8((nint)name)!, capability, (long)memory, kernels, refusal);
    }
}
