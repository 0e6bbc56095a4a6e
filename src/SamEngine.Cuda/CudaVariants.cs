namespace SamEngine.Cuda;

/// <summary>Ways of computing that no measurement on a GPU has shown to be right and faster yet: none is used unless asked
/// for.</summary>
[Flags]
internal enum CudaVariants
{
    None = 0,

    /// <summary>Linear layers of many rows by kernels/linear_wgmma.cu: 16-bit activations on compute capability 9.0.</summary>
    Wgmma = 1,

    /// <summary>A kernel starts while the one before it still runs, brings its first weights into the cache and waits for that
    /// one's end by itself (BeginKernel in kernels/device.h): kernels compiled for compute capability 9.0 or later.</summary>
    DependentLaunches = 2,
}
